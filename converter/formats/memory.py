"""Weights and networks in the caller's memory, as the tree that a file of them would be read as.

Nothing is called that is not numpy's or a tensor's own: a module is taken as the attributes it has, as its pickle would
have them (torch/nn/modules/module.py), and any other object as a :class:`Record`.  PyTorch is used only if it is
loaded, without which there are no tensors of its.
"""

from __future__ import annotations

import enum
import sys
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from converter.core import bounds, dtypes
from converter.core.checkpoint import Array, Checkpoint, Record, Tensor, Unordered
from converter.core.errors import NotADenseNet, UnreadableFile
from converter.core.held import Held, is_torch
from converter.core.metadata import LAYOUT_KEY
from converter.core.model import Model
from converter.formats.torch.pickle import Global, StateDict

PLAIN = (type(None), bool, int, float, complex, str, bytes)
GRAPH_MODULE = "torch.fx.graph_module.reduce_graph_module"
"""What PyTorch pickles a GraphModule as: its attributes without the graph, and the code made from that."""
COMPILED = "torch._dynamo.eval_frame.OptimizedModule"
"""What ``torch.compile`` gives, which computes what it was made of."""
FOREIGN: Mapping[str, str] = {
    "is_sparse": "torch._utils._rebuild_sparse_tensor",
    "is_sparse_csr": "torch._utils._rebuild_sparse_tensor",
    "is_quantized": "torch._utils._rebuild_qtensor",
    "is_meta": "torch._utils._rebuild_meta_tensor_no_storage",
    "is_nested": "torch._utils._rebuild_nested_tensor",
}
"""Tensors that have no array of their values, and what makes them of a pickle."""
VIEWS: Mapping[str, tuple[str, str]] = {
    "torch.bfloat16": ("int16", "bfloat16"),
    "torch.float8_e4m3fn": ("uint8", "float8_e4m3fn"),
    "torch.float8_e5m2": ("uint8", "float8_e5m2"),
}
"""Element types that NumPy lacks: the PyTorch type of that size, and ml_dtypes' name."""


def open_memory(held: Held) -> Checkpoint:
    """A state dict, a module or a model as a checkpoint; its tensors are read when needed, from where they lie.

    Raises:
        UnreadableFile: it holds more objects than any checkpoint.
        NotADenseNet: a module whose ``forward`` was replaced.
    """
    content, path = held.content, Path(held.name)
    if isinstance(content, Model):
        metadata = {**content.metadata(), LAYOUT_KEY: "library"}
        return Checkpoint(path, "model in memory", dict(content.tensors), metadata, held=True)
    reader = _Reader(held.name)
    tree = reader.read(content, bounds.WRAPPERS)
    what = "numpy arrays" if not reader.of_torch else "torch module" if held.kind == "module" else "torch tensors"
    return Checkpoint(path, f"{what} in memory", tree, inert=tuple(reader.inert), held=True)


class _Reader:
    """One object and all it holds.

    Attributes:
        inert: classes that became records.
        of_torch: whether there was a tensor or module of PyTorch's.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.inert: dict[str, None] = {}
        self.of_torch = False
        self.known: dict[int, tuple[Any, Any]] = {}  # what was read, kept beside, so that no other gets its id
        self.views: dict[Any, Tensor] = {}
        self.count = 0

    def read(self, value: Any, depth: int) -> Any:
        """A value as a file's tree has it.

        Args:
            value: anything.
            depth: how far to look into objects of unknown classes.
        """
        if isinstance(value, PLAIN) and not isinstance(value, enum.Enum):
            return value
        if id(value) in self.known:
            return self.known[id(value)][1]
        self.count += 1
        if self.count > bounds.HELD:
            raise UnreadableFile(f"{self.name}: holds more than {bounds.HELD:,} objects")
        if isinstance(value, tuple):
            return tuple(self.read(member, depth) for member in value)
        result = self._fresh(value)
        self.known[id(value)] = value, result
        if isinstance(result, Record | dict | list):
            self._fill(result, value, depth)
        return result

    def _fresh(self, value: Any) -> Any:
        """What a value becomes, still empty if it holds others."""
        if is_torch(value, "Tensor"):
            return self._tensor(value)
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, np.ndarray):
            return _array(value)
        if isinstance(value, OrderedDict):
            return StateDict()
        if isinstance(value, Mapping):
            return {}
        if isinstance(value, set | frozenset):
            return Unordered()
        if isinstance(value, list):
            return []
        if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
            return Global(str(value.__module__), value.__qualname__)
        if isinstance(value, types.MethodType):
            return self._record("builtins.getattr")
        if is_torch(value, "fx.GraphModule"):
            return self._record(GRAPH_MODULE)
        return self._record(_class_of(value))

    def _record(self, cls: str) -> Record:
        self.inert[cls] = None
        return Record(cls)

    def _fill(self, result: Any, value: Any, depth: int) -> None:
        """The members of a dict, list or record."""
        if isinstance(result, dict):
            for key, member in value.items():
                result[key if isinstance(key, str | int | bytes) else str(key)] = self.read(member, depth)
            if isinstance(result, StateDict):
                result.attributes |= {k: self.read(v, depth) for k, v in vars(value).items()}
        elif isinstance(result, list):  # also a set's
            result += [self.read(member, depth) for member in value]
        elif isinstance(value, types.MethodType):
            result.args = (self.read(value.__self__, depth), value.__name__)
        elif isinstance(value, enum.Enum):
            result.args = (self.read(value.value, depth),)
        elif isinstance(value, deque):
            result.items = [self.read(member, depth) for member in value]
        elif is_torch(value, "nn.Module"):
            self._module(result, value, depth)
        elif depth and isinstance(state := getattr(value, "__dict__", None), dict):
            result.state = {name: self.read(member, depth - 1) for name, member in state.items()}

    def _module(self, result: Record, module: Any, depth: int) -> None:
        """The attributes of a module."""
        self.of_torch = True
        state = dict(vars(module))
        if result.cls == COMPILED and "_orig_mod" in state["_modules"]:
            result.args = (self.read(state["_modules"]["_orig_mod"], depth),)
            return
        if "forward" in state:
            raise NotADenseNet(
                f"{self.name}: {_class_of(module)} has another forward than its class ({_called(state['forward'])}); "
                "what that computes is not known here: give its state_dict() if it is the usual one"
            )
        if result.cls == GRAPH_MODULE:
            state.pop("_graph", None)
        read = {name: self.read(member, depth) for name, member in state.items()}
        if result.cls == GRAPH_MODULE:
            result.args = (read,)
        else:
            result.state = read

    def _tensor(self, tensor: Any) -> Any:
        """A tensor as an array that is looked at when it is needed; a record where it has no values of its own."""
        self.of_torch = True
        torch: Any = sys.modules["torch"]
        for attribute, cls in FOREIGN.items():
            if getattr(tensor, attribute):
                return self._record(cls)
        if type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__ or is_torch(
            tensor, "nn.parameter.UninitializedTensorMixin"
        ):
            return self._record(_class_of(tensor))
        raw, kind = VIEWS.get(str(tensor.dtype), ("", ""))
        try:
            dtype = dtypes.dtype(kind) if raw else torch.empty(0, dtype=tensor.dtype).numpy().dtype
        except TypeError:  # no element type of NumPy's
            return self._record(f"torch.{tensor.dtype} Tensor".replace("torch.torch.", "torch."))
        storage = tensor.untyped_storage().data_ptr()
        key = storage, str(tensor.dtype), tensor.storage_offset(), tuple(tensor.shape), tensor.stride()
        if storage and key in self.views:  # the same view is the same object: that is how aliases are known
            return self.views[key]
        found = Tensor(tuple(tensor.shape), dtype, self._values(tensor.detach(), raw, dtype))
        self.views[key] = found
        return found

    def _values(self, tensor: Any, raw: str, dtype: np.dtype[Any]) -> Callable[[], Array]:
        """Gives what a tensor holds, if that is still what it held."""
        torch: Any = sys.modules["torch"]
        version, name = None if tensor.is_inference() else tensor._version, self.name

        def read() -> Array:
            if version is not None and tensor._version != version:
                raise UnreadableFile(f"{name}: changed since it was read; read it again")
            plain = tensor.cpu().resolve_conj().resolve_neg()
            array: Array = (plain.view(getattr(torch, raw)) if raw else plain).numpy().view(dtype).view()
            array.flags.writeable = False
            return array

        return read


def _array(array: Array) -> Any:
    """An array of numbers as a tensor, one of texts or objects as a list."""
    if array.dtype.kind in "OUS":
        return array.tolist()
    view = np.asarray(array).view()
    view.flags.writeable = False
    return Tensor.of(view if view.dtype.isnative else view.astype(view.dtype.newbyteorder("=")))


def _class_of(value: Any) -> str:
    """The class of an object, as a pickle would name it; of one that PyTorch derived from it, its own."""
    cls = type(value)
    if hasattr(value, "parametrizations") and cls.__name__.startswith("Parametrized"):
        cls = cls.__bases__[0]  # torch/nn/utils/parametrize.py, _inject_new_class
    return f"{cls.__module__}.{cls.__qualname__}"


def _called(function: Any) -> str:
    return str(getattr(function, "__qualname__", None) or type(function).__name__)
