"""Folders as trainers, servers and hubs write them: the one checkpoint in them, by what the folder says of itself."""

from collections.abc import Callable, Sequence
from pathlib import Path

from converter.core.errors import UnreadableFile
from converter.fetch.hub_files import PREFERRED, SUFFIXES

FORMATS_OWN = ("saved_model.pb", "__model__", "inference.json", ".metadata")
"""What formats that are folders themselves have in them."""
MAX_FILES = 10_000


def checkpoint_in(folder: Path) -> Path:
    """The file to read of a folder; the folder itself where it is a format of its own, or nothing is known of it.

    Raises:
        UnreadableFile: several files may be meant; names them.
    """
    if any((folder / name).exists() for name in FORMATS_OWN):
        return folder
    for rule in RULES:
        found = rule(folder)
        if found is not None and found.exists():
            return found
    return _by_suffix(folder)


def _hub(folder: Path) -> Path | None:
    """transformers, timm, diffusers, accelerate: their own names of the weights."""
    return next((folder / name for name in PREFERRED if (folder / name).is_file()), None)


def _mlflow(folder: Path) -> Path | None:
    """mlflow.pytorch.log_model (MLmodel beside data/model.pth)."""
    if not (folder / "MLmodel").is_file():
        return None
    return next((p for p in (folder / "data" / "model.pth", folder / "data" / "model.keras") if p.is_file()), None)


def _deepspeed(folder: Path) -> Path | None:
    """DeepSpeed's save_checkpoint: ``latest`` names the subfolder; stages up to 2 have the whole model in one file."""
    latest = folder / "latest"
    tag = latest.read_text("utf-8", "replace").strip()[:255] if latest.is_file() else ""
    if tag and tag != ".." and Path(tag).name == tag:
        return folder / tag / "mp_rank_00_model_states.pt"
    return folder / "mp_rank_00_model_states.pt"


def _monai(folder: Path) -> Path | None:
    """A MONAI bundle: configs/metadata.json and models/model.pt."""
    return folder / "models" / "model.pt" if (folder / "configs" / "metadata.json").is_file() else None


def _triton(folder: Path) -> Path | None:
    """A model of a Triton repository: config.pbtxt, and a numbered folder for each version."""
    if not (folder / "config.pbtxt").is_file():
        return None
    versions = sorted((p for p in folder.iterdir() if p.is_dir() and p.name.isdecimal()), key=lambda p: int(p.name))
    files = [path for path in versions[-1].iterdir() if path.stem == "model"] if versions else []
    return files[0] if len(files) == 1 else None


RULES: Sequence[Callable[[Path], Path | None]] = (_mlflow, _deepspeed, _monai, _triton, _hub)


def _by_suffix(folder: Path) -> Path:
    """The only file that is called like a checkpoint, of whatever kind; the folder where there is none."""
    files = [path for _, path in zip(range(MAX_FILES), folder.rglob("*")) if path.is_file()]
    found = sorted(path for path in files if path.name.endswith(SUFFIXES))
    if len(found) > 1:
        some = ", ".join(path.relative_to(folder).as_posix() for path in found[:4])
        some += " ..." if len(found) > 4 else ""
        raise UnreadableFile(f"{folder}: a folder with {len(found)} files of weights ({some}); name one of them")
    return found[0] if found else folder
