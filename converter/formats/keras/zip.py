"""``.keras``: a zip of the model's config and its weights (Keras 2.12 to 3, ``saving_lib.py``)."""

from __future__ import annotations

from pathlib import Path

from converter.core.checkpoint import Checkpoint
from converter.core.metadata import parsed
from converter.formats.hdf5 import read_hdf5
from converter.formats.keras.config import compiled_with, layer_names, parse_config
from converter.formats.keras.h5 import by_class, pooling_of
from converter.formats.zips import Zip

NAME = "Keras zip"
CONFIG = "config.json"
WEIGHTS = "model.weights.h5"
ABOUT = "metadata.json"


def matches(archive: Zip) -> bool:
    """Whether a zip holds a Keras model's config and weights."""
    return CONFIG in archive.names and WEIGHTS in archive.names


def open_keras(path: Path) -> Checkpoint:
    """Open a ``.keras`` file: weights by the layers' own names, settings as its config says."""
    archive = Zip(path)
    text = archive.read(CONFIG).tobytes()
    config = parse_config(text, str(path))
    root = read_hdf5(archive.place(WEIGHTS), f"{path}/{WEIGHTS}")
    # A subclass describes its arguments, not its layers: what it computes is in code that is not in the file.
    subclass = bool(config["class"]) and not config["layers"] and not config["module"].startswith("keras")
    graph = None if subclass else config
    table = by_class(root, str(path), layer_names(config))
    settings = pooling_of(table) if subclass else {}
    return Checkpoint(
        path, NAME, table, {**compiled_with(text), **_about(archive)}, (path,), graph=graph, settings=settings
    )


def _about(archive: Zip) -> dict[str, str]:
    """The version of Keras that wrote it, if it is said."""
    try:
        about = parsed(archive.read(ABOUT).tobytes()) if ABOUT in archive.names else {}
        version = about.get("keras_version")
    except (ValueError, AttributeError):
        version = None
    return {"keras_version": version} if isinstance(version, str) else {}
