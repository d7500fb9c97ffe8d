"""The network as a small dataflow graph, operator for operator what PyTorch computes.

Nodes, values and initializers carry library names, so that an intermediate result of
the ONNX file can be laid beside the PyTorch module's of the same name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from converter.core.checkpoint import Tensor
from densenet.config import NORM_TENSORS, DenseNetConfig

Array = np.ndarray[Any, Any]

INPUT = "pixel_values"
IMAGE = "image"
LOGITS = "logits"
FEATURES = "features"
PROBABILITIES = "probabilities"
SPACE = {2: ("height", "width"), 3: ("depth", "height", "width")}


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
    """Nodes in order of execution, and the constants they use."""

    nodes: list[Node] = field(default_factory=list)
    initializers: dict[str, Array] = field(default_factory=dict)
    input: str = INPUT
    outputs: list[str] = field(default_factory=list)

    def add(self, op: str, inputs: tuple[str, ...], output: str, **attributes: Any) -> str:
        """Append a node and return the name of what it makes."""
        self.nodes.append(Node(op, inputs, output, attributes))
        return output

    def consumers(self) -> dict[str, list[Node]]:
        """For each value the nodes that take it."""
        result: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.inputs:
                result.setdefault(name, []).append(node)
        return result

    def prune(self) -> None:
        """Drop constants that no node takes any more."""
        used = {name for node in self.nodes for name in node.inputs}
        self.initializers = {name: array for name, array in self.initializers.items() if name in used}


def build(config: DenseNetConfig, tensors: Mapping[str, Tensor]) -> Graph:
    """The exact graph of a network; weights become float32 whatever they are stored in.

    Input ``pixel_values`` (N, in_channels, H, W); output ``logits`` (N, num_classes), or
    ``features`` (N, classifier_features) where there is no classifier.
    """
    return _Builder(config, tensors).run()


class _Builder:
    def __init__(self, config: DenseNetConfig, tensors: Mapping[str, Tensor]) -> None:
        self.config = config
        self.tensors = tensors
        self.graph = Graph()
        self.dims = config.spatial_dims
        self.same = {"auto_pad": "SAME_UPPER"} if config.padding == "same" else {}

    def run(self) -> Graph:
        x = self.stem(INPUT)
        for b in range(len(self.config.block_config)):
            x = self.block(x, b)
            if b + 1 < len(self.config.block_config):
                x = self.transition(x, b)
        x = self.norm(x, "norm")
        if self.config.final_relu:
            x = self.graph.add("Relu", (x,), "relu")
        self.head(x)
        return self.graph

    # -- pieces --------------------------------------------------------------------

    def constant(self, name: str) -> str:
        if name not in self.graph.initializers:
            self.graph.initializers[name] = np.ascontiguousarray(
                self.tensors[name].read().astype(np.float32, copy=False)
            )
        return name

    def conv(self, x: str, name: str, stride: int = 1, *, same: bool = False) -> str:
        weight = self.constant(f"{name}.weight")
        size = self.graph.initializers[weight].shape[2]
        padding: dict[str, Any] = dict(self.same) if same else {}
        padding = padding or {"pads": [size // 2] * 2 * self.dims}
        attributes = {"kernel_shape": [size] * self.dims, "strides": [stride] * self.dims, **padding}
        return self.graph.add("Conv", (x, weight), name, **attributes)

    def norm(self, x: str, name: str) -> str:
        inputs = (x, *(self.constant(f"{name}.{leaf}") for leaf in NORM_TENSORS))
        return self.graph.add("BatchNormalization", inputs, name, epsilon=self.config.eps)

    def norm_relu(self, x: str, name: str) -> str:
        return self.graph.add("Relu", (self.norm(x, name),), name.replace("norm", "relu"))

    def blur(self, x: str, name: str, width: int) -> str:
        """timm's BlurPool2d: reflected borders, a binomial filter, stride 2."""
        pads, kernel = f"{name}.pads", f"{name}.kernel"
        row = np.array([0.25, 0.5, 0.25], np.float32)
        self.graph.initializers[pads] = np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
        self.graph.initializers[kernel] = np.tile(np.outer(row, row), (width, 1, 1, 1))
        x = self.graph.add("Pad", (x, pads), f"{name}.pad", mode="reflect")
        strided = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0] * 4, "group": width}
        return self.graph.add("Conv", (x, kernel), name, **strided)

    # -- parts ---------------------------------------------------------------------

    def stem(self, x: str) -> str:
        config = self.config
        if config.stem == "cifar":
            return self.conv(x, "stem.conv")
        if config.stem == "imagenet":
            x = self.norm_relu(self.conv(x, "stem.conv", 2, same=True), "stem.norm")
        else:
            for i in range(3):
                x = self.norm_relu(self.conv(x, f"stem.conv{i}", 2 if i == 0 else 1, same=i == 0), f"stem.norm{i}")
        window: dict[str, Any] = {"kernel_shape": [3] * self.dims, "pads": [1] * 2 * self.dims}
        if config.stem_pool == "blur":
            x = self.graph.add("MaxPool", (x,), "stem.pool.max", **window, strides=[1] * self.dims)
            return self.blur(x, "stem.pool", config.init_features)
        if self.same:
            window = {"kernel_shape": [3] * self.dims, **self.same}
        if config.stem_ceil:
            window["ceil_mode"] = 1
        return self.graph.add("MaxPool", (x,), "stem.pool", **window, strides=[2] * self.dims)

    def block(self, x: str, b: int) -> str:
        for i in range(self.config.block_config[b]):
            layer = f"blocks.{b}.layers.{i}"
            new = self.conv(self.norm_relu(x, f"{layer}.norm1"), f"{layer}.conv1")
            if self.config.bottleneck:
                new = self.conv(self.norm_relu(new, f"{layer}.norm2"), f"{layer}.conv2")
            x = self.graph.add("Concat", (x, new), layer, axis=1)
        return x

    def transition(self, x: str, t: int) -> str:
        name, config = f"transitions.{t}", self.config
        x = self.norm_relu(x, f"{name}.norm") if config.transition_relu else self.norm(x, f"{name}.norm")
        x = self.conv(x, f"{name}.conv")
        if config.transition_pool == "blur":
            return self.blur(x, f"{name}.pool", config.block_widths()[t + 1][0])
        window: dict[str, Any] = {"kernel_shape": [2] * self.dims, "strides": [2] * self.dims}
        if config.transition_ceil:
            window["ceil_mode"] = 1
        return self.graph.add("AveragePool", (x,), f"{name}.pool", **window)

    def head(self, x: str) -> None:
        graph, kind = self.graph, self.config.global_pool
        pooled = []
        for op, name in (("GlobalAveragePool", "avg"), ("GlobalMaxPool", "max")):
            if name in kind:
                pooled.append(graph.add(op, (x,), f"global_pool.{name}"))
        x = pooled[0]
        if kind == "catavgmax":
            x = graph.add("Concat", tuple(pooled), "global_pool", axis=1)
        elif kind == "avgmax":
            graph.initializers["global_pool.half"] = np.array(0.5, np.float32)
            x = graph.add("Add", tuple(pooled), "global_pool.sum")
            x = graph.add("Mul", (x, "global_pool.half"), "global_pool")
        x = graph.add("Flatten", (x,), FEATURES, axis=1)
        if self.config.num_classes:
            weights = (self.constant("classifier.weight"), self.constant("classifier.bias"))
            x = graph.add("Gemm", (x, *weights), LOGITS, transB=1)
        graph.outputs = [x]
