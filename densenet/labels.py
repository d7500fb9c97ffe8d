"""The names of ImageNet's 1000 classes."""

from functools import cache
from importlib.resources import files


@cache
def imagenet_classes() -> tuple[str, ...]:
    """The 1000 class names in index order, as torchvision ships them (torchvision/models/_meta.py)."""
    return tuple(files("densenet").joinpath("imagenet_classes.txt").read_text(encoding="utf-8").splitlines())


@cache
def imagenet_synsets() -> tuple[str, ...]:
    """WordNet's numbers of the same classes (ILSVRC 2012), ``n01440764`` the first: their order is the classes'."""
    return tuple(files("densenet").joinpath("imagenet_synsets.txt").read_text(encoding="utf-8").splitlines())
