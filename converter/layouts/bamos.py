"""bamos/densenet.pytorch (densenet.py) and andreasveit/densenet-pytorch (densenet.py), for 32x32 images.

The stem's convolution is ``conv1`` and the last norm ``bn1``, like those inside a layer.
"""

from dataclasses import replace

from converter.layouts.layout import Layout

BAMOS = Layout(
    name="bamos",
    about="bamos/densenet.pytorch",
    modules={
        "stem.conv": "conv1",
        "blocks.{b}.layers.{l}.norm1": "dense{b+1}.{l}.bn1",
        "blocks.{b}.layers.{l}.conv1": "dense{b+1}.{l}.conv1",
        "blocks.{b}.layers.{l}.norm2": "dense{b+1}.{l}.bn2",
        "blocks.{b}.layers.{l}.conv2": "dense{b+1}.{l}.conv2",
        "transitions.{t}.norm": "trans{t+1}.bn1",
        "transitions.{t}.conv": "trans{t+1}.conv1",
        "norm": "bn1",
        "classifier": "fc",
    },
    network={"stem": "cifar"},
    expresses={"bottleneck": (True, False), "compression": ()},
)

ANDREASVEIT = replace(
    BAMOS,
    name="andreasveit",
    about="andreasveit/densenet-pytorch",
    modules={
        library: name.replace("dense{b+1}.{l}", "block{b+1}.layer.{l}") for library, name in BAMOS.modules.items()
    },
)
