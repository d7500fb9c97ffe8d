"""Volumes: arrays and NIfTI; or why they are not read."""

import gzip

import numpy as np
import pytest

from densenet.images import load, load_many
from densenet.preprocess import Preprocess

CT = np.random.default_rng(0).integers(-1000, 2000, (6, 7, 8)).astype(np.int16)
WHOLE = Preprocess.whole(1)


@pytest.mark.parametrize("shape", [(6, 7, 8), (1, 6, 7, 8), (6, 7, 8, 1), (1, 1, 6, 7, 8)], ids=str)
def test_arrays(shape, tmp_path):
    np.save(tmp_path / "x.npy", CT.reshape(shape))
    found = load(tmp_path / "x.npy", WHOLE)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, CT[None, None])
    np.testing.assert_array_equal(load(CT.reshape(shape), WHOLE), found)


def test_several_channels():
    both = np.stack([CT, CT[::-1]])
    np.testing.assert_array_equal(load(both, Preprocess.whole(2))[0], both)
    np.testing.assert_array_equal(load(np.moveaxis(both, 0, 3), Preprocess.whole(2))[0], both)


def test_window_and_size():
    steps = Preprocess(None, (4, 9, 8), mean=(0.5,), std=(0.5,), channels=1, window=(-100, 300))
    found = load(CT, steps)[0, 0]
    expected = (((CT[1:5] + 100.0) / 400).clip(0, 1) - 0.5) / 0.5
    np.testing.assert_allclose(found[:, 1:8], expected, atol=1e-6)
    np.testing.assert_array_equal(found[:, [0, 8]], -1)
    assert Preprocess.from_dict(steps.to_dict()) == steps


def test_many():
    np.testing.assert_array_equal(load_many([CT, CT[::-1]], WHOLE)[1, 0], CT[::-1])


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti(suffix, tmp_path):
    """Rescaled, and its axes as they are: MONAI's LoadImage gives the same."""
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(CT, np.diag([-1.0, 2.0, 3.0, 1.0]))
    image.header.set_slope_inter(2.0, -1024.0)
    nibabel.save(image, tmp_path / f"x{suffix}")
    said = []
    np.testing.assert_array_equal(load(tmp_path / f"x{suffix}", WHOLE, say=said.append)[0, 0], CT * 2.0 - 1024)
    assert ["resampled" in line for line in said] == [True]


def check_refused(path, says, steps=WHOLE):
    with pytest.raises(ValueError, match=says) as caught:
        load(path, steps)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (CT[0], "volumes of 1 channels"),
        (np.stack([CT] * 2), "volumes of 1 channels"),
        (CT[:0], "between 1 and"),
        (np.where(CT > 0, np.nan, CT), "NaN"),
        (CT.astype(complex), "no volume"),
    ],
    ids=["slice", "channels", "empty", "nan", "complex"],
)
def test_refused(array, says, tmp_path):
    np.save(tmp_path / "x.npy", array)
    check_refused(tmp_path / "x.npy", says)


def test_refused_files(tmp_path):
    check_refused(tmp_path / "none.npy", "no such file")
    check_refused(tmp_path / "none.nii", "no such file")
    check_refused(tmp_path, "a folder")
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    check_refused(tmp_path / "x.png", "no volume")
    (tmp_path / "IM0001").write_bytes(bytes(128) + b"DICM")
    check_refused(tmp_path / "IM0001", "one NIfTI file of each series")
    with pytest.raises(ValueError, match="resize"):
        Preprocess(64, (4, 4, 4), mean=(0.5,), std=(0.5,), channels=1)


def test_damaged_and_huge_nifti(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti1Image(CT, np.eye(4)), tmp_path / "x.nii")
    content = (tmp_path / "x.nii").read_bytes()
    (tmp_path / "cut.nii").write_bytes(content[:-9])
    check_refused(tmp_path / "cut.nii", "damaged")
    (tmp_path / "text.nii").write_bytes(b"hello" * 100)
    check_refused(tmp_path / "text.nii", "damaged")
    huge = bytearray(content)
    huge[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()  # dim[1] to dim[3]
    (tmp_path / "huge.nii.gz").write_bytes(gzip.compress(bytes(huge)))
    check_refused(tmp_path / "huge.nii.gz", "between 1 and")
