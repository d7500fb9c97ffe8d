"""The text of a ``forward``, followed statement by statement: parsed into a syntax tree, never compiled or run.

TorchScript and torch.fx both write graphs as Python.  What a name, an attribute or a call means differs between
them (``script.py``, ``graph_module.py``); statements and expressions do not.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converter.core import bounds
from converter.core.checkpoint import Record, Tensor
from converter.core.errors import NotADenseNet
from converter.structures.ops import Weight
from converter.structures.torch.modules import Module, Path
from converter.structures.torch.operators import Operators
from converter.structures.torch.values import UNKNOWN, Data, Size, Unknown, flattened

PURE = ("torch.", "ops.prim.", "ops.aten.", "annotate", "unchecked_cast", "uninitialized", "isinstance", "range")
"""What functions that change nothing are called."""
MUTATORS = frozenset("append extend insert pop clear remove reverse sort _set_item Delete update setdefault".split())


@dataclass(frozen=True)
class Returned:
    """A function is left with this."""

    value: Any


Frame = dict[str, Any]


class Interpreter:
    """Follows code; what calls, names and attributes mean is for those that know the dialect."""

    def __init__(self) -> None:
        self.operators = Operators()
        self.work = self.depth = 0
        self.weights: dict[int, Weight] = {}
        self.names: Mapping[int, str] = {}
        self.notes: list[str] = []

    def results(self, made: Any) -> list[str]:
        """The names of all tensors in what ``forward`` gives.

        Raises:
            NotADenseNet: none depends on the image.
        """
        values = list(flattened(made))
        found = [value for value in values if isinstance(value, Data)]
        if not found:
            why = next((value.why for value in values if isinstance(value, Unknown) and value.why), "")
            raise NotADenseNet(why or "its result does not depend on the image")
        return [self.operators.current(value).name for value in found]

    # -- the dialect -----------------------------------------------------------------

    def follow(self) -> tuple[str, list[str]]:
        """The name of the image, and those of all results."""
        raise NotImplementedError

    def function(self, name: str, arguments: list[Any], keywords: dict[str, Any], node: ast.Call) -> Any:
        """What a function makes of values."""
        raise NotImplementedError

    def method(self, of: Any, name: str, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        """What a method of a value makes of values."""
        raise NotImplementedError

    def member(self, of: Any, name: str) -> Any:
        """An attribute of a value."""
        raise NotImplementedError

    def item(self, of: Data, index: Any) -> Any:
        """A part of a tensor."""
        return self.opaque([of], "a part of a tensor")

    def named(self, name: str) -> Any:
        """What a dotted name stands for, where it is no function."""
        return UNKNOWN

    def binary(self, operator: str, left: Any, right: Any) -> Any:
        """An operator written as a sign."""
        return self.opaque([left, right], f"operator {operator}")

    # -- values ------------------------------------------------------------------------

    def constant(self, value: Any) -> Any:
        """A stored value as it flows: tensors as weights by their names, modules by their places."""
        if isinstance(value, Tensor):
            if id(value) not in self.weights:
                name = self.names.get(id(value), f"constant {len(self.weights)}")
                self.weights[id(value)] = Weight(name, value, (name,))
            return self.weights[id(value)]
        if isinstance(value, Record):
            if value.cls.startswith("torch.jit._pickle.") and value.args:  # lists of one type
                return self.constant(value.args[0])
            return Module(value, self.names.get(id(value), ""))
        if isinstance(value, list):
            return [self.constant(item) for item in value]
        if isinstance(value, tuple):
            return tuple(self.constant(item) for item in value)
        if isinstance(value, dict):
            return {key: self.constant(item) for key, item in value.items()}
        return value if isinstance(value, (int, float, str, bool, type(None))) else UNKNOWN

    def opaque(self, values: Sequence[Any], name: str, *, inplace: bool = False) -> Any:
        """The result of something that is not understood."""
        taken = [value for value in flattened(list(values)) if isinstance(value, Data)]
        why = next((value for value in flattened(list(values)) if isinstance(value, Unknown) and value.why), UNKNOWN)
        return self.operators.other(taken, name, inplace=inplace) if taken else why

    # -- statements ----------------------------------------------------------------------

    def run(self, function: ast.FunctionDef, frame: Frame) -> Any:
        """What a function returns, given its arguments by name.

        Raises:
            NotADenseNet: it goes too deep or on for too long, or depends on what is not known.
        """
        self.depth += 1
        if self.depth > bounds.SCRIPT_CALLS:
            raise NotADenseNet(f"{function.name} is nested too deeply")
        result = self.block(function.body, frame)
        self.depth -= 1
        return result.value if result is not None else None

    def block(self, statements: Sequence[ast.stmt], frame: Frame) -> Returned | None:
        """Statements one after the other."""
        for statement in statements:
            self.work += 1
            if self.work > bounds.SCRIPT_WORK:
                raise NotADenseNet("its code goes on for too long")
            result = self.statement(statement, frame)
            if result is not None:
                return result
        return None

    def statement(self, node: ast.stmt, frame: Frame) -> Returned | None:
        """One statement."""
        if isinstance(node, ast.Assign):
            value = self.value(node.value, frame)
            for target in node.targets:
                self.assign(target, value, frame)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            self.assign(node.target, self.value(node.value, frame), frame)
        elif isinstance(node, ast.AugAssign):
            self.augment(node, frame)
        elif isinstance(node, ast.Expr):
            self.value(node.value, frame)
        elif isinstance(node, ast.Return):
            return Returned(self.value(node.value, frame) if node.value is not None else None)
        elif isinstance(node, ast.If):
            return self.branch(node, frame)
        elif isinstance(node, ast.While | ast.For):
            return self.loop(node, frame)
        elif isinstance(node, ast.With):
            return self.within(node, frame)
        elif not isinstance(node, ast.Pass | ast.AnnAssign):
            raise NotADenseNet(f"its code has `{ast.unparse(node):.60}`, which is not followed")
        return None

    def assign(self, target: ast.expr, value: Any, frame: Frame) -> None:
        """A value under a name, or taken apart under several."""
        if isinstance(target, ast.Name):
            frame[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            for inner, part in zip(target.elts, self.unpacked(value, len(target.elts))):
                self.assign(inner, part, frame)
        elif isinstance(target, ast.Attribute) and isinstance(of := self.value(target.value, frame), Module):
            of.changed[target.attr] = value
        elif isinstance(target, ast.Subscript):
            self.put(self.value(target.value, frame), self.value(target.slice, frame), value)
        else:
            raise NotADenseNet(f"its code assigns to `{ast.unparse(target):.60}`, which is not followed")

    def unpacked(self, value: Any, count: int) -> list[Any]:
        """Several values of one; of a function's several results the first is the one that matters."""
        if isinstance(value, Data):
            name = f"another result of {value.name}"
            return [value, *(self.operators.other([value], name, inplace=False) for _ in range(count - 1))]
        if isinstance(value, (list, tuple)) and len(value) == count:
            return list(value)
        if isinstance(value, Size) and value.axis is None:
            return [Size(value.name, value.rank, i) for i in range(count)]
        return [value if isinstance(value, Unknown) else UNKNOWN] * count

    def put(self, of: Any, key: Any, value: Any) -> None:
        """An item assigned."""
        fits = isinstance(of, list) and isinstance(key, int) and -len(of) <= key < len(of)
        if isinstance(of, Data):
            self.operators.other([of], "an item assigned in place")
        elif fits or (isinstance(of, dict) and isinstance(key, str)):
            of[key] = value
        else:
            raise NotADenseNet("its code assigns to an item of what is not known")

    def augment(self, node: ast.AugAssign, frame: Frame) -> None:
        """In place, for tensors."""
        function = SIGNS.get(type(node.op))
        target, value = self.value(node.target, frame), self.value(node.value, frame)
        if isinstance(target, Data) and function is not None:
            result = self.operators.call(f"{function}_", [target, value], {})
        elif isinstance(target, Data):
            result = self.operators.other([target], f"`{ast.unparse(node):.40}`")
        elif isinstance(target, int | float | str):
            result = self.binary(function or "", target, value)
        else:
            raise NotADenseNet(f"its code has `{ast.unparse(node):.60}`, which is not followed")
        self.assign(node.target, result, frame)

    # -- what depends on conditions ------------------------------------------------------

    def branch(self, node: ast.If, frame: Frame) -> Returned | None:
        """``if``; where its condition is not known, a branch that ends the run is not taken."""
        test = truth(self.value(node.test, frame))
        if test is None:
            for taken, left in ((node.orelse, node.body), (node.body, node.orelse)):
                if any(raises(statement) for statement in left):  # a check, which the network passes
                    return self.block(taken, frame)
            self.undecided(node.test, [*node.body, *node.orelse], frame)
            return None
        return self.block(node.body if test else node.orelse, frame)

    def loop(self, node: ast.While | ast.For, frame: Frame) -> Returned | None:
        """``for`` and ``while``, of which it is known how often."""
        if isinstance(node, ast.For):
            over = self.value(node.iter, frame)
            if not isinstance(over, (list, tuple, range)):
                self.undecided(node.iter, [*node.body], frame)
                return None
            for value in over:
                self.assign(node.target, value, frame)
                result = self.block(node.body, frame)
                if result is not None:
                    return result
            return None
        while (test := truth(self.value(node.test, frame))) is True:
            result = self.block(node.body, frame)
            if result is not None:
                return result
        if test is None:
            self.undecided(node.test, node.body, frame)
        return None

    def within(self, node: ast.With, frame: Frame) -> Returned | None:
        """Gradients, precision and profiling change no result."""
        text = " ".join(ast.unparse(item.context_expr) for item in node.items)
        known = [self.value(item.context_expr, frame) for item in node.items]
        text += " ".join(value.record.cls for value in known if isinstance(value, Module))
        if not any(word in text for word in ("grad_mode", "no_grad", "autocast", "record_function")):
            raise NotADenseNet(f"its code has `with {text:.60}`, which is not followed")
        return self.block(node.body, frame)

    def undecided(self, test: ast.expr, statements: Sequence[ast.stmt], frame: Frame) -> None:
        """Statements of which nobody knows whether they are run: what they assign is not known any more.

        Raises:
            NotADenseNet: they do more than assign.
        """
        text = f"what it does depends on `{ast.unparse(test):.60}`"
        inner = [each for statement in statements for each in ast.walk(statement)]
        for each in inner:
            called = ast.unparse(each.func) if isinstance(each, ast.Call) else "torch.nothing"
            last = called.rpartition(".")[2]
            changes = last in MUTATORS or (last.endswith("_") and not last.startswith("__"))
            stored = isinstance(each, ast.Attribute | ast.Subscript) and isinstance(each.ctx, ast.Store)
            if changes or stored or not called.startswith(PURE) or isinstance(each, ast.Return | ast.AugAssign):
                raise NotADenseNet(text)
        stores = (each.id for each in inner if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store))
        frame |= dict.fromkeys(stores, Unknown(text))

    # -- expressions ---------------------------------------------------------------------

    def value(self, node: ast.expr, frame: Frame) -> Any:
        """What an expression comes to."""
        self.work += 1
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return frame.get(node.id, NUMBERS.get(node.id, Path(node.id)))
        if isinstance(node, ast.List | ast.Tuple):
            return list(self.values(node.elts, frame))
        if isinstance(node, ast.Dict):
            keys = [self.value(key, frame) if key is not None else None for key in node.keys]
            plain = [key if isinstance(key, (str, int)) else str(i) for i, key in enumerate(keys)]
            return dict(zip(plain, (self.value(value, frame) for value in node.values)))
        if isinstance(node, ast.Call):
            return self.call(node, frame)
        if isinstance(node, ast.Attribute):
            of = self.value(node.value, frame)
            if isinstance(of, Path):
                return self.resolved(Path(f"{of.name}.{node.attr}"))
            return self.member(of, node.attr)
        if isinstance(node, ast.Subscript):
            return self.subscript(self.value(node.value, frame), node.slice, frame)
        if isinstance(node, ast.BinOp):
            left, right = self.value(node.left, frame), self.value(node.right, frame)
            return self.binary(SIGNS.get(type(node.op), type(node.op).__name__), left, right)
        if isinstance(node, ast.UnaryOp):
            of = self.value(node.operand, frame)
            if isinstance(node.op, ast.USub) and isinstance(of, int | float):
                return -of
            return self.binary("mul", of, -1) if isinstance(node.op, ast.USub) else self.opaque([of], "a sign")
        inner = [self.value(each, frame) for each in ast.iter_child_nodes(node) if isinstance(each, ast.expr)]
        return self.opaque(inner, f"`{ast.unparse(node):.40}`")

    def resolved(self, path: Path) -> Any:
        """A dotted name, or what it stands for."""
        value = self.named(path.name)
        return path if value is UNKNOWN else value

    def values(self, nodes: Sequence[ast.expr], frame: Frame) -> Iterator[Any]:
        """Several expressions; lists with a star are taken apart."""
        for node in nodes:
            if isinstance(node, ast.Starred):
                inner = self.value(node.value, frame)
                yield from inner if isinstance(inner, (list, tuple)) else [inner]
            else:
                yield self.value(node, frame)

    def call(self, node: ast.Call, frame: Frame) -> Any:
        """A function, a method or a module called."""
        of: Any = None
        if isinstance(node.func, ast.Attribute):
            of = self.value(node.func.value, frame)
            target = Path(f"{of.name}.{node.func.attr}") if isinstance(of, Path) else None
        else:
            target = self.value(node.func, frame)
        arguments = list(self.values(node.args, frame))
        keywords = {str(keyword.arg): self.value(keyword.value, frame) for keyword in node.keywords}
        if target is None and isinstance(node.func, ast.Attribute):
            return self.method(of, node.func.attr, arguments, keywords)
        if isinstance(target, Path):
            return self.function(target.name, arguments, keywords, node)
        if isinstance(target, Module):
            return self.method(target, "__call__", arguments, keywords)
        return self.opaque([target, *arguments, keywords], f"`{ast.unparse(node.func):.40}`", inplace=True)

    def subscript(self, of: Any, index: ast.expr, frame: Frame) -> Any:
        """An item of a list, a dict or a tensor."""
        key = UNKNOWN if isinstance(index, ast.Slice) else self.value(index, frame)
        if isinstance(of, Data):
            return self.item(of, key)
        if isinstance(of, (list, tuple)) and isinstance(key, int) and -len(of) <= key < len(of):
            return of[key]
        if isinstance(of, dict) and isinstance(key, (str, int)):
            return of.get(key, UNKNOWN)
        if isinstance(of, Size) and of.axis is None and isinstance(key, int) and key >= 0:
            return Size(of.name, of.rank, key)
        return self.opaque([of], "an item")


NUMBERS = {"inf": float("inf"), "nan": float("nan")}
"""Names of numbers."""

SIGNS: Mapping[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.Pow: "pow",
    ast.MatMult: "matmul",
}


def truth(value: Any) -> bool | None:
    """Whether a value is true; None if it is not known."""
    return bool(value) if isinstance(value, (bool, int, float, str, type(None), list, dict)) else None


def raises(statement: ast.stmt) -> bool:
    """Whether a statement ends the run."""
    if isinstance(statement, ast.Raise):
        return True
    call = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(call, ast.Call) and ast.unparse(call.func).endswith("RaiseException")
