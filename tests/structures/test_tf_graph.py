"""TensorFlow's graphs: functions, branches, what stands before and behind the network."""

from __future__ import annotations

import struct
from collections.abc import Callable
from math import erf
from pathlib import Path

import numpy as np
import pytest
from helpers.cases import CASES, logits_of
from helpers.wire import data, fixed32, number

from converter import load
from converter.core.errors import ConverterError, NotADenseNet
from converter.formats import open_checkpoint, protobuf

FROZEN = CASES / "keras2-frozen" / "frozen.pb"
X, LOGITS = (np.load(FROZEN.parent / f"{name}.npy") for name in ("input", "logits"))
FLOAT, INT = 1, 3


def close(got: np.ndarray, want: np.ndarray) -> bool:
    return bool(np.abs(got - want).max() <= 1e-5 * np.abs(want).max())


# -- as TensorFlow wrote them ----------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "file"),
    [
        ("tf1-frozen", "frozen.pb"),
        ("keras3-savedmodel", "saved_model"),
        ("keras3-savedmodel", "saved_model/saved_model.pb"),
        ("keras3-savedmodel", "saved_model/variables/variables.index"),
        ("keras3-savedmodel", "saved_model/variables/variables.data-00000-of-00001"),
    ],
)
def test_logits_are_those_of_tensorflow(folder: str, file: str) -> None:
    path = CASES / folder
    model = load(path / file)
    assert model.origin.layout == "tensorflow"
    assert close(logits_of(path / file, np.load(path / "input.npy")), np.load(path / "logits.npy"))


def test_the_branch_for_training_is_not_taken() -> None:
    """Its norms have other constants, and it drops features."""
    model = load(CASES / "tf1-frozen" / "frozen.pb")
    assert model.config.eps == 0.001
    assert model.notes == ("Softmax probabilities behind the logits is left out",)


def test_what_a_savedmodel_does_before_its_network_is_part_of_it() -> None:
    assert "rescaling by 0.00392157" in " ".join(load(CASES / "keras3-savedmodel" / "saved_model").notes)


# -- with nodes of our own -------------------------------------------------------------


def node(op: str, name: str, *inputs: str, **attributes: bytes) -> bytes:
    """A node of a graph."""
    body = data(1, name) + data(2, op) + b"".join(data(3, each) for each in inputs)
    return data(1, body + b"".join(data(5, data(1, key) + data(2, value)) for key, value in attributes.items()))


def const(name: str, values: object, code: int = FLOAT) -> bytes:
    array = np.array(values, np.float32 if code == FLOAT else np.int32)
    shape = b"".join(data(2, number(1, n)) for n in array.shape)
    return node("Const", name, value=data(8, number(1, code) + data(2, shape) + data(4, array.tobytes())))


def surgery(path: Path, *nodes: bytes, front: str = "", maximum: bool = False) -> Path:
    """The frozen graph with more nodes; ``front`` takes the image's place where that is taken, ``maximum`` Mean's."""
    graph, given = open_checkpoint(FROZEN).graph, image()
    out = b""
    for each in graph.nodes.values():
        body = b""
        for field, wire, value in protobuf.fields(each.message):
            content = bytes(value) if isinstance(value, memoryview) else value
            if front and field == 3 and content == given.encode():
                content = front.encode()
            if maximum and field == 2 and content == b"Mean":
                content = b"Max"
            body += number(field, content) if wire == protobuf.VARINT else data(field, content)  # type: ignore[arg-type]
        out += data(1, body)
    path.write_bytes(out + b"".join(nodes))
    return path


def ends() -> str:
    """The node that nothing takes."""
    graph = open_checkpoint(FROZEN).graph
    taken = {name for each in graph.nodes.values() for name in each.inputs}
    return next(n.name for n in graph.nodes.values() if n.name not in taken and n.op not in ("NoOp", "Const"))


def image() -> str:
    return next(each.name for each in open_checkpoint(FROZEN).graph.nodes.values() if each.op == "Placeholder")


@pytest.mark.parametrize(
    ("op", "values", "change"),
    [
        ("Mul", [2.0], lambda y: 2 * y),
        ("RealDiv", 4.0, lambda y: y / 4),
        ("AddV2", [1.0, 2.0, 3.0, 4.0, 5.0], lambda y: y + np.arange(1, 6)),
        ("Sub", 1.0, lambda y: y - 1),
    ],
)
def test_arithmetic_behind_the_logits_is_part_of_the_classifier(
    tmp_path: Path, op: str, values: object, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    path = surgery(tmp_path / "x.pb", const("number", values), node(op, "last", ends(), "number"))
    assert close(logits_of(path, X), change(LOGITS))


@pytest.mark.parametrize("op", ["Relu", "Tanh", "L2Loss", "Exp", "While"])
def test_another_function_behind_the_logits_is_refused_by_its_name(tmp_path: Path, op: str) -> None:
    with pytest.raises(NotADenseNet, match=f"{op} last"):
        load(surgery(tmp_path / "x.pb", node(op, "last", ends())))


@pytest.mark.parametrize("op", ["Softmax", "Sigmoid"])
def test_probabilities_are_said(tmp_path: Path, op: str) -> None:
    path = surgery(tmp_path / "x.pb", node(op, "last", ends()))
    assert f"{op} last behind the logits is left out" in load(path).notes
    assert close(logits_of(path, X), LOGITS)


def test_several_results_are_said(tmp_path: Path) -> None:
    graph = open_checkpoint(FROZEN).graph
    pooled = next(each.name for each in graph.nodes.values() if each.op == "Mean")
    path = surgery(tmp_path / "x.pb", node("Identity", "features", pooled))
    assert "left out" in " ".join(load(path).notes)
    assert close(logits_of(path, X), LOGITS)


@pytest.mark.parametrize(
    ("nodes", "images"),
    [
        ([const("n", 255.0), node("RealDiv", "front", "{}", "n")], lambda x: x / np.float32(255)),
        ([const("a", [3], INT), node("ReverseV2", "front", "{}", "a")], lambda x: x[:, ::-1]),
        ([node("Cast", "front", "{}", DstT=number(6, FLOAT))], lambda x: x),
    ],
)
def test_what_scales_or_turns_images_is_part_of_the_network(
    tmp_path: Path, nodes: list[bytes], images: Callable[[np.ndarray], np.ndarray]
) -> None:
    path = surgery(tmp_path / "x.pb", *placed(nodes), front="front")
    assert close(logits_of(path, X), logits_of(FROZEN, np.ascontiguousarray(images(X))))


def placed(nodes: list[bytes]) -> list[bytes]:
    """With the image's name where it is taken; messages say their sizes, so they are made again."""
    return [rebuilt(each) for each in nodes]


def rebuilt(message: bytes) -> bytes:
    (_, _, body), out = next(protobuf.fields(memoryview(message))), b""
    assert isinstance(body, memoryview)
    for field, _, value in protobuf.fields(body):
        assert isinstance(value, memoryview)
        out += data(field, image() if bytes(value) == b"{}" else bytes(value))
    return data(1, out)


@pytest.mark.parametrize(
    "nodes",
    [
        [const("s", [64, 64], INT), node("ResizeBilinear", "front", "{}", "s")],
        [node("DecodeJpeg", "front", "{}")],
        [const("a", [1], INT), node("ReverseV2", "front", "{}", "a")],
        [node("Square", "front", "{}")],
        [const("p", [0, 2, 1, 3], INT), node("Transpose", "front", "{}", "p")],
    ],
)
def test_what_cannot_be_carried_is_refused_by_its_name(tmp_path: Path, nodes: list[bytes]) -> None:
    with pytest.raises(NotADenseNet, match="front"):
        load(surgery(tmp_path / "x.pb", *placed(nodes), front="front"))


def test_a_shift_of_images_is_recorded(tmp_path: Path) -> None:
    nodes = placed([const("n", [123.0, 117.0, 104.0]), node("Sub", "front", "{}", "n")])
    model = load(surgery(tmp_path / "x.pb", *nodes, front="front"))
    assert model.images.preprocess is not None
    np.testing.assert_allclose(model.images.preprocess.mean, np.array([123, 117, 104]) / 255, rtol=1e-5)


def test_a_maximum_over_positions_is_global_max_pooling(tmp_path: Path) -> None:
    assert load(surgery(tmp_path / "x.pb", maximum=True)).config.global_pool == "max"


def test_a_function_that_calls_itself_is_refused(tmp_path: Path) -> None:
    call = data(10, data(1, "f"))
    body = bytes(next(protobuf.messages(memoryview(node("PartitionedCall", "again", "x", f=call)), 1)))
    function = data(1, data(1, "f") + data(2, data(1, "x")) + data(3, data(1, "y")))
    function += data(3, body) + data(4, data(1, "y") + data(2, "again:output:0"))
    path = surgery(tmp_path / "x.pb", node("PartitionedCall", "last", ends(), f=call))
    path.write_bytes(path.read_bytes() + data(2, data(1, function)))
    with pytest.raises(ConverterError):
        load(path)


def test_a_constant_without_values_is_zeros(tmp_path: Path) -> None:
    """As TensorFlow writes them (tensor.proto)."""
    empty = node("Const", "zero", value=data(8, number(1, FLOAT) + data(2, b"")))
    path = surgery(tmp_path / "x.pb", empty, node("AddV2", "last", ends(), "zero"))
    assert close(logits_of(path, X), LOGITS)


def test_norms_that_train_are_refused(tmp_path: Path) -> None:
    graph = open_checkpoint(FROZEN).graph
    norm = next(each for each in graph.nodes.values() if each.op == "FusedBatchNormV3")
    trains = node("FusedBatchNormV3", "front", "{}", *norm.inputs[1:], epsilon=fixed32(4, struct.pack("<f", 1e-5)))
    with pytest.raises(NotADenseNet, match="training"):
        load(surgery(tmp_path / "x.pb", *placed([trains]), front="front"))


# -- heads of several layers -----------------------------------------------------------


WEIGHT = np.random.default_rng(2).normal(size=(5, 3)).astype(np.float32)


def headed(path: Path, *nodes: bytes) -> Path:
    """The frozen graph with ``act``, of its logits, and a linear layer behind."""
    return surgery(path, *nodes, const("weight", WEIGHT), node("MatMul", "last", "act", "weight"))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def gelu_written_out() -> list[bytes]:
    return [
        *(const("half", 0.5), const("root", 2**0.5), const("one", 1.0), node("RealDiv", "by", ends(), "root")),
        *(node("Erf", "erf", "by"), node("AddV2", "plus", "erf", "one"), node("Mul", "halved", ends(), "half")),
        node("Mul", "act", "halved", "plus"),
    ]


def elu_chosen() -> list[bytes]:
    """Keras' elu with alpha 0.7: tf.where(x > 0, elu(x), 0.7 * elu(x))."""
    return [
        *(const("zero", 0.0), const("alpha", 0.7), node("Elu", "elu", ends()), node("Mul", "less", "elu", "alpha")),
        *(node("Greater", "over", ends(), "zero"), node("SelectV2", "act", "over", "elu", "less")),
    ]


HEADS: dict[str, tuple[Callable[[], list[bytes]], Callable[[np.ndarray], np.ndarray]]] = {
    "leaky_relu:0.3": (
        lambda: [node("LeakyRelu", "act", ends(), alpha=fixed32(4, struct.pack("<f", 0.3)))],
        lambda x: np.where(x > 0, x, 0.3 * x),
    ),
    "leaky_relu:0.1": (
        lambda: [const("slope", 0.1), node("Mul", "less", ends(), "slope"), node("Maximum", "act", ends(), "less")],
        lambda x: np.where(x > 0, x, 0.1 * x),
    ),
    "gelu": (gelu_written_out, lambda x: x * np.array([0.5 * (1 + erf(v / 2**0.5)) for v in x.flat]).reshape(x.shape)),
    "silu": (
        lambda: [node("Sigmoid", "gate", ends()), node("Mul", "act", ends(), "gate")],
        lambda x: x * sigmoid(x),
    ),
    "elu:0.7": (elu_chosen, lambda x: np.where(x > 0, x, 0.7 * np.expm1(np.minimum(x, 0)))),
    "relu": (lambda: [node("Relu", "act", ends())], lambda x: np.maximum(x, 0)),
}


@pytest.mark.parametrize(("word", "nodes", "compute"), [(k, *v) for k, v in HEADS.items()], ids=HEADS)
def test_heads_of_several_layers(
    tmp_path: Path, word: str, nodes: Callable[[], list[bytes]], compute: Callable[[np.ndarray], np.ndarray]
) -> None:
    path = headed(tmp_path / "x.pb", *nodes())
    assert load(path).config.head == ("linear:5", word)
    assert close(logits_of(path, X), compute(LOGITS.astype(np.float64)) @ WEIGHT)


def test_another_function_in_a_head_is_refused_by_its_name(tmp_path: Path) -> None:
    """A slope for each feature, or x * sigmoid(1.7 x), which PyTorch has under no name."""
    slopes = [const("slopes", [0.1, 0.2, 0.3, 0.4, 0.5]), node("Mul", "less", ends(), "slopes")]
    for nodes in (
        [*slopes, node("Maximum", "act", ends(), "less")],
        [
            *(const("steep", 1.7), node("Mul", "times", ends(), "steep"), node("Sigmoid", "gate", "times")),
            node("Mul", "act", ends(), "gate"),
        ],
    ):
        with pytest.raises(NotADenseNet, match=r"act|less|times"):
            load(headed(tmp_path / "x.pb", *nodes))
