"""Volumes for networks of three dimensions: ``.npy`` arrays and NIfTI files, as float32 (1, C, D, H, W).

Nothing is resampled or reoriented: axes come in the file's order (of NIfTI x, y, z, as MONAI's LoadImage has them), and
values are the file's own, rescaled as NIfTI says, unless a window makes them 0 to 1.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import fspath
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densenet import bounds
from densenet.depth import Say, Unreadable, check_regular, naming, silent
from densenet.preprocess import Preprocess

NIFTI = (".nii", ".nii.gz")
MAGIC = b"\x93NUMPY"
"""How a ``.npy`` file begins."""
SLICES = (".dcm", ".dicom", ".ima")
KEPT = re.compile(r"^[^.]*|[^.\w]")
"""What the name of a temporary file leaves out of another's: all but the endings."""
ONE_VOLUME = "make one NIfTI file of each series first, as dcm2niix does"


@dataclass(frozen=True)
class Encoded:
    """A file of an image or volume in memory, as tars and tables hold them.

    Attributes:
        name: how results and errors call it; it ends as the file's name does.
        data: its bytes.
    """

    name: str
    data: bytes = field(repr=False)

    def __str__(self) -> str:
        return self.name


@contextmanager
def on_disk(source: str | Path | Encoded) -> Iterator[Path]:
    """The path of a file; of one in memory that of a temporary one, for readers that take no other."""
    if not isinstance(source, Encoded):
        yield Path(source)
        return
    with TemporaryDirectory(prefix="densenet-") as folder:
        path = Path(folder) / f"image{KEPT.sub('', source.name.rpartition('/')[2])[-20:]}"
        path.write_bytes(source.data)
        yield path


def load_volume(source: Any, preprocess: Preprocess, say: Say = silent) -> NDArray[np.float32]:
    """One volume, ready for a network.

    Args:
        source: a ``.npy`` or NIfTI file, which may be in memory, or an array of numbers: (D, H, W), (C, D, H, W),
            (D, H, W, C), or (1, C, D, H, W).
        preprocess: of volumes.
        say: is told what a file says and nothing is made of.

    Returns:
        float32 of shape (1, channels, *preprocess.crop), or of the volume's own size where that is empty.

    Raises:
        ValueError: the file is missing, no volume, damaged, or too large; names the file.
    """
    name = fspath(source) if isinstance(source, str | Path) else getattr(source, "name", "the array")
    with naming(name, "a volume"):
        if isinstance(source, Encoded):
            with on_disk(source) as path:
                return _prepared(_arranged(_read(path, say), preprocess.channels), preprocess)
        if isinstance(source, str | Path):
            values = _read(Path(source), say)
        elif isinstance(source, np.ndarray):
            values = source
        else:
            raise Unreadable("no volume, which a .npy or NIfTI file is")
        return _prepared(_arranged(values, preprocess.channels), preprocess)


def read_npy(path: Path) -> NDArray[Any]:
    """The array of a ``.npy`` file, still on disk.

    Raises:
        Unreadable: it is damaged, or holds Python objects.
    """
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))  # which holds its size against the file's
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged header raises all kinds, tokenize.TokenError among them
        raise Unreadable(f"the array is damaged ({' '.join(str(error).split())})") from error


def is_npy(path: Path) -> bool:
    """Whether a file is a ``.npy``."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, or is called so."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM" or path.suffix.lower() in SLICES


def _read(path: Path, say: Say) -> NDArray[Any]:
    check_regular(path)
    if path.name.lower().endswith(NIFTI):
        return _nifti(path, say)
    if is_npy(path):
        return read_npy(path)
    if is_dicom(path):
        raise Unreadable(f"a DICOM file, and the network takes volumes: {ONE_VOLUME}")
    raise Unreadable("no volume, which a .npy or NIfTI file is")


def _nifti(path: Path, say: Say) -> NDArray[Any]:
    """The values of a NIfTI file (X, Y, Z) or (X, Y, Z, C), rescaled; of voxels of any size."""
    path.open("rb").close()  # missing or a folder: the same errors as for others
    try:
        import nibabel  # noqa: PLC0415 (an extra)
    except ImportError:
        raise Unreadable("NIfTI needs nibabel: pip install 'densenet-converter[nifti]'") from None
    try:
        found = nibabel.load(path)
        _check_size(found.shape)
        values: NDArray[Any] = np.asarray(found.dataobj)
        say("a NIfTI file's voxels are taken as they are: nothing is resampled to the spacing of training")
    except Unreadable:
        raise
    except Exception as error:  # nibabel, gzip and a damaged file raise all kinds
        raise Unreadable(f"the NIfTI file is damaged ({' '.join(str(error).split())[:200]})") from error
    return values


def _check_size(shape: tuple[int, ...]) -> None:
    voxels = int(np.prod([int(n) for n in shape], dtype=object)) if shape else 0
    if not 0 < voxels <= bounds.PIXELS:
        raise Unreadable(f"has the shape {tuple(map(int, shape))}; between 1 and {bounds.PIXELS} numbers are read")


def _arranged(values: NDArray[Any], channels: int) -> NDArray[np.float32]:
    """The numbers (C, D, H, W)."""
    shape = values.shape
    if values.dtype.kind not in "iufb":
        raise Unreadable(f"values of type {values.dtype} are no volume")
    _check_size(shape)
    if len(shape) == 5 and shape[0] == 1:
        values = values[0]
    if values.ndim == 3 and channels == 1:
        values = values[None]
    if values.ndim == 4 and values.shape[0] != channels and values.shape[3] == channels:
        values = np.moveaxis(values, 3, 0)
    if values.ndim != 4 or values.shape[0] != channels:
        raise Unreadable(f"has the shape {shape}, and the network takes volumes of {channels} channels")
    numbers = values.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise Unreadable("has values that are NaN or infinite")
    return numbers


def _prepared(values: NDArray[np.float32], preprocess: Preprocess) -> NDArray[np.float32]:
    if preprocess.window:
        black, white = preprocess.window
        values = ((values - np.float32(black)) / np.float32(white - black)).clip(0, 1)
    if preprocess.crop:
        for axis, size in enumerate(preprocess.crop, 1):
            values = _centred(values, axis, size)
    mean, std = (np.array(v, np.float32).reshape(-1, 1, 1, 1) for v in (preprocess.mean, preprocess.std))
    return np.ascontiguousarray(((values - mean) / std)[None])


def _centred(values: NDArray[np.float32], axis: int, size: int) -> NDArray[np.float32]:
    """The middle of an axis, zeros around where it is shorter."""
    missing = max(size - values.shape[axis], 0)
    if missing:
        around = [(missing // 2, missing - missing // 2) if i == axis else (0, 0) for i in range(values.ndim)]
        return np.pad(values, around)
    start = (values.shape[axis] - size) // 2
    return values.take(range(start, start + size), axis)
