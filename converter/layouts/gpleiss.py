"""gpleiss/efficient_densenet_pytorch (models/densenet.py): torchvision's names but for the last norm.

With ``small_inputs`` the stem is the 3x3 convolution alone.  Until 2017 (its version 0.3) a layer's first
norm and convolution were one module, ``bn``, with tensors called ``norm_weight`` and ``conv_weight``.
"""

from dataclasses import replace

from converter.layouts.layout import TORCH_LEAVES
from converter.layouts.torchvision import TORCHVISION

GPLEISS = replace(
    TORCHVISION,
    name="gpleiss",
    about="gpleiss/efficient_densenet_pytorch",
    modules={**TORCHVISION.modules, "norm": "features.norm_final"},
    expresses={"stem": ("cifar",), "compression": ()},
    signature=(),
)

LAYER = "features.denseblock{b+1}.denselayer{l+1}."
EFFICIENT = {
    "blocks.{b}.layers.{l}.norm1": f"{LAYER}bn.norm_",
    "blocks.{b}.layers.{l}.conv1": f"{LAYER}bn.conv_",
    "blocks.{b}.layers.{l}.norm2": f"{LAYER}norm.2.",
    "blocks.{b}.layers.{l}.conv2": f"{LAYER}conv.2.",
}

GPLEISS_2017 = replace(
    GPLEISS,
    name="gpleiss-2017",
    about="gpleiss/efficient_densenet_pytorch before 0.4",
    modules={library: EFFICIENT.get(library, f"{name}.") for library, name in GPLEISS.modules.items()},
    leaves={
        kind: replace(leaf, names=tuple(name.removeprefix(".") for name in leaf.names))
        for kind, leaf in TORCH_LEAVES.items()
    },
)
