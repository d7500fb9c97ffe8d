"""Who is believed of the facts that no tensor shows: one table, and real files in which several speak."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from helpers.graphs import TINY
from helpers.keras import layers_of, rewritten_zip
from helpers.networks import TIMM, export_model, random_model, save
from helpers.torch_files import save as torch_save

from converter import ConverterError, Source, convert, load
from converter.core.checkpoint import Checkpoint
from converter.fetch.place import Place
from converter.reading.facts import VOICES, believed, contradictions, own_config, stated_of
from converter.reading.load import inspect_place
from densenet.preprocess import Preprocess

STRONGEST_FIRST = (
    "the user",
    "the file's own metadata",
    "the file's graph",
    "the modules' attributes",
    "the config.json beside it",
    "the modules' names",
)


# -- the table ---------------------------------------------------------------------------------------


def test_the_order_of_the_voices() -> None:
    assert VOICES == STRONGEST_FIRST


@pytest.mark.parametrize(("stronger", "weaker"), list(combinations(STRONGEST_FIRST, 2)))
def test_the_stronger_of_two_is_believed_and_the_weaker_where_the_other_is_silent(stronger: str, weaker: str) -> None:
    said = {
        weaker: {"eps": 0.5, "stem_pool": "blur"},
        stronger: {"eps": 0.25},
    }
    assert believed(said) == {"eps": 0.25, "stem_pool": "blur"}
    assert believed(dict(reversed(said.items()))) == believed(said)


def test_nobody_speaks() -> None:
    assert believed({}) == {}
    assert believed({voice: {} for voice in VOICES}) == {}


def test_a_voice_nobody_knows_is_an_error_of_the_callers() -> None:
    with pytest.raises(AssertionError):
        believed({"my neighbour": {"eps": 1e-3}})


@pytest.mark.parametrize(
    ("one", "other", "differ"),
    [
        ({"eps": 1e-5}, {"eps": 1e-5}, []),
        ({"eps": 1e-5}, {"eps": 1e-3}, ["eps"]),
        ({"eps": 1e-5}, {"final_relu": False}, []),
        ({"eps": 1e-5, "stem_ceil": True}, {"eps": 1e-3, "stem_ceil": False}, ["eps", "stem_ceil"]),
        ({"growth_rate": 4}, {"growth_rate": 5}, []),  # shapes tell, nobody has to be believed
        ({}, {"eps": 1e-3}, []),
    ],
)
def test_what_two_voices_contradict_each_other_in(one: Any, other: Any, differ: list[str]) -> None:
    assert sorted(contradictions(one, other)) == differ
    assert sorted(contradictions(other, one)) == differ


def test_contradictions_in_some_fields_only() -> None:
    one, other = {"eps": 1, "stem_ceil": 1, "growth_rate": 1}, {"eps": 2, "stem_ceil": 2, "growth_rate": 2}
    assert contradictions(one, other, ("growth_rate", "eps")) == ["growth_rate", "eps"]


# -- a file's own metadata ---------------------------------------------------------------------------


def checkpoint(**metadata: str) -> Checkpoint:
    return Checkpoint(Path("x"), "memory", {}, {f"densenet.{key}": value for key, value in metadata.items()})


def test_own_config() -> None:
    assert own_config(checkpoint()) == {}
    usual = {"stem_stride": 2, "stem_pool_stride": 2, "transition_stride": 2, "head": ()}
    assert own_config(checkpoint(config=json.dumps(TIMM.to_dict()))) == {**TIMM.to_dict(), **usual}


def test_what_is_usual_in_our_own_file_is_not_guessed_again(tmp_path: Path) -> None:
    """A 3x3 stem looks like one for small images, which it need not be."""
    config = replace(TIMM, stem_kernel=3, stem_pool="max", transition_pool="avg")
    for suffix in (".safetensors", ".onnx"):
        path = tmp_path / f"a{suffix}"
        if suffix == ".onnx":
            export_model(random_model(config), path)
        else:
            save(random_model(config), path)
        assert load(path).config == config
    with pytest.raises(ConverterError, match="stem_stride=2"):  # NumPy's files have no metadata
        convert(path, tmp_path / "a.npz")
    small = replace(config, stem_stride=1, stem_pool="none")
    assert load(convert(save(random_model(small), tmp_path / "a.safetensors"), tmp_path / "b.npz").path).config == small


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", '{"wings": 2}', '{"growth_rate": "many"}', "[" * 100_000])
def test_a_damaged_own_config_is_one_clear_error(text: str) -> None:
    with pytest.raises(ConverterError, match=r"x: its densenet\.config metadata is damaged"):
        own_config(checkpoint(config=text))


def test_what_a_file_states_of_itself_is_kept_as_it_stands() -> None:
    stated = stated_of(checkpoint(config='{"eps": 1}', labels="[", preprocess="{}", tool="x"))
    assert stated == {"densenet.config": {"eps": 1}, "densenet.labels": None, "densenet.preprocess": {}}


# -- real files in which two speak -------------------------------------------------------------------


def config_json(folder: Path, **values: Any) -> None:
    """The Hub's ``config.json`` beside a file."""
    classes = {"architecture": "densenet121", "num_classes": TIMM.num_classes}
    (folder / "config.json").write_text(json.dumps({**classes, **values}))


def module_of_timm(path: Path, **options: Any) -> Path:
    """A whole pickled module of timm's: its attributes and its modules' names speak."""
    timm = pytest.importorskip("timm")
    arguments = {"growth_rate": 8, "block_config": (2, 1, 2), "num_classes": 5, **options}
    return torch_save(path, timm.models.densenet.DenseNet(**arguments).eval())


def test_the_user_beats_the_files_own_metadata(tmp_path: Path) -> None:
    path = save(replace(TIMM, eps=1e-3), tmp_path / "a.safetensors")
    assert load(path).config.eps == 1e-3
    assert load(path, settings={"eps": 1e-4}).config.eps == 1e-4
    assert load(Source(path, settings={"eps": 1e-4})).config.eps == 1e-4


def test_the_user_beats_the_graph(tmp_path: Path) -> None:
    def change(config: Any) -> Any:
        for layer in layers_of(config, "BatchNormalization"):
            layer["config"]["epsilon"] = 0.01
        return config

    path = rewritten_zip(tmp_path / "m.keras", change)
    assert load(path).config.eps == 0.01
    assert load(path, settings={"eps": 0.5}).config.eps == 0.5


def test_the_user_beats_the_address_which_beats_the_file(tmp_path: Path) -> None:
    path = save(replace(TIMM, final_relu=False), tmp_path / "a.safetensors")
    place = Place(path, "a model of the zoo", settings={"final_relu": True, "eps": 1e-3})
    config = inspect_place(place, Source(path, settings={"eps": 1e-4})).model.config
    assert (config.final_relu, config.eps) == (True, 1e-4)


def test_the_files_own_metadata_beats_the_config_json_beside_it(tmp_path: Path) -> None:
    path = save(replace(TIMM, stem="deep", stem_pool="blur"), tmp_path / "model.safetensors", "timm")
    config_json(tmp_path)
    assert load(path).config.stem_pool == "blur"


def test_the_files_own_metadata_may_not_contradict_its_graph(tmp_path: Path) -> None:
    """Somebody has changed the graph since: neither is believed."""
    path = tmp_path / "model.onnx"
    proto = export_model(random_model(TINY), path, graph="exact")
    for node in proto.graph.node:
        if node.op_type == "BatchNormalization":
            for attribute in node.attribute:
                attribute.f = 1e-3 if attribute.name == "epsilon" else attribute.f
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ConverterError, match=r"the graph has eps 0\.001, its densenet\.config metadata says 1e-05"):
        load(path)


def test_attributes_beat_the_config_json_beside_it(tmp_path: Path) -> None:
    path = module_of_timm(tmp_path / "a.pth", global_pool="max")
    config_json(tmp_path, global_pool="avg")
    assert load(path).config.global_pool == "max"


def test_the_config_json_beats_silence_and_is_beaten_by_the_user(tmp_path: Path) -> None:
    source = save(replace(TIMM, stem="deep", stem_pool="blur"), tmp_path / "a.safetensors")
    path = convert(source, tmp_path / "bare.npz", to="timm").path
    assert load(path).config.stem_pool == "max"
    config_json(tmp_path, architecture="densenetblur121d")
    assert load(path).config.stem_pool == "blur"
    assert load(path, settings={"stem_pool": "max"}).config.stem_pool == "max"


def test_a_config_json_of_another_network_says_nothing(tmp_path: Path) -> None:
    source = save(replace(TIMM, stem="deep", stem_pool="blur"), tmp_path / "a.safetensors")
    path = convert(source, tmp_path / "bare.npz", to="timm").path
    config_json(tmp_path, architecture="densenetblur121d", num_classes=1000)
    assert load(path).config.stem_pool == "max"


def test_names_of_modules_speak_where_nobody_else_does(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    from timm.layers import BlurPool2d

    path = module_of_timm(tmp_path / "a.pth", stem_type="deep", aa_layer=BlurPool2d)
    assert load(path).config.stem_pool == "blur"
    assert load(path, settings={"stem_pool": "max"}).config.stem_pool == "max"


def test_images_the_user_describes_beat_those_the_file_describes(tmp_path: Path) -> None:
    path = save(random_model(TIMM, preprocess=Preprocess(crop=(64, 64))), tmp_path / "a.safetensors")
    other = Preprocess(resize=40, crop=(32, 32))
    done = convert(path, tmp_path / "b.safetensors", preprocess=other.to_dict())
    assert done.model.images.preprocess == load(tmp_path / "b.safetensors").images.preprocess == other
    assert load(path).images.preprocess == Preprocess(crop=(64, 64))
