"""GraphModules of torch.fx, pickled whole: the text of their ``forward``, and the modules it calls.

``GraphModule.__reduce__`` (torch/fx/graph_module.py) leaves out the graph and keeps the code made from it.
"""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import Any

from converter.core import bounds
from converter.core.checkpoint import Checkpoint, Record, Tensor
from converter.core.errors import NotADenseNet
from converter.structures.parts import Structure
from converter.structures.torch.code import Frame, Interpreter
from converter.structures.torch.leaves import FUNCTIONAL, run_leaf
from converter.structures.torch.modules import Module, Path, image_rank, parsed, paths_of, tensors_of
from converter.structures.torch.plain import NOTHING, plain
from converter.structures.torch.quantised import refuse_quantised
from converter.structures.torch.read_code import read_code
from converter.structures.torch.values import UNKNOWN, Data, Size, flattened

NAME = "torch.fx"
GRAPH_MODULE = "torch.fx.graph_module.reduce_graph_module"
TENSORS = 8
"""A dict with as many tensors is a state dict."""
DTYPES = {"half": 5, "float16": 5, "float": 6, "float32": 6, "double": 7, "float64": 7, "bfloat16": 15} | {
    "uint8": 0, "int8": 1, "int16": 2, "int32": 3, "int": 3, "int64": 4, "long": 4, "bool": 11
}  # fmt: skip
"""Element types by name, and their numbers (c10/core/ScalarType.h)."""
VARIADIC = frozenset("view reshape permute expand flip repeat".split())
"""Methods that take a list of numbers one by one."""


def read_graph_module(checkpoint: Checkpoint) -> Structure | None:
    """The network of a GraphModule; None for a checkpoint of another kind.

    Raises:
        NotADenseNet: it computes something else; names the operator.
    """
    record = graph_module_in(checkpoint.tree)
    if record is None:
        return None
    whole = Record(record.cls, state=record.args[0])
    return replace(read_code(NAME, checkpoint, lambda: _Graph(whole)), named=True)


def graph_module_in(tree: Any) -> Record | None:
    """The only network of a file, if that is a GraphModule."""
    values = list(tree.values()) if isinstance(tree, dict) else [tree]
    if any(_is_network(value) for value in values):
        return None
    found = [value for value in values if isinstance(value, Record) and value.cls == GRAPH_MODULE]
    whole = len(found) == 1 and found[0].args and isinstance(found[0].args[0], dict)
    return found[0] if whole else None


def _is_network(value: Any) -> bool:
    """Whether a value is a module of another kind, or a state dict."""
    if isinstance(value, Record):
        return isinstance(value.state, dict) and "_modules" in value.state
    return isinstance(value, dict) and sum(isinstance(each, Tensor) for each in value.values()) >= TENSORS


class _Graph(Interpreter):
    """The code of one GraphModule."""

    def __init__(self, root: Record) -> None:
        super().__init__()
        self.root = root
        self.names = paths_of(root)
        self.tensors = list(tensors_of(root))

    def follow(self) -> tuple[str, list[str]]:
        """The name of the image, and those of all results."""
        for tensor in self.tensors:
            self.constant(tensor)
        code = self.root.state.get("_code", self.root.state.get("code"))
        if not isinstance(code, str) or len(code) > bounds.GRAPH_CODE:
            raise NotADenseNet("a GraphModule without its code")
        body = parsed(code, "the GraphModule").body
        function = next((n for n in body if isinstance(n, ast.FunctionDef) and n.name == "forward"), None)
        names = [argument.arg for argument in function.args.args[1:]] if function is not None else []
        needed = len(names) - (len(function.args.defaults) if function is not None else 0)
        if function is None or not names or needed > 1:
            raise NotADenseNet(f"forward takes {needed} arguments; a DenseNet takes the image")
        image = self.operators.image(names[0], image_rank(self.tensors))
        frame: Frame = {"self": Module(self.root, ""), **dict.fromkeys(names[1:]), names[0]: image}
        result = self.run(function, frame)
        return names[0], self.results(result)

    # -- the dialect -------------------------------------------------------------------

    def named(self, name: str) -> Any:
        return DTYPES.get(name.removeprefix("torch."), UNKNOWN) if name.startswith("torch.") else UNKNOWN

    def member(self, of: Any, name: str) -> Any:
        if isinstance(of, Module):
            state = of.record.state if isinstance(of.record.state, dict) else {}
            for kind in ("_parameters", "_buffers", "_modules"):
                members = state.get(kind)
                if isinstance(members, dict) and name in members:
                    return self.constant(members[name])
            return self.constant(state[name]) if name in state else UNKNOWN
        if isinstance(of, Data) and name == "shape":
            return Size(of.name, of.rank)
        if isinstance(of, Data) and name in ("dtype", "device", "ndim"):
            return {"dtype": 6, "device": "cpu", "ndim": of.rank}[name]
        return self.opaque([of], f"attribute {name}")

    def method(self, of: Any, name: str, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        if isinstance(of, Module):
            module = of if name == "__call__" else self.member(of, name)
            if isinstance(module, Module):
                return run_leaf(self, module, arguments, keywords)
            return self.opaque([*arguments, keywords], f"method {name}", inplace=True)
        if name in ("append", "extend", "values", "keys") and not isinstance(of, Data):
            result = plain(name, [of, *arguments])
            return UNKNOWN if result is NOTHING else result
        if name in VARIADIC and arguments and not isinstance(arguments[0], list | tuple):
            arguments = [arguments]
        return self.operators.call(name, [of, *arguments], _renamed(keywords))

    def function(self, name: str, arguments: list[Any], keywords: dict[str, Any], node: ast.Call) -> Any:
        refuse_quantised(name)
        last = name.rpartition(".")[2]
        if name == "getattr" and len(arguments) >= 2 and isinstance(arguments[1], str):
            return self.member(arguments[0], arguments[1])
        if name == "slice":
            return Path(f"slice({', '.join(map(str, arguments))})")
        if name == "fx_pytree.tree_flatten_spec" and arguments:  # exported programs' modules: args and kwargs
            return list(flattened(arguments[0]))
        if name == "pytree.tree_unflatten" and arguments:
            return arguments[0]
        if name.startswith("torch.ops."):
            parts = name.split(".")
            if parts[2:3] != ["aten"] or len(parts) < 4:
                return self.opaque([*arguments, keywords], name, inplace=True)
            return self.operators.call(parts[3], arguments, keywords)
        if name.startswith("torch.nn.functional."):
            keywords = dict(zip(FUNCTIONAL.get(last, "").split(), arguments)) | keywords
            if last not in FUNCTIONAL:
                return self.opaque([*arguments, keywords], name, inplace=True)
            changes = keywords.pop("inplace", False) is not False
            if keywords.pop("return_indices", False):
                return self.opaque([keywords], name)
            base = last.rstrip("0123d") if last.startswith(("dropout", "alpha")) else last
            return self.operators.call(base + "_" * changes, (), keywords)
        if name.startswith("torch."):
            return self.operators.call(last, arguments, _renamed(keywords))
        if "." not in name:
            result = plain(last, arguments)
            if result is not NOTHING:
                return result
        return self.opaque([*arguments, keywords], name, inplace=True)

    def item(self, of: Data, index: Any) -> Any:
        """Whole axes, and a list of channels."""
        places = index if isinstance(index, list) else [index]
        lists = [i for i, place in enumerate(places) if isinstance(place, list)]
        whole = all(i in lists or place == WHOLE for i, place in enumerate(places))
        if whole and len(lists) == 1 and all(isinstance(n, int) for n in places[lists[0]]):
            order = self.operators.call("tensor", [places[lists[0]]], {})
            return self.operators.call("index_select", [of, lists[0], order], {})
        return (
            self.operators.call("alias", [of], {}) if whole and not lists else self.opaque([of], "a part of a tensor")
        )

    def binary(self, operator: str, left: Any, right: Any) -> Any:
        if not any(isinstance(value, Data) for value in (left, right)):
            result = plain(operator, [left, right])
            if result is not NOTHING:
                return result
        if operator not in ("add", "sub", "mul", "div", "pow", "matmul"):
            return self.opaque([left, right], f"operator {operator}")
        return self.operators.call(operator, [left, right], {})


WHOLE = Path("slice(None, None, None)")
"""An index that takes all."""


def _renamed(keywords: dict[str, Any]) -> dict[str, Any]:
    """``input`` and ``axis`` as ATen calls them."""
    names = {"input": "self", "axis": "dim"}
    return {names.get(name, name): value for name, value in keywords.items()}
