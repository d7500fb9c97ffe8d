"""``hf://owner/name[@revision][/file]``: a file of a Hub repository, through huggingface_hub's cache."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import unquote

from converter.core import bounds
from converter.core.errors import ConverterError, Unavailable
from converter.core.metadata import parsed
from converter.fetch.download import is_offline, is_wanted_again
from converter.fetch.hub_client import api, check_name, speaking
from converter.fetch.place import Place
from densenet.preprocess import Preprocess, from_timm

ADDRESS = re.compile(r"hf://(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>refs/\w+/[^/]+|[^/]+))?(?:/(?P<file>.+))?")
PREFERRED = (
    *("model.safetensors", "model.safetensors.index.json"),
    *("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pth"),
)
"""What the Hub's own libraries call the weights; safetensors before what must be unpickled."""
SUFFIXES = (
    *(".safetensors", ".bin", ".pth", ".pth.tar", ".pt", ".ckpt", ".h5", ".keras", ".onnx", ".npz", ".t7"),
    *(".tflite", ".ort"),
)
"""Where none of those is there, the only file of the first of these kinds."""
PAIRS = {".xml": (".bin",), ".param": (".bin",), ".bin": (".xml", ".param")}
"""What lies beside a file of OpenVINO or ncnn, under the same name."""
PRESET = ("task.json", "config.json", "metadata.json", "preprocessor.json", "image_converter.json")
PRESET_WEIGHTS = ("model.weights.h5", "model.weights.json", "task.weights.h5")
"""KerasHub's presets (keras_hub/src/utils/preset_utils.py): descriptions, and weights."""
PACKAGE = re.compile(r"(.*\.mlpackage)/.*")
"""Core ML's packages, which are folders."""
PART = re.compile(r".*\.mlpackage/.*|(.*/)?group\d+-shard\d+of\d+(\.bin)?")
"""Files that are no checkpoints by themselves: what is in such folders, and TensorFlow.js' weights."""
LAST = ("model.json", ".mlpackage", ".mlmodel", ".msgpack")
"""Where there is no other: TensorFlow.js, Core ML, flax."""
CONFIG = "config.json"


@dataclass(frozen=True)
class HubAddress:
    """An ``hf://`` address, taken apart; no revision is the default branch, no file the weights."""

    repo: str
    revision: str | None = None
    file: str | None = None


def parse(address: str) -> HubAddress:
    """Take an ``hf://`` address apart.

    Raises:
        ConverterError: it is none.
    """
    found = ADDRESS.fullmatch(address.rstrip("/"))
    if not found:
        raise ConverterError(f"{address}: not an address on the Hub; write hf://owner/name[@revision][/file]")
    check_name(found["repo"])
    file = found["file"]
    if file and any(part in ("", ".", "..") for part in file.split("/")):
        raise ConverterError(f"{address}: {file} is not a path in a repository")
    return HubAddress(found["repo"], unquote(found["revision"]) if found["revision"] else None, file)


def fetch_hub(address: str) -> Place:
    """The file of an ``hf://`` address and what belongs to it, in the cache; its name says the commit it came from.

    Raises:
        Unavailable: no such repository, revision or file; not in the cache while offline mode is on.
        ConverterError: the address is malformed, or does not say which of several files.
        UnreadableFile: it names a folder in which several files may be meant.
    """
    wanted = parse(address)
    folder = Cached(wanted)
    listed = folder.files()
    file = wanted.file or choose(wanted.repo, listed)
    inside = [name for name in listed if name.startswith(f"{file}/")] if file not in listed else []
    if inside:
        from converter.fetch.folders import checkpoint_in  # noqa: PLC0415 (which knows this module, for few)

        if len(inside) > bounds.FILES:
            raise Unavailable(f"{wanted.repo}: {file} has {len(inside)} files; name one of them")
        root = [folder.root(name, folder.get(name)) for name in inside].pop()
        path = checkpoint_in(root / file)
        return Place(path, f"hf://{wanted.repo}@{folder.revision}/{path.relative_to(root).as_posix()}")
    path = folder.get(file)
    parent = PurePosixPath(file).parent
    config = str(parent / CONFIG)
    if config in listed:
        folder.get(config)
    for companion in companions(path, file):
        if companion in listed:
            folder.get(companion)
    return Place(path, f"hf://{wanted.repo}@{folder.revision}/{file}", _preprocess(path.parent / CONFIG))


def choose(repo: str, files: Sequence[str]) -> str:
    """Which of a repository's files, or which folder in it, holds the weights.

    Raises:
        ConverterError: none does, or several may.
    """
    for name in PREFERRED:
        if name in files:
            return name
    if CONFIG in files and "metadata.json" in files and any(name in files for name in PRESET_WEIGHTS):
        return next(name for name in PRESET if name in files)
    packages = dict.fromkeys(inside[1] for file in files if (inside := PACKAGE.fullmatch(file)))
    known = [*(file for file in files if not PART.fullmatch(file)), *packages]
    for suffix in (*SUFFIXES, *LAST):
        found = [file for file in known if file.endswith(suffix)]
        at_root = [file for file in found if "/" not in file]
        if len(found) == 1 or len(at_root) == 1:
            return (at_root or found)[0]
        if found:
            some = ", ".join(sorted(found)[:4])
            raise ConverterError(f"{repo}: has several {suffix} files ({some} ...); name one: hf://{repo}/{found[0]}")
    raise ConverterError(f"{repo}: has no file of weights; name one: hf://{repo}/FILE")


class Cached:
    """One revision of a repository, in huggingface_hub's cache; asks the Hub unless offline mode is on."""

    def __init__(self, wanted: HubAddress, kind: Literal["model", "dataset"] = "model") -> None:
        self.repo, self.kind = wanted.repo, kind
        self.revision = wanted.revision
        self.offline = is_offline()
        self.sizes: dict[str, int] = {}
        self.commit = ""

    def files(self) -> list[str]:
        """Paths in the repository; offline those in the cache."""
        if self.offline:
            folder = self._snapshot()
            return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        with speaking(self.repo, "listing its files"):
            info: Any = api().repo_info(self.repo, revision=self.revision, repo_type=self.kind, files_metadata=True)
        self.commit = str(info.sha or "")
        self.sizes = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or ()}
        return list(self.sizes)

    def get(self, file: str, *, again: bool = False) -> Path:
        """One file, downloaded if need be; or ``again``, though it is there."""
        from huggingface_hub import hf_hub_download  # noqa: PLC0415 (slow to import)

        if self.sizes.get(file, 0) > bounds.DOWNLOAD:
            what = "shard" if self.kind == "dataset" else "checkpoint of a DenseNet"
            raise Unavailable(f"{self.repo}: {file} is larger than {bounds.DOWNLOAD >> 30} GB, as no {what} is")
        again = again or is_wanted_again(f"hf://{self.repo}/{file}")
        with speaking(self.repo, f"downloading {file}"):
            path = Path(
                hf_hub_download(
                    self.repo,
                    file,
                    repo_type=self.kind,
                    revision=self.revision,
                    local_files_only=self.offline,
                    force_download=again,
                )
            )
        # From here on one commit, whatever is pushed meanwhile.  The first download was by name, for the
        # cache to remember what the name meant when it is asked offline.
        self.revision = self.root(file, path).name
        return path

    @staticmethod
    def root(file: str, path: Path) -> Path:
        """The folder of the revision that a file was put into."""
        return path.parents[len(PurePosixPath(file).parents) - 1]

    def _snapshot(self) -> Path:
        """The folder of the cached revision."""
        from huggingface_hub import constants  # noqa: PLC0415 (slow to import)

        cache = Path(constants.HF_HUB_CACHE) / f"{self.kind}s--{self.repo.replace('/', '--')}"
        named = cache / "refs" / (self.revision or "main")
        commit = named.read_text("utf-8").strip() if named.is_file() else self.revision or ""
        folder = cache / "snapshots" / commit
        if not commit or not folder.is_dir():
            raise Unavailable(f"{self.repo}: not in the cache, and offline mode is on; unset HF_HUB_OFFLINE and "
                              "DENSENET_OFFLINE")  # fmt: skip
        return folder


def companions(path: Path, file: str) -> list[str]:
    """Files the file cannot be read without, or says more with: shards, external data, the other half of a pair."""
    at = PurePosixPath(file)
    if at.suffix in PAIRS:
        return [str(at.with_suffix(suffix)) for suffix in PAIRS[at.suffix]]
    if at.suffix == ".onnx":
        return [f"{file}_data", f"{file}.data"]
    if at.name in (*PRESET, *PRESET_WEIGHTS):
        return [str(at.parent / name) for name in (*PRESET, *PRESET_WEIGHTS)]
    if at.suffix != ".json":
        return []
    try:
        values = parsed(path.read_text("utf-8"))
        named = {str(name) for name in values.get("weight_map", {}).values()}
        named |= {str(name) for group in values.get("weightsManifest", ()) for name in group["paths"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []  # the reader says what is wrong with it
    classes = ["metadata.json"] if "weightsManifest" in values else []  # Teachable Machine's
    return [str(at.parent / name) for name in (*sorted(named), *classes)]


def _preprocess(config: Path) -> Preprocess | None:
    try:
        if config.stat().st_size > bounds.CONFIG:
            return None
        return from_timm(json.loads(config.read_text("utf-8"))["pretrained_cfg"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
