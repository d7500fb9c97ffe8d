"""The library's own names: the hub every other layout maps to and from (densenet/config.py)."""

from collections.abc import Mapping
from typing import Any

from converter.layouts.layout import LIBRARY_MODULES, Layout
from densenet.fields import CHOICES

EXPRESSES: Mapping[str, tuple[Any, ...]] = {
    **CHOICES,
    "bottleneck": (True, False),
    "compression": (),
    "stem_kernel": (),
    "stem_stride": (),
    "stem_widths": (),
    "stem_pool_stride": (),
    "transition_stride": (),
    "stem_ceil": (True, False),
    "transition_ceil": (True, False),
    "transition_relu": (True, False),
    "final_relu": (True, False),
    "hidden_activation": (),
    "final_activation": (),
    "head": (),
    "heads": (),
    "eps": (),
    "spatial_dims": (1, 2, 3),
}
SHAPED = frozenset({"heads", "bottleneck", "compression", "stem", "stem_kernel", "stem_widths", "spatial_dims"})
"""Config fields that shapes alone show."""
IN_METADATA = frozenset(EXPRESSES) - SHAPED
"""Names that do not say whose code they belong to leave these to the file's metadata."""

LIBRARY = Layout(
    name="library",
    about="this library's own names",
    modules=LIBRARY_MODULES,
    expresses=EXPRESSES,
    in_metadata=IN_METADATA,
)
