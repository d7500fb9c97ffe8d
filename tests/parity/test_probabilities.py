"""Candidates as other tools make them: probabilities instead of logits, channels last, weights rounded once more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.cases import file_of
from helpers.command import ok
from helpers.networks import save
from helpers.parity import changed, edit, network, node
from onnx import TensorProto, helper, numpy_helper

from converter import Source, convert, export_onnx, load, verify
from converter.core.model import Model
from converter.exporters.onnx import to_onnx
from converter.parity.activation import activation_of_numbers
from converter.parity.locate import locate
from converter.parity.report import reason
from converter.use.activation import sigmoid, softmax
from converter.use.inputs import synthetic

pytestmark = pytest.mark.usefixtures("one_thread")
ONE = ["onnxruntime@1"]
Change = Callable[[onnx.ModelProto], None]


def others(reference: Path, target: Path, *changes: Change) -> Path:
    """A graph that no tool of ours vouches for."""
    export_onnx(reference, target, graph="exact")

    def change(proto: onnx.ModelProto) -> None:
        del proto.metadata_props[:]
        for each in changes:
            each(proto)

    return edit(target, target, change)


def ending(*operators: str, name: str = "probabilities") -> Change:
    """Operators behind the logits, the last of which makes the output."""

    def change(proto: onnx.ModelProto) -> None:
        last = proto.graph.output[0].name
        for i, operator in enumerate(operators):
            made = name if i == len(operators) - 1 else f"{name}{i}"
            axis = {"axis": 1} if operator == "Softmax" else {}
            proto.graph.node.append(helper.make_node(operator, [last], [made], **axis))
            last = made
        proto.graph.output[0].name = name

    return change


def spelled_softmax(proto: onnx.ModelProto) -> None:
    """Softmax as some exporters write it, operator by operator."""
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1]), "axis"))
    proto.graph.node.extend(
        [
            helper.make_node("ReduceMax", ["logits", "axis"], ["most"], keepdims=1),
            helper.make_node("Sub", ["logits", "most"], ["shifted"]),
            helper.make_node("Exp", ["shifted"], ["powers"]),
            helper.make_node("ReduceSum", ["powers", "axis"], ["all"], keepdims=1),
            helper.make_node("Div", ["powers", "all"], ["out"]),
        ]
    )
    proto.graph.output[0].name = "out"


def channels_last(proto: onnx.ModelProto) -> None:
    """As tf2onnx writes a graph whose input it was not told to turn."""
    for taker in proto.graph.node:
        taker.input[:] = ["turned" if x == "pixel_values" else x for x in taker.input]
    proto.graph.node.insert(0, helper.make_node("Transpose", ["image"], ["turned"], perm=[0, 3, 1, 2]))
    shape = [1, 64, 64, 3]
    proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", TensorProto.FLOAT, shape))
    proto.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1


def channels_last_of_any_size(proto: onnx.ModelProto) -> None:
    channels_last(proto)
    shape = ["n", "h", "w", None]
    proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", TensorProto.FLOAT, shape))
    proto.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "n"


def broken(proto: onnx.ModelProto) -> None:
    node(proto, "blocks.1.layers.0.relu2").op_type = "Elu"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (ending("Softmax"), "softmax"),
        (ending("Softmax", "Identity", name="output"), "softmax"),
        (ending("Sigmoid"), "sigmoid"),
        (spelled_softmax, "softmax"),
    ],
    ids=["softmax", "passed-on", "sigmoid", "spelled"],
)
def test_probabilities_are_compared_with_probabilities(
    change: Change, what: str, reference: Path, tmp_path: Path
) -> None:
    good = others(reference, tmp_path / "good.onnx", change)
    bad = others(reference, tmp_path / "bad.onnx", change, broken)
    verdict = verify(reference, good, bad, engines=ONE)
    failing = {name for name, found in verdict.results.items() if any(c.problem for c in found)}
    assert failing == {"ONNX Runtime 1 thread, bad.onnx"}
    assert sum(f"gives probabilities ({what})" in note and "good.onnx" in note for note in verdict.notes) == 1
    assert all(check.ok is not False for check in verdict.checks["good.onnx"])
    assert len(verdict.results["ONNX Runtime 1 thread, good.onnx"]) > 8


def test_one_of_ours_that_calls_probabilities_logits_fails(reference: Path, tmp_path: Path) -> None:
    export_onnx(reference, tmp_path / "own.onnx")

    def change(proto: onnx.ModelProto) -> None:
        node(proto, "logits").output[0] = "before"
        proto.graph.node.append(helper.make_node("Softmax", ["before"], ["logits"], axis=1))

    assert not verify(reference, edit(tmp_path / "own.onnx", tmp_path / "own.onnx", change), engines=ONE).passed


def test_an_onnx_file_with_softmax_is_a_reference_like_any_other(reference: Path, tmp_path: Path) -> None:
    file = others(reference, tmp_path / "published.onnx", ending("Softmax"))
    verdict = verify(file, reference, engines=ONE)
    assert verdict.passed, reason(verdict)
    assert "ONNX Runtime 1 thread, its own file" in verdict.results
    assert any(note.startswith("ONNX Runtime 1 thread, its own file gives probabilities") for note in verdict.notes)


def test_axes_of_length_one_behind_the_classes_are_none() -> None:
    verdict = verify(file_of("onnx-zoo-small-external"), engines=ONE)
    assert verdict.passed, reason(verdict)
    assert all(c.passed for c in verdict.results["ONNX Runtime 1 thread, its own file"])


def test_numbers_tell_what_nothing_names() -> None:
    logits = [synthetic("noise", (3, 7), 1).array, synthetic("loud", (2, 7), 2).array]
    assert activation_of_numbers([softmax(x) for x in logits], logits) == "softmax"
    assert activation_of_numbers([sigmoid(x) for x in logits], logits) == "sigmoid"
    assert activation_of_numbers(list(logits), logits) == ""
    assert activation_of_numbers([softmax(x) for x in logits], [softmax(x) for x in logits]) == ""
    assert activation_of_numbers([None, None], logits) == ""


# -- channels last --------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [channels_last, channels_last_of_any_size])
def test_images_are_turned_for_a_file_that_takes_channels_last(change: Change, reference: Path, tmp_path: Path) -> None:
    file = others(reference, tmp_path / "tf2onnx.onnx", change)
    wrong = others(reference, tmp_path / "wrong.onnx", change, broken)
    verdict = verify(reference, file, wrong, engines=ONE)
    (found,) = (cs for name, cs in verdict.results.items() if name.endswith("tf2onnx.onnx"))
    assert all(c.passed for c in found), reason(verdict)
    assert any(note == "tf2onnx.onnx takes images (N, H, W, C); it is given them so" for note in verdict.notes)
    assert next(check for check in verdict.checks["tf2onnx.onnx"] if check.name == "input").ok
    assert not verdict.passed
    if change is channels_last:
        assert all(c.batch.endswith("x64x64") or "images" in c.batch for c in found)


# -- weights that agree ---------------------------------------------------------------------------


def last_bits(model: Model) -> Model:
    for name in ("stem.conv.weight", "blocks.0.layers.0.norm1.running_var", "transitions.0.conv.weight"):
        model = changed(model, name, lambda x: np.nextafter(x, np.float32(np.inf)))
    return model


@pytest.mark.parametrize("graph", ["exact", "fused"])
def test_a_last_bit_is_not_to_blame(graph: str) -> None:
    model = network()
    proto = to_onnx(last_bits(model), graph=graph)
    found = locate(model, proto, synthetic("noise", (1, 3, 64, 64), 3).array)
    assert found.module == ""
    node(proto, "blocks.1.layers.0.relu2").op_type = "Elu"
    assert locate(model, proto, synthetic("noise", (1, 3, 64, 64), 3).array).module.startswith("blocks.1.layers.0")


# -- several readings of one file --------------------------------------------------------------------


def test_one_file_read_in_two_ways_is_two_candidates(reference: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    convert(reference, tmp_path / "plain.pth")
    state = torch.load(tmp_path / "plain.pth", weights_only=True)
    other = {name: value * 1.1 if value.is_floating_point() else value for name, value in state.items()}
    torch.save({"state_dict": state, "state_dict_ema": other}, tmp_path / "both.pth")
    both = [Source(tmp_path / "both.pth", weights=weights) for weights in ("state_dict", "state_dict_ema")]
    verdict = verify(reference, *both, preprocess=load(reference).images.preprocess)
    passed = {name: all(c.passed for c in found) for name, found in verdict.results.items() if "both.pth" in name}
    assert len(passed) == 2
    assert [value for name, value in passed.items() if name.endswith("(weights state_dict)")] == [True]
    assert [value for name, value in passed.items() if name.endswith("(weights state_dict_ema)")] == [False]
    assert verify(reference, both[0], both[0]).passed


# -- networks of other shapes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"spatial_dims": 1, "in_channels": 2, "stem_stride": 2},
        {"spatial_dims": 3, "in_channels": 1},
        {"spatial_dims": 3, "in_channels": 1, "stem_stride": (1, 2, 2)},
        {"in_channels": 5, "stem_kernel": 5},
        {"transition_stride": (1, 2), "stem_pool_stride": 1},
    ],
    ids=["signals", "volumes", "slices", "five-channels", "spectrograms"],
)
def test_networks_of_signals_volumes_and_many_channels(changes: dict[str, object], tmp_path: Path) -> None:
    from dataclasses import replace

    from helpers.networks import SMALL, random_model

    config = replace(SMALL, block_config=(2, 1), **changes)
    file = save(random_model(config), tmp_path / "net.safetensors")
    export_onnx(file, tmp_path / "net.onnx")
    export_onnx(file, tmp_path / "exact.onnx", graph="exact")
    verdict = verify(file, tmp_path / "net.onnx", tmp_path / "exact.onnx", file, engines=ONE)
    assert verdict.passed, reason(verdict)
    assert load(tmp_path / "net.onnx").config == config
    assert "parameters" in ok("inspect", file)
    worse = save(changed(load(file), "blocks.1.layers.0.norm1.bias", lambda x: x + 1), tmp_path / "worse.safetensors")
    verdict = verify(file, worse)
    assert reason(verdict).startswith("blocks.1.layers.0.norm1: bias differs")
