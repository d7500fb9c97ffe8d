"""TorchScript modules: the code of ``forward`` is read as text and followed by ``wiring.py``.

TorchScript writes its graphs as Python (torch/csrc/jit/serialization/python_print.cpp): a class for each kind of
module, whose methods call those of the modules below; constants are ``CONSTANTS.c7``.  A frozen module has one
``forward`` and all its weights among the constants.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from converter.core.checkpoint import Checkpoint, Record, Tensor
from converter.core.errors import NotADenseNet
from converter.structures.ops import Weight
from converter.structures.parts import Structure
from converter.structures.torch.code import Frame, Interpreter
from converter.structures.torch.modules import Module, Path, image_rank, parsed, paths_of, tensors_of
from converter.structures.torch.plain import NOTHING, plain
from converter.structures.torch.quantised import refuse_quantised
from converter.structures.torch.read_code import read_code
from converter.structures.torch.values import UNKNOWN, Data, Unknown, flattened

NAME = "torchscript"
FORMATS = ("torchscript", "torchscript, frozen")
TORCH = ("torch.", "ops.aten.")
TYPES: Mapping[str, type | tuple[type, ...]] = {
    "Tensor": (Data, Weight),
    "List": list,
    "Dict": dict,
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
}


def read_torchscript(checkpoint: Checkpoint) -> Structure | None:
    """The network of a TorchScript module; None for a checkpoint of another kind.

    Raises:
        NotADenseNet: it computes something else; names the operator.
    """
    if checkpoint.format not in FORMATS:
        return None
    graph = checkpoint.graph
    structure = read_code(NAME, checkpoint, lambda: _Script(graph["root"], graph["constants"], graph["code"]))
    return replace(structure, named=checkpoint.format == NAME)


class _Script(Interpreter):
    """The modules and functions of an archive.

    Args:
        root: the pickled module.
        constants: what ``CONSTANTS`` has, in order.
        code: the text of each file by its module's name.
    """

    def __init__(self, root: Record, constants: list[Any], code: Mapping[str, str]) -> None:
        super().__init__()
        self.root, self.code = root, code
        below = paths_of(root)
        self.names = {**{id(value): f"c{i}" for i, value in enumerate(constants)}, **below}
        self.constants = {f"CONSTANTS.c{i}": value for i, value in enumerate(constants)}
        self.files: dict[str, dict[str, ast.ClassDef | ast.FunctionDef]] = {}
        found = [value for value in flattened(constants) if isinstance(value, Tensor)]
        found += tensors_of(root)
        self.rank = image_rank(found)
        self.tensors = found

    def follow(self) -> tuple[str, list[str]]:
        """The name of the image, and those of all results."""
        for tensor in self.tensors:
            self.constant(tensor)
        module = Module(self.root, "")
        function = self.member_function(self.root.cls, "forward")
        if function is None:
            raise NotADenseNet(f"{self.root.cls.removeprefix('__torch__.')} has no forward")
        names = [argument.arg for argument in function.args.args[1:]]
        needed = len(names) - len(function.args.defaults)
        if not names or needed > 1:
            raise NotADenseNet(f"forward takes {needed} arguments; a DenseNet takes the image")
        image = self.operators.image(names[0], self.rank)
        result = self.invoke(function, [module, image], {})
        return names[0], self.results(result)

    # -- code --------------------------------------------------------------------------

    def defined(self, qualified: str) -> ast.ClassDef | ast.FunctionDef | None:
        """A class or function by its whole name."""
        module, _, name = qualified.rpartition(".")
        if module not in self.files:
            text = self.code.get(module)
            body = parsed(text, module.removeprefix("__torch__.")).body if text is not None else []
            self.files[module] = {node.name: node for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
        return self.files[module].get(name)

    def member_function(self, cls: str, name: str) -> ast.FunctionDef | None:
        """A method of a class."""
        found = self.defined(cls)
        body = found.body if isinstance(found, ast.ClassDef) else []
        return next((node for node in body if isinstance(node, ast.FunctionDef) and node.name == name), None)

    def invoke(self, function: ast.FunctionDef, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        """A function run on values."""
        names = [argument.arg for argument in function.args.args]
        defaults = function.args.defaults
        frame: Frame = {name: self.value(node, {}) for name, node in zip(names[len(names) - len(defaults) :], defaults)}
        frame |= dict(zip(names, arguments))
        frame |= {name: value for name, value in keywords.items() if name in names}
        if len(arguments) > len(names) or any(name not in frame for name in names):
            raise NotADenseNet(f"{function.name} is called with other arguments than it has")
        return self.run(function, frame)

    # -- the dialect -------------------------------------------------------------------

    def named(self, name: str) -> Any:
        if name.startswith("CONSTANTS."):
            return self.constant(self.constants.get(name, UNKNOWN))
        return UNKNOWN

    def member(self, of: Any, name: str) -> Any:
        if not isinstance(of, Module):
            return self.opaque([of], f"attribute {name}")
        if name in of.changed:
            return of.changed[name]
        state = of.record.state if isinstance(of.record.state, dict) else {}
        if name == "training":
            if state.get(name) is not False and not self.notes:
                self.notes.append("the module was saved in training mode; it is read as in evaluation mode")
            return False
        if name in state:
            return self.constant(state[name])
        return self.stated(of.record.cls, name)

    def stated(self, cls: str, name: str) -> Any:
        """A constant of a class: ``eps : Final[float] = 1e-05``."""
        found = self.defined(cls)
        for node in found.body if isinstance(found, ast.ClassDef) else ():
            if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name and node.value is not None:
                return self.value(node.value, {})
        return UNKNOWN

    def method(self, of: Any, name: str, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        if isinstance(of, Module):
            function = self.member_function(of.record.cls, name)
            if function is not None:
                return self.invoke(function, [of, *arguments], keywords)
            place = of.path or of.record.cls
            return self.opaque([*arguments, keywords], f"{name} of {place}", inplace=True)
        return self.opaque([of, *arguments, keywords], f"method {name}", inplace=True)

    def function(self, name: str, arguments: list[Any], keywords: dict[str, Any], node: ast.Call) -> Any:
        last = name.rpartition(".")[2]
        if last == "ConstantMKLDNNTensor" or name.startswith("ops.mkldnn"):
            raise NotADenseNet(
                "optimised for one processor, its weights are not in the file; use the module before that"
            )
        refuse_quantised(name)
        if name == "ops.prim.RaiseException":
            text = next((value for value in arguments if isinstance(value, str)), "")
            raise NotADenseNet(f"its code ends with an error{': ' * bool(text)}{text:.80}")
        if name.startswith("__torch__."):
            return self.own(name, arguments, keywords)
        if name == "isinstance" and len(arguments) == 2:
            return _is_of(arguments[0], ast.unparse(node.args[1]))
        if name == "getattr" and len(arguments) >= 2 and isinstance(arguments[1], str):
            return self.member(arguments[0], arguments[1])
        if name in ("annotate", "unchecked_cast") and len(arguments) == 2:
            return arguments[1]
        if not name.startswith((*TORCH, "ops.prim.")) and "." in name:
            return self.opaque([*arguments, keywords], name, inplace=True)
        result = plain(last, arguments)
        if result is not NOTHING:
            return result
        if not name.startswith(TORCH):
            return self.opaque([*arguments, keywords], name)
        return self.operators.call(last, arguments, keywords)

    def own(self, name: str, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        """A function or class of the archive."""
        if name.endswith(".__new__"):
            return Module(Record(name.removesuffix(".__new__"), state={}), "")
        found = self.defined(name)
        if isinstance(found, ast.FunctionDef):
            return self.invoke(found, arguments, keywords)
        if isinstance(found, ast.ClassDef) and any(ast.unparse(base) == "NamedTuple" for base in found.bases):
            return [*arguments, *keywords.values()]
        return self.opaque([*arguments, keywords], name, inplace=True)

    def binary(self, operator: str, left: Any, right: Any) -> Any:
        return self.operators.call(operator, [left, right], {})


def _is_of(value: Any, kind: str) -> Any:
    """Whether a value is of a type, by the type's name; UNKNOWN if that cannot be said."""
    if isinstance(value, Unknown | Module | Path):
        return UNKNOWN
    if kind == "NoneType":
        return value is None
    known = TYPES.get(kind.partition("[")[0])
    return UNKNOWN if known is None else isinstance(value, known) and not (kind == "int" and value in (True, False))
