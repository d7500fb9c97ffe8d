"""Image files: in a folder, and those that ship with the package."""

from collections.abc import Callable, Iterable
from glob import glob, has_magic
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


def gathered(named: Iterable[str | Path]) -> list[Path]:
    """The images of files, folders (with theirs) and patterns such as ``scans/**/*.png``, in the order they are named.

    A file is taken whatever it is called, of a folder those that are called like images.

    Raises:
        ConverterError: a folder without images, or a pattern that nothing matches.
    """
    result: list[Path] = []
    for name in named:
        if not has_magic(str(name)) or _is(Path.exists, Path(name)):
            matches = [Path(name)]
        else:
            matches = sorted(map(Path, glob(str(name), recursive=True)))  # noqa: PTH207 (absolute patterns too)
            if not matches:
                raise ConverterError(f"{name}: no files match")
        for path in matches:
            result += find_images(path) if _is(Path.is_dir, path) else [path]
    return result


def _is(what: Callable[[Path], bool], path: Path) -> bool:
    """A question about a path; no where its name is too long, say."""
    try:
        return what(path)
    except OSError:
        return False


def shipped_images() -> list[Path]:
    """One image of each class of the digits the package ships."""
    folder = DATA / "images"
    return [path for digit in sorted(folder.iterdir()) for path in sorted(digit.iterdir())[:1]]
