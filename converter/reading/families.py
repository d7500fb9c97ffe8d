"""Families of networks that are known by what their files hold, and what their images go through."""

from converter.reading.candidate import Candidate
from densenet.config import DenseNetConfig
from densenet.preprocess import FAMILIES, Preprocess

XRAYS = FAMILIES["torchxrayvision"]
NOTE = "a network of torchxrayvision: images are prepared as its are, grey, with values of -1024 to 1024"


def preprocess_of(chosen: Candidate, config: DenseNetConfig) -> Preprocess | None:
    """What the images of a family go through; None where it is not known.

    torchxrayvision's networks (torchxrayvision/models.py) are told by their class, or the thresholds they keep.
    """
    group = chosen.group
    named = any(name.startswith("torchxrayvision.") for name in group.classes.values())
    kept = any("apply_sigmoid" in values for values in group.attributes.values())
    dropped = any(key.rpartition(".")[2] == "op_threshs" for key in chosen.dropped)
    if (named or kept or dropped) and (config.in_channels, config.spatial_dims) == (XRAYS.channels, 2):
        return XRAYS
    return None
