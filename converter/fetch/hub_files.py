"""``hf://owner/name[@revision][/file]``: a file of a Hub repository, through huggingface_hub's cache."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from converter.core import bounds
from converter.core.errors import ConverterError, Unavailable
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
INDEX = ".index.json"
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
    """
    wanted = parse(address)
    folder = Cached(wanted)
    listed = folder.files()
    file = wanted.file or choose(wanted.repo, listed)
    path = folder.get(file)
    parent = PurePosixPath(file).parent
    config = str(parent / CONFIG)
    if config in listed:
        folder.get(config)
    for companion in _companions(path, file):
        if companion in listed:
            folder.get(companion)
    return Place(path, f"hf://{wanted.repo}@{folder.revision}/{file}", _preprocess(path.parent / CONFIG))


def choose(repo: str, files: Sequence[str]) -> str:
    """Which of a repository's files holds the weights.

    Raises:
        ConverterError: none does, or several may.
    """
    for name in PREFERRED:
        if name in files:
            return name
    for suffix in SUFFIXES:
        found = [file for file in files if file.endswith(suffix)]
        at_root = [file for file in found if "/" not in file]
        if len(found) == 1 or len(at_root) == 1:
            return (at_root or found)[0]
        if found:
            some = ", ".join(sorted(found)[:4])
            raise ConverterError(f"{repo}: has several {suffix} files ({some} ...); name one: hf://{repo}/{found[0]}")
    raise ConverterError(f"{repo}: has no file of weights; name one: hf://{repo}/FILE")


class Cached:
    """One revision of a repository, in huggingface_hub's cache; asks the Hub unless offline mode is on."""

    def __init__(self, wanted: HubAddress) -> None:
        self.repo = wanted.repo
        self.revision = wanted.revision
        self.offline = is_offline()
        self.sizes: dict[str, int] = {}

    def files(self) -> list[str]:
        """Paths in the repository; offline those in the cache."""
        if self.offline:
            folder = self._snapshot()
            return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        with speaking(self.repo, "listing its files"):
            info = api().model_info(self.repo, revision=self.revision, files_metadata=True)
        self.sizes = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or ()}
        return list(self.sizes)

    def get(self, file: str, *, again: bool = False) -> Path:
        """One file, downloaded if need be; or ``again``, though it is there."""
        from huggingface_hub import hf_hub_download  # noqa: PLC0415 (slow to import)

        if self.sizes.get(file, 0) > bounds.DOWNLOAD:
            raise Unavailable(
                f"{self.repo}: {file} is larger than {bounds.DOWNLOAD >> 30} GB, as no checkpoint of a DenseNet is"
            )
        again = again or is_wanted_again(f"hf://{self.repo}/{file}")
        with speaking(self.repo, f"downloading {file}"):
            path = Path(
                hf_hub_download(
                    self.repo, file, revision=self.revision, local_files_only=self.offline, force_download=again
                )
            )
        # From here on one commit, whatever is pushed meanwhile.  The first download was by name, for the
        # cache to remember what the name meant when it is asked offline.
        self.revision = path.parents[len(PurePosixPath(file).parents) - 1].name
        return path

    def _snapshot(self) -> Path:
        """The folder of the cached revision."""
        from huggingface_hub import constants  # noqa: PLC0415 (slow to import)

        cache = Path(constants.HF_HUB_CACHE) / f"models--{self.repo.replace('/', '--')}"
        named = cache / "refs" / (self.revision or "main")
        commit = named.read_text("utf-8").strip() if named.is_file() else self.revision or ""
        folder = cache / "snapshots" / commit
        if not commit or not folder.is_dir():
            raise Unavailable(f"{self.repo}: not in the cache, and offline mode is on; unset HF_HUB_OFFLINE and "
                              "DENSENET_OFFLINE")  # fmt: skip
        return folder


def _companions(path: Path, file: str) -> list[str]:
    """Files the file cannot be read without: the shards of an index, an ONNX graph's data, OpenVINO's other half."""
    if file.endswith((".xml", ".bin")):
        return [str(PurePosixPath(file).with_suffix(".xml" if file.endswith(".bin") else ".bin"))]
    if file.endswith(".onnx"):
        return [f"{file}_data", f"{file}.data"]
    if not file.endswith(INDEX):
        return []
    try:
        shards = set(json.loads(path.read_text("utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []  # the reader says what is wrong with it
    return sorted(str(PurePosixPath(file).parent / str(shard)) for shard in shards)


def _preprocess(config: Path) -> Preprocess | None:
    try:
        if config.stat().st_size > bounds.CONFIG:
            return None
        return from_timm(json.loads(config.read_text("utf-8"))["pretrained_cfg"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
