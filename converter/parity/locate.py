"""Where two networks part: each piece of a graph alone, given the oracle's own results.

A piece is what lies between two values that both sides know by name.  Given exact
inputs, its error is its own, and no tolerance for what came before is needed; given
the candidate's own inputs, it is the error against depth.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import numpy as np
import onnx

from converter.core.checkpoint import Array
from converter.core.errors import ConverterError, first_line
from converter.core.metadata import GRAPH_KEY
from converter.core.model import Model
from converter.engines.onnxruntime import session
from converter.engines.stoppable import TookTooLong
from converter.engines.trace import inputs_of_modules, trace
from converter.exporters.onnx import attributes_of, to_onnx
from converter.parity.checks import WEIGHT_ULPS, difference
from converter.parity.compare import FACTOR, FLOOR_ULPS, POSITIONS_PER_ULP, ULP, relative_error
from densenet.topology import FEATURES, INPUT, LOGITS

CLEAR = 3.0
"""A jump is clear at this many times the permitted error: among hundreds of pieces some honest one may exceed it."""


@dataclass(frozen=True)
class Step:
    """One named value.

    Attributes:
        name: of the value: that of the module that makes it.
        error: against the oracle after everything before, relative to the largest element.
        own: the same given the oracle's results as inputs.
        limit: what ``own`` may be.
    """

    name: str
    error: float
    own: float
    limit: float

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON values; infinity becomes null."""
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in asdict(self).items()}


@dataclass(frozen=True)
class Break:
    """Where a network goes wrong.

    Attributes:
        module: library name of the first module whose error its inputs do not explain; empty if there is none.
        problem: what is different there.
        before: the largest error up to there, in ulps.
        steps: all values, in order of execution.
    """

    module: str
    problem: str
    before: float
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        if not self.module:
            return "no single module's error jumps"
        if not self.before:
            return f"{self.module}: {self.problem}"
        return f"{self.module}: {self.problem}; everything before agrees to {max(1, round(self.before))} ulp"

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {
            "module": self.module,
            "problem": self.problem,
            "ulps_before": self.before,
            "steps": [step.to_dict() for step in self.steps],
        }


def locate(reference: Model, candidate: onnx.ModelProto, x: Array) -> Break:
    """Name the first module of an ONNX graph whose error jumps beyond what its inputs explain.

    Works on graphs whose values have library names; stage by stage, so memory is bounded.  The reference runs in
    PyTorch float64, on an input, float32 (N, C, *space), of a kind on which the two disagree.

    Raises:
        Unavailable: PyTorch is not installed.
        ConverterError: the graph has no names to compare by.
    """
    kind = next((p.value for p in candidate.metadata_props if p.key == GRAPH_KEY), "exact")
    expected = to_onnx(reference, graph="fused" if kind == "fused" else "exact")
    pieces = _Pieces(candidate, expected, reference)
    if len(pieces.known) < 3:
        raise ConverterError("the graph's values have names of their own")
    trace(reference, x, frozenset(pieces.known), pieces.visit)
    return pieces.verdict()


class _Pieces:
    """Runs each piece twice as the oracle shows its values: on the oracle's inputs, and on the graph's own."""

    def __init__(self, graph: onnx.ModelProto, expected: onnx.ModelProto, reference: Model) -> None:
        self.model = graph
        self.nodes: dict[str, onnx.NodeProto] = {name: node for node in graph.graph.node for name in node.output}
        self.weights: dict[str, onnx.TensorProto] = {w.name: w for w in graph.graph.initializer}
        self.expected: dict[str, onnx.NodeProto] = {node.output[0]: node for node in expected.graph.node}
        self.expected_weights: dict[str, onnx.TensorProto] = {w.name: w for w in expected.graph.initializer}
        takes = inputs_of_modules(reference.config)
        modules = {LOGITS if name == "classifier" else name for name in takes}
        shown = {*takes.values(), *modules} - {""}
        self.known = {name for name in shown if name in self.nodes and name in self.expected} | {INPUT}
        self.pieces = {name: self.piece(name) for name in self.known if name != INPUT}
        self.uses: dict[str, int] = {}
        for _, taken in self.pieces.values():
            for name in taken:
                self.uses[name] = self.uses.get(name, 0) + 1
        self.exact: dict[str, Array] = {}
        self.own: dict[str, Array] = {}
        self.steps: list[Step] = []
        self.problems: dict[str, str] = {}
        self.positions = 0  # of the maps shown last

    def piece(self, name: str) -> tuple[list[onnx.NodeProto], list[str]]:
        """The nodes that make a value from the nearest known ones, in order, and those."""
        made = between(self.nodes, self.known, name)
        taken = dict.fromkeys(x for node in made.values() for x in node.input if x in self.known)
        inside = {id(node) for node in made.values()}
        return [node for node in self.model.graph.node if id(node) in inside], list(taken)

    def visit(self, name: str, value: Array, rounding: float) -> None:
        """Judge the piece that makes a value the oracle has just computed."""
        if name not in self.known:
            return
        exact = value.astype(np.float32)
        if name == INPUT:
            self.exact[name] = self.own[name] = exact
            return
        nodes, taken = self.pieces[name]
        averaged = self.positions if value.ndim == 2 and name != LOGITS else 0
        self.positions = prod(value.shape[2:]) if value.ndim > 2 else 0
        limit = max(FACTOR * rounding, (FLOOR_ULPS + averaged / POSITIONS_PER_ULP) * ULP)
        late = [x for x in taken if x not in self.exact]
        own = error = float("inf")
        result: Array = exact
        if late:
            self.problems[name] = f"takes {late[0]}, which comes later"
        else:
            try:
                # One thread: starting a pool of them takes longer than most pieces.
                run = session(self.submodel(nodes, taken, name), level="disabled", threads=1)
                own = relative_error(run.run([name], {x: self.exact[x] for x in taken})[0], value)
                result = run.run([name], {x: self.own[x] for x in taken})[0]
                error = relative_error(result, value)
            except Exception as failure:  # ONNX Runtime's errors share no class
                if isinstance(failure.__cause__, TookTooLong):
                    raise  # or each of hundreds of pieces would be waited for
                first = first_line(failure)
                self.problems[name] = f"cannot be computed ({first})"
        self.steps.append(Step(name, error, own, limit))
        self.exact[name], self.own[name] = exact, result if result.shape == exact.shape else exact
        for x in taken:
            self.uses[x] -= 1
            if not self.uses[x] and x in self.exact:
                del self.exact[x], self.own[x]

    def submodel(self, nodes: Sequence[onnx.NodeProto], taken: Sequence[str], name: str) -> bytes:
        """A piece as a model of its own."""
        needed = {x for node in nodes for x in node.input}
        graph = onnx.helper.make_graph(
            nodes,
            "piece",
            [onnx.helper.make_tensor_value_info(x, onnx.TensorProto.FLOAT, None) for x in taken],
            [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)],
            [self.weights[x] for x in needed if x in self.weights],
        )
        made = onnx.helper.make_model(graph, opset_imports=self.model.opset_import, ir_version=self.model.ir_version)
        data: bytes = made.SerializeToString()
        return data

    # -- the verdict -----------------------------------------------------------------

    def verdict(self) -> Break:
        """The first clear jump; without one, the largest."""
        ratios = [step.own / step.limit for step in self.steps]
        steps = tuple(self.steps)
        at = next((i for i, ratio in enumerate(ratios) if not ratio <= CLEAR), None)
        if at is None:
            at = int(np.argmax(ratios)) if ratios else 0
            if not ratios or ratios[at] <= 1:
                return self.unlike(steps)
        name = self.steps[at].name
        before = max((step.error for step in self.steps[:at] if step.error < np.inf), default=0.0) / ULP
        culprit, problem = self.explain(name)
        if not problem:
            problem = self.problems.get(name, f"error {self.steps[at].own:.1e}, {self.steps[at].limit:.1e} allowed")
        return Break(module_of(culprit), problem, before, steps)

    def unlike(self, steps: tuple[Step, ...]) -> Break:
        """The first node that no number shows to be wrong, and that is not the exporter's all the same."""
        for value in self.expected:
            module, problem = self.difference(value) if value in self.nodes else (value, "is missing")
            if problem:
                return Break(module_of(module), problem, 0.0, steps)
        return Break("", "", 0.0, steps)

    def explain(self, name: str) -> tuple[str, str]:
        """What in a piece is not as the exporter writes it: node by node, constant by constant."""
        wanted = list(between(self.expected, self.known, name))[::-1]
        for value in wanted:
            if value not in self.nodes:
                return value, "is missing"
        for value in wanted:
            module, problem = self.difference(value)
            if problem:
                return module, problem
        return name, ""

    def difference(self, value: str) -> tuple[str, str]:
        """The module whose node a value is, and what the node does that the exporter's does not; empty if nothing."""
        node, expected = self.nodes[value], self.expected[value]
        weights = [x for x in expected.input if x in self.expected_weights]
        module = weights[0].rpartition(".")[0] if weights else value
        if node.op_type != expected.op_type:
            # Something else makes the value: what follows the module, where it is not the module itself.
            return module if "+" in module else value, f"is {node.op_type}, {expected.op_type} expected"
        ours, theirs = attributes_of(expected), attributes_of(node)
        for name in {**ours, **theirs}:
            if ours.get(name) != theirs.get(name):
                return module, f"{name} is {theirs.get(name)}, {ours.get(name)} expected"
        if len(node.input) != len(expected.input):
            return module, f"takes {len(node.input)} inputs, {len(expected.input)} expected"
        for x, wanted in zip(node.input, expected.input):
            if wanted in self.expected_weights and x in self.weights:
                problem = _weights_differ(self.weights[x], self.expected_weights[wanted], folded="+" in wanted)
                if problem:
                    return module, f"{wanted.rpartition('.')[2]} {problem}"
            elif x != wanted:
                return module, f"takes {x}, {wanted} expected"
        return module, ""


def between(makers: Mapping[str, onnx.NodeProto], known: Collection[str], name: str) -> dict[str, onnx.NodeProto]:
    """The nodes that make a value from the nearest known ones, by what they make, the last first."""
    found: dict[str, onnx.NodeProto] = {}
    waiting = [name]
    while waiting:
        value = waiting.pop()
        if value in makers and value not in found:
            found[value] = makers[value]
            waiting += [x for x in makers[value].input if x not in known]
    return found


def module_of(value: str) -> str:
    """The module that makes a value; most have its name."""
    if value == LOGITS:
        return "classifier"
    if value == FEATURES or value.startswith("global_pool."):
        return "global_pool"
    return value.removesuffix("ed") if value.endswith(".pooled") else value


def _weights_differ(found: onnx.TensorProto, expected: onnx.TensorProto, *, folded: bool) -> str:
    """How two constants differ by more than rounding, by the measure of the static checks; empty if they do not.

    What a norm adds is the difference of two numbers, which may be larger than it.
    """
    if list(found.dims) != list(expected.dims):
        return f"has shape {list(found.dims)}, {list(expected.dims)} expected"
    have, want = (onnx.numpy_helper.to_array(tensor) for tensor in (found, expected))
    if want.dtype.kind == "f" and have.dtype.kind == "f":
        size = np.abs(want.astype(np.float64))
        size = np.maximum(size, size.max(initial=0)) if folded else size
        with np.errstate(invalid="ignore", over="ignore"):
            off = ~(np.abs(have.astype(np.float64) - want) <= WEIGHT_ULPS * ULP * size)
    else:
        off = ~(have == want)
    return difference(have, want, off) if off.any() else ""
