"""timm (timm/models/densenet.py): torchvision's names, and deep stems, blur pooling, other heads.

A deep stem's modules are ``features.conv0, norm0, conv1, norm1, conv2, norm2``.
timm's blur pooling stores no tensor; its global pooling is a choice of the head.
"""

from dataclasses import replace

from converter.layouts.torchvision import TORCHVISION

TIMM = replace(
    TORCHVISION,
    name="timm",
    about="timm, and Hub repositories made with it",
    modules={
        **TORCHVISION.modules,
        "stem.conv{s}": "features.conv{s}",
        "stem.norm{s}": "features.norm{s}",
    },
    expresses={
        "stem": ("deep",),
        "stem_widths": (),
        "stem_pool": ("blur",),
        "transition_pool": ("blur",),
        "global_pool": ("max", "avgmax", "catavgmax"),
    },
    signature=("features.norm0.act",),
    sequential=False,
)
