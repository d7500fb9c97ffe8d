"""Rewrites that are exact in real arithmetic and make the graph cheaper.

Each takes a graph and changes it in place; each can be used, and is tested, alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np

from converter.core.checkpoint import Array, Tensor
from converter.core.folded_head import product
from converter.exporters.graph import Graph, Node
from densenet.head import HeadLayer, folds


def fold_norms(graph: Graph) -> None:
    """A batch norm that follows a convolution becomes part of it.

    ``gamma * (w*x - mean) / sqrt(var + eps) + beta`` is a convolution with scaled weights
    and a bias (computed in float64).  Folded constants get names of their own
    (``stem.conv+norm.weight``): they are not what the plain name promises.
    """
    consumers, makers = graph.consumers(), {node.output: node for node in graph.nodes}
    result: list[Node] = []
    for node in graph.nodes:
        conv = makers.get(node.inputs[0]) if node.op == "BatchNormalization" else None
        if conv is None or conv.op != "Conv" or len(consumers[conv.output]) > 1 or len(conv.inputs) > 2:
            result.append(node)
            continue
        scale, shift = _affine(graph, node)
        folded = f"{conv.output}+{node.output.rpartition('.')[2]}"
        graph.initializers[f"{folded}.weight"] = _scaled(graph.initializers[conv.inputs[1]], scale)
        graph.constant(f"{folded}.bias", shift)
        inputs = (conv.inputs[0], f"{folded}.weight", f"{folded}.bias")
        result[result.index(conv)] = Node("Conv", inputs, node.output, conv.attributes)
    graph.nodes = result
    graph.prune()


def _scaled(weight: Tensor, scale: Array) -> Tensor:
    """A convolution's weight times a number for each of its first axis, in float64; computed when it is read."""

    def read() -> Array:
        product = weight.read().astype(np.float64)
        product *= scale.reshape(-1, *[1] * (product.ndim - 1))
        return product.astype(np.float32)

    return Tensor(weight.shape, weight.dtype, read)


def fold_head(graph: Graph) -> None:
    """Norms before and behind a linear layer become part of it; so do two linear layers that follow each other.

    The latter where that makes them no larger: a narrow layer between two wide ones stays.
    """
    at = 0
    while at + 1 < len(graph.nodes):
        one, other = graph.nodes[at : at + 2]
        follows = other.inputs[:1] == (one.output,) and _folds(graph, one, other)
        if not follows or len(graph.consumers()[one.output]) > 1:
            at += 1
            continue
        name = f"{one.output}+{other.output}"
        weight, bias = product(_affine(graph, one), _affine(graph, other))
        inputs = (one.inputs[0], graph.constant(f"{name}.weight", weight), graph.constant(f"{name}.bias", bias))
        graph.nodes[at : at + 2] = [Node("Gemm", inputs, other.output, {"transB": 1})]
        at = max(at - 1, 0)
    graph.prune()


def _folds(graph: Graph, one: Node, other: Node) -> bool:
    """Whether two operators of a head are one linear layer, and that is no larger."""
    layers = []
    for node in (one, other):
        if node.op == "Gemm":
            layers.append(HeadLayer("linear", graph.initializers[node.inputs[1]].shape[0]))
        elif node.op == "BatchNormalization":
            layers.append(HeadLayer("norm"))
    return len(layers) == 2 and folds(layers[0], layers[1], graph.initializers[one.inputs[1]].shape[-1])


def _affine(graph: Graph, node: Node) -> tuple[Array, Array]:
    """What a linear layer or norm multiplies by, a matrix (out, in) or a number per channel, and adds; float64."""
    constants = [graph.initializers[name].read().astype(np.float64) for name in node.inputs[1:]]
    if node.op == "Gemm":
        return constants[0], constants[1] if len(constants) > 1 else np.zeros(len(constants[0]))
    gamma, beta, mean, variance = constants
    scale = gamma / np.sqrt(variance + node.attributes["epsilon"])
    return scale, beta - mean * scale


def pool_before_transition(graph: Graph) -> None:
    """Pool first, then apply a transition's 1x1 convolution: a quarter of the multiplications.

    Both are linear and the convolution mixes no positions, so they commute.
    """
    nodes = graph.nodes
    for i, (conv, pool) in enumerate(pairwise(nodes)):
        pointwise = conv.op == "Conv" and set(conv.attributes["kernel_shape"]) == {1}
        if pointwise and pool.op == "AveragePool" and pool.inputs == (conv.output,):
            nodes[i] = replace(pool, inputs=conv.inputs[:1], output=pool.output + "ed")
            nodes[i + 1] = replace(conv, inputs=(pool.output + "ed", *conv.inputs[1:]), output=pool.output)


def relu_after_max_pool(graph: Graph) -> None:
    """Take the maximum first, then rectify a quarter of the elements: both are monotonic."""
    nodes = graph.nodes
    for i, (relu, pool) in enumerate(pairwise(nodes)):
        if relu.op == "Relu" and pool.op == "MaxPool" and pool.inputs == (relu.output,):
            nodes[i] = replace(pool, inputs=relu.inputs, output=pool.output + "ed")
            nodes[i + 1] = replace(relu, inputs=(pool.output + "ed",), output=pool.output)


Pass = Callable[[Graph], None]

PASSES: Mapping[str, Pass] = {
    "fold_norms": fold_norms,
    "fold_head": fold_head,
    "pool_before_transition": pool_before_transition,
    "relu_after_max_pool": relu_after_max_pool,
}
"""What the ``fused`` graph applies, in this order."""
