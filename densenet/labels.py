"""The names of ImageNet's 1000 classes."""

from functools import cache
from importlib.resources import files


@cache
def imagenet_classes() -> tuple[str, ...]:
    """The 1000 class names in index order, as torchvision ships them (torchvision/models/_meta.py)."""
    return tuple(files("densenet").joinpath("imagenet_classes.txt").read_text(encoding="utf-8").splitlines())
