"""A head's activations in operators that every opset and runtime has, as PyTorch defines them (torch.nn.functional)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import pi, sqrt
from typing import TYPE_CHECKING

from densenet.head import HeadLayer

if TYPE_CHECKING:
    from converter.exporters.graph import Graph

ONE_OPERATOR = {
    "relu": "Relu",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "softplus": "Softplus",
    "softsign": "Softsign",
    "selu": "Selu",
}


def add_activation(graph: Graph, layer: HeadLayer, x: str, name: str) -> None:
    """Append what computes ``name`` from ``x``."""
    if layer.kind in ONE_OPERATOR:
        graph.add(ONE_OPERATOR[layer.kind], (x,), name)
    elif layer.kind in ("leaky_relu", "elu"):
        graph.add("LeakyRelu" if layer.kind == "leaky_relu" else "Elu", (x,), name, alpha=layer.value)
    elif layer.kind == "hardsigmoid":
        graph.add("HardSigmoid", (x,), name, alpha=1 / 6, beta=0.5)
    else:
        COMPOSED[layer.kind](_Writer(graph, layer, name), x)


class _Writer:
    """Names what stands between, and constants, after the activation they are of."""

    def __init__(self, graph: Graph, layer: HeadLayer, name: str) -> None:
        self.graph, self.layer, self.name = graph, layer, name

    def add(self, op: str, *inputs: str, last: bool = False, **attributes: float) -> str:
        output = self.name if last else f"{self.name}.{len(self.graph.nodes)}"
        return self.graph.add(op, inputs, output, **attributes)

    def number(self, value: float) -> str:
        return self.graph.constant(f"{self.name}.{value:.6g}", value)


def _gelu(w: _Writer, x: str) -> None:
    erf = w.add("Erf", w.add("Div", x, w.number(sqrt(2))))
    w.add("Mul", w.add("Mul", x, w.add("Add", erf, w.number(1))), w.number(0.5), last=True)


def _gelu_tanh(w: _Writer, x: str) -> None:
    cube = w.add("Mul", w.add("Mul", w.add("Mul", x, x), x), w.number(0.044715))
    tanh = w.add("Tanh", w.add("Mul", w.add("Add", x, cube), w.number(sqrt(2 / pi))))
    w.add("Mul", w.add("Mul", x, w.add("Add", tanh, w.number(1))), w.number(0.5), last=True)


def _celu(w: _Writer, x: str) -> None:
    alpha = w.number(w.layer.value or 1.0)
    w.add("Mul", w.add("Elu", w.add("Div", x, alpha), alpha=1.0), alpha, last=True)


COMPOSED: Mapping[str, Callable[[_Writer, str], object]] = {
    "relu6": lambda w, x: w.add("Clip", x, w.number(0), w.number(6), last=True),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "silu": lambda w, x: w.add("Mul", x, w.add("Sigmoid", x), last=True),
    "mish": lambda w, x: w.add("Mul", x, w.add("Tanh", w.add("Softplus", x)), last=True),
    "hardswish": lambda w, x: w.add("Mul", x, w.add("HardSigmoid", x, alpha=1 / 6, beta=0.5), last=True),
    "celu": _celu,
}
