"""Frozen TorchScript modules (torch.jit.freeze): weights are constants of the code, without names.

The zip has ``constants.pkl`` (a tuple of tensors, their bytes in ``constants/``) and the
code as Python text, which refers to them as ``CONSTANTS.c0``, ``CONSTANTS.c1`` ...
(torch/csrc/jit/serialization/python_print.cpp).  The text is handed on as text.
Modules that are not frozen have named tensors: ``torch_zip.py`` reads those.
"""

from __future__ import annotations

from pathlib import Path

from converter.core.checkpoint import Checkpoint, Record
from converter.core.errors import UnreadableFile
from converter.formats.damage import damaged
from converter.formats.torch.zip import read_pickle
from converter.formats.zips import Zip

NAME = "torchscript, frozen"
MAX_CODE = 1 << 20


def matches(archive: Zip) -> bool:
    """Whether this zip is a TorchScript module whose only tensors are constants."""
    folder = _folder(archive)
    return folder is not None and not any(name.startswith(f"{folder}data/") for name in archive.names)


def open_frozen(path: Path) -> Checkpoint:
    """Open a frozen module.

    The tree: ``constants`` (tensors and plain values, by index), ``code`` (text), ``cls``
    (the module's class in it).
    """
    archive = Zip(path)
    folder = _folder(archive) or ""
    root, inert = read_pickle(archive, f"{folder}data")
    constants, more = read_pickle(archive, f"{folder}constants")
    module, _, cls = (root.cls if isinstance(root, Record) else "").rpartition(".")
    file = f"{folder}code/{module.replace('.', '/')}.py"
    if not isinstance(constants, tuple) or not cls or archive.size(file) > MAX_CODE:
        raise UnreadableFile(f"{path}: a TorchScript module without readable constants or code")
    with damaged(f"{path}: damaged, {file} is no text", UnicodeDecodeError):
        code = str(archive.read(file).data, "utf-8")
    tree = {"constants": list(constants), "code": code, "cls": cls}
    return Checkpoint(path, NAME, tree, files=(path,), inert=tuple(dict.fromkeys((*inert, *more))))


def _folder(archive: Zip) -> str | None:
    """What stands before the members of a TorchScript module; None for another zip."""
    names = set(archive.names)
    for name in archive.names:
        folder = name.removesuffix("constants.pkl")
        if folder != name and f"{folder}data.pkl" in names:
            return folder if any(n.startswith(f"{folder}code/") and n.endswith(".py") for n in names) else None
    return None
