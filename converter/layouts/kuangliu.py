"""kuangliu/pytorch-cifar (models/densenet.py), which concatenates ``[new, old]``: the newest maps come first."""

from dataclasses import replace

from converter.layouts.bamos import BAMOS

KUANGLIU = replace(
    BAMOS,
    name="kuangliu",
    about="kuangliu/pytorch-cifar",
    modules={
        **BAMOS.modules,
        "transitions.{t}.norm": "trans{t+1}.bn",
        "transitions.{t}.conv": "trans{t+1}.conv",
        "norm": "bn",
        "classifier": "linear",
    },
    expresses={"compression": ()},
    new_first=True,
)
