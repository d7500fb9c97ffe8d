"""Interfaces: names, lengths, channels last, float16 and further outputs, each against the graph without."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from helpers.networks import SMALL, random_model
from helpers.variants import VARIANTS, run

from converter.core.errors import ConverterError
from converter.core.interface import Interface
from converter.exporters.fp16 import to_half
from converter.exporters.onnx import lazy_onnx, to_onnx
from converter.exporters.outputs import channels, stages, vectors
from converter.exporters.presented import plain, presented
from converter.use.calibrate import calibrate, calibration_inputs
from densenet.config import DenseNetConfig

TINY = DenseNetConfig(growth_rate=4, block_config=(2, 1, 2), init_features=8, num_classes=3)
EVERY = ("maps", "logits", "blocks.1", "features", "stem", "cam", "transitions.0", "probabilities")
INTERFACES: dict[str, dict[str, Any]] = {
    "names": {"input_name": "x", "output_names": [f"out{i}" for i in range(8)]},
    "swapped": {"output_names": ("logits", "maps", "a", "b", "c", "d", "e", "pixel_values"), "input_name": "f"},
    "lengths": {"batch": 2, "size": (40, 48)},
    "channels last": {"io_layout": "nhwc"},
    "half": {"io_dtype": "fp16"},
    "all of it": {"batch": 2, "size": (40, 48), "io_layout": "nhwc", "io_dtype": "fp16", "input_name": "input"},
}


@pytest.mark.parametrize("how", INTERFACES.values(), ids=INTERFACES)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_interface_changes_nothing_but_itself(how: dict[str, Any], precision: str) -> None:
    model = random_model(TINY, scaled=True)
    made = lazy_onnx(model, outputs=EVERY)
    made = to_half(made) if precision == "fp16" else made
    shown = presented(made, model, Interface(**how)).whole()
    onnx.checker.check_model(shown, full_check=True)
    assert [value.name for value in shown.graph.output] == list(how.get("output_names", EVERY))
    x = np.random.default_rng(0).standard_normal((2, 3, 40, 48)).astype(np.float16).astype(np.float32)
    last, half = how.get("io_layout") == "nhwc", how.get("io_dtype") == "fp16"
    given = np.moveaxis(x, 1, -1) if last else x
    found = run(shown, np.ascontiguousarray(given.astype(np.float16 if half else np.float32)))
    for name, value, expected in zip(EVERY, found, run(made.whole(), x), strict=True):
        ours = np.moveaxis(value, -1, 1) if last and value.ndim > 2 else value
        assert value.dtype == (np.float16 if half else np.float32)
        assert (
            np.abs(ours.astype(np.float32) - expected).max()
            <= (1e-3 if half or precision == "fp16" else 0) * np.abs(expected).max()
        ), name
    again, before = plain(shown), made.whole()
    if not (half and precision == "fp16"):  # which computes without the casts at both ends
        assert sorted(map(str, again.graph.node)) == sorted(map(str, before.graph.node))
    assert [value.name for value in again.graph.output] == [value.name for value in before.graph.output]
    assert [value.name for value in again.graph.input] == ["pixel_values"]


@pytest.mark.parametrize("config", [*VARIANTS.values(), replace(SMALL, head=("linear:7", "relu"))], ids=str)
def test_every_output_of_every_architecture_has_its_shape(config: DenseNetConfig) -> None:
    model = random_model(config, scaled=True)
    names = [*vectors(config), *channels(config)]
    size = (34, 38, 33)[: config.spatial_dims]
    shown = to_onnx(model, outputs=names, batch=1, size=size)
    found = run(shown, np.ones((1, config.in_channels, *size), np.float32))
    for value, array in zip(shown.graph.output, found, strict=True):
        assert tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim) == array.shape, value.name
        if value.name in channels(config):
            assert array.ndim == config.spatial_dims + 2
    assert set(stages(config)) <= set(channels(config))


def test_logits_are_the_mean_of_their_activation_maps() -> None:
    model = random_model(TINY, scaled=True)
    logits, cam = run(to_onnx(model, outputs=("logits", "cam")), np.ones((2, 3, 64, 96), np.float32))
    assert cam.shape == (2, 3, 4, 6)
    expected = cam.mean((2, 3)) + model.tensors["classifier.bias"].read()
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)


def test_eight_bits_give_the_same_outputs() -> None:
    model = random_model(TINY, scaled=True)
    made = lazy_onnx(model, outputs=EVERY)
    small = calibrate(made, calibration_inputs(model)[:2]).whole()
    x = calibration_inputs(model)[1]
    for name, found, expected in zip(EVERY, run(small, x), run(made.whole(), x), strict=True):
        assert found.shape == expected.shape, name
        assert np.abs(found - expected).max() <= 0.2 * np.abs(expected).max(), name


def test_a_graph_ends_where_nothing_more_is_given() -> None:
    proto = to_onnx(random_model(TINY, scaled=True), outputs=("blocks.0",))
    names = [weight.name for weight in proto.graph.initializer]
    assert names
    assert not [name for name in names if name.startswith(("blocks.1", "transitions", "norm", "classifier"))]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"outputs": ("logit",)}, "no output is called 'logit'; .*is logits meant"),
        ({"outputs": ("probabilities",)}, "beside logits"),
        ({"outputs": ("logits", "logits")}, "twice"),
        ({"output_names": ("a", "b")}, "2 names for 1 outputs: logits"),
        ({"output_names": ("norm",)}, "something else in the graph is called norm"),
        ({"input_name": "stem.pool"}, "something else in the graph is called stem.pool"),
        ({"input_name": "a", "output_names": ("a",)}, "one name"),
        ({"size": (8, 8)}, "8x8 are too small"),
        ({"size": (64, 64, 64)}, "3 axes"),
        ({"batch": 0}, "1 or more"),
        ({"io_layout": "hwc"}, "no io_layout is called 'hwc'"),
        ({"io_dtype": "int8"}, "no io_dtype is called 'int8'"),
        ({"image_input": True, "io_layout": "nhwc"}, "channels last as it is"),
    ],
)
def test_what_makes_no_sense_is_refused(how: dict[str, Any], words: str) -> None:
    with pytest.raises(ConverterError, match=words):
        to_onnx(random_model(TINY, scaled=True), **how)


@pytest.mark.parametrize("pool", ["max", "catavgmax"])
def test_other_pooling_has_no_maps_of_classes(pool: Any) -> None:
    with pytest.raises(ConverterError, match="average pooling"):
        to_onnx(random_model(replace(TINY, global_pool=pool), scaled=True), outputs=("logits", "cam"))
