"""Image files: in a folder, and those that ship with the package."""

from collections.abc import Callable, Iterable
from glob import glob, has_magic
from pathlib import Path

from converter.core.errors import ConverterError
from densenet.volumes import ONE_VOLUME, is_dicom

DATA = Path(__file__).parent.parent / "data"
"""The small trained model that ships with the package, and its images."""
IMAGE_SUFFIXES = frozenset(
    ".png .jpg .jpeg .bmp .webp .gif .tif .tiff .jp2 .avif .pgm .ppm .dcm .dicom".split(),
)
"""Files that are taken for images in a folder."""
VOLUME_SUFFIXES = (".npy", ".nii", ".nii.gz")
"""The same for networks of volumes, and in a folder that has no others."""

SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})
"""Folders and shards called so are parts of a data set."""


def is_image(path: Path) -> bool:
    """Whether a file is called like an image."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def is_volume(path: Path) -> bool:
    """Whether a file is called like a volume."""
    return path.name.lower().endswith(VOLUME_SUFFIXES)


def find_images(folder: Path, *, volumes: bool = False) -> list[Path]:
    """Image files below a folder, in order of their names; where there are none, or ``volumes`` are asked for, these.

    Raises:
        ConverterError: there are none.
    """
    if folder.is_file():
        return [folder]
    every = sorted(folder.rglob("*"))
    found = [] if volumes else list(filter(is_image, every))
    found = found or list(filter(is_volume, every))
    if found:
        return found
    first = next((path for path in every if path.is_file()), None)
    if volumes and first is not None and is_dicom(first):
        raise ConverterError(f"{folder}: DICOM files, and the network takes volumes: {ONE_VOLUME}")
    raise ConverterError(f"{folder}: no {'volumes' if volumes else 'images'} there")


def gathered(named: Iterable[str | Path], *, volumes: bool = False) -> list[Path]:
    """The images of files, folders (with theirs) and patterns such as ``scans/**/*.png``, in the order they are named.

    A file is taken whatever it is called, of a folder those that are called like images, or like volumes.

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
            result += find_images(path, volumes=volumes) if _is(Path.is_dir, path) else [path]
    return result


def _is(what: Callable[[Path], bool], path: Path) -> bool:
    """A question about a path; no where its name is too long, say."""
    try:
        return what(path)
    except OSError:
        return False


def shipped_images() -> list[Path]:
    """One image of each of four classes of the digits the package ships."""
    folder = DATA / "images"
    return [min(digit.iterdir()) for digit in sorted(folder.iterdir())[:4]]
