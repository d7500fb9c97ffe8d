"""The library's own names: the hub every other layout maps to and from (densenet/config.py)."""

from converter.layouts.layout import LIBRARY_MODULES, Layout
from densenet.config import CHOICES

LIBRARY = Layout(
    name="library",
    about="this library's own names",
    modules=LIBRARY_MODULES,
    expresses={
        **CHOICES,
        "bottleneck": (True, False),
        "compression": (),
        "stem_widths": (),
        "stem_ceil": (True, False),
        "transition_ceil": (True, False),
        "transition_relu": (True, False),
        "final_relu": (True, False),
        "eps": (),
        "spatial_dims": (2, 3),
    },
)
