"""DICOM: the photo that is inside, by rescaling, window and photometric interpretation; or why it is not read."""

import builtins

import numpy as np
import pytest
from helpers.dicoms import dicom
from helpers.photos import photo
from PIL import Image

from densenet.images import load
from densenet.preprocess import Preprocess

pydicom = pytest.importorskip("pydicom")

RGB = photo(60, 84)
GREY = np.asarray(Image.fromarray(RGB).convert("L"))
TWELVE = np.rint(GREY * (4095 / 255)).astype(np.uint16)
PLAIN = Preprocess(resize=None, crop=(64, 88), mean=(0.0,) * 3, std=(1 / 255,) * 3)


def table(values, **more):
    """A lookup table of 16 bits that starts at 0."""
    item = pydicom.Dataset()
    item.LUTDescriptor, item.LUTData = [len(values), 0, 16], values.astype(np.uint16).tobytes()
    for name, value in more.items():
        setattr(item, name, value)
    return [item]


FULL = {"WindowCenter": 2048, "WindowWidth": 4096}
SPREAD = np.rint(np.arange(4096) * (65535 / 4095))


@pytest.mark.parametrize(
    ("pixels", "bits", "more"),
    [
        (TWELVE, 12, FULL),
        (4095 - TWELVE, 12, {**FULL, "kind": "MONOCHROME1"}),
        (TWELVE.astype(np.int16) - 1024, 13, {"WindowCenter": 1024, "WindowWidth": 4096}),
        (TWELVE, 12, {"WindowCenter": 3072, "WindowWidth": 8191, "RescaleSlope": 2, "RescaleIntercept": -1024}),
        (TWELVE, 12, {"WindowCenter": 2047.5, "WindowWidth": 4095, "VOILUTFunction": "LINEAR_EXACT"}),
        (TWELVE, 12, {"VOILUTSequence": "spread"}),
    ],
    ids=["window", "monochrome1", "signed", "rescaled", "exact", "table"],
)
def test_the_same_photo(pixels, bits, more, tmp_path):
    more = {name: table(SPREAD) if value == "spread" else value for name, value in more.items()}
    said = []
    found = load(dicom(tmp_path / "x.dcm", pixels, bits, **more), PLAIN, say=said.append)
    np.testing.assert_array_equal(found, load(GREY, PLAIN))
    assert not said


@pytest.mark.parametrize(("pixels", "bits"), [(GREY, 8), (TWELVE, 12), (GREY.astype(np.uint16) * 257, 16)])
def test_without_a_window_all_its_bits_are_shown(pixels, bits, tmp_path):
    said = []
    found = load(dicom(tmp_path / "x", pixels, bits), PLAIN, say=said.append)
    np.testing.assert_array_equal(found, load(GREY, PLAIN))
    assert "without a window" in said[0]


def test_of_several_windows_the_first(tmp_path):
    said = []
    path = dicom(tmp_path / "x.dcm", TWELVE, 12, WindowCenter=[2048, 40], WindowWidth=[4096, 80])
    np.testing.assert_array_equal(load(path, PLAIN, say=said.append), load(GREY, PLAIN))
    assert "the first" in said[0]


def test_a_window_is_narrow_or_a_curve(tmp_path):
    narrow = dicom(tmp_path / "x.dcm", TWELVE, 12, WindowCenter=1000.5, WindowWidth=1)
    assert set(np.unique(load(narrow, PLAIN))) <= set(np.unique(load(np.array([[0, 255]], np.uint8), PLAIN)))
    curve = dicom(tmp_path / "y.dcm", TWELVE, 12, WindowCenter=2048, WindowWidth=1000, VOILUTFunction="SIGMOID")
    expected = np.rint(255 / (1 + np.exp(-4 * (TWELVE - 2048.0) / 1000))).astype(np.uint8)
    np.testing.assert_array_equal(load(curve, PLAIN), load(expected, PLAIN))


def test_the_models_window_goes_before_the_files(tmp_path):
    path = dicom(tmp_path / "x.dcm", TWELVE, 12, WindowCenter=40, WindowWidth=80)
    steps = Preprocess(None, (64, 88), mean=(0.0,) * 3, std=(1 / 255,) * 3, window=(0, 4095))
    np.testing.assert_array_equal(load(path, steps), load(GREY, PLAIN))


def test_colours(tmp_path):
    np.testing.assert_array_equal(load(dicom(tmp_path / "x.dcm", RGB, 8, "RGB"), PLAIN), load(RGB, PLAIN))
    few = Image.fromarray(RGB).quantize(64)
    colours = np.array(few.getpalette()[: 3 * 64], np.uint16).reshape(-1, 3) * 257
    tables = {}
    for channel, name in enumerate(("Red", "Green", "Blue")):
        tables[f"{name}PaletteColorLookupTableDescriptor"] = [64, 0, 16]
        tables[f"{name}PaletteColorLookupTableData"] = colours[:, channel].tobytes()
    path = dicom(tmp_path / "y.dcm", np.asarray(few), 8, "PALETTE COLOR", **tables)
    np.testing.assert_array_equal(load(path, PLAIN), load(few.convert("RGB"), PLAIN))


@pytest.mark.parametrize(
    ("bits", "more", "says"),
    [
        (12, {"NumberOfFrames": 2, "PixelData": TWELVE.tobytes() * 2}, "2 frames"),
        (12, {"Rows": 60000, "Columns": 60000}, "60000x60000"),
        (12, {"PixelData": TWELVE.tobytes()[:1000]}, "damaged"),
        (12, {"HighBit": 15}, "12 bits end at bit 15"),
        (10, {}, "more than its 10 bits hold"),
        (12, {"kind": "HSV"}, "HSV"),
        (12, {"WindowCenter": 100, "WindowWidth": 0}, "the width 0"),
    ],
    ids=["frames", "bomb", "short", "high bit", "too large", "hsv", "no window"],
)
def test_refused(bits, more, says, tmp_path):
    path = dicom(tmp_path / "x.dcm", TWELVE, bits, **more)
    with pytest.raises(ValueError, match=says) as caught:
        load(path, PLAIN)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_no_dicom(tmp_path):
    (tmp_path / "x.dcm").write_bytes(b"something else " * 30)
    with pytest.raises(ValueError, match=r"x\.dcm: no DICOM file"):
        load(tmp_path / "x.dcm")


def test_without_pydicom(tmp_path, monkeypatch):
    path, found = dicom(tmp_path / "x.dcm", TWELVE, 12), builtins.__import__

    def absent(name, *rest, **named):
        if name.startswith("pydicom"):
            raise ImportError(name)
        return found(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ValueError, match=r"pip install 'densenet-converter\[dicom\]'"):
        load(path)
