"""Programs of torch.export: their graph is JSON (torch/_export/serde/schema.py), node by node calls of ATen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from converter.core import bounds
from converter.core.checkpoint import Checkpoint, Tensor
from converter.core.errors import NotADenseNet, UnreadableFile
from converter.structures.ops import BORDERS, Weight
from converter.structures.parts import Structure
from converter.structures.torch.operators import Operators
from converter.structures.torch.quantised import refuse_quantised
from converter.structures.torch.values import UNKNOWN, Data, Unknown
from converter.structures.wiring import read_wiring

NAME = "torch.export"
ATEN, PRIMS, HIGHER = "torch.ops.aten.", "torch.ops.prims.", "torch.ops.higher_order."

ELEMENTS = {1: 0, 2: 1, 3: 2, 4: 3, 5: 4, 6: 5, 7: 6, 8: 7, 9: 8, 10: 9, 11: 10, 12: 11, 13: 15}
"""ScalarType of the schema, and the number the same type has elsewhere (c10/core/ScalarType.h)."""
CHECKS = frozenset(
    """_assert_scalar _assert_tensor_metadata _assert_async sym_constrain_range sym_constrain_range_for_size
    sym_numel _print""".split()
)
"""Functions without a result that matters."""
HALF = "the file computes parts of itself in half precision (autocast), which is not taken over"
WRAPPERS = frozenset(f"{HIGHER}{name}" for name in ("wrap_with_autocast", "wrap_with_set_grad_enabled"))
"""``with torch.autocast(...)`` and ``with torch.no_grad()``: what stands in them is a graph of its own."""


def read_exported(checkpoint: Checkpoint) -> Structure | None:
    """The network of an exported program; None for a checkpoint of another kind.

    Raises:
        NotADenseNet: it computes something else; names the node.
        UnreadableFile: its graph cannot be understood.
    """
    if checkpoint.format != NAME:
        return None
    try:
        program = _Program(checkpoint.graph["program"], {**checkpoint.graph["constants"], **checkpoint.tree})
        structure = read_wiring(
            NAME,
            program.operators.ops,
            program.image.name,
            program.results,
            size=program.size,
            constants=checkpoint.tree,
            head=checkpoint.head,
        )
        return replace(structure, named=True, notes=(*program.notes, *structure.notes))
    except NotADenseNet as error:
        raise NotADenseNet(f"{checkpoint.path}: {error}") from error
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, StopIteration) as error:
        raise UnreadableFile(f"{checkpoint.path}: its graph cannot be understood ({type(error).__name__})") from error


class _Program:
    """The operators of a program, node by node."""

    def __init__(self, program: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
        module = program["graph_module"]
        graph, signature = module["graph"], module["signature"]
        self.operators = Operators()
        self.values: dict[str, Any] = {}
        self.inside = ""
        self.notes: list[str] = []
        self.metadata: Mapping[str, Any] = graph.get("tensor_values") or {}
        images = self._inputs(_input_specs(signature), tensors)
        if len(images) != 1:
            raise NotADenseNet(f"a program with {len(images)} inputs; a DenseNet has one, the image")
        sizes = self._sizes(images[0])
        self.image = self.operators.image(images[0], len(sizes) or None)
        self.values[images[0]] = self.image
        self.size: tuple[int, ...] = ()
        for node in graph["nodes"]:
            self._node(node)
        self.results = self._results(signature, graph["outputs"])

    def _inputs(self, specs: list[Mapping[str, Any]], tensors: Mapping[str, Any]) -> list[str]:
        """Names of inputs that are images; the others become constants."""
        if len(specs) > bounds.EXPORTED_INPUTS:
            raise NotADenseNet(f"a program with {len(specs)} inputs")
        images = []
        for spec in specs:
            (kind, content), *_ = spec.items()
            argument = content.get("arg") or {}
            if kind == "user_input":
                (form, value), *_ = argument.items()
                if form == "as_tensor":
                    images.append(value["name"])
                continue
            name = argument.get("name")
            key = next((value for leaf, value in content.items() if leaf.endswith("_name")), None)
            tensor = tensors.get(str(key))
            if name is not None:
                weight = Weight(str(key), tensor, (str(key),)) if isinstance(tensor, Tensor) else None
                self.values[name] = weight or Unknown(f"{key} is no tensor")
        return images

    def _sizes(self, name: str) -> list[int | None]:
        """The sizes of a value, None where one is not fixed."""
        sizes = (self.metadata.get(name) or {}).get("sizes") or []
        return [size.get("as_int") if isinstance(size.get("as_int"), int) else None for size in sizes]

    def _results(self, signature: Mapping[str, Any], outputs: list[Mapping[str, Any]]) -> list[str]:
        specs = signature.get("output_specs")
        names = []
        if specs is None:
            names = list(signature["user_outputs"])
        else:
            for spec in specs:
                (kind, content), *_ = spec.items()
                if kind == "user_output":
                    names += [value["name"] for form, value in content["arg"].items() if form == "as_tensor"]
                elif kind == "buffer_mutation":
                    raise NotADenseNet(
                        f"changes its own {content.get('buffer_name')} as it runs, as in training mode; "
                        "call model.eval() before it is exported"
                    )
        found = [self.values.get(name) for name in names]
        return [self.operators.current(value).name for value in found if isinstance(value, Data)]

    # -- nodes ---------------------------------------------------------------------

    def _node(self, node: Mapping[str, Any]) -> None:
        target = node["target"]
        if target in WRAPPERS:
            self._wrapped(node)
            return
        refuse_quantised(target)
        given = {item["name"]: self._argument(item["arg"]) for item in node["inputs"]}
        makes = [name for output in node["outputs"] for name in _names(output)]
        function = target.rpartition(".")[0].rpartition(".")[2] if target.startswith((ATEN, PRIMS)) else ""
        if function in CHECKS or target.startswith("_operator."):
            self.values |= dict.fromkeys(makes, UNKNOWN)
            return
        if function in ("conv1d", "conv2d", "conv3d", "convolution") and not self.size:
            self.size = self._before(node)
        y = f"{self.inside}{makes[0] if makes else f'nothing:{len(self.operators.ops)}'}"
        called = f"{target.removeprefix('torch.ops.')} ({y})"
        if not function:
            taken = [value for value in _flat(given.values()) if isinstance(value, Data)]
            result = self.operators.other(taken, called, y) if taken else Unknown(f"{called} is not followed")
        else:
            result = self.operators.call(function, (), given, name=called, y=y)
        for i, name in enumerate(makes):
            self.values[name] = result if not i else self._beside(result, f"{self.inside}{name}", called)

    def _wrapped(self, node: Mapping[str, Any]) -> None:
        """A graph within the graph, in its place; its names are its own."""
        arguments = [item["arg"] for item in node["inputs"]]
        at = next(i for i, argument in enumerate(arguments) if "as_graph" in argument)
        called, graph = arguments[at]["as_graph"]["name"], arguments[at]["as_graph"]["graph"]
        enabled = next((argument["as_bool"] for argument in arguments[:at] if "as_bool" in argument), True)
        if node["target"].endswith("autocast") and enabled and HALF not in self.notes:
            self.notes.append(HALF)
        taken = [self._argument(argument) for argument in arguments[at + 1 :]]
        outer = self.values, self.metadata, self.inside
        names = [name for value in graph["inputs"] for name in _names(value)]
        self.values = dict(zip(names, taken, strict=True))
        self.metadata, self.inside = graph.get("tensor_values") or {}, f"{self.inside}{called}."
        for each in graph["nodes"]:
            self._node(each)
        made = [self.values.get(name, UNKNOWN) for value in graph["outputs"] for name in _names(value)]
        self.values, self.metadata, self.inside = outer
        makes = [name for output in node["outputs"] for name in _names(output)]
        self.values |= zip(makes, made, strict=True)

    def _before(self, node: Mapping[str, Any]) -> tuple[int, ...]:
        """Height and width of what the first convolution takes, where they are fixed."""
        name = next((v["name"] for item in node["inputs"] for f, v in item["arg"].items() if f == "as_tensor"), "")
        sizes = self._sizes(name)[2:]
        padded = any(op.y == f"{self.inside}{name}" and op.kind in BORDERS for op in self.operators.ops[-1:])
        return () if padded else tuple(n for n in sizes if n is not None) if None not in sizes else ()

    def _beside(self, result: Any, name: str, called: str) -> Any:
        """A further result of a node."""
        if not isinstance(result, Data):
            return UNKNOWN
        return self.operators.other([result], f"another result of {called}", name, inplace=False)

    def _argument(self, argument: Mapping[str, Any]) -> Any:
        """What a node is given, as the schema's union has it."""
        (form, value), *_ = argument.items()
        if form == "as_none":
            return None
        if form in ("as_tensor", "as_sym_int", "as_sym_float", "as_sym_bool"):
            return self._named(value)
        if form in ("as_tensors", "as_optional_tensors", "as_sym_ints"):
            return [self._named(item) for item in value]
        if form == "as_optional_tensor":
            return self._named(value)
        if form == "as_scalar_type":
            return ELEMENTS.get(value, Unknown(f"element type {value}"))
        if form == "as_float":
            return float(value)  # infinity is a word in JSON
        if form in ("as_int", "as_ints", "as_floats", "as_bool", "as_bools", "as_string"):
            return value
        if form in ("as_device", "as_layout", "as_memory_format"):
            return None
        return Unknown(f"an argument of the form {form}")

    def _named(self, value: Mapping[str, Any]) -> Any:
        """A value by its name; the sizes of symbols are numbers, or not known."""
        if "name" in value:
            return self.values.get(value["name"], UNKNOWN)
        (form, inner), *_ = value.items()
        if form in ("as_int", "as_float", "as_bool"):
            return inner
        return None if form == "as_none" else self._named(inner) if form in ("as_tensor",) else self.values.get(
            inner if isinstance(inner, str) else inner.get("as_name", ""), UNKNOWN
        )  # fmt: skip


def _names(output: Mapping[str, Any]) -> list[str]:
    """The names an output of a node gives; of several tensors in one all."""
    found = []
    for value in output.values():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Mapping) and isinstance(item.get("name", item.get("as_name")), str):
                found.append(item.get("name", item.get("as_name")))
    return found


def _flat(values: Any) -> list[Any]:
    return [item for value in values for item in (value if isinstance(value, list) else [value])]


def _input_specs(signature: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What the inputs are; before schema 2 (torch 2.1) three tables said it."""
    if "input_specs" in signature:
        return list(signature["input_specs"])
    specs: list[Mapping[str, Any]] = []
    for table in ("inputs_to_parameters", "inputs_to_buffers", "inputs_to_lifted_tensor_constants"):
        for name, key in (signature.get(table) or {}).items():
            specs.append({table: {"arg": {"name": name}, "key_name": key}})
    return [*specs, *({"user_input": {"arg": {"as_tensor": {"name": name}}}} for name in signature["user_inputs"])]
