"""Folders as trainers, servers and hubs write them: the one checkpoint in them, by what the folder says of itself."""

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from converter.core import bounds
from converter.core.errors import UnreadableFile
from converter.fetch.hub_files import PREFERRED, SUFFIXES

LISTED = 4
SHARD = re.compile(r"-\d{5,6}-of-\d{5,6}\.")
"""In the names of a checkpoint's parts; their index ends in ``.index.json``."""

OTHERS = (
    ".mar",
    ".pt2",
    ".ts",
    ".pdmodel",
    ".pdparams",
    ".caffemodel",
    ".params",
    ".pkl",
    ".joblib",
    ".npy",
    ".msgpack",
    ".tar.gz",
)
"""What may be a checkpoint too, where no file is called like one for certain."""

Rule = Callable[[Path], Path | None]


def checkpoint_in(folder: Path) -> Path:
    """The file to read of a folder; the folder itself where it is a format of its own, or nothing is known of it.

    Raises:
        UnreadableFile: several files may be meant; names them.
    """
    said = _said(folder)
    if said is not None:
        return said
    inside = _walk(folder)
    found = list(_meant(inside)) or [path for path in inside if path.name.endswith(OTHERS) and path.is_file()]
    if len(found) > 1:
        some = ", ".join(path.relative_to(folder).as_posix() for path in found[:LISTED])
        some += " ..." if len(found) > LISTED else ""
        if all(SHARD.search(path.name) for path in found):
            raise UnreadableFile(f"{folder}: a folder with {len(found)} shards ({some}) without their index")
        raise UnreadableFile(f"{folder}: a folder with {len(found)} files of weights ({some}); name one of them")
    return found[0] if found else folder


def _meant(inside: Sequence[Path]) -> Iterator[Path]:
    """What folders in a folder say of themselves, and every other file that is called like a checkpoint."""
    known: list[Path] = []
    for path in inside:  # sorted: what holds a folder stands before it
        if any(path.is_relative_to(other) for other in known):
            continue
        if path.is_dir():
            said = _said(path)
            if said is not None:
                known.append(path)
                yield said
        elif path.name.endswith(SUFFIXES):
            yield path


def _walk(folder: Path) -> list[Path]:
    """What is in a folder, but for what is hidden (``.git``)."""
    found = [path for _, path in zip(range(bounds.FILES + 1), folder.rglob("*"))]
    if len(found) > bounds.FILES:
        raise UnreadableFile(f"{folder}: a folder with more than {bounds.FILES} files; name the one that is meant")
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def _said(folder: Path) -> Path | None:
    """The checkpoint that a folder names by itself; the folder where it is a format of its own."""
    if any((folder / name).is_file() for name in OWN):
        return folder
    return next((found for rule in RULES if (found := rule(folder)) is not None and _exists(found)), None)


def _exists(path: Path) -> bool:
    """Whether there is a file or folder; none has a name that the system takes for too long."""
    try:
        return path.exists()
    except OSError:
        return False


def _text(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.is_file() and path.stat().st_size <= bounds.CONFIG else ""


def _inside(folder: Path, name: str) -> Path | None:
    """A file or folder named by one in the same folder; None where the name leads elsewhere."""
    name = name.strip()[:255]
    plain = name and Path(name).name == name and name not in (".", "..")
    return folder / name if plain and _exists(folder / name) else None


def _file_name(path: str) -> str:
    """The last part of a path on whatever system."""
    return re.split(r"[/\\]", path)[-1]


def _one(paths: Sequence[Path]) -> Path | None:
    return paths[0] if len(paths) == 1 else None


# -- what folders say of themselves -----------------------------------------------------------

OWN = (".metadata", "saved_model.pb", "__model__")
"""What formats that are folders themselves have in them: torch.distributed.checkpoint, TensorFlow, Paddle."""


def _paddle(folder: Path) -> Path | None:
    """Paddle's inference models: a program with its parameters beside it."""
    programs = [folder / f"{name}{kind}" for name in ("inference", "model") for kind in (".pdmodel", ".json")]
    return _one([program for program in programs if program.is_file() and program.with_suffix(".pdiparams").is_file()])


def _hub(folder: Path) -> Path | None:
    """transformers, timm, diffusers, accelerate: their own names of the weights.

    A second model that accelerate saved beside the first (``model_1.safetensors``) leaves it open.
    """
    if any(
        (folder / f"{stem}_1{kind}").is_file() for stem, kind in (("model", ".safetensors"), ("pytorch_model", ".bin"))
    ):
        return None
    return next((folder / name for name in PREFERRED if (folder / name).is_file()), None)


def _fsdp(folder: Path) -> Path | None:
    """accelerate's save_state of an FSDP model: its weights beside ``optimizer_0`` (accelerate/utils/fsdp_utils.py)."""
    return _one([p for p in sorted(folder.glob("pytorch_model_fsdp*")) if p.suffix in ("", ".bin")])


MLMODEL = re.compile(r"^\s+(?:data|model_data|saved_model_dir|keras_model_path)\s*:\s*['\"]?([\w./-]+)", re.MULTILINE)
"""The entries of an ``MLmodel``'s flavors that name a place."""
MLFLOW = ("model.pth", "model.pt2", "model.keras", "model.h5", "model.onnx", "model", "")


def _mlflow(folder: Path) -> Path | None:
    """MLflow's models: ``MLmodel`` names the folder or file of each flavor (``data/model.pth`` for PyTorch)."""
    if not (folder / "MLmodel").is_file():
        return None
    places = [place for place in MLMODEL.findall(_text(folder / "MLmodel")) if ".." not in Path(place).parts]
    named = [folder / place / name for place in (*places, "data") for name in MLFLOW if not place.startswith("/")]
    return next((p for p in named if p.is_file() or (p / "saved_model.pb").is_file()), None)


def _bentoml(folder: Path) -> Path | None:
    """A model of BentoML's store: ``model.yaml`` and ``saved_model.pt``, ``.onnx``, ``.pkl`` ..."""
    found = [p for p in folder.glob("saved_model*") if p.is_file()] if (folder / "model.yaml").is_file() else []
    return _one(found)


def _deepspeed(folder: Path) -> Path | None:
    """DeepSpeed's save_checkpoint: stages up to 2 have the whole model in one file, model parallel ones do not."""
    parts = sorted(folder.glob("mp_rank_*_model_states.pt"))
    if len(parts) > 1:
        raise UnreadableFile(f"{folder}: DeepSpeed's model in {len(parts)} parts (model parallel), which is not read")
    return _one(parts)


def _latest(folder: Path) -> Path | None:
    """DeepSpeed, BentoML: ``latest`` names the subfolder; mmengine: ``last_checkpoint`` the file."""
    inner = _inside(folder, _text(folder / "latest"))
    if inner is not None and inner.is_dir():
        return _said(inner)
    named = _text(folder / "last_checkpoint").strip()
    last = _inside(folder, _file_name(named))
    return None if any(folder.glob("best_*.pth")) else last


def _monai(folder: Path) -> Path | None:
    """A MONAI bundle: configs/metadata.json and models/model.pt, or as TorchScript."""
    if not (folder / "configs" / "metadata.json").is_file():
        return None
    return next((p for name in ("model.pt", "model.ts") if (p := folder / "models" / name).is_file()), None)


DEFAULT_FILE = re.compile(r'^\s*default_model_filename\s*:\s*"([^"]+)"', re.MULTILINE)


def _triton(folder: Path) -> Path | None:
    """A model of a Triton repository: config.pbtxt, and a numbered folder for each version, of which the newest."""
    if not (folder / "config.pbtxt").is_file():
        return None
    versions = sorted((p for p in folder.iterdir() if p.is_dir() and p.name.isdecimal()), key=lambda p: int(p.name))
    if not versions:
        return None
    named = DEFAULT_FILE.search(_text(folder / "config.pbtxt"))
    if named:
        return _inside(versions[-1], named[1])
    file = _one([path for path in versions[-1].iterdir() if path.stem == "model"])
    return (_one(list(file.glob("*.onnx"))) or file) if file is not None and file.is_dir() else file


def _mmdeploy(folder: Path) -> Path | None:
    """MMDeploy's converted models: deploy.json names the network's file."""
    try:
        models = json.loads(_text(folder / "deploy.json") or "{}").get("models", [])
        return _one([found for model in models if (found := _inside(folder, str(model["net"]))) is not None])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _skorch(folder: Path) -> Path | None:
    """skorch's Checkpoint: the parameters beside the history, optimizer and criterion."""
    return _one(sorted(folder.glob("*params.*"))) if any(folder.glob("*history.json")) else None


def _keras(folder: Path) -> Path | None:
    """Keras' weights in several files, by their index."""
    return _one(list(folder.glob("*.weights.json")))


KERAS_HUB = re.compile(r'"registered_name"\s*:\s*"keras_(hub|nlp|cv)\b')


def _keras_hub(folder: Path) -> Path | None:
    """KerasHub's presets: a backbone's ``config.json``, and ``task.json`` where something is around it."""
    if not KERAS_HUB.search(_text(folder / "config.json")):
        return None
    return next(path for name in ("task.json", "config.json") if (path := folder / name).is_file())


TFJS = re.compile(r'"weightsManifest"\s*:')


def _tfjs(folder: Path) -> Path | None:
    """TensorFlow.js' models: the JSON file that says where their weights lie."""
    found = [p for p in sorted(folder.glob("*.json")) if p.is_file() and p.stat().st_size <= bounds.JSON]
    return _one([p for p in found if TFJS.search(p.read_text("utf-8", "replace"))])


def _mlpackage(folder: Path) -> Path | None:
    """A Core ML package: ``Manifest.json`` names the model among its items, which lie below ``Data``."""
    try:
        manifest = json.loads(_text(folder / "Manifest.json") or "{}")
        place = str(manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return folder / "Data" / place if ".." not in Path(place).parts and not place.startswith("/") else None


def _ncnn(folder: Path) -> Path | None:
    """ncnn's models: the layers, with their weights beside them; PNNX leaves its own description there too."""
    layers = [path for path in sorted(folder.glob("*.param")) if not path.name.endswith(".pnnx.param")]
    return _one([path for path in layers if path.with_suffix(".bin").is_file()])


STATE = re.compile(r'^model_checkpoint_path:\s*"([^"]+)"', re.MULTILINE)


def _tensorflow(folder: Path) -> Path | None:
    """TensorFlow's checkpoints: the file ``checkpoint`` names the last one."""
    named = STATE.search(_text(folder / "checkpoint"))
    return _inside(folder, f"{_file_name(named[1])}.index") if named else None


RULES: Sequence[Rule] = (
    *(_mlflow, _bentoml, _latest, _deepspeed, _monai, _triton, _mmdeploy, _skorch, _keras_hub, _keras, _tfjs),
    *(_ncnn, _mlpackage, _tensorflow, _paddle, _fsdp, _hub),
)

WHOLE: Sequence[Rule] = (
    _mlflow,
    _bentoml,
    _deepspeed,
    _monai,
    _triton,
    _mmdeploy,
    _skorch,
    _keras_hub,
    _mlpackage,
    _fsdp,
)
"""Rules by which all that is in a folder belongs to one checkpoint; the others name one of the files in it."""
TELLING = re.compile(
    r"(MLmodel|model\.yaml|configs|config\.(pbtxt|json)|deploy\.json|Manifest\.json)$|mp_rank_|pytorch_model_fsdp|.*history\.json$"
)
"""Names one of which is there where one of these rules applies."""
PACKAGE = ("provenance.json", "config.json", "README.md")
"""What a package of this tool has."""


def is_whole(folder: Path) -> bool:
    """Whether a folder is one checkpoint, with all that is in it, and not a place where some lie."""
    try:
        names = set(os.listdir(folder))  # noqa: PTH208 (names alone, of thousands)
    except OSError:  # which is said when it is read
        return False
    if not names.isdisjoint(OWN) or names.issuperset(PACKAGE):
        return True
    if not any(TELLING.match(name) for name in names):
        return False
    try:
        return any((found := rule(folder)) is not None and found.exists() for rule in WHOLE)
    except UnreadableFile:  # which is said when it is read
        return True
