"""A source that is no file: weights, a network or a file's bytes in the caller's memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from converter.core.errors import ConverterError

if TYPE_CHECKING:
    from converter.core.model import Model as Loaded
else:  # numpy is not imported for it
    Loaded = Any

TAKEN = (
    "a path, URL, hf:// address or zoo name, a state dict of torch tensors or numpy arrays, a torch.nn.Module, "
    "a Keras model, bytes, a file opened in binary mode, or a model that load() gave"
)
"""What a source can be, for errors."""
BYTES = (bytes, bytearray, memoryview)


class HasStateDict(Protocol):
    """A ``torch.nn.Module``, to type checkers; nothing of it is called."""

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """What PyTorch's users save of it."""


class HasConfig(Protocol):
    """A ``keras.Model``, to type checkers."""

    def get_config(self) -> Any:
        """What Keras writes beside its weights."""

    def get_weights(self) -> Any:
        """Its arrays."""


class Readable(Protocol):
    """A file opened in binary mode, to type checkers."""

    def read(self, size: int = -1, /) -> bytes:
        """Its next bytes."""


Content = Mapping[str, Any] | list[Any] | bytes | bytearray | memoryview | Readable | HasStateDict | HasConfig | Loaded
"""What can be read without a file."""


class Held:
    """Something in memory that is read like a file.  Two are equal only if they are one.

    Attributes:
        content: itself, as it was given.
        kind: ``module``, ``tensors``, ``keras``, ``model``, ``program`` (scripted or exported), ``bytes`` (also files).
        name: what messages and reports call it.
    """

    def __init__(self, content: Any) -> None:
        """Take something as a source.

        Raises:
            ConverterError: it is nothing that could be one; says what could.
        """
        kind = _kind(content)
        if not kind:
            raise ConverterError(f"a source is {TAKEN}; not {_a(content)}")
        self.content, self.kind = content, kind
        self.name = _name(content, kind)

    @property
    def is_tree(self) -> bool:
        """Whether it is read where it is; anything else is, or becomes, the bytes of a file."""
        return self.kind in ("module", "tensors", "model")

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<{self.name}>"


def _kind(content: Any) -> str:
    from converter.core.model import Model  # noqa: PLC0415 (numpy, which names and paths do without)

    if isinstance(content, Model):
        return "model"
    if isinstance(content, BYTES) or hasattr(content, "SerializeToString"):
        return "bytes"
    # before modules, which these are, too, where Keras runs on PyTorch
    if any(cls.__module__.partition(".")[0] in ("keras", "tf_keras") for cls in type(content).__mro__):
        return "keras" if hasattr(content, "get_weights") and hasattr(content, "save") else ""
    if is_torch(content, "export.ExportedProgram") or is_torch(content, "jit.ScriptModule"):
        return "program"
    if is_torch(content, "nn.Module"):
        return "module"
    if isinstance(content, Mapping):
        return "tensors"
    if isinstance(content, list | tuple):
        return "tensors" if content and all(hasattr(value, "__array__") for value in content) else ""
    return "bytes" if callable(getattr(content, "read", None)) else ""


def _name(content: Any, kind: str) -> str:
    if kind == "model":
        return str(content.origin.name)
    if kind == "bytes":
        named = getattr(content, "name", None)
        return os.path.basename(named) if isinstance(named, str) and named else "bytes in memory"  # noqa: PTH119
    if kind == "tensors":
        return "state dict in memory" if isinstance(content, Mapping) else "arrays in memory"
    return f"{type(content).__name__} in memory"


def _a(content: Any) -> str:
    """A value by its type, with an article."""
    if content is None:
        return "None"
    cls = type(content)
    name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def is_torch(value: Any, name: str) -> bool:
    """Whether a value is an instance of a class of PyTorch's, by its name there; PyTorch is not imported for it."""
    cls: Any = sys.modules.get("torch")
    for part in name.split("."):
        cls = getattr(cls, part, None)
    return isinstance(cls, type) and isinstance(value, cls)
