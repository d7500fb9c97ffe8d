"""The ONNX graph, written from tensors, against the PyTorch module."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from cases import CASES
from PIL import Image

from converter import export_onnx, load
from converter.core.checkpoint import Tensor
from converter.core.errors import ConverterError
from converter.core.model import Model
from converter.core.model import Origin as Source
from converter.exporters.graph import build
from converter.exporters.onnx import DEFAULT_OPSET, LOWEST_OPSET, _proto, to_onnx
from converter.exporters.passes import PASSES
from densenet import DenseNetConfig
from densenet.images import load as load_image
from densenet.preprocess import Preprocess

SMALL = DenseNetConfig(growth_rate=8, block_config=(2, 3, 1), init_features=16, num_classes=5)
VARIANTS = {
    "imagenet": SMALL,
    "cifar": DenseNetConfig.cifar(13, 6),
    "cifar bottleneck": DenseNetConfig.cifar(16, 6, bottleneck=True),
    "deep, blurred": replace(SMALL, stem="deep", stem_widths=(4, 6), stem_pool="blur", transition_pool="blur"),
    "rounded up": replace(SMALL, stem_ceil=True, transition_ceil=True),
    "same": replace(SMALL, padding="same"),
    "same deep": replace(SMALL, padding="same", stem="deep"),
    "no relu": replace(SMALL, transition_relu=False, final_relu=False),
    "catavgmax": replace(SMALL, global_pool="catavgmax"),
    "avgmax": replace(SMALL, global_pool="avgmax", eps=1e-3),
    "backbone": replace(SMALL, num_classes=0),
    "one channel": replace(SMALL, in_channels=1),
    "volumes": replace(SMALL, spatial_dims=3, in_channels=1),
    "volumes, rounded up": replace(SMALL, spatial_dims=3, transition_ceil=True, padding="same"),
}


def random_model(config: DenseNetConfig, seed: int = 0) -> Model:
    random = np.random.default_rng(seed)
    tensors = {}
    for name, shape in config.tensors().items():
        if name.endswith("running_var"):
            values = random.uniform(0.5, 1.5, shape)
        else:
            values = random.normal(0, (2 / max(np.prod(shape[1:]), 1)) ** 0.5 if len(shape) > 1 else 0.3, shape)
        tensors[name] = Tensor.of(values.astype(np.float32))
    return Model(config, tensors, Source("random", "0" * 64, "memory", "library"))


def images(config: DenseNetConfig, batch: int, size: int) -> np.ndarray:
    space = (size, size + 6) if config.spatial_dims == 2 else (size // 2, size // 2 + 3, size // 2)
    return np.random.default_rng(1).standard_normal((batch, config.in_channels, *space), np.float32)


def run(proto: Any, x: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})


def torch_logits(model: Model, x: np.ndarray) -> np.ndarray:
    pytest.importorskip("torch")
    from converter.engines.torch import torch_engine, torch_module

    return torch_engine(torch_module(model), double=True)(x)


@pytest.mark.parametrize("graph", ["exact", "fused"])
@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_logits_equal_pytorchs_at_any_batch_and_size(config: DenseNetConfig, graph: Any) -> None:
    model = random_model(config)
    proto = to_onnx(model, graph=graph)
    onnx.checker.check_model(proto, full_check=True)
    for batch, size in ((1, 64), (3, 75), (2, 97)):
        x = images(config, batch, size)
        expected, (got,) = torch_logits(model, x), run(proto, x)
        assert got.shape == expected.shape
        assert np.abs(got - expected).max() <= 5e-6 * np.abs(expected).max(), (batch, size)


@pytest.mark.parametrize("name", PASSES)
def test_each_rewrite_alone_changes_the_graph_but_not_its_values(name: str) -> None:
    model = random_model(SMALL)
    x = images(SMALL, 2, 75)
    plain, changed = build(model.config, model.tensors), build(model.config, model.tensors)
    PASSES[name](changed)
    assert changed.nodes != plain.nodes
    before, after = (run(_proto(g, model, "test", DEFAULT_OPSET), x)[0] for g in (plain, changed))
    np.testing.assert_allclose(after, before, rtol=0, atol=5e-6 * np.abs(before).max())


def test_the_fused_graph_says_what_it_did() -> None:
    model = random_model(SMALL)
    ops = [[n.op_type for n in to_onnx(model, graph=g).graph.node] for g in ("exact", "fused")]
    norms = [o.count("BatchNormalization") for o in ops]
    assert norms == [1 + 2 * 6 + 2 + 1, 6 + 2 + 1]  # stem's and every norm2 are folded
    fused = to_onnx(model).graph
    nodes = {n.name: i for i, n in enumerate(fused.node)}
    assert nodes["transitions.0.pooled"] < nodes["transitions.0.pool"]
    weights = {i.name for i in fused.initializer}
    assert "stem.conv.weight" not in weights  # no plain name on folded values
    assert "stem.conv+norm.weight" in weights


def test_values_carry_library_names() -> None:
    exact = to_onnx(random_model(SMALL), graph="exact").graph
    made = {output for node in exact.node for output in node.output}
    assert {module.name for module in SMALL.modules() if module.kind != "linear"} <= made
    assert {i.name for i in exact.initializer} == set(SMALL.tensors())


@pytest.mark.parametrize("opset", [LOWEST_OPSET, 13, 17, 18, DEFAULT_OPSET, onnx.defs.onnx_opset_version()])
@pytest.mark.parametrize("config", ["imagenet", "deep, blurred", "rounded up", "volumes"])
def test_every_opset_computes_the_same(config: str, opset: int) -> None:
    model = random_model(VARIANTS[config])
    proto = to_onnx(model, opset=opset)
    onnx.checker.check_model(proto, full_check=True)
    assert proto.opset_import[0].version == opset
    x = images(model.config, 2, 75)
    np.testing.assert_allclose(run(proto, x)[0], torch_logits(model, x), rtol=0, atol=1e-4)


@pytest.mark.parametrize("opset", [LOWEST_OPSET - 1, onnx.defs.onnx_opset_version() + 1])
def test_opsets_that_cannot_be_written(opset: int) -> None:
    with pytest.raises(ConverterError, match=f"opset {opset}"):
        to_onnx(random_model(SMALL), opset=opset)


def test_optional_outputs() -> None:
    model = random_model(SMALL)
    x = images(SMALL, 2, 64)
    proto = to_onnx(model, features=True, probabilities=True)
    onnx.checker.check_model(proto, full_check=True)
    assert [o.name for o in proto.graph.output] == ["logits", "features", "probabilities"]
    logits, features, probabilities = run(proto, x)
    assert features.shape == (2, SMALL.num_features)
    weight, bias = (model.tensors[f"classifier.{leaf}"].read() for leaf in ("weight", "bias"))
    np.testing.assert_allclose(features @ weight.T + bias, logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(probabilities, np.exp(logits) / np.exp(logits).sum(1, keepdims=True), rtol=1e-4)
    with pytest.raises(ConverterError, match="no probabilities"):
        to_onnx(random_model(replace(SMALL, num_classes=0)), probabilities=True)
    with pytest.raises(ConverterError, match="fused and exact"):
        to_onnx(model, graph="fast")  # type: ignore[arg-type]


def test_weights_stored_in_half_precision_compute_in_float32() -> None:
    model = random_model(SMALL)
    half = {name: Tensor.of(tensor.read().astype(np.float16)) for name, tensor in model.tensors.items()}
    proto = to_onnx(replace(model, tensors=half))
    assert {i.data_type for i in proto.graph.initializer} == {onnx.TensorProto.FLOAT}
    x = images(SMALL, 1, 64)
    expected = torch_logits(replace(model, tensors=half), x)
    np.testing.assert_allclose(run(proto, x)[0], expected, rtol=0, atol=5e-6 * np.abs(expected).max())


def photograph(height: int, width: int, seed: int = 0) -> Image.Image:
    """Smooth colours with some edges and noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    planes = [np.sin(a * x + b * y) * 90 + 128 for a, b in random.uniform(2, 20, (3, 2))]
    pixels = np.stack(planes, -1) + random.normal(0, 6, (height, width, 3))
    pixels[height // 3 : height // 2, width // 4 : width // 2] = (250, 30, 60)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(300, 400), (401, 283), (256, 256), (97, 640), (120, 90)])
def test_preprocessing_inside_the_graph(size: tuple[int, int], interpolation: Any) -> None:
    steps = Preprocess(resize=72, crop=(64, 64), interpolation=interpolation)
    model = replace(random_model(SMALL), preprocess=steps.to_dict())
    proto = to_onnx(model, image_input=True)
    onnx.checker.check_model(proto, full_check=True)
    image = photograph(*size)
    (logits,) = run(proto, np.asarray(image)[None])
    expected = torch_logits(model, load_image(image, steps))
    # ONNX Runtime resizes in fixed point as Pillow does, give or take one grey level here and there.
    assert np.abs(logits - expected).max() <= 0.01 * np.abs(expected).max()


def test_preprocessing_in_the_graph_needs_what_it_needs() -> None:
    model = random_model(SMALL)
    with pytest.raises(ConverterError, match="opset 18"):
        to_onnx(model, image_input=True, opset=17)
    with pytest.raises(ConverterError, match="volumes"):
        to_onnx(random_model(VARIANTS["volumes"]), image_input=True)
    with pytest.raises(ConverterError, match="pads"):
        to_onnx(replace(model, preprocess=Preprocess(resize=32, crop=(64, 64)).to_dict()), image_input=True)


def test_the_file_describes_itself_and_is_the_same_every_time(tmp_path: Path) -> None:
    source = CASES / "tv-legacy-old/densenet-legacy-old.pth"
    done = [export_onnx(source, tmp_path / f"{name}.onnx") for name in ("a", "b")]
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    proto = onnx.load(tmp_path / "a.onnx")
    metadata = {p.key: p.value for p in proto.metadata_props}
    assert DenseNetConfig.from_dict(json.loads(metadata["densenet.config"])) == load(source).config
    assert json.loads(metadata["densenet.source"])["sha256"] == load(source).source.sha256
    assert done[0].opset == DEFAULT_OPSET
    dims = [d.dim_param or d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
    assert dims == ["batch_size", 3, "height", "width"]


def test_targets_that_cannot_be_written(tmp_path: Path) -> None:
    source = CASES / "tv-legacy-old/densenet-legacy-old.pth"
    with pytest.raises(ConverterError, match=r"\.onnx"):
        export_onnx(source, tmp_path / "a.safetensors")
    with pytest.raises(ConverterError, match="cannot be written"):
        export_onnx(source, tmp_path / "no" / "a.onnx")
    assert not list(tmp_path.iterdir())
