"""The same photo in every kind of file is the same image; what cannot be it is refused."""

import struct
import zlib

import numpy as np
import pytest
from helpers.photos import photo
from PIL import Image

from densenet.images import load
from densenet.preprocess import Preprocess

RGB = photo(60, 85)
GREY = np.asarray(Image.fromarray(RGB).convert("L"))
PLAIN = Preprocess(resize=None, crop=(64, 88), mean=(0.0,) * 3, std=(1 / 255,) * 3)
"""Values of 0 to 255, as they are in the file."""


def deep(pixels, white):
    """8-bit pixels with another white."""
    return np.rint(pixels * (white / 255)).astype(np.uint16)


def png(path, values, significant=0):
    """A PNG of 16 bits, grey or RGB: Pillow writes none of colours, and no sBIT."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    colours = values.ndim == 3
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2 if colours else 0, 0, 0, 0)
    bits = chunk(b"sBIT", bytes([significant] * (3 if colours else 1))) if significant else b""
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
    path.write_bytes(start + bits + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return path


def tiff(path, values, **options):
    pytest.importorskip("tifffile").imwrite(path, values, **options)
    return path


def check_same(path, expected, *said, **options):
    """The file's image is the expected pixels, and exactly this is said of it."""
    heard = []
    found = load(path, PLAIN, say=heard.append, **options)
    np.testing.assert_array_equal(found, load(expected, PLAIN))
    assert len(heard) == len(said), heard
    for line, words in zip(heard, said):
        assert words in line


def check_refused(path, *says, preprocess=PLAIN):
    with pytest.raises(ValueError) as caught:
        load(path, preprocess)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    for words in says:
        assert words in message


# -- more than 8 bits -----------------------------------------------------------------


@pytest.mark.parametrize(("white", "said"), [(255, "8 bits"), (4095, "12 bits"), (65535, "65535 is white")])
@pytest.mark.parametrize("suffix", ["png", "tif", "npy"])
def test_grey_of_16_bits(white, said, suffix, tmp_path):
    path, values = tmp_path / f"x.{suffix}", deep(GREY, white)
    if suffix == "npy":
        np.save(path, values)
    else:
        Image.fromarray(values).save(path)
    check_same(path, GREY, said)


@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"compression": "zlib"}, {"tile": (32, 32)}], ids=str)
@pytest.mark.parametrize(("white", "said"), [(4095, "12 bits"), (65535, "65535 is white")])
def test_colours_of_16_bits(white, said, options, tmp_path):
    check_same(tiff(tmp_path / "x.tif", deep(RGB, white), photometric="rgb", **options), RGB, said)
    check_same(tiff(tmp_path / "g.tif", deep(GREY, white), **options), GREY, said)


@pytest.mark.parametrize(("white", "said"), [(4095, "12 bits"), (65535, "65535 is white")])
def test_colours_of_16_bits_in_png(white, said, tmp_path):
    check_same(png(tmp_path / "x.png", deep(RGB, white)), RGB, said)


def test_the_significant_bits_of_a_png(tmp_path):
    twelve = deep(GREY, 4095)
    for values in (twelve, twelve << 4, (twelve << 4) | (twelve >> 8), deep(GREY, 65535)):
        check_same(png(tmp_path / "x.png", values, significant=12), GREY)
    night = twelve >> 4  # spread over 16 bits, and dark
    dark = np.rint((night << 4) / 257).astype(np.uint8)
    check_same(png(tmp_path / "x.png", night << 4, significant=12), dark)


def test_a_depth_that_the_file_says(tmp_path):
    """A PGM says what is white: an image that is dark is no image of 12 bits."""
    for white, dark in ((4095, 1), (65535, 20)):
        values = deep(GREY // dark, white)
        (tmp_path / "x.pgm").write_bytes(b"P5 85 60 %d\n" % white + values.astype(">u2").tobytes())
        check_same(tmp_path / "x.pgm", GREY // dark)


@pytest.mark.parametrize("dtype", ["int16", "int32", "uint32", "float32"])
def test_other_numbers(dtype, tmp_path):
    check_same(tiff(tmp_path / "x.tif", GREY.astype(dtype)), GREY, "8 bits")
    check_same(tiff(tmp_path / "y.tif", (GREY / 2).astype("int8")), GREY // 2, "8 bits")


def test_floats_of_0_to_1(tmp_path):
    check_same(tiff(tmp_path / "x.tif", (GREY / 255).astype(np.float32)), GREY, "1 is white")
    np.save(tmp_path / "x.npy", RGB / 255)
    check_same(tmp_path / "x.npy", RGB, "1 is white")
    np.save(tmp_path / "y.npy", (RGB / 255).transpose(2, 0, 1))
    check_same(tmp_path / "y.npy", RGB, "1 is white")


def test_where_low_is_white(tmp_path):
    for white in (255, 65535):
        dtype = np.uint8 if white == 255 else np.uint16
        values = deep(255 - GREY, white).astype(dtype)
        said = () if white == 255 else ("65535",)
        check_same(tiff(tmp_path / "x.tif", values, photometric="miniswhite"), GREY, *said)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (GREY.astype(np.int16) - 100, "from -"),
        ((GREY.astype(np.float32) - 100), "from -"),
        (GREY.astype(np.int32) * 1000, "nothing says which are black and white"),
        (GREY.astype(np.float32) * 20, "nothing says which are black and white"),
        (np.where(GREY > 100, np.nan, GREY).astype(np.float32), "NaN"),
        (GREY.astype(np.int8), "from -128"),
    ],
    ids=["signed", "float", "32-bit", "large", "nan", "int8"],
)
def test_ranges_that_no_rule_fits(values, says, tmp_path):
    check_refused(tiff(tmp_path / "x.tif", values), says)


def test_a_window_says_which_values_are_black_and_white(tmp_path):
    steps = Preprocess(None, (64, 88), mean=(0.0,) * 3, std=(1 / 255,) * 3, window=(-1000, 1550))
    found = load(tiff(tmp_path / "x.tif", GREY.astype(np.int16) * 10 - 1000), steps)
    np.testing.assert_array_equal(found, load(GREY, PLAIN))
    np.testing.assert_array_equal(load(GREY, steps), found)  # 8 bits are what they are
    beyond = np.array([[-3000, -1000, 1550, 9000]], np.float32)
    np.save(tmp_path / "y.npy", beyond)
    shown = load(tmp_path / "y.npy", steps)[0, 0].max(0)[42:46]  # in the middle of what is padded
    np.testing.assert_allclose(shown, [0, 0, 255, 255], atol=1e-3)


def test_planes_that_pillow_misreads(tmp_path):
    path = tmp_path / "x.tif"
    tiff(path, deep(RGB, 65535).transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    check_refused(path, "separate planes")


# -- the right way up -----------------------------------------------------------------

UPRIGHT = [None, 0, 3, 1, 5, 2, 6, 4]
"""How an upright image is turned for each EXIF orientation to turn it back (Pillow's Transpose)."""


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_orientation(orientation, suffix, tmp_path):
    exif, turn = Image.Exif(), UPRIGHT[orientation - 1]
    exif[0x0112] = orientation
    image = Image.fromarray(RGB)
    turned = image if turn is None else image.transpose(Image.Transpose(turn))
    options = {"lossless": True} if suffix == "webp" else {}
    turned.save(tmp_path / f"x.{suffix}", exif=exif, **options)
    said = ("turned",) if orientation > 1 and suffix != "tif" else ()  # Pillow turns those itself
    check_same(tmp_path / f"x.{suffix}", RGB, *said)
    if said:
        check_same(tmp_path / f"x.{suffix}", np.asarray(turned), "not applied", upright=False)


def test_orientation_of_a_photo(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(tmp_path / "plain.jpg")
    Image.fromarray(RGB).save(tmp_path / "x.jpg", exif=exif)
    with Image.open(tmp_path / "plain.jpg") as image:
        check_same(tmp_path / "x.jpg", np.rot90(np.asarray(image), -1), "turned")
    check_same(tmp_path / "x.jpg", tmp_path / "plain.jpg", "not applied", upright=False)


def test_damaged_exif_data(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "x.png", exif=b"Exif\0\0no TIFF header")
    check_same(tmp_path / "x.png", RGB, "EXIF data is damaged")


def test_who_evaluated_upright():
    assert not Preprocess().evaluated_upright
    assert Preprocess(antialias=False).evaluated_upright


# -- colours, transparency, frames ----------------------------------------------------


def test_cmyk(tmp_path):
    image = Image.fromarray(RGB)
    image.convert("CMYK").save(tmp_path / "x.tif")
    check_same(tmp_path / "x.tif", RGB, "CMYK")
    image.save(tmp_path / "plain.jpg", quality=100, subsampling=0)
    image.convert("CMYK").save(tmp_path / "x.jpg", quality=100, subsampling=0)  # inverted, as Adobe has it
    difference = load(tmp_path / "x.jpg", PLAIN) - load(tmp_path / "plain.jpg", PLAIN)
    assert np.abs(difference).max() <= 4


def test_transparency(tmp_path):
    image = Image.fromarray(RGB)
    image.putalpha(255)
    image.save(tmp_path / "opaque.png")
    check_same(tmp_path / "opaque.png", RGB)
    image.putalpha(Image.fromarray(GREY))
    image.save(tmp_path / "clear.png")
    check_same(tmp_path / "clear.png", RGB, "transparency is dropped")


@pytest.mark.parametrize("clear", [0, b"\x00\x80"], ids=["index", "bytes"])
def test_a_palette(clear, tmp_path):
    image = Image.fromarray(RGB).quantize(64)
    colours = np.asarray(image.convert("RGB"))
    image.save(tmp_path / "x.png")
    check_same(tmp_path / "x.png", colours)
    image.save(tmp_path / "clear.png", transparency=clear)
    check_same(tmp_path / "clear.png", colours, "transparency is dropped")


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_the_first_frame(suffix, tmp_path):
    frames = [Image.fromarray(pixels).convert("L") for pixels in (RGB, RGB[::-1])]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"x.{suffix}", save_all=True, append_images=frames[1:], **options)
    check_same(tmp_path / f"x.{suffix}", GREY, "the first is read")


# -- what is no image -----------------------------------------------------------------


def test_a_program_is_not_run(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "x.eps")
    check_refused(tmp_path / "x.eps", "not run")


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((2, 3, 4, 5)), "no image"),
        (np.zeros(4), "no image"),
        (np.zeros((0, 4)), "no pixels"),
        (np.zeros((4, 4), complex), "no pixels"),
        (np.array([[{}]], object), "damaged"),
    ],
    ids=["4 axes", "1 axis", "empty", "complex", "pickled"],
)
def test_arrays_that_are_no_images(array, says, tmp_path):
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    check_refused(tmp_path / "x.npy", says)


def test_an_array_that_is_cut_off(tmp_path):
    np.save(tmp_path / "x.npy", GREY)
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-7])
    check_refused(tmp_path / "x.npy", "damaged")


def test_volumes_are_for_other_networks(tmp_path):
    (tmp_path / "x.nii").write_bytes(bytes(400))
    check_refused(tmp_path / "x.nii", "NIfTI")
