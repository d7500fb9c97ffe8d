"""The network as a small dataflow graph, operator for operator what PyTorch computes.

Nodes, values and initializers carry library names, so that an intermediate result of
the ONNX file can be laid beside the PyTorch module's of the same name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

import numpy as np

from converter.core.checkpoint import Array, Tensor
from converter.exporters.activations import add_activation
from densenet.config import DenseNetConfig
from densenet.module import NORM_TENSORS, Module
from densenet.topology import FEATURES, INPUT, Step, steps

IMAGE = "image"
PROBABILITIES = "probabilities"
SPACE = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


class GraphOptions(TypedDict, total=False):
    """What can be asked of a graph: keywords of :func:`converter.exporters.onnx.lazy_onnx`."""

    graph: Literal["fused", "exact"]
    opset: int | None
    features: bool
    probabilities: bool | None
    outputs: Sequence[str]


@dataclass(frozen=True)
class Node:
    """One operator: its ONNX type, the values it takes, the one it makes, its attributes.

    The node's name is that of the value it makes.
    """

    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Graph:
    """Nodes in order of execution, and the constants they use, which are read when they are written."""

    nodes: list[Node] = field(default_factory=list)
    initializers: dict[str, Tensor] = field(default_factory=dict)
    input: str = INPUT
    outputs: list[str] = field(default_factory=list)

    def add(self, op: str, inputs: tuple[str, ...], output: str, **attributes: Any) -> str:
        """Append a node and return the name of what it makes."""
        self.nodes.append(Node(op, inputs, output, attributes))
        return output

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        """Add a small constant and return its name."""
        self.initializers[name] = Tensor.of(np.asarray(value, dtype))
        return name

    def consumers(self) -> dict[str, list[Node]]:
        """For each value the nodes that take it."""
        result: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.inputs:
                result.setdefault(name, []).append(node)
        return result

    def cut(self) -> None:
        """Drop nodes that no output depends on."""
        needed, kept = set(self.outputs), list[Node]()
        for node in reversed(self.nodes):
            if node.output in needed:
                needed.update(node.inputs)
                kept.append(node)
        self.nodes = kept[::-1]
        self.prune()

    def prune(self) -> None:
        """Drop constants that no node takes any more."""
        used = {name for node in self.nodes for name in node.inputs}
        self.initializers = {name: tensor for name, tensor in self.initializers.items() if name in used}


def build(config: DenseNetConfig, tensors: Mapping[str, Tensor]) -> Graph:
    """The exact graph of a network; weights become float32 whatever they are stored in.

    Input ``pixel_values`` (N, in_channels, H, W); output ``logits`` (N, num_classes), of several heads one called as
    each, or ``features`` (N, classifier_features) where there is no classifier.
    """
    builder = _Builder(config, tensors)
    for step in steps(config):
        builder.add(step)
    builder.graph.outputs = [head.name for head in config.heads] or [builder.graph.nodes[-1].output]
    return builder.graph


class _Builder:
    """Appends to a graph what the steps of a network compute."""

    def __init__(self, config: DenseNetConfig, tensors: Mapping[str, Tensor]) -> None:
        self.config, self.tensors, self.dims = config, tensors, config.spatial_dims
        self.graph = Graph()
        self.same: dict[str, Any] = {"auto_pad": "SAME_UPPER"} if config.padding == "same" else {}

    def add(self, step: Step) -> None:
        """The nodes of one step."""
        add, name, x = self.graph.add, step.name, step.inputs
        if step.op == "conv" and step.module is not None:
            self.conv(step.module, x[0])
        elif step.op == "norm":
            constants = (self.constant(f"{name}.{leaf}") for leaf in NORM_TENSORS)
            add("BatchNormalization", (*x, *constants), name, epsilon=self.config.eps)
        elif step.op == "relu":
            add("Relu", x, name)
        elif step.op == "concat":
            add("Concat", x, name, axis=1)
        elif step.op in ("max_pool", "avg_pool"):
            self.pool("MaxPool" if step.op == "max_pool" else "AveragePool", x[0], step)
        elif step.op == "max_blur":
            self.blur(add("MaxPool", x, f"{name}.max", kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4), step)
        elif step.op == "blur":
            self.blur(x[0], step)
        elif step.op == "global_pool":
            add("Flatten", (self.global_pool(x),), FEATURES, axis=1)
        elif step.op == "function" and step.layer is not None:
            add_activation(self.graph, step.layer, x[0], name)
        elif step.module is not None:
            add("Gemm", (*x, *(self.constant(tensor) for tensor in step.module.tensors())), name, transB=1)

    def constant(self, name: str) -> str:
        """A tensor of the network as a constant."""
        tensor = self.tensors[name]

        def read() -> Array:
            return tensor.read().astype(np.float32, copy=False)

        self.graph.initializers[name] = Tensor(tensor.shape, np.dtype(np.float32), read)
        return name

    def conv(self, module: Module, x: str) -> None:
        """A convolution; the first of all pads as the stem does."""
        size, strides = module.shape[2:], list(module.stride)
        padding = self.same if x == INPUT and self.same else {"pads": [n // 2 for n in size] * 2}
        attributes = {"kernel_shape": list(size), "strides": strides, **padding}
        self.graph.add("Conv", (x, self.constant(f"{module.name}.weight")), module.name, **attributes)

    def pool(self, op: str, x: str, step: Step) -> None:
        """Maxima or averages: of the stem in windows of 3 that overlap, in a transition in windows that do not."""
        config, stem = self.config, step.is_stem_pool
        strides = list(config.axes(config.stem_pool_stride if stem else config.transition_stride))
        more: dict[str, Any] = {"ceil_mode": 1} if (config.stem_ceil if stem else config.transition_ceil) else {}
        if stem and config.stem_pool == "zero_max":
            edge = ([0] * 2 + [1] * self.dims) * 2
            x = self.graph.add("Pad", (x, self.graph.constant(f"{step.name}.pads", edge, np.int64)), f"{step.name}.pad")
        elif stem:
            more |= self.same or {"pads": [1] * 2 * self.dims}
            more |= {"count_include_pad": 1} if op == "AveragePool" else {}
        self.graph.add(op, (x,), step.name, kernel_shape=[3] * self.dims if stem else strides, strides=strides, **more)

    def blur(self, x: str, step: Step) -> None:
        """timm's BlurPool2d: reflected borders, a binomial filter, stride 2."""
        row = np.array([0.25, 0.5, 0.25], np.float32)
        pads = self.graph.constant(f"{step.name}.pads", [0, 0, 1, 1, 0, 0, 1, 1], np.int64)
        kernel = self.graph.constant(f"{step.name}.kernel", np.tile(np.outer(row, row), (step.channels, 1, 1, 1)))
        x = self.graph.add("Pad", (x, pads), f"{step.name}.pad", mode="reflect")
        strided = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0] * 4, "group": step.channels}
        self.graph.add("Conv", (x, kernel), step.name, **strided)

    def global_pool(self, x: tuple[str, ...]) -> str:
        """Average, maximum, both, or their mean over all positions."""
        add, kind = self.graph.add, self.config.global_pool
        pools = (("GlobalAveragePool", "avg"), ("GlobalMaxPool", "max"))
        pooled = tuple(add(op, x, f"global_pool.{name}") for op, name in pools if name in kind)
        if kind in ("catavgmax", "catmaxavg"):
            return add("Concat", pooled if kind == "catavgmax" else pooled[::-1], "global_pool", axis=1)
        if kind == "avgmax":
            half = self.graph.constant("global_pool.half", 0.5)
            return add("Mul", (add("Add", pooled, "global_pool.sum"), half), "global_pool")
        return pooled[0]
