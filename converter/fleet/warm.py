"""Imports all that reads a checkpoint, so that processes forked afterwards have it."""

import gc
import pkgutil
from importlib import import_module
from types import ModuleType

import converter.formats
import converter.layouts
import converter.reading
import converter.structures
import converter.writing

ROOMS: tuple[ModuleType, ...] = (
    converter.formats,
    converter.layouts,
    converter.structures,
    converter.reading,
    converter.writing,
)
for room in ROOMS:
    for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
        import_module(module.name)
gc.freeze()  # what is imported is not garbage: it is not looked through again
gc.set_threshold(200_000)  # a few checkpoints' objects at a time, not a few hundred
