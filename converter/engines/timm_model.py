"""Which DenseNets timm can build, in its own words (timm/models/densenet.py)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from converter.core.errors import CannotExpress
from densenet.config import NAMED, DenseNetConfig
from densenet.fields import AXES

TIMM_NAMES = ("densenet121", "densenet169", "densenet201", "densenet161", "densenet264d", "densenetblur121d")


@dataclass(frozen=True)
class TimmModel:
    """How timm builds a network: ``timm.create_model(architecture, num_classes=..., **arguments)``."""

    architecture: str
    arguments: Mapping[str, Any]


def timm_model(config: DenseNetConfig) -> TimmModel:
    """The network in timm's words.

    Raises:
        CannotExpress: timm has no such network; says what it lacks.
    """
    lacks = [what for what, has in _beyond_timm(config).items() if has]
    if lacks:
        raise CannotExpress(f"timm has no DenseNet with {', '.join(lacks)}")
    arguments: dict[str, Any] = {}
    if config.in_channels != 3:
        arguments["in_chans"] = config.in_channels
    if config.global_pool != "avg":
        arguments["global_pool"] = config.global_pool
    plain = replace(config, num_classes=1000, in_channels=3, global_pool="avg", eps=DenseNetConfig.eps)
    for name in TIMM_NAMES:
        if NAMED[name] == plain:
            return TimmModel(name, arguments)
    # timm takes blur pooling as a class, which JSON cannot hold: only one architecture brings it.
    base = "densenetblur121d" if config.stem_pool == "blur" else "densenet121"
    if config.transition_pool == "blur":
        arguments["aa_stem_only"] = False
    stem = _stem_type(config)
    if stem != ("deep" if base == "densenetblur121d" else ""):
        arguments["stem_type"] = stem
    ours, usual = config.to_dict(), DenseNetConfig().to_dict()
    arguments |= {name: ours[name] for name in ("growth_rate", "block_config", "bn_size") if ours[name] != usual[name]}
    return TimmModel(base, dict(sorted(arguments.items())))


def _beyond_timm(config: DenseNetConfig) -> dict[str, bool]:
    return {
        "a CIFAR stem": config.stem == "cifar",
        f"{config.init_features} feature maps after the stem and growth rate {config.growth_rate} "
        "(timm's stem has twice the growth rate)": config.init_features != 2 * config.growth_rate,
        "layers without a bottleneck": not config.bottleneck,
        f"compression {config.compression:g}": config.compression != DenseNetConfig.compression,
        f"a deep stem of widths {config.stem_widths}": config.stem == "deep" and _stem_type(config) is None,
        "blur pooling in the transitions alone": config.transition_pool == "blur" and config.stem_pool != "blur",
        "pooling that rounds up": config.stem_ceil or config.transition_ceil,
        "TensorFlow's padding": config.padding == "same",
        "no ReLU in the transitions": not config.transition_relu,
        "no ReLU after the last norm": not config.final_relu,
        f"{config.hidden_activation} in place of ReLU": config.hidden_activation != "relu",
        f"{config.final_activation} after the last norm": config.final_activation is not None,
        f"several heads ({', '.join(head.name for head in config.heads)})": bool(config.heads),
        f"a head of several layers ({', '.join(config.head)})": bool(config.head),
        "maxima before averages": config.global_pool == "catmaxavg",
        f"{config.spatial_dims} spatial dimensions": config.spatial_dims != 2,
        "another stride or kernel in its stem or transitions": any(
            getattr(config, name) != usual for name, usual in AXES.items()
        ),
        "average pooling after the stem, or maxima in a border of zeros": config.stem_pool in ("avg", "zero_max"),
        "max pooling in its transitions": config.transition_pool == "max",
        "no pooling after the stem": config.stem != "cifar" and config.stem_pool == "none",
    }


def _stem_type(config: DenseNetConfig) -> str | None:
    """timm's name of the stem; None if it has none like it."""
    if config.stem != "deep":
        return ""
    k = config.growth_rate
    if config.stem_widths == (k, k):
        return "deep"
    return "deep_tiered" if config.stem_widths == (3 * (k // 4), 6 * (k // 4)) else None
