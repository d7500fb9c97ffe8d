"""weiaicunzai/pytorch-cifar100 (models/densenet.py): no ReLU in transitions, and a last block called otherwise."""

from converter.layouts.layout import Layout

LAYER = "features.dense_block_layer_{b}.bottle_neck_layer_{l}.bottle_neck"
LAST = "features.dense_block{n-1}.bottle_neck_layer_{l}.bottle_neck"
INSIDE = {"norm1": 0, "conv1": 2, "norm2": 3, "conv2": 5}

WEIAICUNZAI = Layout(
    name="weiaicunzai",
    about="weiaicunzai/pytorch-cifar100",
    modules={
        "stem.conv": "conv1",
        **{f"blocks.{{n-1}}.layers.{{l}}.{module}": f"{LAST}.{i}" for module, i in INSIDE.items()},
        **{f"blocks.{{b}}.layers.{{l}}.{module}": f"{LAYER}.{i}" for module, i in INSIDE.items()},
        "transitions.{t}.norm": "features.transition_layer_{t}.down_sample.0",
        "transitions.{t}.conv": "features.transition_layer_{t}.down_sample.1",
        "norm": "features.bn",
        "classifier": "linear",
    },
    network={"stem": "cifar", "transition_relu": False},
    expresses={"compression": ()},
)
