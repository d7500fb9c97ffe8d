"""MONAI (monai/networks/nets/densenet.py), for images and volumes: one more level inside a layer."""

from dataclasses import replace

from converter.layouts.torchvision import TORCHVISION

MONAI = replace(
    TORCHVISION,
    name="monai",
    about="MONAI's DenseNet in 1, 2 or 3 dimensions",
    modules={
        **{
            library: name.replace("denselayer{l+1}.", "denselayer{l+1}.layers.")
            for library, name in TORCHVISION.modules.items()
        },
        "classifier": "class_layers.out",
    },
    expresses={"spatial_dims": (1, 2, 3), "head": ()},
    signature=(),
    implies=lambda *_: {},
)
