"""Networks that timm lacks: transformers runs the package's own code, and computes what the source does."""

from __future__ import annotations

import io
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.networks import CIFAR, SMALL, TIMM, random_model, random_tensors, save
from helpers.packages import LABELS, read, save_described, small_images
from huggingface_hub import ModelCard
from PIL import Image

from converter.core.hashing import sha256_of
from converter.core.model import Images
from converter.publish.package import package
from converter.publish.repository import verify_repository
from converter.use.predict import predictor
from densenet.config import DenseNetConfig
from densenet.head import ACTIVATIONS
from densenet.images import load
from densenet.preprocess import CIFAR10, Preprocess, family

CODE = ("configuration_densenet.py", "image_processing_densenet.py", "modeling_densenet.py")
CHAIN = tuple(word for name in ACTIVATIONS for word in (name, "norm"))

NETWORKS: Mapping[str, DenseNetConfig] = {
    "a longer head": replace(SMALL, head=("norm", "linear:7", "relu", "linear:4:no_bias", "leaky_relu:0.3")),
    "every activation": replace(SMALL, head=(*CHAIN, "elu:0.5", "celu:0.7")),
    "CIFAR": CIFAR,
    "no bottleneck, compression": replace(SMALL, bottleneck=False, compression=0.7, final_relu=False),
    "deep stem": replace(SMALL, stem="deep", stem_widths=(3, 5), stem_stride=1, global_pool="catmaxavg"),
    "blur": replace(SMALL, stem="deep", stem_pool="blur", transition_pool="blur", global_pool="avgmax"),
    "axes": replace(SMALL, stem_kernel=(5, 3), stem_stride=(2, 1), stem_pool_stride=(1, 2), transition_stride=(1, 2)),
    "SAME padding": replace(SMALL, padding="same", global_pool="max", eps=1e-3, in_channels=1),
    "rounding up": replace(SMALL, stem_ceil=True, transition_ceil=True, transition_relu=False, stem_pool_stride=3),
    "no pooling": replace(SMALL, stem_pool="none", global_pool="catavgmax", hidden_activation="leaky_relu:0.1"),
    "averages, then maxima": replace(SMALL, stem_pool="avg", transition_pool="max"),
    "border of zeros": replace(SMALL, stem_pool="zero_max", hidden_activation="elu"),
    "another last": replace(SMALL, hidden_activation="silu", final_activation="relu", padding="same"),
}


@pytest.mark.torch
@pytest.mark.parametrize("config", NETWORKS.values(), ids=NETWORKS)
def test_the_code_of_a_package_computes_what_our_module_does(config: DenseNetConfig) -> None:
    pytest.importorskip("transformers")
    import torch

    from converter.publish.for_transformers.configuration_densenet import DenseNetConfig as Described
    from converter.publish.for_transformers.modeling_densenet import DenseNetForImageClassification
    from densenet.model import DenseNet

    state = {name: torch.from_numpy(array) for name, array in random_tensors(config, scaled=True).items()}
    ours = DenseNet(config).eval()
    theirs = DenseNetForImageClassification(Described(densenet=config.to_dict(), num_labels=config.num_classes)).eval()
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(2, config.in_channels, 41, 38)).astype(np.float32))
    for network in (ours, theirs):
        missing, unexpected = network.load_state_dict(state, strict=False)
        assert not unexpected
        assert all(name.endswith("num_batches_tracked") for name in missing)
    with torch.inference_mode():
        expected, found = ours(x), theirs(x).logits
    assert float(expected.std()) > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_the_code_of_a_package_knows_every_field_and_no_other() -> None:
    pytest.importorskip("transformers")
    from converter.publish.for_transformers.configuration_densenet import USUAL
    from converter.publish.for_transformers.configuration_densenet import DenseNetConfig as Described

    usual = {field.name: field.default for field in fields(DenseNetConfig)}
    assert {**usual, "heads": {}} == USUAL
    with pytest.raises(ValueError, match="knows no groups"):
        Described(densenet={"groups": 2})
    with pytest.raises(ValueError, match="not for signals or volumes"):
        Described(densenet={"spatial_dims": 3})


STEPS = {
    "usual": Preprocess(resize=40, crop=(32, 32)),
    "both edges, nearest": Preprocess(resize=(30, 40), crop=(28, 32), interpolation="nearest"),
    "bicubic, not square": Preprocess(resize=41, crop=(24, 33), interpolation="bicubic"),
    "like OpenCV": Preprocess(resize=40, crop=(32, 32), antialias=False),
    "BGR": replace(family("keras-caffe"), resize=36, crop=(35, 35)),
    "grey": replace(family("torchxrayvision"), resize=32, crop=(32, 32)),
    "padded": Preprocess(resize=None, crop=(90, 101), **CIFAR10),
}


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_the_code_of_a_package_prepares_images_as_we_do(steps: Preprocess, photo: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from converter.publish.expectations import describe
    from converter.publish.for_transformers.image_processing_densenet import DenseNetImageProcessor

    config = replace(CIFAR, in_channels=steps.channels)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(describe(config, Images(steps)).preprocessor))
    processor = DenseNetImageProcessor.from_pretrained(tmp_path)
    expected = load(photo, steps)
    with Image.open(photo) as image:
        pixels = np.asarray(image)
        assert np.array_equal(processor(image)["pixel_values"], expected)
    assert np.array_equal(processor([pixels, pixels.transpose(2, 0, 1)])["pixel_values"], np.repeat(expected, 2, 0))
    processor.save_pretrained(tmp_path)
    assert np.array_equal(DenseNetImageProcessor.from_pretrained(tmp_path)(pixels)["pixel_values"], expected)
    with pytest.raises(ValueError, match="more than 8 bits"):
        processor(Image.fromarray(np.full((40, 40), 1000, np.uint16)))
    with pytest.raises(ValueError, match="not float64"):
        processor(pixels / 255)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    smooth = np.random.default_rng(3).integers(0, 256, (7, 9, 3), np.uint8)
    Image.fromarray(smooth).resize((83, 60), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of a network with a longer head, whose classes are questions of their own."""
    folder = tmp_path_factory.mktemp("findings")
    source = save_described(replace(TIMM, head=("linear:6", "relu")), folder / "source.safetensors")
    package(source, folder / "out", onnx=[], images=Images(labels=tuple(LABELS), activation="sigmoid"))
    return folder / "out"


@pytest.mark.torch
def test_transformers_pipeline_gives_the_probabilities_of_a_longer_head(findings: Path, photo: Path) -> None:
    found = piped(findings, photo)
    (expected,) = predictor(findings / "model.safetensors").results([photo])
    assert np.abs(np.array([found[label] for label in LABELS]) - expected["pred_scores"]).max() < 1e-5
    assert abs(sum(found.values()) - 1) > 0.01  # or softmax would do


@pytest.mark.torch
def test_transformers_pipeline_gives_the_one_probability_of_a_network_of_bgr(photo: Path, tmp_path: Path) -> None:
    config = replace(TIMM, num_classes=1)
    steps = replace(family("keras-caffe"), resize=72, crop=(64, 64))
    done = package(save(config, tmp_path / "a.safetensors"), tmp_path / "out", onnx=[], preprocess=steps)
    assert done.why_not_timm == "timm gives networks RGB, and this one takes BGR"
    assert verify_repository(tmp_path / "out").passed
    (expected,) = predictor(tmp_path / "out" / "model.safetensors").results([photo])
    assert abs(piped(tmp_path / "out", photo)["LABEL_0"] - expected["pred_score"]) < 1e-5


@pytest.mark.torch
def test_transformers_misses_nothing_of_an_old_checkpoint(photo: Path, tmp_path: Path) -> None:
    """PyTorch 0.3 did not count batches; what transformers misses it says to have initialised anew."""
    transformers = pytest.importorskip("transformers")
    source = save_described(TIMM, tmp_path / "a.safetensors")
    done = package(source, tmp_path / "out", onnx=[])
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    logging.getLogger("transformers").addHandler(handler)
    try:
        found = piped(tmp_path / "out", photo)
        network = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "out")
    finally:
        logging.getLogger("transformers").removeHandler(handler)
    assert "newly initialized" not in said.getvalue()
    assert "MISSING" not in said.getvalue()
    assert int(network.state_dict()["timm_model.features.norm0.num_batches_tracked"]) == 0
    (expected,) = predictor(source).results([photo])
    assert np.abs(np.array(list(found.values())) - np.sort(expected["pred_scores"])[::-1]).max() < 1e-5
    assert read(tmp_path / "out" / "provenance.json")["added"] == {
        "*.num_batches_tracked": "zeros, of 14 norms: the source does not have them"
    }
    assert verify_repository(tmp_path / "out").passed
    assert not any(name.endswith("num_batches_tracked") for name in done.model.tensors)


def test_nothing_is_added_where_the_source_counts(tmp_path: Path) -> None:
    model = random_model(TIMM, counters=True, preprocess=small_images(TIMM))
    package(save(model, tmp_path / "a.safetensors"), tmp_path / "out", onnx=[])
    assert "added" not in read(tmp_path / "out" / "provenance.json")


def test_a_network_that_transformers_would_give_other_channels_is_not_tagged_as_its(tmp_path: Path) -> None:
    tags = {}
    for name, config in {"grey": replace(TIMM, in_channels=1), "own code": replace(CIFAR, in_channels=1)}.items():
        package(save_described(config, tmp_path / f"{name}.safetensors"), tmp_path / name, onnx=[])
        tags[name] = set(ModelCard.load(tmp_path / name / "README.md").data.tags)
    assert {"timm", "transformers"} & tags["grey"] == {"timm"}
    assert "transformers" in tags["own code"]


def piped(folder: Path, image: Path) -> dict[str, float]:
    """What transformers' pipeline says of an image, by class."""
    transformers = pytest.importorskip("transformers")
    if int(transformers.__version__.partition(".")[0]) < 5:
        pytest.skip("transformers 4 wants image_processor, too")
    classify = transformers.pipeline("image-classification", model=str(folder), trust_remote_code=True)
    return {each["label"]: each["score"] for each in classify(str(image), top_k=None)}


def test_a_card_says_what_trust_runs(findings: Path, tmp_path: Path) -> None:
    card = (findings / "README.md").read_text()
    assert 'model="OWNER/NAME", trust_remote_code=True)' in card
    assert "runs `configuration_densenet.py`, `image_processing_densenet.py`, `modeling_densenet.py`" in card
    assert "- custom_code" in card
    assert read(findings / "config.json")["problem_type"] == "multi_label_classification"
    volumes = save(replace(SMALL, spatial_dims=3, in_channels=1), tmp_path / "a.safetensors")
    done = package(volumes, tmp_path / "out", onnx=[])
    assert "not for 3 dimensions" in done.why_not_transformers
    assert "timm and transformers cannot load this network" in (tmp_path / "out" / "README.md").read_text()
    assert not set(CODE) & set(done.files)
    assert "auto_map" not in read(tmp_path / "out" / "config.json")


def changed(folder: Path) -> str:
    (folder / CODE[2]).write_text((folder / CODE[2]).read_text() + "\nprint('hello')\n")
    return CODE[2]


def from_elsewhere(folder: Path) -> str:
    values = read(folder / "config.json")
    values["auto_map"]["AutoModelForImageClassification"] = "me/code--modeling_densenet.DenseNetForImageClassification"
    (folder / "config.json").write_text(json.dumps(values))
    return "config.json"


def further(folder: Path) -> str:
    (folder / "pipeline.py").write_text("print('hello')")
    return "pipeline.py"


def instead(folder: Path) -> str:
    (folder / "processor_config.json").write_text('{"image_processor": {"auto_map": {}}}')
    return "processor_config.json"


@pytest.mark.parametrize("change", [changed, from_elsewhere, further, instead])
@pytest.mark.parametrize("listed", [True, False])
def test_code_that_no_package_has_fails_the_proof(
    change: Any, listed: bool, findings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("converter.publish.repository.has_torch", lambda: False)
    copy = tmp_path / "copy"
    shutil.copytree(findings, copy)
    name = change(copy)
    if listed:  # as if we had put it there
        values = read(copy / "provenance.json")
        values["files"][name] = {"sha256": sha256_of((copy / name,)), "size": (copy / name).stat().st_size}
        (copy / "provenance.json").write_text(json.dumps(values))
    proof = verify_repository(copy)
    wrong = {at for at, checks in proof.checks.items() for check in checks if check.ok is False}
    assert wrong if (listed, change) != (False, further) else not wrong  # nothing runs a script that nobody names
    assert proof.passed is not bool(wrong)
