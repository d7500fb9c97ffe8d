"""Image files: in a folder, and those that ship with the package."""

from pathlib import Path

from converter.core.errors import ConverterError

DATA = Path(__file__).parent.parent / "data"
"""The small trained model that ships with the package, and its images."""
IMAGE_SUFFIXES = frozenset(
    ".png .jpg .jpeg .bmp .webp .gif .tif .tiff .jp2 .avif .pgm .ppm .dcm .dicom".split(),
)
"""Files that are taken for images in a folder."""
VOLUME_SUFFIXES = (".npy", ".nii", ".nii.gz")
"""The same in a folder that has no others."""


def find_images(folder: Path) -> list[Path]:
    """Image files below a folder, in order of their names; where there are none, volumes.

    Raises:
        ConverterError: there are none.
    """
    if folder.is_file():
        return [folder]
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        found = sorted(path for path in folder.rglob("*") if path.name.lower().endswith(VOLUME_SUFFIXES))
    if not found:
        raise ConverterError(f"{folder}: no images there")
    return found


def shipped_images() -> list[Path]:
    """One image of each class of the digits the package ships."""
    folder = DATA / "images"
    return [path for digit in sorted(folder.iterdir()) for path in sorted(digit.iterdir())[:1]]
