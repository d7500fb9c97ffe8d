"""MindCV (mindcv/models/densenet.py), MindSpore's collection of models: torchvision's names but for the leaves."""

from converter.layouts.layout import Layout, Leaf

MINDCV = Layout(
    name="mindcv",
    about="MindCV on MindSpore",
    modules={
        "stem.conv": "features.conv0",
        "stem.norm": "features.norm0",
        "blocks.{b}.layers.{l}.norm1": "features.denseblock{b+1}.cell_list.{l}.norm1",
        "blocks.{b}.layers.{l}.conv1": "features.denseblock{b+1}.cell_list.{l}.conv1",
        "blocks.{b}.layers.{l}.norm2": "features.denseblock{b+1}.cell_list.{l}.norm2",
        "blocks.{b}.layers.{l}.conv2": "features.denseblock{b+1}.cell_list.{l}.conv2",
        "transitions.{t}.norm": "features.transition{t+1}.features.norm",
        "transitions.{t}.conv": "features.transition{t+1}.features.conv",
        "norm": "features.norm5",
        "classifier": "classifier",
    },
    leaves={
        "conv.weight": Leaf((".weight",)),
        "norm.weight": Leaf((".gamma",)),
        "norm.bias": Leaf((".beta",)),
        "norm.running_mean": Leaf((".moving_mean",)),
        "norm.running_var": Leaf((".moving_variance",)),
        "linear.weight": Leaf((".weight",)),
        "linear.bias": Leaf((".bias",)),
    },
    ignore={
        **dict.fromkeys(
            ("moment*", "accum*", "stat.*", "vhat.*", "mean_square.*", "mean_gradient.*", "beta?_power"),
            "state of the optimizer",
        ),
        **dict.fromkeys(
            ("*_step", "scale_sense", "learning_rate", "weight_decay", "epoch_num", "step_num"), "state of the training"
        ),
    },
)
