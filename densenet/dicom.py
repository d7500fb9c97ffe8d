"""DICOM images as 8-bit pixels, as a viewer shows them: rescaled, windowed, inverted where low is bright.

The steps are those of DICOM PS3.3: C.11.1 (modality), C.11.2 (window), C.7.6.3.1.2 (photometric interpretation).
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densenet import bounds
from densenet.depth import Say, Unreadable, Window, scaled, to_bytes

DEFLATED = "1.2.840.10008.1.2.1.99"
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")


def read_dicom(path: Path, window: Window | None, say: Say) -> NDArray[np.uint8]:
    """Pixels (H, W) or (H, W, 3) of a DICOM file of one frame.

    Args:
        path: the file.
        window: the values, after rescaling, that are black and white; else the file's own.
        say: is told what the file does not say.

    Raises:
        Unreadable: pydicom is not installed; no single image, too large, damaged, or of a kind that is not read.
    """
    try:
        from pydicom import dcmread  # noqa: PLC0415 (an extra)
        from pydicom.filereader import read_file_meta_info  # noqa: PLC0415
        from pydicom.misc import is_dicom  # noqa: PLC0415
    except ImportError:
        raise Unreadable("DICOM needs pydicom: pip install 'densenet-converter[dicom]'") from None
    try:
        # Deflated data may have any size once they are read.
        if is_dicom(path) and read_file_meta_info(path).get("TransferSyntaxUID") == DEFLATED:
            raise Unreadable("a deflated DICOM file; save it without that")
        found = dcmread(path, force=True)
        _check(found)
        return _shown(found, window, say)
    except (Unreadable, OSError):
        raise
    except Exception as error:  # pydicom, its decoders and a damaged file raise all kinds
        reason = " ".join(str(error).split())
        if "missing dependencies" in reason or "no available" in reason.lower():
            raise Unreadable(
                f"its {found.file_meta.TransferSyntaxUID.name} pixels need a decoder: pip install python-gdcm"
            ) from error
        raise Unreadable(f"the DICOM file is damaged ({reason[:200]})") from error


def _check(found: Any) -> None:
    """Refuse what is no single image of a size and kind that is read."""
    if "PixelData" not in found or "Rows" not in found:
        raise Unreadable("no DICOM file with an image of whole numbers")
    if int(found.get("NumberOfFrames") or 1) != 1:
        raise Unreadable(f"a DICOM file of {found.NumberOfFrames} frames; save the one that is meant")
    if not 0 < found.Rows * found.Columns <= bounds.PIXELS:
        raise Unreadable(f"{found.Columns}x{found.Rows} pixels; between 1 and {bounds.PIXELS} are read")
    if found.get("HighBit", found.BitsStored - 1) != found.BitsStored - 1 or not 1 <= found.BitsStored <= 32:
        raise Unreadable(f"its {found.BitsStored} bits end at bit {found.get('HighBit')}, which is not read")
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):  # enhanced objects
        for group in (found.get(name) or [])[:1]:
            for inner in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
                for item in (group.get(inner) or [])[:1]:
                    found.update({element.tag: element for element in item})


def _shown(found: Any, window: Window | None, say: Say) -> NDArray[np.uint8]:
    from pydicom.pixels import apply_color_lut, pixel_array  # noqa: PLC0415

    kind = str(found.get("PhotometricInterpretation", ""))
    # Bits above those that are stored may extend the sign, and else must be none: pydicom would drop them.
    stored = pixel_array(found, correct_unused_bits=bool(found.get("PixelRepresentation")))
    if kind in COLOURS:
        return to_bytes(stored, say, white=(1 << found.BitsStored) - 1)
    if kind == "PALETTE COLOR":
        bits = int(found.RedPaletteColorLookupTableDescriptor[2])
        return to_bytes(apply_color_lut(stored, found), say, white=(1 << bits) - 1)
    if kind not in ("MONOCHROME1", "MONOCHROME2") or stored.ndim != 2:
        raise Unreadable(f"its photometric interpretation {kind or '(none)'} is not read")
    pixels = _grey(found, stored, window, say)
    return 255 - pixels if kind == "MONOCHROME1" else pixels


def _grey(found: Any, stored: NDArray[Any], window: Window | None, say: Say) -> NDArray[np.uint8]:
    """Grey values, low is dark."""
    from pydicom.pixels import apply_modality_lut, apply_voi  # noqa: PLC0415

    levels = 1 << found.BitsStored
    least = -(levels >> 1) if found.get("PixelRepresentation") else 0
    most = least + levels - 1
    if stored.min() < least or stored.max() > most:
        raise Unreadable(
            f"has values from {stored.min()} to {stored.max()}, more than its {found.BitsStored} bits hold"
        )
    values = apply_modality_lut(stored, found).astype(np.float64)
    if window and found.BitsStored > 8:
        return scaled(values, *window)
    if found.get("VOILUTSequence"):
        table = found.VOILUTSequence[0]
        if len(found.VOILUTSequence) > 1:
            say("DICOM with several tables of values: the first is used")
        shown = apply_voi(values.astype(np.int64), found)
        return scaled(shown, 0, (1 << int(table.LUTDescriptor[2])) - 1)
    if found.get("WindowCenter") is not None and found.get("WindowWidth") is not None:
        return _windowed(found, values, say)
    say("DICOM without a window: the least and the largest value its bits can hold are black and white")
    if found.get("ModalityLUTSequence"):
        return scaled(values, 0, (1 << int(found.ModalityLUTSequence[0].LUTDescriptor[2])) - 1)
    ends = [v * float(found.get("RescaleSlope", 1)) + float(found.get("RescaleIntercept", 0)) for v in (least, most)]
    return scaled(values, min(ends), max(ends))


def _windowed(found: Any, values: NDArray[np.float64], say: Say) -> NDArray[np.uint8]:
    """Through the file's own window, PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    centres, widths = (np.atleast_1d(found[name].value).astype(float) for name in ("WindowCenter", "WindowWidth"))
    if len(centres) > 1:
        say("DICOM with several windows: the first is used")
    centre, width = float(centres[0]), float(widths[0])
    function = str(found.get("VOILUTFunction") or "LINEAR")
    if not (np.isfinite(centre) and np.isfinite(width)) or width < (1 if function == "LINEAR" else 1e-9):
        raise Unreadable(f"its window has the centre {centre:g} and the width {width:g}, which is none")
    if function == "SIGMOID":
        return scaled(1 / (1 + np.exp((-4 * (values - centre) / width).clip(-700, 700))), 0, 1)
    if function == "LINEAR_EXACT":
        return scaled(values, centre - width / 2, centre + width / 2)
    if function != "LINEAR":
        raise Unreadable(f"its VOI LUT function {function} is not known")
    if width == 1:
        return np.where(values <= centre - 0.5, 0, 255).astype(np.uint8)
    return scaled(values, centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2)
