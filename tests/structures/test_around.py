"""What a graph does before the first convolution and behind global pooling: folded, recorded, or refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers.cases import logits_of
from helpers.graphs import constants, exported, images, node_named, run, set_constants, set_nodes
from onnx import helper

from converter import convert, export_onnx, inspect, load
from converter.core.errors import NotADenseNet
from converter.exporters.onnx import to_onnx
from converter.use.predict import predictor

Step = tuple[str, Sequence[Any], dict[str, Any]]
"""An ONNX operator, its constants behind the value, its attributes."""

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def channels(values: Sequence[float]) -> np.ndarray:
    return np.array(values, np.float32).reshape(-1, 1, 1)


def number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


NHWC: Step = ("Transpose", [], {"perm": [0, 3, 1, 2]})
BGR: Step = ("Gather", [np.array([2, 1, 0])], {"axis": 1})


def wrap(tmp_path: Path, front: Sequence[Step] = (), behind: Sequence[Step] = (), *, nodes_first: bool = True) -> Path:
    """A network of ours with operators before and behind it; ``nodes_first=False`` puts those at the graph's end."""
    path, proto = exported(tmp_path)
    arrays = constants(proto)

    def chain(steps: Sequence[Step], first: str, last: str, tag: str) -> list[onnx.NodeProto]:
        names = [first, *(f"{tag}{i}" for i in range(1, len(steps))), last]
        made = []
        for i, (kind, extra, attributes) in enumerate(steps):
            given = [f"{tag}.{i}.{j}" for j in range(len(extra))]
            arrays.update(zip(given, extra))
            made.append(helper.make_node(kind, [names[i], *given], [names[i + 1]], name=f"{tag} {i}", **attributes))
        return made

    image = proto.graph.input[0]
    nodes = list(proto.graph.node)
    added: list[onnx.NodeProto] = []
    if front:
        for node in nodes:
            node.input[:] = ["prepared" if name == image.name else name for name in node.input]
        added += chain(front, image.name, "prepared", "front")
        if NHWC in front:
            dims = image.type.tensor_type.shape.dim
            sizes = [onnx.TensorShapeProto.Dimension() for _ in dims]
            for size, dim in zip(sizes, [dims[0], dims[2], dims[3], dims[1]]):
                size.CopyFrom(dim)
            del dims[:]
            dims.extend(sizes)
    if behind:
        result = proto.graph.output[0]
        added += chain(behind, result.name, "result", "behind")
        result.CopyFrom(helper.make_tensor_value_info("result", onnx.TensorProto.FLOAT, None))
    set_constants(proto, arrays)
    set_nodes(proto, [*added, *nodes] if nodes_first else [*nodes, *added])
    if nodes_first and behind:  # ONNX Runtime wants them sorted
        set_nodes(proto, [*added[: len(front)], *nodes, *added[len(front) :]])
    path.write_bytes(proto.SerializeToString())
    return path


def relative(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max() / np.abs(other).max())


SCALED: dict[str, Sequence[Step]] = {
    "of bytes": [("Div", [number(255)], {})],
    "twice": [("Mul", [number(2)], {}), ("Mul", [channels([0.5, 1, 2])], {})],
    "BGR": [BGR],
    "BGR, scaled per channel": [("Mul", [channels([1, 2, 3])], {}), BGR],
    "scaled, then BGR, then scaled": [("Div", [channels([1, 2, 3])], {}), BGR, ("Mul", [channels([1, 5, 3])], {})],
    "a cast": [("Cast", [], {"to": onnx.TensorProto.FLOAT})],
}


@pytest.mark.parametrize("steps", SCALED.values(), ids=SCALED)
def test_scales_and_channels_are_exact(tmp_path: Path, steps: Sequence[Step]) -> None:
    path, x = wrap(tmp_path, steps), images() * 50
    assert relative(logits_of(path, x), run(path, x)) < 1e-5


def test_channels_last_are_read_and_said(tmp_path: Path) -> None:
    path, x = wrap(tmp_path, [NHWC]), images()
    assert relative(logits_of(path, x), run(path, np.moveaxis(x, 1, -1))) < 1e-5
    assert any("NHWC" in note for note in load(path).notes)


def test_a_scale_leaves_the_bits_of_half_precision(tmp_path: Path) -> None:
    """1/255 of most of a kernel's values is below what float16 holds in full."""
    path, x = wrap(tmp_path, [("Div", [number(255)], {})]), images() * 50
    proto = onnx.load(path)
    arrays = constants(proto)
    name = next(name for name, array in arrays.items() if array.ndim == 4)
    half = (arrays[name] / 50).astype(np.float16)
    set_constants(proto, {**arrays, name: half})
    cast = helper.make_node("Cast", [name], ["full"], to=onnx.TensorProto.FLOAT)
    for node in proto.graph.node:
        node.input[:] = ["full" if each == name else each for each in node.input]
    set_nodes(proto, [cast, *proto.graph.node])
    path.write_bytes(proto.SerializeToString())
    assert load(path).tensors["stem.conv.weight"].dtype == np.float32
    assert relative(logits_of(path, x), run(path, x)) < 1e-5


NORMALISED: dict[str, tuple[Sequence[Step], float]] = {
    "of 0 to 1": ([("Sub", [channels(MEAN)], {}), ("Div", [channels(STD)], {})], 1),
    "of bytes": (
        [("Div", [number(255)], {}), ("Sub", [channels(MEAN)], {}), ("Mul", [1 / channels(STD)], {})],
        255,
    ),
    "channels last": ([("Sub", [np.array(MEAN, np.float32)], {}), ("Div", [np.array(STD, np.float32)], {}), NHWC], 1),
    "a batch norm": (
        [
            (
                "BatchNormalization",
                [np.ones(3, np.float32), np.zeros(3, np.float32), *np.float32([MEAN, np.square(STD)])],
                {"epsilon": 1e-12},
            )
        ],
        1,
    ),
}


@pytest.mark.parametrize(("steps", "top"), NORMALISED.values(), ids=NORMALISED)
def test_a_normalisation_is_recorded_and_said(tmp_path: Path, steps: Sequence[Step], top: float) -> None:
    path = wrap(tmp_path, steps)
    model = load(path)
    assert model.images.preprocess is not None
    np.testing.assert_allclose(model.images.preprocess.mean, MEAN, rtol=1e-5)
    np.testing.assert_allclose(model.images.preprocess.std, STD, rtol=1e-5)
    (note,) = [note for note in model.notes if "preprocessing" in note]
    assert ("0 to 255" in note) == (top == 255)
    x = np.random.default_rng(0).uniform(size=(2, 3, 37, 37)).astype(np.float32)
    prepared = ((x - channels(MEAN)) / channels(STD)).astype(np.float32)
    given = np.moveaxis(x, 1, -1) if NHWC in steps else x
    assert relative(logits_of(path, prepared), run(path, given * np.float32(top))) < 1e-4


def test_channels_that_are_reversed_before_a_normalisation_keep_their_means(tmp_path: Path) -> None:
    """caffe's preprocessing: RGB made BGR, then the means of blue, green and red are subtracted."""
    path = wrap(tmp_path, [BGR, ("Sub", [channels([104, 117, 124])], {})])
    steps = load(path).images.preprocess
    assert steps is not None
    np.testing.assert_allclose(steps.mean, np.array([124, 117, 104]) / 255, rtol=1e-6)
    np.testing.assert_allclose(steps.std, 1 / 255, rtol=1e-6)
    x = np.random.default_rng(0).uniform(0, 255, size=(2, 3, 37, 37)).astype(np.float32)
    assert relative(logits_of(path, x - channels([124, 117, 104])), run(path, x)) < 1e-4


def test_bytes_are_what_a_rescaled_network_is_given_in_prediction(tmp_path: Path) -> None:
    """What is recorded makes images into what the graph takes: 0 to 255."""
    image_module = pytest.importorskip("PIL.Image")
    path = wrap(tmp_path, [("Div", [number(255)], {})])
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    image_module.fromarray(pixels).resize((256, 256), 0).save(tmp_path / "image.png")
    cropped = np.asarray(image_module.open(tmp_path / "image.png").crop((16, 16, 240, 240)), np.float32)
    logits = run(path, cropped.transpose(2, 0, 1)[None])[0].astype(np.float64)
    expected = np.exp(logits - logits.max())
    (result,) = predictor(path).results([tmp_path / "image.png"])
    np.testing.assert_allclose(result["pred_scores"], expected / expected.sum(), rtol=1e-3)


def linear(rows: int, columns: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)


EXACT: dict[str, Sequence[Step]] = {
    "a temperature": [("Div", [number(2.5)], {})],
    "a scale and shift per class": [
        ("Mul", [np.float32([1, 2, 3, 4, 5])], {}),
        ("Add", [np.float32([5, 4, 3, 2, 1])], {}),
    ],
    "a linear layer": [("MatMul", [linear(5, 4, 0)], {}), ("Add", [np.float32([1, 2, 3, 4])], {})],
    "a transposed one": [("Gemm", [linear(3, 5, 1), np.float32([1, 2, 3])], {"transB": 1})],
    "a ReLU and another": [("Relu", [], {}), ("MatMul", [linear(5, 4, 0)], {})],
    "a batch norm": [
        (
            "BatchNormalization",
            [*np.random.default_rng(2).uniform(0.5, 2, (4, 5)).astype(np.float32)],
            {"epsilon": 1e-3},
        )
    ],
}


@pytest.mark.parametrize("steps", EXACT.values(), ids=EXACT)
def test_what_is_behind_the_logits_is_folded_or_a_layer(tmp_path: Path, steps: Sequence[Step]) -> None:
    path, x = wrap(tmp_path, behind=steps), images()
    assert relative(logits_of(path, x), run(path, x)) < 1e-5


@pytest.mark.parametrize("kind", ["Softmax", "Sigmoid", "LogSoftmax"])
def test_an_activation_behind_the_logits_is_said(tmp_path: Path, kind: str) -> None:
    path, x = wrap(tmp_path, behind=[(kind, [], {})]), images()
    (tmp_path / "plain").mkdir()
    plain, _ = exported(tmp_path / "plain")
    assert relative(logits_of(path, x), run(plain, x)) < 1e-5
    assert any(kind in note and "left out" in note for note in load(path).notes)


@pytest.mark.parametrize(("kind", "activation"), [("Sigmoid", "sigmoid"), ("Softmax", "softmax")])
def test_the_activation_is_kept_given_and_obeyed(tmp_path: Path, kind: str, activation: str) -> None:
    path, x = wrap(tmp_path, behind=[(kind, [], {})]), images()
    convert(path, tmp_path / "m.safetensors")
    assert load(tmp_path / "m.safetensors").images.activation == activation
    assert inspect(path).to_dict()["activation"] == activation
    done = export_onnx(tmp_path / "m.safetensors", tmp_path / "out.onnx")
    assert done.outputs == ("logits", "probabilities")
    session = onnxruntime.InferenceSession(str(tmp_path / "out.onnx"), providers=["CPUExecutionProvider"])
    expected = run(path, x)
    np.testing.assert_allclose(session.run(["probabilities"], {"pixel_values": x})[0], expected, rtol=1e-4, atol=1e-6)
    plain = export_onnx(tmp_path / "m.safetensors", tmp_path / "plain.onnx", probabilities=False)
    assert plain.outputs == ("logits",)
    pytest.importorskip("PIL.Image").new("RGB", (256, 256), (200, 90, 30)).save(tmp_path / "image.png")
    for source in (path, tmp_path / "m.safetensors", tmp_path / "out.onnx"):
        (result,) = predictor(source).results([tmp_path / "image.png"])
        assert (abs(result["pred_scores"].sum() - 1) < 1e-5) == (activation == "softmax")


def test_an_activation_that_nobody_knows_is_taken_for_none(tmp_path: Path) -> None:
    """In the metadata of a file of ours that somebody changed."""
    export_onnx(wrap(tmp_path, behind=[("Softmax", [], {})]), tmp_path / "out.onnx")
    proto = onnx.load(tmp_path / "out.onnx")
    next(entry for entry in proto.metadata_props if entry.key == "densenet.activation").value = "tanh"
    onnx.save(proto, tmp_path / "out.onnx")
    pytest.importorskip("PIL.Image").new("RGB", (256, 256), (200, 90, 30)).save(tmp_path / "image.png")
    (result,) = predictor(tmp_path / "out.onnx").results([tmp_path / "image.png"])
    assert abs(result["pred_scores"].sum() - 1) < 1e-5


REFUSED: dict[str, tuple[Sequence[Step], Sequence[Step], str]] = {
    "a ReLU behind": ([], [("Relu", [], {})], "Relu behind 0"),
    "an l2 norm": ([], [("LpNormalization", [], {"axis": -1})], "LpNormalization behind 0"),
    "tanh": ([], [("Tanh", [], {})], "Tanh behind 0"),
    "a clip in front": ([("Clip", [number(0), number(1)], {})], [], "Clip front 0"),
    "a square in front": ([("Pow", [number(2)], {})], [], "Pow front 0"),
    "a mean per column": ([("Sub", [np.ones((1, 1, 1, 37), np.float32)], {})], [], "Sub front 0"),
    "pooling in front": ([("AveragePool", [], {"kernel_shape": [2, 2]})], [], "AveragePool front 0"),
    "columns reversed": ([("Gather", [np.arange(36, -1, -1)], {"axis": 3})], [], "Gather front 0"),
    "channels chosen": ([("Gather", [np.array([2, 2, 0])], {"axis": 1})], [], "Gather front 0"),
}


@pytest.mark.parametrize(("front", "behind", "name"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_carried_is_refused_by_name(
    tmp_path: Path, front: Sequence[Step], behind: Sequence[Step], name: str
) -> None:
    with pytest.raises(NotADenseNet, match=name):
        load(wrap(tmp_path, front, behind))


def test_nodes_come_in_any_order(tmp_path: Path) -> None:
    """As tools write them that append Casts for half precision; ONNX Runtime takes such files, too."""
    path, x = wrap(tmp_path, [("Mul", [number(3)], {})], nodes_first=False), images()
    sorted_path = wrap(tmp_path, [("Mul", [number(3)], {})])
    np.testing.assert_array_equal(logits_of(path, x), logits_of(sorted_path, x))
    proto = onnx.load(path)
    set_nodes(proto, list(proto.graph.node)[::-1])
    path.write_bytes(proto.SerializeToString())
    np.testing.assert_array_equal(logits_of(path, x), logits_of(sorted_path, x))


def test_a_value_that_depends_on_itself_is_refused(tmp_path: Path) -> None:
    path, proto = exported(tmp_path)
    node_named(proto, "blocks.0.layers.0.norm1").input[0] = "blocks.0.layers.0.conv1"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(NotADenseNet, match="depends on its own result"):
        load(path)


def results(proto: onnx.ModelProto, *names: str) -> None:
    proto.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)


def test_of_several_results_the_logits_are_taken(tmp_path: Path) -> None:
    path, x = wrap(tmp_path, behind=[("Softmax", [], {})]), images()
    proto = onnx.load(path)
    results(proto, "logits", "norm", "blocks.1.layers.0.relu1")
    path.write_bytes(proto.SerializeToString())
    (tmp_path / "plain").mkdir()
    plain, _ = exported(tmp_path / "plain")
    assert relative(logits_of(path, x), run(plain, x)) < 1e-5
    assert any("of its results logits is taken" in note for note in load(path).notes)


def two_heads(proto: onnx.ModelProto) -> None:
    arrays = constants(proto)
    weight = next(name for name in arrays if name.startswith("classifier") and arrays[name].ndim == 2)
    node = next(n for n in proto.graph.node if weight in n.input)
    set_constants(proto, {**arrays, "other": arrays[weight][::-1].copy()})
    second = helper.make_node("Gemm", [node.input[0], "other"], ["second"], transB=1)
    set_nodes(proto, [*proto.graph.node, second])
    results(proto, "second")


def test_results_of_two_heads_are_outputs_of_their_own(tmp_path: Path) -> None:
    path, proto = exported(tmp_path)
    two_heads(proto)
    path.write_bytes(proto.SerializeToString())
    model, x = load(path), images()
    assert [head.name for head in model.config.heads] == ["logits_head", "second"]
    found = to_onnx(model).SerializeToString()
    (tmp_path / "found.onnx").write_bytes(found)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    ours = onnxruntime.InferenceSession(found, providers=["CPUExecutionProvider"])
    for mine, theirs in (("logits_head", "logits"), ("second", "second")):
        expected = session.run([theirs], {session.get_inputs()[0].name: x})[0]
        assert relative(ours.run([mine], {"pixel_values": x})[0], expected) < 1e-5
    assert load(path, head="second").config.num_classes == model.config.heads[1].num_classes
