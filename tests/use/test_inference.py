"""The seed's functions: inference_model, get_model, list_models."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.dicoms import dicom
from helpers.networks import SMALL, random_model, save
from helpers.variants import torch_logits
from PIL import Image

from converter.core.errors import ConverterError
from converter.demo.demo import IMAGES
from converter.use.predict import predictor
from densenet import get_model, inference_model, list_models

THREE = sorted((IMAGES / "3").glob("*.png"))


@pytest.mark.parametrize("name", ["m.safetensors", "m.onnx"])
def test_returns_what_mmpretrains_returns(name: str, digits: Path) -> None:
    result = inference_model(digits / name, THREE[0])
    assert isinstance(result, dict)
    assert set(result) == {"pred_scores", "pred_label", "pred_score", "pred_class"}
    assert result["pred_scores"].shape == (10,)
    assert result["pred_scores"].dtype == np.float32
    assert result["pred_scores"].sum() == pytest.approx(1, abs=1e-5)
    assert (result["pred_label"], result["pred_class"]) == (3, "3")
    assert result["pred_score"] == result["pred_scores"].max() > 0.6


def test_paths_images_and_arrays_one_or_many(digits: Path) -> None:
    image = Image.open(THREE[0])
    forms: list[Any] = [THREE[0], str(THREE[0]), image, np.asarray(image), np.asarray(image.convert("RGB"))]
    results = inference_model(digits / "m.onnx", forms)
    assert isinstance(results, list)
    for result in results:
        np.testing.assert_array_equal(result["pred_scores"], results[0]["pred_scores"])
    assert inference_model(digits / "m.onnx", []) == []


def test_the_same_photo_in_other_files_is_the_same_answer(digits: Path, tmp_path: Path) -> None:
    with Image.open(THREE[0]) as image:
        grey = image.convert("L")
    values, exif = np.asarray(grey), Image.Exif()
    exif[0x0112] = 6
    grey.save(tmp_path / "8.png")
    Image.fromarray(values.astype(np.uint16) * 257).save(tmp_path / "16.png")
    twelve = np.rint(values * (4095 / 255)).astype(np.uint16)
    Image.fromarray(twelve).save(tmp_path / "12.png")
    Image.fromarray(twelve).save(tmp_path / "12.tif")
    Image.fromarray(values / np.float32(255)).save(tmp_path / "float.tif")
    grey.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    grey.convert("RGB").convert("CMYK").save(tmp_path / "cmyk.tif")
    np.save(tmp_path / "array.npy", values)
    dicom(tmp_path / "a.dcm", twelve, 12, WindowCenter=2048, WindowWidth=4096)
    dicom(tmp_path / "b.dcm", 4095 - twelve, 12, "MONOCHROME1", WindowCenter=2048, WindowWidth=4096)
    paths = sorted(tmp_path.iterdir())
    expected = inference_model(digits / "m.onnx", THREE[0])["pred_scores"]  # type: ignore[call-overload]
    for path, result in zip(paths, inference_model(digits / "m.onnx", paths)):  # type: ignore[arg-type]
        np.testing.assert_array_equal(result["pred_scores"], expected, err_msg=path.name)  # type: ignore[index]


def test_volumes(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    model = random_model(replace(SMALL, spatial_dims=3, in_channels=1), scaled=True)
    volume = np.random.default_rng(0).normal(size=(32, 33, 34)).astype(np.float32)
    np.save(tmp_path / "a.npy", volume)
    loaded = predictor(save(model, tmp_path / "m.safetensors"))
    assert "volumes" in loaded.notes[0]
    expected = torch_logits(model, volume[None, None])
    np.testing.assert_allclose(loaded.logits([tmp_path / "a.npy"]), expected, atol=1e-5)
    with pytest.raises(ConverterError, match="no volume"):
        loaded.logits([THREE[0]])


def test_pytorch_on_request_agrees(digits: Path) -> None:
    pytest.importorskip("torch")
    ours = inference_model(digits / "m.safetensors", THREE)
    theirs = inference_model(digits / "m.safetensors", THREE, engine="torch")
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a["pred_scores"], b["pred_scores"], atol=1e-6)  # type: ignore[index]


def test_what_cannot_be_predicted(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(ConverterError, match="onnxruntime and torch"):
        inference_model(digits / "m.onnx", THREE[0], engine="tensorrt")
    (tmp_path / "a.png").write_bytes(THREE[0].read_bytes()[:60])
    with pytest.raises(ConverterError, match=r"a\.png"):
        inference_model(digits / "m.onnx", tmp_path / "a.png")
    (tmp_path / "b.onnx").write_bytes(b"not onnx")
    with pytest.raises(ConverterError, match=r"b\.onnx"):
        inference_model(tmp_path / "b.onnx", THREE[0])


def test_imagenet_names_where_the_file_has_none(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    import torch
    import torchvision

    torch.save(torchvision.models.DenseNet(4, (1, 1), 8, num_classes=1000).state_dict(), tmp_path / "a.pth")
    result = inference_model(tmp_path / "a.pth", Image.new("RGB", (300, 200)))
    from densenet.labels import imagenet_classes

    assert result["pred_class"] == imagenet_classes()[result["pred_label"]]  # type: ignore[index, call-overload]


def test_get_model_and_list_models(digits: Path) -> None:
    assert "densenet121_3rdparty_in1k" in list_models()
    assert list_models("*161*") == sorted(name for name in list_models() if "161" in name)
    assert "densenet264" in list_models(pretrained=False)
    torch = pytest.importorskip("torch")
    model = get_model(digits / "m.safetensors")
    assert not model.training
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    fresh = get_model("densenet121_3rdparty_in1k", pretrained=False, num_classes=7)
    assert fresh.config.num_classes == 7
    with pytest.raises(ValueError, match="pretrained=False"):
        get_model(digits / "m.safetensors", growth_rate=3)
    with pytest.raises(ValueError, match=r"densenet201.*; is densenet169 meant\?"):
        get_model("densenet196", pretrained=False)
    for wrong in ({"growth_rates": 3}, {"growth_rate": "3"}, {"num_classes": -1}):
        with pytest.raises(ConverterError):
            get_model("densenet121", pretrained=False, **wrong)
    with pytest.raises(ConverterError, match="name an architecture"):
        get_model(3, pretrained=False)  # type: ignore[arg-type]
