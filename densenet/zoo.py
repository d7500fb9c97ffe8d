"""The published DenseNets: where each file is, what it scores, how its images are prepared.

No torch here.  Every figure was read in the file its ``accuracy_source`` names; what
could not be read anywhere is None.  Hashes are the ones the publishers put into their
file names: the first 8 hexadecimal digits of the file's SHA-256.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from densenet.config import DenseNetConfig
from densenet.preprocess import MMPRETRAIN, TIMM, TORCHVISION, Preprocess


@dataclass(frozen=True)
class ZooModel:
    """One published file.

    Attributes:
        name: what users type.
        config: the network.
        url: where the file is.
        layout: name of the layout its tensors have.
        preprocess: how the publisher's evaluation prepares images; the accuracies hold for it.
        top1, top5: published accuracy on ImageNet's validation set, in percent.
        accuracy_source: where that is published.
        license: SPDX identifier of the publisher's licence.
        sha256_prefix: how the file's SHA-256 starts, None if not published.
        hub_id: repository on the Hugging Face Hub, None if there is none.
        aliases: other names for it, with their publishers' own ones.
    """

    name: str
    config: DenseNetConfig
    url: str
    layout: str
    preprocess: Preprocess
    top1: float | None
    top5: float | None
    accuracy_source: str
    license: str
    sha256_prefix: str | None = None
    hub_id: str | None = None
    aliases: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {
            "name": self.name,
            "parameters": self.config.parameters(),
            "flops": self.config.flops(),
            "top1": self.top1,
            "top5": self.top5,
            "accuracy_source": self.accuracy_source,
            "url": self.url,
            "sha256_prefix": self.sha256_prefix,
            "layout": self.layout,
            "license": self.license,
            "hub_id": self.hub_id,
            "config": self.config.to_dict(),
            "preprocess": self.preprocess.to_dict(),
        }


def _mmpretrain(arch: str, prefix: str, top1: float, top5: float) -> ZooModel:
    """open-mmlab/mmpretrain, configs/densenet/metafile.yml; torchvision's weights under other names."""
    published = f"{arch}_4xb256_in1k"
    return ZooModel(
        name=f"{arch}_3rdparty_in1k",
        config=DenseNetConfig.named(arch),
        url=f"https://download.openmmlab.com/mmclassification/v0/densenet/{published}_20220426-{prefix}.pth",
        layout="mmpretrain",
        preprocess=MMPRETRAIN,
        top1=top1,
        top5=top5,
        accuracy_source="mmpretrain, configs/densenet/metafile.yml",
        license="Apache-2.0",
        sha256_prefix=prefix,
        aliases=(published,),
    )


def _torchvision(arch: str, prefix: str, top1: float, top5: float) -> ZooModel:
    """pytorch/vision, torchvision/models/densenet.py."""
    return ZooModel(
        name=f"torchvision/{arch}",
        config=DenseNetConfig.named(arch),
        url=f"https://download.pytorch.org/models/{arch}-{prefix}.pth",
        layout="torchvision-legacy",
        preprocess=TORCHVISION,
        top1=top1,
        top5=top5,
        accuracy_source="torchvision, torchvision/models/densenet.py",
        license="BSD-3-Clause",
        sha256_prefix=prefix,
        aliases=(f"{arch}.IMAGENET1K_V1", f"DenseNet{arch.removeprefix('densenet')}_Weights.IMAGENET1K_V1"),
    )


def _timm(arch: str, tag: str, top1: float, top5: float, prefix: str | None = None) -> ZooModel:
    """huggingface/pytorch-image-models, timm/models/densenet.py and results/results-imagenet.csv.

    The files with a hash are the ones timm named before its weights moved to the Hub
    (commit 7ad7ddb7); tv_in1k are torchvision's weights, on the Hub as safetensors.
    """
    name = f"{arch}.{tag}"
    releases = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights"
    hub = f"https://huggingface.co/timm/{name}/resolve/main/model.safetensors"
    return ZooModel(
        name=name,
        config=DenseNetConfig.named(arch),
        url=f"{releases}/{arch}_ra-{prefix}.pth" if prefix else hub,
        layout="timm",
        preprocess=TIMM,
        top1=top1,
        top5=top5,
        accuracy_source="timm, results/results-imagenet.csv, image size 224",
        license="Apache-2.0",
        sha256_prefix=prefix,
        hub_id=f"timm/{name}",
        aliases=(f"timm/{name}", *(["tv_densenet121"] if name == "densenet121.tv_in1k" else [])),
    )


MODELS: tuple[ZooModel, ...] = (
    _mmpretrain("densenet121", "07450f99", 74.96, 92.21),
    _mmpretrain("densenet169", "a2889902", 76.08, 93.11),
    _mmpretrain("densenet201", "05cae4ef", 77.32, 93.64),
    _mmpretrain("densenet161", "ee6a80a9", 77.61, 93.83),
    _torchvision("densenet121", "a639ec97", 74.434, 91.972),
    _torchvision("densenet169", "b2777c0a", 75.600, 92.806),
    _torchvision("densenet201", "c1103571", 76.896, 93.370),
    _torchvision("densenet161", "8d451a50", 77.138, 93.560),
    _timm("densenet121", "ra_in1k", 75.574, 92.648, "50efcf5c"),
    _timm("densenetblur121d", "ra_in1k", 76.574, 93.188, "100dcfbc"),
    _timm("densenet121", "tv_in1k", 74.750, 92.158),
    _timm("densenet169", "tv_in1k", 75.922, 92.976),
    _timm("densenet201", "tv_in1k", 77.284, 93.480),
    _timm("densenet161", "tv_in1k", 77.384, 93.656),
)

_BY_NAME = {name: model for model in MODELS for name in (model.name, *model.aliases)}


def names(pattern: str | None = None) -> list[str]:
    """Names of published models, sorted; those that match a glob such as ``*121*``."""
    return sorted(model.name for model in MODELS if pattern is None or fnmatchcase(model.name, pattern))


def timm_name(architecture: str) -> str:
    """The published model that timm takes by an architecture's name, the first of its tags; empty if there is none."""
    tagged = (model.name for model in MODELS if model.name.startswith(f"{architecture}."))
    return next(tagged, "")


def is_published(name: str) -> bool:
    """Whether a published model has that name or alias."""
    return name in _BY_NAME


def zoo_model(name: str) -> ZooModel:
    """The published model of that name or alias.

    Raises:
        ValueError: there is none; names the nearest ones.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    known = [model.name for model in MODELS]
    # "densenet121" alone says no publisher: offer every one of them, not only similar spellings.
    near = [n for n in known if name and name.lower() in n.lower()]
    if not near:
        from difflib import get_close_matches  # noqa: PLC0415 (for errors only)

        near = get_close_matches(name, known, n=4) or known
    raise ValueError(f"no published model is named {name!r}; there are {', '.join(near)}")
