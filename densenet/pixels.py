"""One image file as 8-bit pixels, grey or RGB: the right way up, of any depth, by rules that are said.

* 8 bits are taken as Pillow decodes them, which is what torchvision and timm do.
* More bits become 8 as ``densenet.depth`` says.
* Transparency is dropped, as ``convert("RGB")`` does; of an animation the first frame is read.
* CMYK becomes RGB by Pillow's formula, without colour profiles.
* DICOM files and ``.npy`` arrays are read where Pillow knows no format.
"""

from io import BytesIO
from os import fspath
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from densenet import bounds
from densenet.depth import Say, Unreadable, Window, check_regular, naming, silent, to_bytes
from densenet.preprocess import MODES
from densenet.volumes import NIFTI, Encoded, is_dicom, is_npy, on_disk, read_npy

ImageSource = str | Path | Image.Image | NDArray[np.uint8] | Encoded

PROGRAMS = frozenset({"EPS", "WMF"})
"""Formats that are drawn by running them, in Ghostscript or Windows."""
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image upright, by its EXIF orientation (EXIF 2.32, 4.6.4.A)."""
BITS, PHOTOMETRIC, PLANAR, MAX_SAMPLE, SAMPLE_FORMAT = 258, 262, 284, 281, 339
"""Tags of TIFF 6.0."""
SWAPPED = {"B": "L", "L": "B", "N": "B"}
"""What makes Pillow, which takes the high byte of 16-bit colours, take the low one; N is little-endian here."""


def decode(
    source: ImageSource, channels: int = 3, *, window: Window | None = None, upright: bool = True, say: Say = silent
) -> Image.Image:
    """One image in Pillow's mode L (1 channel) or RGB (3), decoded.

    Args:
        source: a path, a file in memory, a Pillow image, or uint8 pixels of shape (H, W, 3) RGB or (H, W) grey.
        channels: 1 or 3.
        window: the values that are black and white, of images of more than 8 bits.
        upright: whether to turn it as its EXIF orientation says.
        say: is told how it was read, where that was a choice.

    Raises:
        ValueError: the file is missing, no image, damaged, too large, or of values that no rule fits; names the file.
    """
    mode = MODES[channels]
    with naming(name_of(source), "an image"):
        try:
            if isinstance(source, np.ndarray):
                if source.dtype != np.uint8:
                    raise Unreadable(f"must be uint8 (H, W, 3) or (H, W), not {source.dtype} {source.shape}")
                return _of_array(source, say, window).convert(mode)
            if isinstance(source, Image.Image):
                return _finished(source, mode, window, upright, say)
            if not isinstance(source, Encoded):
                check_regular(source)
            with Image.open(_opened(source)) as image:
                image.again = source  # type: ignore[attr-defined]  # what Pillow does not tell is read from there
                if image.format in PROGRAMS:
                    raise Unreadable(f"{image.format} is a program that draws, not pixels, and is not run")
                return _finished(image, mode, window, upright, say)
        except Image.DecompressionBombError:
            raise Unreadable("more pixels than Pillow decodes; make it smaller first") from None
        except UnidentifiedImageError:
            with on_disk(source) as path:  # type: ignore[arg-type]  # it was a file
                return _other(path, mode, window, say)
        except (Unreadable, FileNotFoundError, IsADirectoryError, PermissionError, MemoryError):
            raise
        # Pillow's decoders raise whatever a damaged file makes them stumble over: OSError,
        # SyntaxError, struct.error, IndexError ...
        except Exception as error:
            raise Unreadable(f"the image is damaged ({' '.join(str(error).split())})") from error


def name_of(source: ImageSource) -> str:
    """How an error calls the source."""
    if isinstance(source, str | Path):
        return fspath(source)
    if isinstance(source, Encoded):
        return source.name
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "")) or "the image"
    return "the array"


def _opened(source: str | Path | Encoded) -> str | Path | IO[bytes]:
    """What Pillow opens."""
    return BytesIO(source.data) if isinstance(source, Encoded) else source


def _file_of(image: Image.Image) -> str | Path | Encoded:
    """The file an image was opened from; an empty name where nobody knows."""
    found: str | Path | Encoded = getattr(image, "again", "") or getattr(image, "filename", "")
    return found


def _finished(image: Image.Image, mode: str, window: Window | None, upright: bool, say: Say) -> Image.Image:
    """An image Pillow opened, decoded, of 8 bits, in the mode, upright."""
    if image.format not in ("JPEG", "MPO") and not image.tell() and _goes_on(image):
        say("of several frames or pages the first is read")
    plain = _plain(image, window, say)
    if plain.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in plain.info:
        plain = _opaque(plain, say)
    elif plain.mode == "CMYK":
        inverted = image.format == "JPEG" and "adobe" not in image.info
        say("CMYK is converted without its colour profile" + (", as inverted: no Adobe marker says" * inverted))
    elif plain.mode == "LAB":
        raise Unreadable("its colours are CIE L*a*b*, which Pillow does not convert; save it as RGB")
    turn = _turn(image, say)
    result = plain.convert(mode)
    if turn is None:
        return result
    if not upright:
        say("the EXIF orientation is not applied")
        return result
    say("turned as the EXIF orientation says")
    return result.transpose(turn)


def _goes_on(image: Image.Image) -> bool:
    """Whether there is a second frame or page."""
    if image.format != "TIFF":
        return bool(getattr(image, "is_animated", False))
    try:  # a TIFF would count all its pages
        image.seek(1)
    except EOFError:
        return False
    image.seek(0)
    return True


def _turn(image: Image.Image, say: Say) -> Image.Transpose | None:
    """What makes a decoded image upright; None if it is.  Pillow has turned a TIFF already."""
    if image.format == "TIFF" or not {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"} & image.info.keys():
        return None
    try:
        return TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # of damaged EXIF data Pillow raises all kinds
        say("the EXIF data is damaged: the image is taken as upright")
        return None


def _opaque(image: Image.Image, say: Say) -> Image.Image:
    """The colours of an image, whether they can be seen or not."""
    if image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        say("transparency is dropped: transparent pixels have the colour that the file gives them")
    if "transparency" in image.info:
        image = image.copy()
        del image.info["transparency"]  # Pillow warns of it on converting
    return image.convert(image.mode.upper()) if image.mode in ("RGBa", "La") else image


def _plain(image: Image.Image, window: Window | None, say: Say) -> Image.Image:
    """An image with 8 bits a value, decoded."""
    tags = getattr(image, "tag_v2", None) or {}
    bits = max(np.atleast_1d(tags.get(BITS, 1)), default=1)
    signed = bits == 8 and 2 in np.atleast_1d(tags.get(SAMPLE_FORMAT, 1))
    if bits > 8 and tags.get(PLANAR) == 2 and len(np.atleast_1d(tags[BITS])) > 1:
        raise Unreadable(f"colours of {bits} bits in separate planes, which Pillow misreads; save it with 8 bits")
    raw = [_rawmode(tile.args) for tile in getattr(image, "tile", ())]
    if any(";16" in mode for mode in raw) and not image.mode.startswith("I"):
        return _deep_colours(image, raw, window, say)
    if not image.mode.startswith(("I", "F")) and not signed:
        image.load()
        return image
    inverted = tags.get(PHOTOMETRIC) == 0 and not signed  # Pillow inverts 8 bits itself
    values: NDArray[Any] = np.asarray(image)
    if signed:
        values = values.view(np.int8)
    elif values.dtype == np.int32 and bits == 32 and tags.get(SAMPLE_FORMAT, (1,)) in ((1,), 1):
        values = values.view(np.uint32)
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        values = values.astype(np.uint16, copy=False)  # of the other byte order
    pixels = to_bytes(values, say, white=_told(image, values, int(bits)), window=window)
    return Image.fromarray(255 - pixels if inverted else pixels)


def _rawmode(args: Any) -> str:
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _told(image: Image.Image, values: NDArray[Any], bits: int) -> int:
    """The value that a grey file says is white; 0 where it does not say."""
    if image.format in ("PPM", "JPEG2000") and values.dtype.kind in "iu":
        return 65535  # Pillow scales other depths to this
    file = _file_of(image)
    if image.format == "PNG" and file:
        significant = _significant_bits(file)
        return _white_of(values, significant) if significant else 0
    if image.format == "TIFF" and 8 < bits < 16:
        return (1 << bits) - 1
    said = (getattr(image, "tag_v2", None) or {}).get(MAX_SAMPLE, 0)
    most = int(max(np.atleast_1d(said), default=0))
    return most if most in (1023, 4095, 16383, 65535) else 0  # others are the image's own largest value


def _significant_bits(png: str | Path | Encoded) -> int:
    """Of a PNG file: what its sBIT chunk says; 0 where there is none."""
    with BytesIO(png.data) if isinstance(png, Encoded) else Path(png).open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8 and head[4:] not in (b"IDAT", b"IEND"):
            size = int.from_bytes(head[:4], "big")
            if head[4:] == b"sBIT" and size:
                found = file.read(1)[0]
                return found if 8 <= found <= 16 else 0
            file.seek(size + 4, 1)
    return 0


def _white_of(values: NDArray[Any], bits: int) -> int:
    """White of 16-bit samples of which so many bits count.

    They ought to be spread over 16 bits (PNG, 11.3.2.7), by repeating their top bits or with zeros below; who forgets
    that leaves them at the bottom.
    """
    top = (1 << bits) - 1
    numbers = np.unique(values).astype(np.uint32)
    high = numbers >> (16 - bits)
    spread = [high << (16 - bits), (high << (16 - bits)) | (high >> (2 * bits - 16)), (high * 65535 + top // 2) // top]
    if numbers[-1] > top or any((numbers == way).all() for way in spread):
        return 65535
    return top


def _deep_colours(image: Image.Image, raw: list[str], window: Window | None, say: Say) -> Image.Image:
    """Colours of 16 bits, of which Pillow takes the high byte: the low one is read by a second opening."""
    source, tiles, mode = _file_of(image), image.tile, image.mode  # type: ignore[attr-defined]
    high = np.asarray(image)
    if "LA;16B" in raw or not source:
        if window or high[..., :1].max() < 16:
            raise Unreadable("of its 16 bits Pillow takes 8, which are not enough here; save it as 16-bit grey")
        say("values of 16 bits: 65535 is white")
        return image
    with Image.open(_opened(source)) as again:
        again.tile = [_low(tile) for tile in tiles]
        low = np.asarray(again)
    return Image.fromarray(to_bytes((high.astype(np.uint16) << 8) | low, say, window=window), mode)


def _low(tile: Any) -> Any:
    raw = _rawmode(tile.args)
    swapped = raw[:-1] + SWAPPED[raw[-1]]
    return tile._replace(args=(swapped, *tile.args[1:]) if isinstance(tile.args, tuple) else swapped)


def _other(path: Path, mode: str, window: Window | None, say: Say) -> Image.Image:
    """What Pillow has no reader for: DICOM, arrays.

    Raises:
        Unreadable: it is neither, or is not read.
    """
    if is_npy(path):
        return _of_array(read_npy(path), say, window).convert(mode)
    if is_dicom(path):
        from densenet.dicom import read_dicom  # noqa: PLC0415 (imports densenet.depth only, and pydicom when used)

        return Image.fromarray(read_dicom(path, window, say)).convert(mode)
    if path.name.lower().endswith(NIFTI):
        raise Unreadable("a NIfTI volume, and the network takes images")
    raise Unreadable("not an image Pillow can read")


def _of_array(values: NDArray[Any], say: Say, window: Window | None) -> Image.Image:
    """Pixels (H, W), (H, W, 1) or (H, W, 3), or with the channels first, as an image."""
    shape = values.shape
    if values.ndim == 3 and shape[2] not in (1, 3) and shape[0] in (1, 3):
        values = values.transpose(1, 2, 0)
    if values.ndim not in (2, 3) or values.shape[2:] not in ((), (1,), (3,)):
        raise Unreadable(f"an array of shape {shape} is no image: (H, W), (H, W, 3) or (3, H, W) are")
    if not values.size:
        raise Unreadable(f"the image has no pixels, its shape is {shape}")
    if values.shape[0] * values.shape[1] > bounds.PIXELS:
        raise Unreadable(f"more than {bounds.PIXELS} pixels; make it smaller first")
    flat = values[..., 0] if values.shape[2:] == (1,) else values
    return Image.fromarray(to_bytes(np.ascontiguousarray(flat), say, window=window))
