"""Heads of several layers as graphs have them: activations in one operator or written out, norms, linear layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers.graphs import TINY, constants, exported, images, run, set_constants, set_nodes
from helpers.networks import export_model, random_model
from helpers.surgery import put
from helpers.torch_graphs import (
    Saver,
    frozen,
    graph_module,
    read,
    scripted,
    small,
    traced,
)
from helpers.torch_graphs import (
    exported as program,
)
from helpers.torchscript import torch
from onnx import helper

from converter import load
from converter.core.errors import NotADenseNet
from converter.exporters.onnx import to_onnx
from converter.structures.activations import activation_of, shortest
from densenet.head import ACTIVATIONS, HeadLayer

nn, functional = torch.nn, torch.nn.functional
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

IMAGES = torch.from_numpy(np.random.default_rng(3).uniform(size=(2, 3, 32, 32)).astype(np.float32))


def saved(*savers: Saver) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("save", savers, ids=lambda save: save.__name__)


MODULES: dict[str, Callable[[], nn.Module]] = {
    "leaky_relu:0.2": lambda: nn.LeakyReLU(0.2, inplace=True),
    "gelu": nn.GELU,
    "elu:0.7": lambda: nn.ELU(0.7),
    "celu:0.5": lambda: nn.CELU(0.5),
    "gelu_tanh": lambda: nn.GELU("tanh"),
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
    "hardsigmoid": nn.Hardsigmoid,
    "relu6": nn.ReLU6,
    "selu": nn.SELU,
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
    "sigmoid": nn.Sigmoid,
    "leaky_relu:0.1234567": lambda: nn.PReLU(init=0.1234567),
}


class Written(nn.Module):
    """Activations as people write them, one behind the other with a linear layer between."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(9))
        self.last = nn.Parameter(torch.randn(3, 6))
        self.bias = nn.Parameter(torch.randn(3))

    words = ("silu", "gelu", "gelu_tanh", "relu6", "mish", "hardswish", "leaky_relu:0.1", "sigmoid", "elu:0.7")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layers[0](x)
        x = self.layers[1](x * torch.sigmoid(x))
        x = self.layers[2](0.5 * x * (1 + torch.erf(x / 1.4142135623730951)))
        x = self.layers[3](0.5 * x * (1 + torch.tanh(0.7978845608028654 * (x + 0.044715 * x**3))))
        x = self.layers[4](torch.clamp(x, 0, 6))
        x = self.layers[5](x * torch.tanh(functional.softplus(x)))
        x = self.layers[6](x * functional.relu6(x + 3) / 6)
        x = self.layers[7](torch.maximum(x, 0.1 * x))
        x = self.layers[8](1 / (1 + torch.exp(-x)))
        return functional.elu(x, alpha=0.7) @ self.last.t() + self.bias


def with_head(head: nn.Module) -> Any:
    torch.manual_seed(0)
    module = put(small(), "classifier", head)
    for name, buffer in head.named_buffers():
        if name.endswith(("mean", "var")):
            buffer.uniform_(0.1, 0.9)
    return module.eval()


def features() -> int:
    return int(small().classifier.in_features)


def activations(config: Any) -> list[str]:
    return [word for word in config.head if HeadLayer.parse(word).is_activation]


# -- PyTorch's graphs --------------------------------------------------------------------


@saved(program, scripted, graph_module)
def test_modules(tmp_path: Path, save: Saver) -> None:
    layers: list[nn.Module] = []
    for make in MODULES.values():
        layers += [nn.Linear(6 if layers else features(), 6), make(), nn.Dropout(0.5)]
    module, path = with_head(nn.Sequential(*layers, nn.Linear(6, 3))), tmp_path / "model.pt2"
    save(module, IMAGES, path)
    assert activations(read(path, module, IMAGES).config) == list(MODULES)


@saved(scripted, traced, graph_module)
def test_written_out(tmp_path: Path, save: Saver) -> None:
    module, path = with_head(nn.Sequential(nn.Linear(features(), 6), nn.Tanh(), Written())), tmp_path / "model.pt2"
    save(module, IMAGES, path)
    assert activations(read(path, module, IMAGES).config) == ["tanh", *Written.words]


@saved(program, scripted, frozen, graph_module)
def test_norms_have_an_eps_of_their_own_and_keep_their_names(tmp_path: Path, save: Saver) -> None:
    norms = nn.BatchNorm1d(features(), eps=1e-3), nn.BatchNorm1d(6, eps=0.1)
    head = nn.Sequential(norms[0], nn.Linear(features(), 6), nn.GELU(), norms[1], nn.Linear(6, 3), nn.Softmax(1))
    module, path = with_head(head), tmp_path / "model.pt2"
    norms[0].running_var.fill_(1e-4)  # too little to take the difference
    save(module, IMAGES, path)
    module.classifier[-1] = nn.Identity()
    found = read(path, module, IMAGES)
    assert found.config.head == ("norm", "linear:6", "gelu", "norm")
    assert (found.config.eps, found.images.activation) == (1e-5, "softmax")
    assert not any("assumed" in note for note in found.notes)
    if save is not frozen:
        assert found.origin.layout == "torchvision"


class Residual(nn.Module):
    def __init__(self, *, gate: bool = False) -> None:
        super().__init__()
        self.inner, self.gate = nn.Linear(6, 6), gate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.inner(x)
        return x * torch.sigmoid(y) if self.gate else x + functional.relu(y)


class Quick(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(1.702 * x)


REFUSED: dict[str, tuple[nn.Module, str]] = {
    "beta": (nn.Softplus(beta=2), "(?i)softplus"),
    "threshold": (nn.Softplus(threshold=1), "(?i)softplus"),
    "slopes": (nn.PReLU(6), "(?i)prelu"),
    "layer norm": (nn.LayerNorm(6), "(?i)layer_?norm"),
    "residual": (Residual(), "add"),
    "gate": (Residual(gate=True), "mul"),
    "quick GELU": (Quick(), "mul"),
    "hardtanh": (nn.Hardtanh(), "(?i)hardtanh"),
    "softshrink": (nn.Softshrink(), "(?i)softshrink"),
    "five": (nn.Hardtanh(0, 5), "(?i)hardtanh"),
}


@pytest.mark.parametrize(("layer", "named"), REFUSED.values(), ids=REFUSED)
def test_other_heads_are_refused_by_name(tmp_path: Path, layer: nn.Module, named: str) -> None:
    module, path = with_head(nn.Sequential(nn.Linear(features(), 6), layer, nn.Linear(6, 3))), tmp_path / "model.pt"
    graph_module(module, IMAGES, path)
    with pytest.raises(NotADenseNet, match=named):
        load(path)


class Convolutions(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.features, self.head = small().features, nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(functional.relu(self.features(x))).flatten(1)


@pytest.mark.parametrize("inner", [(), (nn.BatchNorm2d(6),), (nn.GELU(),)], ids=str)
def test_pointwise_convolutions_before_and_behind_the_pooling(tmp_path: Path, inner: Sequence[nn.Module]) -> None:
    path, pool = tmp_path / "model.pt", nn.AdaptiveAvgPool2d(1)
    layers = (nn.Conv2d(features(), 6, 1), *inner, nn.Conv2d(6, 3, 1))
    behind = Convolutions(pool, *layers).eval()
    graph_module(behind, IMAGES, path)
    read(path, behind, IMAGES)
    before = Convolutions(*layers, pool).eval()
    graph_module(before, IMAGES, path)
    if isinstance((*inner, None)[0], nn.GELU):
        with pytest.raises(NotADenseNet, match="Conv2d"):
            load(path)
    else:
        read(path, before, IMAGES)


def test_a_convolution_with_a_stride_does_not_commute_with_the_mean(tmp_path: Path) -> None:
    module, path = Convolutions(nn.Conv2d(features(), 3, 1, stride=2), nn.AdaptiveAvgPool2d(1)), tmp_path / "model.pt"
    graph_module(module.eval(), IMAGES, path)
    with pytest.raises(NotADenseNet, match=r"Conv2d.*global pooling"):
        load(path)


# -- ONNX ----------------------------------------------------------------------------------

WORDS = (*ACTIVATIONS, "leaky_relu:0.2", "leaky_relu:0.1234567", "elu:0.7", "celu:0.5")


@pytest.mark.parametrize("graph", ["exact", "fused"])
def test_our_own_files_read_back(tmp_path: Path, graph: str) -> None:
    head = [word for i, name in enumerate(WORDS) for word in (f"linear:{6 + i % 2}", name)]
    config = replace(TINY, head=("norm", *head, "norm"))
    path = tmp_path / "model.onnx"
    proto = export_model(random_model(config), path, graph=graph)
    assert load(path).config.head == (config.head if graph == "exact" else tuple(map(str, config.head_layers[1:-1])))
    del proto.metadata_props[:]
    path.write_bytes(proto.SerializeToString())
    model, x = load(path), images()
    assert activations(model.config) == activations(config)
    path.write_bytes(to_onnx(model).SerializeToString())
    again = run(path, x)
    path.write_bytes(proto.SerializeToString())
    assert np.abs(again - run(path, x)).max() < 1e-5 * np.abs(again).max()


Node = tuple[str, Sequence[Any], dict[str, Any]]
"""An operator, what it takes (names, or a constant), its attributes; it makes ``y`` and its number."""


def number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def rewritten(tmp_path: Path, nodes: Sequence[Node], domain: str = "") -> Path:
    """A network of ours with other operators where its head has a hyperbolic tangent; ``x`` is what that takes."""
    path, proto = exported(tmp_path, replace(TINY, head=("linear:6", "tanh")), opset=20)
    old = next(node for node in proto.graph.node if node.op_type == "Tanh")
    arrays, made = constants(proto), list[onnx.NodeProto]()
    for i, (op, given, attributes) in enumerate(nodes):
        names = []
        for j, value in enumerate(given):
            names.append(old.input[0] if isinstance(value, str) and value == "x" else value)
            if not isinstance(value, str):
                names[-1] = f"constant{i}.{j}"
                arrays[names[-1]] = value
        y = old.output[0] if i + 1 == len(nodes) else f"y{i}"
        made.append(helper.make_node(op, names, [y], f"node {i}", domain=domain, **attributes))
    at = list(proto.graph.node).index(old)
    set_nodes(proto, [*proto.graph.node[:at], *made, *proto.graph.node[at + 1 :]])
    set_constants(proto, arrays)
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    path.write_bytes(proto.SerializeToString())
    return path


ROOT = number(2**0.5)
SIGMOID: Node = ("Sigmoid", ["x"], {})
FORMS: dict[str, tuple[str, Sequence[Node]]] = {
    "PRelu": ("leaky_relu:0.3", [("PRelu", ["x", np.full(1, 0.3, np.float32)], {})]),
    "LeakyRelu": ("leaky_relu", [("LeakyRelu", ["x"], {})]),
    "Gelu": ("gelu", [("Gelu", ["x"], {})]),
    "Gelu, tanh": ("gelu_tanh", [("Gelu", ["x"], {"approximate": "tanh"})]),
    "Mish": ("mish", [("Mish", ["x"], {})]),
    "HardSwish": ("hardswish", [("HardSwish", ["x"], {})]),
    "HardSigmoid": ("hardsigmoid", [("HardSigmoid", ["x"], {"alpha": 1 / 6, "beta": 0.5})]),
    "Celu": ("celu:0.3", [("Celu", ["x"], {"alpha": 0.3})]),
    "clipped at zero": ("relu", [("Max", ["x", number(0)], {})]),
    "GELU, halved first": (
        "gelu",
        [
            ("Mul", ["x", number(0.5)], {}),
            ("Div", ["x", ROOT], {}),
            ("Erf", ["y1"], {}),
            ("Add", ["y2", number(1)], {}),
            ("Mul", ["y3", "y0"], {}),
        ],
    ),
    "GELU, by a product": (
        "gelu",
        [
            ("Mul", ["x", 1 / ROOT], {}),
            ("Erf", ["y0"], {}),
            ("Add", [number(1), "y1"], {}),
            ("Mul", ["x", "y2"], {}),
            ("Mul", ["y3", number(0.5)], {}),
        ],
    ),
    "Keras' hard sigmoid": (
        "hardsigmoid",
        [
            ("Add", ["x", number(3)], {}),
            ("Relu", ["y0"], {}),
            ("Min", ["y1", number(6)], {}),
            ("Mul", ["y2", number(1 / 6)], {}),
        ],
    ),
    "leaky by choice": (
        "leaky_relu:0.2",
        [
            ("Mul", ["x", number(0.2)], {}),
            ("Greater", ["x", number(0)], {}),
            ("Where", ["y1", "x", "y0"], {}),
        ],
    ),
    "SELU of an ELU": (
        "selu",
        [("Elu", ["x"], {"alpha": 1.6732632423543772}), ("Mul", ["y0", number(1.0507009873554805)], {})],
    ),
    "softsign": (
        "softsign",
        [("Abs", ["x"], {}), ("Add", ["y0", number(1)], {}), ("Div", ["x", "y1"], {})],
    ),
}
MICROSOFT: dict[str, tuple[str, Sequence[Node]]] = {
    "Gelu": ("gelu", [("Gelu", ["x"], {})]),
    "FastGelu": ("gelu_tanh", [("FastGelu", ["x"], {})]),
    "FastGelu with a bias": ("gelu_tanh", [("FastGelu", ["x", np.arange(6, dtype=np.float32)], {})]),
    "BiasGelu": ("gelu", [("BiasGelu", ["x", np.arange(6, dtype=np.float32)], {})]),
    "QuickGelu of one": ("silu", [("QuickGelu", ["x"], {"alpha": 1.0})]),
    "FusedGemm": (
        "leaky_relu:0.2",
        [("FusedGemm", ["x", np.eye(6, dtype=np.float32)], {"activation": "LeakyRelu", "activation_alpha": 0.2})],
    ),
}
ALL = [("", *form) for form in FORMS.values()] + [("com.microsoft", *form) for form in MICROSOFT.values()]


@pytest.mark.parametrize(("domain", "word", "nodes"), ALL, ids=[*FORMS, *(f"Microsoft's {name}" for name in MICROSOFT)])
def test_activations_of_files(tmp_path: Path, domain: str, word: str, nodes: Sequence[Node]) -> None:
    path, x = rewritten(tmp_path, nodes, domain), images()
    expected = run(path, x)
    model = load(path)
    assert activations(model.config) == [word]
    path.write_bytes(to_onnx(model).SerializeToString())
    assert np.abs(run(path, x) - expected).max() < 1e-5 * np.abs(expected).max()


STRANGE: dict[str, tuple[str, Sequence[Node], str]] = {
    "slopes": ("", [("PRelu", ["x", np.full(6, 0.3, np.float32)], {})], "PRelu node 0"),
    "QuickGelu": ("com.microsoft", [("QuickGelu", ["x"], {})], "QuickGelu node 0"),
    "Keras 2's hard sigmoid": ("", [("HardSigmoid", ["x"], {})], "HardSigmoid node 0"),
    "up to five": ("", [("Clip", ["x", number(0), number(5)], {})], "Clip node 0"),
    "up to a million": ("", [("Clip", ["x", number(0), number(1e6)], {})], "Clip node 0"),
    "above a little": ("", [("ThresholdedRelu", ["x"], {"alpha": 1e-3})], "ThresholdedRelu node 0"),
    "normed": (
        "",
        [("LayerNormalization", ["x", np.ones(6, np.float32), np.zeros(6, np.float32)], {})],
        "LayerNormalization node 0",
    ),
    "half of it": ("", [SIGMOID, ("Mul", ["x", "y0"], {}), ("Add", ["y1", "x"], {})], "node 0.*node 2|node 2"),
    "another root": (
        "",
        [
            ("Div", ["x", number(1.4)], {}),
            ("Erf", ["y0"], {}),
            ("Add", ["y1", number(1)], {}),
            ("Mul", ["x", "y2"], {}),
            ("Mul", ["y3", number(0.5)], {}),
        ],
        "node",
    ),
}


@pytest.mark.parametrize(("domain", "nodes", "named"), STRANGE.values(), ids=STRANGE)
def test_what_is_no_known_activation_is_refused_by_name(
    tmp_path: Path, domain: str, nodes: Sequence[Node], named: str
) -> None:
    with pytest.raises(NotADenseNet, match=named):
        load(rewritten(tmp_path, nodes, domain))


# -- functions by their values -------------------------------------------------------------


def test_constants_of_half_precision_are_near_enough_and_only_they() -> None:
    root = float(np.float16(2**0.5))

    def gelu(x: np.ndarray) -> np.ndarray:
        from math import erf

        return 0.5 * x * (1 + np.vectorize(erf)(x / root))

    assert activation_of(gelu) is None
    assert activation_of(gelu, half=True) == HeadLayer("gelu")


def test_numbers_are_what_was_meant() -> None:
    assert shortest(float(np.float32(0.2))) == 0.2
    assert shortest(0.2) == 0.2
    assert shortest(1 / 3) == 1 / 3
    layer = activation_of(lambda x: np.where(x < 0, np.float32(0.3) * x, x))
    assert str(layer) == "leaky_relu:0.3"
