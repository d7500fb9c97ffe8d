"""The functions mmpretrain's users know, handed out by this package and provided by whoever reads checkpoints.

This package knows what a DenseNet is, not how files are read.  A distribution that does
registers the functions as entry points of the group ``densenet.inference``.
"""

from importlib.metadata import entry_points
from typing import Any

FUNCTIONS = ("get_model", "inference_model", "list_models")


def __getattr__(name: str) -> Any:
    if name in FUNCTIONS:
        for found in entry_points(group="densenet.inference", name=name):
            return found.load()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
