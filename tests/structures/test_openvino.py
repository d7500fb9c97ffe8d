"""OpenVINO's IR as a source: by its own converters, its older Model Optimizer, and of versions before that."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cases import CASES, logits_of
from helpers.command import run as densenet
from helpers.graphs import TINY, exported, images
from helpers.graphs import run as in_onnxruntime
from helpers.openvino import Version7

from converter import load
from converter.core.errors import NotADenseNet
from converter.engines.openvino import openvino_engine
from densenet.preprocess import Preprocess

openvino = pytest.importorskip("openvino")

NETWORKS = {
    "plain": {},
    "TensorFlow padding": {"padding": "same"},
    "rounded up": {"stem_ceil": True, "transition_ceil": True},
    "max beside mean": {"global_pool": "catmaxavg"},
    "blur": {"stem_pool": "blur", "transition_pool": "blur"},
    "volumes": {"spatial_dims": 3},
    "head": {"head": ("linear:6", "gelu")},
    "backbone": {"num_classes": 0},
}


def saved(model: Any, path: Path, **options: Any) -> Path:
    openvino.save_model(model, path, compress_to_fp16=options.get("fp16", False))
    return path


@pytest.mark.parametrize("changes", NETWORKS.values(), ids=NETWORKS)
def test_there_and_back(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = replace(TINY, **changes)
    path, x = tmp_path / "m.xml", images(config)
    onnx_path, _ = exported(tmp_path, config)
    saved(openvino.Core().read_model(onnx_path), path)
    model = load(path)
    assert model.config == config
    assert (model.origin.format, model.origin.layout) == ("OpenVINO IR", "openvino")
    np.testing.assert_allclose(logits_of(path, x), in_onnxruntime(onnx_path, x), atol=1e-5)


@pytest.mark.parametrize("case", ["openvino11-fp16", "openvino10-mo"])
def test_reference_files_compute_what_their_producer_did(case: str) -> None:
    expected = np.load(CASES / case / "logits.npy")
    computed = logits_of(CASES / case / "model.xml", np.load(CASES / case / "input.npy"))
    assert np.abs(computed - expected).max() < 1e-5 * np.abs(expected).max()


def test_layers_may_come_in_any_order(tmp_path: Path) -> None:
    case = CASES / "openvino10-mo"
    before, *layers = (case / "model.xml").read_text().split("<layer ")
    last, _, behind = layers[-1].partition("</layers>")
    (tmp_path / "m.xml").write_text("<layer ".join([before, *[last, *layers[-2::-1]]]) + f"</layers>{behind}")
    shutil.copy(case / "model.bin", tmp_path / "m.bin")
    given = np.load(case / "input.npy")
    np.testing.assert_array_equal(logits_of(tmp_path / "m.xml", given), logits_of(case / "model.xml", given))


@pytest.mark.parametrize("name", ["model.xml", "model.bin"])
def test_either_file_is_the_network(tmp_path: Path, name: str) -> None:
    said = densenet("convert", CASES / "openvino10-mo" / name, tmp_path / "m.safetensors")
    assert (said.returncode, (tmp_path / "m.safetensors").exists()) == (0, True)
    assert "openvino (OpenVINO IR)" in said.stdout + said.stderr


@pytest.mark.parametrize(("dtype", "oldest"), [("f4", False), ("f2", False), ("f4", True)])
def test_versions_before_10(tmp_path: Path, dtype: str, oldest: bool) -> None:
    config = replace(TINY, stem_ceil=True)
    x = images(config, 40)[:1]
    written = Version7(config, tmp_path, 40, dtype, oldest=oldest)
    path = written.write(tmp_path / "v7.xml")
    found = load(path).config
    assert found == config
    expected = in_onnxruntime(tmp_path / "m.onnx", x)
    np.testing.assert_allclose(
        logits_of(path, x), expected, atol=np.abs(expected).max() * (1e-5 if dtype == "f4" else 0.02)
    )
    means = "".join(f'<channel id="{i}"><mean value="{10 * i + 5}"/></channel>' for i in range(3))
    images_of_255 = load(written.write(path, f'<pre-process mean-precision="FP32">{means}</pre-process>'))
    assert images_of_255.images.preprocess is not None
    np.testing.assert_allclose(images_of_255.images.preprocess.mean, np.array([5, 15, 25]) / 255, rtol=1e-5)
    for beside, words in {
        '<pre-process><channel id="0"><mean offset="0" size="4"/></channel></pre-process>': "pre-process",
        "<statistics><layer><name>data</name></layer></statistics>": "8 bits",
    }.items():
        with pytest.raises(NotADenseNet, match=words):
            load(written.write(path, beside))


def prepared(what: str, folder: Path) -> Path:
    """A network with what OpenVINO's own preprocessing puts before it, or an operator behind it."""
    from openvino import opset13 as ops
    from openvino.preprocess import PrePostProcessor, ResizeAlgorithm

    onnx_path, _ = exported(folder)
    model = openvino.Core().read_model(onnx_path)
    if what in ("softmax", "relu"):
        logits = model.outputs[0].get_node().input_value(0)
        behind = ops.softmax(logits, 1) if what == "softmax" else ops.relu(logits)
        return saved(openvino.Model([behind], model.get_parameters()), folder / "m.xml")
    model.reshape([2, 3, 64, 64])
    steps = PrePostProcessor(model)
    given, before = steps.input().tensor(), steps.input().preprocess()
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    given.set_layout(openvino.Layout("NHWC" if what == "last" else "NCHW"))
    if what == "scale":
        before.scale(255.0)
    elif what == "flip":
        before.reverse_channels()
    elif what == "norm":
        before.mean([0.4, 0.5, 0.6]).scale([0.2, 0.3, 0.25])
    elif what == "resize":
        given.set_spatial_dynamic_shape()
        before.resize(ResizeAlgorithm.RESIZE_LINEAR)
    return saved(steps.build(), folder / "m.xml")


@pytest.mark.parametrize(
    ("what", "note"),
    [
        ("scale", ""),  # these two OpenVINO itself makes part of the first convolution
        ("flip", ""),
        ("norm", "recorded as"),
        ("softmax", "is left out"),
    ],
)
def test_what_stands_around_the_network_is_carried_or_said(tmp_path: Path, what: str, note: str) -> None:
    path, x = prepared(what, tmp_path), images(size=64) * 100
    model = load(path)
    assert note in " ".join(model.notes)
    given = x
    if what == "norm":
        assert model.images.preprocess is not None
        mean, std = (np.reshape(v, (3, 1, 1)) for v in (model.images.preprocess.mean, model.images.preprocess.std))
        given = ((x - mean) / std).astype(np.float32)
    logits, expected = logits_of(path, given), openvino_engine(path)(x)
    if what == "softmax":
        assert model.images.activation == "softmax"
        logits = np.exp(logits - logits.max(1, keepdims=True))
        logits /= logits.sum(1, keepdims=True)
    np.testing.assert_allclose(logits, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("what", "named"), [("resize", "Interpolate "), ("relu", "ReLU ")])
def test_what_no_densenet_has_is_refused_by_its_name(tmp_path: Path, what: str, named: str) -> None:
    with pytest.raises(NotADenseNet, match=f"m.xml: {named}"):
        load(prepared(what, tmp_path))


def test_images_with_channels_last_are_said(tmp_path: Path) -> None:
    path, x = prepared("last", tmp_path), images(size=64)
    assert any("NHWC" in note for note in load(path).notes)
    expected = openvino_engine(path)(np.moveaxis(x, 1, -1))
    np.testing.assert_allclose(logits_of(path, x), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("how", ["weights", "activations"])
def test_files_of_8_bits_are_refused(tmp_path: Path, how: str) -> None:
    from openvino import opset13 as ops

    x = ops.parameter([1, 3, 32, 32], np.float32)
    if how == "weights":
        kernel = ops.convert(ops.constant(np.ones((4, 3, 3, 3), np.int8)), "f32")
    else:
        kernel = ops.constant(np.ones((4, 3, 3, 3), np.float32))
    low, high = (ops.constant(np.float32(n)) for n in (-1, 1))
    given = ops.fake_quantize(x, low, high, low, high, 256) if how == "activations" else x
    conv = ops.convolution(given, kernel, [2, 2], [1, 1], [1, 1], [1, 1])
    path = tmp_path / "m.xml"
    openvino.serialize(openvino.Model([conv], [x]), path)
    with pytest.raises(NotADenseNet, match="it is quantised; convert the float file it was made from"):
        load(path)


SAID = {
    "labels": ["cat", "hot_dog", "c", "d", "e"],
    "multilabel": True,
    "mean_values": "123.675 116.28 103.53",
    "scale_values": "58.395 57.12 57.375",
    "reverse_input_channels": "True",
}


def with_model_info(folder: Path, said: dict[str, Any], *, prepared: bool = False) -> Path:
    """An IR as OpenVINO's Model API knows it; ``prepared``: whose graph normalises images, too."""
    onnx_path, _ = exported(folder, replace(TINY, num_classes=5))
    model = openvino.Core().read_model(onnx_path)
    model.set_rt_info("", "framework")
    model.reshape([1, 3, 64, 64])
    if prepared:
        steps = openvino.preprocess.PrePostProcessor(model)
        steps.input().model().set_layout(openvino.Layout("NCHW"))
        steps.input().preprocess().mean([10.0, 20.0, 30.0]).scale([50.0] * 3)
        model = steps.build()
    for key, value in said.items():
        model.set_rt_info(value, ["model_info", key])
    return saved(model, folder / "said.xml")


def test_what_the_model_api_is_told_is_taken(tmp_path: Path) -> None:
    model = load(with_model_info(tmp_path, SAID))
    assert (model.images.labels, model.images.activation) == (("cat", "hot_dog", "c", "d", "e"), "sigmoid")
    imagenet = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    assert model.images.preprocess == Preprocess((64, 64), (64, 64), antialias=False, **imagenet)
    (note,) = (note for note in model.notes if "model_info" in note)
    assert note.endswith(
        "channels red first (it has those of images that come blue first reversed), resized to 64x64 (standard)"
    )
    other = load(with_model_info(tmp_path, {**SAID, "labels": "a b", "resize_type": "fit_to_window"}))
    assert other.images.labels == ()
    assert any("its model_info has 2 labels, the network 5 outputs" in note for note in other.notes)
    assert any("resized as usual (resize_type fit_to_window cannot be carried" in note for note in other.notes)


def test_what_the_graph_does_already_is_not_done_twice(tmp_path: Path) -> None:
    model = load(with_model_info(tmp_path, SAID, prepared=True))
    assert model.images.preprocess is not None
    np.testing.assert_allclose(model.images.preprocess.mean, np.array([10, 20, 30]) / 255, rtol=1e-6)
    assert any("are taken to be what its graph does already" in note for note in model.notes)
    embedded = load(with_model_info(tmp_path, {**SAID, "embedded_processing": "True"}))
    assert embedded.images.preprocess is None


def test_images_of_opencv_prepared_in_the_graph(tmp_path: Path) -> None:
    """As open_model_zoo's files: 8 bits, channels last and blue first, mean and scale inside, weights in half."""
    onnx_path, _ = exported(tmp_path, TINY)
    steps = openvino.preprocess.PrePostProcessor(openvino.Core().read_model(onnx_path))
    steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    steps.input().preprocess().convert_element_type(openvino.Type.f32).reverse_channels()
    steps.input().preprocess().mean([123.675, 116.28, 103.53]).scale([58.395, 57.12, 57.375])
    path = saved(steps.build(), tmp_path / "m.xml", fp16=True)
    model = load(path)
    said = model.images.preprocess
    assert said is not None and said.order == "bgr"
    assert any("ImageNet's with blue first" in note for note in model.notes)
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    x = np.moveaxis((image / 255 - said.mean) / said.std, -1, 1).astype(np.float32)
    expected = openvino.compile_model(path, "CPU")([image])[0]
    assert np.abs(logits_of(path, x) - expected).max() < 5e-3 * np.abs(expected).max()
