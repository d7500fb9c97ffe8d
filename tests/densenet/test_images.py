"""Our pixels against those of torchvision's and timm's own transforms, and of OpenCV."""

import hashlib
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from helpers.photos import photo
from helpers.presets import TIMM_288
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from densenet.images import load, load_many
from densenet.preprocess import (
    FAMILIES,
    MMPRETRAIN,
    TIMM,
    TORCHVISION,
    Preprocess,
)

SIZES = [(375, 500), (500, 375), (333, 251), (256, 256), (224, 224), (64, 40), (17, 300), (900, 61), (1, 1), (640, 257)]


def torchvision_eval(image):
    presets = pytest.importorskip("torchvision.transforms._presets")
    return presets.ImageClassification(crop_size=224)(image.convert("RGB")).numpy()[None]


def timm_eval(image, name, **options):
    data = pytest.importorskip("timm.data")
    from timm.models import get_pretrained_cfg

    config = data.resolve_data_config(pretrained_cfg=get_pretrained_cfg(name).to_dict(), **options)
    return data.create_transform(**config, is_training=False)(image.convert("RGB")).numpy()[None]


@pytest.mark.parametrize("size", SIZES)
def test_as_torchvision(size):
    image = Image.fromarray(photo(*size))
    ours = load(image, TORCHVISION)
    assert ours.dtype == np.float32
    assert ours.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(ours, torchvision_eval(image))


@pytest.mark.parametrize("size", SIZES)
def test_as_timm(size):
    image = Image.fromarray(photo(*size))
    np.testing.assert_array_equal(load(image, TIMM), timm_eval(image, "densenet121.ra_in1k"))
    np.testing.assert_array_equal(load(image, TIMM_288), timm_eval(image, "densenet121.ra_in1k", use_test_size=True))


@settings(max_examples=40)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    resize=st.none() | st.integers(1, 90) | st.tuples(st.integers(1, 90), st.integers(1, 90)),
    crop=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    interpolation=st.sampled_from(["nearest", "bilinear", "bicubic"]),
)
def test_any_size_as_torchvision(height, width, resize, crop, interpolation):
    transforms = pytest.importorskip("torchvision.transforms")
    image = Image.fromarray(photo(height, width))
    ours = Preprocess(resize=resize, crop=crop, interpolation=interpolation)
    steps = [transforms.CenterCrop(crop), transforms.ToTensor(), transforms.Normalize(ours.mean, ours.std)]
    if resize:
        steps.insert(0, transforms.Resize(resize, transforms.InterpolationMode(interpolation)))
    np.testing.assert_array_equal(load(image, ours)[0], transforms.Compose(steps)(image).numpy())


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I"])
def test_modes(mode):
    image = Image.fromarray(photo(120, 170)).convert(mode)
    assert image.mode == mode
    np.testing.assert_array_equal(load(image), torchvision_eval(image))


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [("png", "RGB"), ("png", "P"), ("png", "RGBA"), ("png", "L"), ("jpg", "RGB"), ("jpg", "CMYK"), ("gif", "P")],
)
def test_files(suffix, mode, tmp_path):
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(photo(260, 301)).convert(mode).save(path)
    with Image.open(path) as image:
        expected = torchvision_eval(image)
    np.testing.assert_array_equal(load(path), expected)
    np.testing.assert_array_equal(load(str(path)), expected)


def test_grey():
    transforms = pytest.importorskip("torchvision.transforms")
    image = Image.fromarray(photo(90, 71))
    ours = Preprocess(resize=64, crop=(56, 60), mean=(0.5,), std=(0.25,), channels=1)
    steps = [
        transforms.Resize(64),
        transforms.CenterCrop((56, 60)),
        transforms.ToTensor(),
        transforms.Normalize(0.5, 0.25),
    ]
    expected = transforms.Compose(steps)(image.convert("L")).numpy()[None]
    np.testing.assert_array_equal(load(image, ours), expected)
    np.testing.assert_array_equal(load(np.asarray(image.convert("L")), ours), expected)


def test_arrays():
    pixels = photo(90, 71)
    np.testing.assert_array_equal(load(pixels), load(Image.fromarray(pixels)))
    np.testing.assert_array_equal(load(pixels[..., 0]), load(Image.fromarray(pixels[..., 0])))
    np.testing.assert_array_equal(load(pixels[:, ::-1]), load(Image.fromarray(pixels[:, ::-1].copy())))


def test_load_many():
    images = [photo(60, 50), Image.fromarray(photo(50, 60, seed=1)), photo(224, 224, seed=2)]
    batch = load_many(images, TIMM)
    assert batch.shape == (3, 3, 224, 224)
    assert batch.dtype == np.float32
    for image, one in zip(images, batch):
        np.testing.assert_array_equal(one, load(image, TIMM)[0])
    assert load_many([]).shape == (0, 3, 224, 224)


def test_blue_first():
    """Keras' caffe mode: the channels reversed, the means taken off, no scale."""
    bgr = FAMILIES["keras-caffe"]
    plain = replace(bgr, mean=(0.0,) * 3, std=(1 / 255,) * 3, order="rgb")
    pixels = photo(300, 280)
    expected = load(pixels, plain)[0, ::-1] - np.array([103.939, 116.779, 123.68], np.float32)[:, None, None]
    np.testing.assert_allclose(load(pixels, bgr)[0], expected, atol=1e-4)


@pytest.mark.parametrize("mode", ["tf", "torch", "caffe"])
def test_as_kerass_modes(mode):
    utils = pytest.importorskip("keras.src.applications.imagenet_utils")
    pixels = photo(224, 224)
    ours = load(pixels, replace(FAMILIES[f"keras-{mode}"], resize=None))[0]
    theirs = utils.preprocess_input(pixels.astype(np.float32), data_format="channels_last", mode=mode)
    np.testing.assert_allclose(ours.transpose(1, 2, 0), theirs, atol=2e-4 if mode == "caffe" else 2e-6)


def test_as_kerass_load_img(tmp_path):
    """target_size changes both edges, and its default is the nearest pixel."""
    keras = pytest.importorskip("keras")
    Image.fromarray(photo(375, 500)).save(tmp_path / "photo.png")
    image = keras.utils.load_img(tmp_path / "photo.png", target_size=(224, 224))
    theirs = keras.applications.densenet.preprocess_input(keras.utils.img_to_array(image)[None])
    ours = load(tmp_path / "photo.png", FAMILIES["keras-torch"])
    np.testing.assert_allclose(ours.transpose(0, 2, 3, 1), theirs, atol=2e-6)


def test_as_torchxrayvision():
    xrv = pytest.importorskip("torchxrayvision")
    grey = np.asarray(Image.fromarray(photo(600, 500)).convert("L"))
    theirs = xrv.datasets.XRayCenterCrop()(xrv.utils.normalize(grey, 255)[None])
    np.testing.assert_allclose(
        load(grey[50:550], replace(FAMILIES["torchxrayvision"], resize=None, crop=(500, 500)))[0], theirs, atol=1e-3
    )
    resized = xrv.datasets.XRayResizer(224)(theirs)
    ours = load(grey, FAMILIES["torchxrayvision"])[0]
    assert ours.min() >= -1024
    assert ours.max() <= 1024
    assert np.abs(ours - resized).mean() < 2 * 2048 / 255  # other filters: two levels of 255 on noise


# -- mmpretrain: OpenCV's bilinear ----------------------------------------------------


OPENCV = {
    (375, 500): "53fec95d",
    (500, 375): "9fceaa93",
    (120, 97): "e8a89a09",
    (512, 640): "acd6a24c",
    (256, 300): "260f3e7f",
}
"""First digits of the SHA-256 of pixels resized and cropped by OpenCV 5.0.0."""


def pattern(height, width):
    """Deterministic bytes, with every kind of edge."""
    y, x, c = np.mgrid[0:height, 0:width, 0:3]
    return ((x * x * 7 + y * y * 13 + x * y * (c + 3) + c * 85) % 251).astype(np.uint8)


def opencv_resize(pixels):
    cv2 = pytest.importorskip("cv2")
    height, width = pixels.shape[:2]
    size = (256, int(256 * height / width)) if width < height else (int(256 * width / height), 256)
    return cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)


def raw(pixels, preprocess):
    """The pixels before normalisation."""
    plain = Preprocess(preprocess.resize, preprocess.crop, antialias=preprocess.antialias, mean=(0,) * 3, std=(1,) * 3)
    return np.rint(load(pixels, plain)[0] * 255).astype(np.uint8).transpose(1, 2, 0)


@pytest.mark.parametrize("size", OPENCV)
def test_as_opencv_recorded(size):
    pixels = raw(pattern(*size), MMPRETRAIN)
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:8] == OPENCV[size]


@pytest.mark.parametrize("size", [(375, 500), (900, 61), (33, 40), (512, 512), (257, 301), (1000, 700)])
def test_as_opencv(size):
    pixels = photo(*size)
    resized = opencv_resize(pixels)
    np.testing.assert_array_equal(raw(pixels, MMPRETRAIN), raw(resized(resize=None)))


@pytest.mark.parametrize("size", [(375, 500), (61, 300), (33, 40)])
def test_without_antialias_as_torch(size):
    """An independent check: torch's interpolation, which rounds a little differently."""
    functional = pytest.importorskip("torchvision.transforms.functional")
    import torch

    pixels = photo(*size)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    resized = functional.center_crop(functional.resize(tensor, [256], antialias=False), [224])
    difference = raw(pixels, MMPRETRAIN).astype(int) - resized.permute(1, 2, 0).numpy()
    assert np.abs(difference).max() <= 1


# -- what cannot be read --------------------------------------------------------------


def check_refused(path, *says):
    with pytest.raises(ValueError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    for words in says:
        assert words in message


def test_missing(tmp_path):
    check_refused(tmp_path / "none.png", "no such file")
    check_refused(tmp_path, "folder")


def test_not_an_image(tmp_path):
    for content in (b"", b"hello", b"\x00" * 1000):
        (tmp_path / "x.jpg").write_bytes(content)
        check_refused(tmp_path / "x.jpg", "not an image")


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tif", "webp"])
def test_truncated(suffix, tmp_path):
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(photo(100, 90)).save(path)
    path.write_bytes(path.read_bytes()[:-1500])
    check_refused(path)


@settings(max_examples=60)
@given(at=st.integers(8, 10_000), value=st.integers(0, 255), suffix=st.sampled_from(["png", "jpg", "gif", "tif"]))
def test_damaged_bytes(at, value, suffix, tmp_path_factory):
    """Any flipped byte gives pixels or a ValueError, never another exception."""
    path = tmp_path_factory.mktemp("damaged") / f"x.{suffix}"
    Image.fromarray(photo(40, 50)).save(path)
    content = bytearray(path.read_bytes())
    content[at % len(content)] = value
    path.write_bytes(content)
    try:
        assert load(path).shape == (1, 3, 224, 224)
    except ValueError as error:
        assert str(error).startswith(str(path))


def test_decompression_bomb(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )
    check_refused(path, "more pixels than")


def test_too_elongated(tmp_path):
    path = tmp_path / "line.png"
    Image.new("RGB", (20_000, 1)).save(path)
    check_refused(path, "too elongated")


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros(4, np.uint8), np.zeros((0, 4), np.uint8)]
)
def test_bad_arrays(pixels):
    with pytest.raises(ValueError, match=r"array|no pixels"):
        load(pixels)


def test_load_many_names_the_culprit(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"bad\.png"):
        load_many([photo(8, 8), tmp_path / "bad.png"])
