"""TensorFlow graphs: SavedModels and frozen GraphDefs, whoever made them.

What a signature's results (or the nodes that nothing takes) depend on is followed through
functions and branches (tf_calls.py); each node becomes an operator of ``ops.py`` as TensorFlow's
own documentation of it has it (tensorflow/core/ops/nn_ops.cc, array_ops.cc, math_ops.cc), with
its channels where the library has them, and ``wiring.py`` judges them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from converter.core.checkpoint import Checkpoint
from converter.core.errors import NotADenseNet
from converter.structures.following import following
from converter.structures.ops import Weight
from converter.structures.parts import Structure
from converter.structures.tf_calls import BOOL, Calls, Step, value_of
from converter.structures.tf_constants import Constants, variables_of
from converter.structures.tf_description import Graph, Shape, Signature
from converter.structures.tf_maps import Maps, Network
from converter.structures.tf_nodes import READERS
from converter.structures.wiring import read_wiring

NAME = "tensorflow"
DEFAULT = "serving_default"
ASIDE = ("Const", "NoOp", "Placeholder", "Assert")
"""Nodes that are no results though nothing takes what they give."""


def read_tf_graph(checkpoint: Checkpoint) -> Structure | None:
    """The network of a SavedModel or frozen graph; None where no graph says what is computed.

    Raises:
        NotADenseNet: it computes something else; names the node.
    """
    if checkpoint.graph is None:
        return None
    with following(checkpoint.path, "its graph has attributes or constants"):
        return structure_of(NAME, checkpoint.graph, checkpoint.head)


def structure_of(layout: str, graph: Graph, head: str) -> Structure | None:
    """The network of a graph; None where it computes nothing.

    Args:
        layout: name of the source's conventions.
        graph: the graph.
        head: which of several heads is wanted.

    Raises:
        NotADenseNet: it computes something else; names the node.
    """
    calls, notes = Calls(graph), list[str]()
    if graph.signatures:
        signature = _signature(graph.signatures, notes)
        if signature is None:
            return None
        results = list(signature.outputs.values())
        given = {value: signature.shapes.get(name) for name, value in signature.inputs.items()}
    else:
        results, given = _loose(graph)
    if not results:
        return None
    starts = {}
    for value, shape in given.items():
        frame, node, _ = made = calls.made(calls.main, value)
        starts[value_of(made)] = node.shape("shape") if shape is None else shape
        calls.starts.add(frame.place + node.name)
    steps, outputs = calls.steps((calls.main, result) for result in results)
    constants = variables_of(calls, graph.restore, graph.variables)
    start, outputs = _start(steps, starts, outputs, notes)
    network = _read(steps, constants, start, starts[start])
    structure = _judged(layout, network, start, outputs, starts[start], head)
    notes += calls.notes
    return replace(structure, notes=(*structure.notes, *notes), dropped=_dropped(network, structure, graph))


def _read(steps: list[Step], constants: Mapping[str, Weight], start: str, shape: Shape) -> Network:
    """The operators of nodes; where the image has its channels shows in how many of them are understood so.

    Raises:
        NotADenseNet: it does not compute with its channels in either place; names the node.
    """
    reasons: list[NotADenseNet] = []
    found: list[Network] = []
    for last in (True, False):
        network = Network(Constants(constants), start, Maps(shape, last), READERS)
        try:
            network.read(steps)
        except NotADenseNet as error:
            reasons.append(error)
            continue
        found.append(network)
        if not _strange(network):
            break
    if not found:
        raise reasons[0]
    return min(found, key=_strange)


def _strange(network: Network) -> int:
    """How many of its operators are not understood."""
    return sum(op.kind == "other" for op in network.ops)


def _judged(layout: str, network: Network, start: str, outputs: list[str], shape: Shape, head: str) -> Structure:
    ends = [output for output in outputs if output in network.maps and output != start]
    sizes = () if shape is None else network.maps[start].sizes
    fixed = tuple(n for n in sizes if n is not None)
    constants = [name for name, weight in network.constants.values.items() if weight.sources == (name,)]
    return read_wiring(
        layout,
        network.ops,
        start,
        ends or outputs,
        size=fixed if len(fixed) == len(sizes) else (),
        constants=[name for name in constants if network.constants.values[name].tensor.shape],
        head=head,
    )


def _dropped(network: Network, structure: Structure, graph: Graph) -> dict[str, str]:
    """What is no part of the network: constants, and variables of the checkpoint."""
    used = {source for name in network.constants.values for source in network.constants.values[name].sources}
    idle = {
        name: "nothing that the graph's result depends on" for name, _ in graph.variables.values() if name not in used
    }
    return {**structure.dropped, **idle}


def _signature(signatures: Mapping[str, Signature], notes: list[str]) -> Signature | None:
    """The signature that is the network."""
    named = {name: each for name, each in signatures.items() if each.inputs and each.outputs}
    if not named:
        return None
    name = DEFAULT if DEFAULT in named else next(iter(named))
    others = [each for each in named if named[each].outputs != named[name].outputs and each != "serve"]
    if others:
        notes.append(f"of its signatures {name} is read, {', '.join(others)} left out")
    return named[name]


def _loose(graph: Graph) -> tuple[list[str], dict[str, Shape]]:
    """The results of a graph without signatures, the nodes that nothing takes; and its placeholders."""
    nodes = graph.nodes.values()
    taken = {name.partition(":")[0] for node in nodes for name in node.inputs if not name.startswith("^")}
    fed = [node for node in nodes if node.op == "Placeholder" and node.number("dtype") != BOOL]
    fed = fed or [node for node in nodes if node.op == "PlaceholderWithDefault" and len(node.shape("shape") or ()) > 2]
    data = (node for node in nodes if any(not name.startswith("^") for name in node.inputs))
    return [node.name for node in data if node.name not in taken and node.op not in ASIDE], {
        node.name: node.shape("shape") for node in fed
    }


def _start(
    steps: list[Step], starts: Mapping[str, Shape], outputs: list[str], notes: list[str]
) -> tuple[str, list[str]]:
    """The one input that is the image, and the results that depend on it alone.

    Raises:
        NotADenseNet: results depend on several, or on none.
    """
    reached: dict[str, frozenset[str]] = {}
    for step in steps:
        own = {step.y} if step.y in starts else set[str]()
        reached[step.y] = frozenset(own).union(*(reached.get(name.partition(":")[0], frozenset()) for name in step.x))
    of = {output: reached.get(output.partition(":")[0], frozenset()) for output in outputs}
    alone = [output for output in outputs if len(of[output]) == 1]
    images = {start for output in alone for start in of[output]}
    if len(images) == 1:
        others = [output for output in outputs if len(of[output]) > 1]
        if others:
            notes.append(f"{', '.join(others)} depends on other inputs too and is left out")
        return images.pop(), alone
    found = sorted(set().union(*of.values()))
    if found:
        raise NotADenseNet(f"its graph takes {', '.join(found)}; a DenseNet takes one input, the image")
    sources = [str(step) for step in steps if not step.x and step.node.op not in ("Const", "VarHandleOp", "VariableV2")]
    raise NotADenseNet(f"its graph takes no image: {', '.join(sources) or 'nothing'} is where it begins")
