"""TorchScript modules: the pickled module, its constants, and its code as text.

The zip of ``torch.jit.save`` is that of ``torch.save`` with two more things in it: ``constants.pkl``, whose storages
lie in ``constants/``, and the code of each module under ``code/``.  A frozen module keeps all its weights among the
constants.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from converter.core import bounds
from converter.core.checkpoint import Checkpoint, Record
from converter.core.errors import UnreadableFile
from converter.formats.damage import damaged
from converter.formats.torch.zip import extra_metadata, read_pickle
from converter.formats.zips import Zip

NAME = "torchscript"
FROZEN = "torchscript, frozen"


class Code(Mapping[str, str]):
    """The text of each file of code, by the name of its module; read when it is asked for."""

    def __init__(self, archive: Zip, folder: str) -> None:
        self.archive = archive
        start = f"{folder}code/"
        self.members = {
            name.removeprefix(start).removesuffix(".py").replace("/", "."): name
            for name in archive.names
            if name.startswith(start) and name.endswith(".py")
        }

    def __getitem__(self, module: str) -> str:
        """The text of a module.

        Raises:
            UnreadableFile: it is damaged or too long.
        """
        member = self.members[module]
        if self.archive.size(member) > bounds.CODE:
            raise UnreadableFile(f"{self.archive.path}: {member} is too long")
        with damaged(f"{self.archive.path}: damaged, {member} is no text", UnicodeDecodeError):
            return str(self.archive.read(member).data, "utf-8")

    def __iter__(self) -> Iterator[str]:
        """The names of modules."""
        return iter(self.members)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.members)


def matches(archive: Zip) -> bool:
    """Whether this zip is a TorchScript module."""
    return _folder(archive) is not None


def open_script(path: Path) -> Checkpoint:
    """Open a TorchScript module.

    The tree is the module; of a frozen one the constants.  ``graph`` has ``root``, ``constants`` and ``code``.
    """
    archive = Zip(path)
    folder = _folder(archive) or ""
    root, inert = read_pickle(archive, f"{folder}data")
    constants, more = read_pickle(archive, f"{folder}constants")
    if not isinstance(constants, tuple) or not isinstance(root, Record):
        raise UnreadableFile(f"{path}: a TorchScript module without readable constants or code")
    frozen = not any(name.startswith(f"{folder}data/") for name in archive.names)
    graph: dict[str, Any] = {"root": root, "constants": list(constants), "code": Code(archive, folder)}
    tree: Any = {f"c{i}": value for i, value in enumerate(constants)} if frozen else root
    name = FROZEN if frozen else NAME
    inert = tuple(dict.fromkeys((*inert, *more)))
    return Checkpoint(path, name, tree, extra_metadata(archive), (path,), inert, graph=graph)


def _folder(archive: Zip) -> str | None:
    """What stands before the members of a TorchScript module; None for another zip."""
    names = set(archive.names)
    for name in archive.names:
        folder = name.removesuffix("constants.pkl")
        if folder != name and f"{folder}data.pkl" in names:
            return folder if any(n.startswith(f"{folder}code/") and n.endswith(".py") for n in names) else None
    return None
