"""torchvision (torchvision/models/densenet.py), and what shares its names.

Before torchvision 0.2.1 the modules of a layer were called ``norm.1``, ``conv.1`` ...;
the published files (densenet121-a639ec97.pth and its sisters) still are.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from converter.layouts.layout import Layout
from densenet.config import DenseNetConfig

IGNORE = {
    "op_threshs": "thresholds of the outputs (torchxrayvision), not a weight",
    "*total_ops": "a counter left by the thop profiler",
    "*total_params": "a counter left by the thop profiler",
}


def _implies(config: DenseNetConfig, _: Mapping[str, str]) -> Mapping[str, tuple[Any, str]]:
    """These names in three dimensions are those of the video networks (kenshohara/3D-ResNets-PyTorch, densenet.py)."""
    if config.spatial_dims != 3:
        return {}
    why = "stem stride 1x2x2 is assumed, as in 3D-ResNets-PyTorch's code; --set stem_stride=2 changes it"
    return {"stem_stride": ((1, 2, 2), why)}


TORCHVISION = Layout(
    name="torchvision",
    about="torchvision, torchxrayvision, pytorch-grad-cam and most PyTorch code",
    modules={
        "stem.conv": "features.conv0",
        "stem.norm": "features.norm0",
        "blocks.{b}.layers.{l}.norm1": "features.denseblock{b+1}.denselayer{l+1}.norm1",
        "blocks.{b}.layers.{l}.conv1": "features.denseblock{b+1}.denselayer{l+1}.conv1",
        "blocks.{b}.layers.{l}.norm2": "features.denseblock{b+1}.denselayer{l+1}.norm2",
        "blocks.{b}.layers.{l}.conv2": "features.denseblock{b+1}.denselayer{l+1}.conv2",
        "transitions.{t}.norm": "features.transition{t+1}.norm",
        "transitions.{t}.conv": "features.transition{t+1}.conv",
        "norm": "features.norm5",
        "classifier": "classifier",
    },
    ignore=IGNORE,
    expresses={"head": ()},
    signature=("features.relu0",),
    implies=_implies,
    sequential=True,
    shared=True,
)

LEGACY = replace(
    TORCHVISION,
    name="torchvision-legacy",
    about="torchvision before 0.2.1; the published .pth files",
    modules={
        library: name.replace(".norm1", ".norm.1")
        .replace(".norm2", ".norm.2")
        .replace(".conv1", ".conv.1")
        .replace(".conv2", ".conv.2")
        for library, name in TORCHVISION.modules.items()
    },
    signature=(),
)

FEATURES = replace(
    TORCHVISION,
    name="torchvision-features",
    about="torchvision's model.features alone",
    modules={
        library: name.removeprefix("features.")
        for library, name in TORCHVISION.modules.items()
        if library != "classifier"
    },
    expresses={},
    signature=("relu0",),
    sequential=False,
)
