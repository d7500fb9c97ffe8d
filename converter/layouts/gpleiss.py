"""gpleiss/efficient_densenet_pytorch (models/densenet.py): torchvision's names but for the last norm.

With ``small_inputs`` the stem is the 3x3 convolution alone.
"""

from dataclasses import replace

from converter.layouts.torchvision import TORCHVISION

GPLEISS = replace(
    TORCHVISION,
    name="gpleiss",
    about="gpleiss/efficient_densenet_pytorch",
    modules={**TORCHVISION.modules, "norm": "features.norm_final"},
    expresses={"stem": ("cifar",), "compression": ()},
    signature=(),
)
