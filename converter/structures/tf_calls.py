"""TensorFlow graphs with their calls followed: functions, branches of which one is taken, and nodes that only pass on.

A SavedModel of TensorFlow 2 keeps its network in functions that call each other; TensorFlow 1
writes both branches of a condition into one graph (Switch, Merge).  Here a value is traced to the
node that makes it, whatever lies between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from converter.core import bounds
from converter.core.errors import NotADenseNet
from converter.structures.tf_description import Graph, Node

BOOL = 10
"""types.proto, DataType: DT_BOOL."""

CALLS = ("PartitionedCall", "StatefulPartitionedCall")
BRANCHES = ("If", "StatelessIf")
PASSING = (
    *("Identity", "IdentityN", "StopGradient", "PreventGradient", "Snapshot", "DisableCopyOnRead", "CheckNumerics"),
    *("EnsureShape", "PlaceholderWithDefault", "_Retval", "RefIdentity"),
)
"""Nodes that give what they take."""
SECOND: Mapping[str, int] = {
    **{"batch_mean": 1, "batch_variance": 2, "reserve_space_1": 3, "reserve_space_2": 4, "reserve_space_3": 5},
    **{"output_true": 1, "value_index": 1, "indices": 1, "argmax": 1},
}
"""Outputs that are not a node's first, by their names (functions call them by name)."""


@dataclass(eq=False)
class Frame:
    """A graph, or a function where it is called.

    Attributes:
        place: stands before the names of its nodes to tell calls apart; empty for the graph itself.
        nodes: by name.
        arguments: by name: the value that was handed over, and the frame that has it.
        results: the values that it gives back.
    """

    place: str
    nodes: Mapping[str, Node]
    arguments: Mapping[str, tuple[Frame, str]] = field(default_factory=dict)
    results: Sequence[str] = ()
    depth: int = 0
    called: dict[str, Frame] = field(default_factory=dict)
    alive: set[str] = field(default_factory=set)


Made = tuple[Frame, Node, int]
"""The node that makes a value, where it stands, and which of its outputs the value is."""


@dataclass(frozen=True)
class Step:
    """A node that computes: its own name for values, and those that it takes."""

    frame: Frame
    node: Node
    y: str
    x: tuple[str, ...]

    def __str__(self) -> str:
        """What errors call it: the operator and its name, calls without a name of their own left out."""
        places = [each for each in self.frame.place.split("/") if not each.startswith(CALLS)]
        return f"{self.node.op} {'/'.join((*filter(None, places), self.node.name))}"


class Calls:
    """Traces values through a graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.main = Frame("", graph.nodes)
        self.starts: set[str] = set()
        self.notes: list[str] = []

    def made(self, frame: Frame, reference: str) -> Made:
        """The node that makes a value.

        Raises:
            NotADenseNet: there is none, or calls are nested without end.
        """
        for _ in range(bounds.HOPS):
            name, index = parsed(reference)
            if name in frame.arguments:
                frame, reference = frame.arguments[name]
                continue
            node = frame.nodes.get(name)
            if node is None:
                raise NotADenseNet(f"{frame.place}{name} is taken and never made")
            through = None if frame.place + name in self.starts else self._through(frame, node, index)
            if through is None:
                return frame, node, index
            frame, reference = through
        raise NotADenseNet(f"{reference}: values are handed on without end")

    def _through(self, frame: Frame, node: Node, index: int) -> tuple[Frame, str] | None:
        """Where the value comes from, if a node only hands it on."""
        if node.op in PASSING and node.inputs:
            data = [name for name in node.inputs if not name.startswith("^")]
            return frame, data[index if node.op == "IdentityN" and index < len(data) else 0]
        if node.op == "Switch" and self.truth(frame, node.inputs[1]) is not None:
            return frame, node.inputs[0]
        if node.op == "Merge" and index == 0:
            live = [name for name in node.inputs if not name.startswith("^") and not self.dead(frame, name)]
            return (frame, live[0]) if len(live) == 1 else None
        function, inputs = self._function(frame, node)
        if not function:
            return None
        inner = frame.called.get(node.name)
        if inner is None:
            inner = frame.called[node.name] = self._call(frame, node, function, inputs)
        if index >= len(inner.results):
            raise NotADenseNet(f"{node.op} {node.name} gives {len(inner.results)} values, and another is taken")
        return inner, inner.results[index]

    def _function(self, frame: Frame, node: Node) -> tuple[str, Sequence[str]]:
        """The function that a node calls, if it calls one, and what it hands over."""
        if node.op in CALLS:
            return node.function("f"), node.inputs
        if node.op in BRANCHES:
            taken = self.truth(frame, node.inputs[0])
            if taken is not None:
                return node.function("then_branch" if taken else "else_branch"), node.inputs[1:]
        return (node.op if self.graph.function(node.op) else ""), node.inputs

    def _call(self, frame: Frame, node: Node, name: str, inputs: Sequence[str]) -> Frame:
        function = self.graph.function(name)
        if function is None or frame.depth >= bounds.CALLS:
            why = "calls itself" if function is not None else f"calls {name}, which is missing"
            raise NotADenseNet(f"{node.op} {node.name} {why}")
        given = [(frame, reference) for reference in inputs if not reference.startswith("^")]
        arguments = dict(zip(function.arguments, given))
        return Frame(f"{frame.place}{node.name}/", function.nodes, arguments, function.results, frame.depth + 1)

    # -- conditions ----------------------------------------------------------------

    def truth(self, frame: Frame, reference: str, depth: int = 0) -> bool | None:
        """A condition, if it is known.  One that must be fed says whether the network is trained: it is not."""
        inner, node, _ = self.made(frame, reference)
        if node.op == "Const":
            tensor = node.tensor("value")
            return None if tensor is None or tensor.shape or tensor.dtype.kind != "b" else bool(tensor.read())
        if node.op == "Placeholder" and node.number("dtype") == BOOL and not node.shape("shape"):
            note = f"{node.name}, which must be given, is taken as false (no training)"
            self.notes += [note] * (note not in self.notes)
            return False
        known = [self.truth(inner, each, depth + 1) for each in node.inputs[:2]] if depth < bounds.CALLS else [None]
        if None in known:
            return None
        match node.op:
            case "LogicalNot":
                return not known[0]
            case "LogicalAnd":
                return all(known)
            case "LogicalOr":
                return any(known)
        return None

    def dead(self, frame: Frame, reference: str) -> bool:
        """Whether a value comes from a branch that is not taken."""
        stack, seen = [reference], set[str]()
        while stack:
            name, index = parsed(stack.pop())
            node = frame.nodes.get(name)
            if node is None or node.op == "Merge" or name in frame.alive or (at := f"{name}:{index}") in seen:
                continue
            seen.add(at)
            if node.op == "Switch":
                taken = self.truth(frame, node.inputs[1])
                if taken is not None and bool(index) != taken:
                    return True
            for each in node.inputs:
                pivot = frame.nodes.get(each[1:]) if each.startswith("^") else None
                if not each.startswith("^"):
                    stack.append(each)
                elif pivot is not None and pivot.op in ("Identity", "Switch"):
                    stack.append(each[1:])
        frame.alive |= {at.rpartition(":")[0] for at in seen if frame.nodes[at.rpartition(":")[0]].op != "Switch"}
        return False

    # -- in order ------------------------------------------------------------------

    def steps(self, results: Iterable[tuple[Frame, str]]) -> tuple[list[Step], list[str]]:
        """The nodes that results depend on, each behind those it takes from; and the results' own names.

        Raises:
            NotADenseNet: there are too many, or one depends on itself.
        """
        done: dict[str, bool] = {}  # False while what it takes is being listed
        steps: list[Step] = []
        ends = [self.made(*result) for result in results]
        stack = [(frame, node) for frame, node, _ in reversed(ends)]
        while stack:
            frame, node = stack[-1]
            own = frame.place + node.name
            if done.get(own):
                stack.pop()
                continue
            taken = [] if own in self.starts else [each for each in node.inputs if not each.startswith("^")]
            found = [self.made(frame, each) for each in taken]
            if own in done:
                stack.pop()
                done[own] = True
                steps.append(Step(frame, node, own, tuple(map(value_of, found))))
                continue
            done[own] = False
            if len(done) > bounds.STEPS:
                raise NotADenseNet(f"more than {bounds.STEPS} operators; no DenseNet has so many")
            for there, before, _ in reversed(found):
                name = there.place + before.name
                if done.get(name) is False:
                    raise NotADenseNet(f"{before.op} {name} depends on its own result")
                if name not in done:
                    stack.append((there, before))
        return steps, [value_of(end) for end in ends]


def parsed(reference: str) -> tuple[str, int]:
    """A node's name and the number of its output: ``name``, ``name:1``; in functions ``name:output:0``."""
    name, *rest = reference.split(":")
    number = int(rest[-1]) if rest and rest[-1].isdecimal() and len(rest[-1]) < 6 else 0
    return name, number + (SECOND.get(rest[0], 0) if len(rest) > 1 else 0)


def value_of(made: Made) -> str:
    """What a value is called everywhere."""
    frame, node, index = made
    return f"{frame.place}{node.name}{f':{index}' if index else ''}"
