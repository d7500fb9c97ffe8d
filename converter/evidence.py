"""What a file says beside its tensors: settings that no shape shows.

Sources, strongest first: the user's ``--set``, the metadata this tool wrote itself, a
pickled module's own attributes, a Hub ``config.json`` beside the file, and the
module names PyTorch keeps in a state dict's ``_metadata``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any, get_args, get_type_hints

from converter.checkpoint import Checkpoint, Record
from converter.errors import ConverterError, NotADenseNet
from converter.layouts.keras import KERAS, KERAS2, WITHOUT_FINAL_RELU
from converter.recognise import Candidate
from densenet.config import CHOICES, DenseNetConfig

SETTINGS = (
    *("stem_pool", "transition_pool", "stem_ceil", "transition_ceil", "padding"),
    *("transition_relu", "final_relu", "global_pool", "eps"),
)
"""Config fields that tensors do not show."""

CONFIG_KEY = "densenet.config"
SOURCE_KEY = "densenet.source"
PREPROCESS_KEY = "densenet.preprocess"
LABELS_KEY = "densenet.labels"
TOOL_KEY = "densenet.tool"
SETTINGS_KEY = "settings"
"""What a format reader found beside the tensors: config fields, as JSON."""


def settle(candidate: Candidate, checkpoint: Checkpoint, settings: dict[str, Any]) -> tuple[DenseNetConfig, list[str]]:
    """The config with everything the file and the user say applied; and what had to be assumed.

    Raises:
        NotADenseNet: the file says it computes what a DenseNet does not.
        ConverterError: a setting of the user's does not exist.
    """
    config, notes = candidate.config, list(candidate.notes)
    assert config is not None
    own = _own(checkpoint)
    said = {**_metadata(candidate), **_sidecar(checkpoint, config), **_attributes(candidate, config)}
    stated = json_or_none(checkpoint.metadata.get(SETTINGS_KEY, ""))
    for values in (stated if isinstance(stated, dict) else {}, own):
        said |= {name: values[name] for name in SETTINGS if name in values}
    said |= settings
    version = checkpoint.metadata.get("keras_version", "")
    if candidate.layout in (KERAS, KERAS2) and version in WITHOUT_FINAL_RELU and "final_relu" not in said:
        said["final_relu"] = False
        notes.append(f"no ReLU after the last norm, as in Keras {version}'s code; --set final_relu=true changes it")
    notes += [
        f"{why}; --set {name}=... changes it" for name, why in candidate.layout.assumes.items() if name not in said
    ]
    if config.stem == "deep" and "stem_pool" not in {*said, *candidate.layout.network}:
        notes.append("max pooling after the deep stem is assumed: the file cannot say; --set stem_pool=blur changes it")
    if said.get("stem_pool") == "blur" and "transition_pool" not in said:
        if config.stem != "deep":  # no published network: nothing to go by
            raise ConverterError(
                f"{checkpoint.path}: blurs after the stem, and cannot say whether the transitions blur too; "
                "add --set transition_pool=avg or --set transition_pool=blur"
            )
        notes.append("average pooling in the transitions is assumed; --set transition_pool=blur changes it")
    if checkpoint.format == "TorchScript":
        notes.append("TorchScript keeps strides, padding and eps in code, which is not run: the usual ones are assumed")
    behind = {c.rpartition(".")[2] for n, c in candidate.group.classes.items() if _is_behind(candidate, n)}
    notes += [f"the {name} behind the classifier is left out: logits come before it" for name in sorted(behind)]
    try:
        return replace(config, **said), notes
    except (TypeError, ValueError) as error:
        raise ConverterError(f"{checkpoint.path}: {error}") from error


def parse_settings(pairs: Iterable[str]) -> dict[str, Any]:
    """``name=value`` texts as config fields.

    Raises:
        ConverterError: not of that form, no such setting, or not a value of it.
    """
    hints = get_type_hints(DenseNetConfig)
    result: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or name not in SETTINGS:
            raise ConverterError(f"--set {pair}: not a setting; settings are {', '.join(SETTINGS)}")
        kind = hints[name]
        if kind is bool and text.lower() in ("true", "false"):
            result[name] = text.lower() == "true"
        elif kind is float and _number(text) is not None:
            result[name] = _number(text)
        elif name in CHOICES and text in CHOICES[name]:
            result[name] = text
        else:
            allowed = get_args(kind) or ("true", "false") if kind is not float else ("a number",)
            raise ConverterError(f"--set {pair}: {name} takes {', '.join(map(str, allowed))}")
    return result


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _own(checkpoint: Checkpoint) -> dict[str, Any]:
    """The config this tool wrote into the file, if it did."""
    try:
        values = json.loads(checkpoint.metadata.get(CONFIG_KEY, "{}"))
        return DenseNetConfig.from_dict(values).to_dict() if values else {}
    except (ValueError, TypeError, AttributeError) as error:
        raise ConverterError(f"{checkpoint.path}: its {CONFIG_KEY} metadata is damaged ({error})") from error


def _metadata(candidate: Candidate) -> dict[str, Any]:
    """Blur pooling shows in the module names: timm's pool0 is then a sequence of two."""
    modules, prefix = candidate.group.modules, candidate.prefix
    if prefix + "features.pool0" not in modules:
        return {}
    return {"stem_pool": "blur" if prefix + "features.pool0.1" in modules else "max"}


def _attributes(candidate: Candidate, config: DenseNetConfig) -> dict[str, Any]:
    """What a pickled module's own attributes say; it is refused if they contradict a DenseNet."""
    attributes, classes = candidate.group.attributes, candidate.group.classes
    said: dict[str, Any] = {}
    _check_classes(candidate)
    eps = set()
    for module in config.modules():
        key = candidate.used.get(f"{module.name}.weight", (None, ("",)))[1][0].removesuffix(".weight")
        values = attributes.get(key, {})
        if module.kind == "norm" and "eps" in values:
            eps.add(values["eps"])
        elif module.kind == "conv":
            kernel = module.shape[2:]
            if values.get("padding_mode", "zeros") != "zeros":
                raise NotADenseNet(f"{key} pads with {values['padding_mode']}; a DenseNet pads with zeros")
            want = {"stride": module.stride, "padding": kernel[0] // 2, "dilation": 1, "groups": 1}
            for name, number in want.items():
                have = values.get(name, number)
                if have not in (number, (number,) * len(kernel)):
                    raise NotADenseNet(f"{key} has {name} {have}; a DenseNet has {number} there")
    if len(eps) > 1:
        raise NotADenseNet(f"the batch norms have different eps: {', '.join(map(str, sorted(eps)))}")
    if eps:
        said["eps"] = eps.pop()
    head = next((values for name, values in attributes.items() if name.rpartition(".")[2] == "global_pool"), {})
    if head.get("pool_type") in CHOICES["global_pool"]:  # timm's SelectAdaptivePool2d
        said["global_pool"] = head["pool_type"]
    pools = {name: cls.rpartition(".")[2] for name, cls in classes.items() if "Pool" in cls}
    for name, cls in pools.items():
        values = attributes.get(name, {})
        window = POOLS.get(cls) if name.startswith(candidate.prefix + "features.") else None
        for field, number in (window or {}).items():
            if values.get(field, number) not in (number, (number,) * config.spatial_dims):
                raise NotADenseNet(f"{name} has {field} {values[field]}; a DenseNet has {number} there")
        ceil = bool(attributes.get(name, {}).get("ceil_mode", False))
        if cls == "MaxPool2d":
            said["stem_ceil"] = ceil
        elif cls == "AvgPool2d" and "transition" in name:
            said["transition_ceil"] = ceil
        elif cls == "BlurPool2d":
            said["transition_pool" if "transition" in name else "stem_pool"] = "blur"
    return said


def _is_behind(candidate: Candidate, path: str) -> bool:
    """Whether a module of the file is an activation in the classifier."""
    head = candidate.prefix + candidate.layout.modules.get("classifier", " ")
    return path.startswith(head) and ".activation." in candidate.group.classes[path]


POOLS: dict[str, dict[str, int]] = {
    "MaxPool2d": {"kernel_size": 3, "padding": 1, "dilation": 1},
    "AvgPool2d": {"kernel_size": 2, "stride": 2, "padding": 0},
}
PLAIN = frozenset(
    "Conv2d Conv3d BatchNorm2d BatchNorm3d ReLU MaxPool2d MaxPool3d AvgPool2d AvgPool3d Linear Dropout "
    "Dropout2d Flatten AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool2d Sequential ModuleList ModuleDict "
    "DataParallel".split()
)
"""Classes of torch.nn that a DenseNet is made of."""
NEEDED = {"pool0": ("MaxPool2d", "MaxPool3d", "Sequential"), "relu0": ("ReLU",), "relu": ("ReLU",)}
"""Modules without tensors under torchvision's names, and what they must be."""


def _check_classes(candidate: Candidate) -> None:
    """Refuse a pickled or scripted module that has other layers of torch.nn in it than a DenseNet."""
    prefix, layout = candidate.prefix, candidate.layout
    for path, cls in candidate.group.classes.items():
        if not path.startswith(prefix) or path[len(prefix) :].startswith(layout.modules.get("classifier", " ")):
            continue
        home, _, name = re.sub(r"___torch_mangle_\d+\.", "", cls).rpartition(".")
        if not home.removeprefix("__torch__.").startswith("torch.nn.modules."):
            continue
        # timm has an Identity for every dropout and drop path it does without
        last = path.rpartition(".")[2]
        idle = name == "Identity" and last not in ("pool", "pool0", "relu", "relu0", "act", "conv", "norm")
        if name not in PLAIN and not idle:
            raise NotADenseNet(f"{path} is a {name}, which a DenseNet does not have")
        wanted = NEEDED.get(last)
        if wanted and path.startswith(f"{prefix}features.") and name not in wanted:
            raise NotADenseNet(f"{path} is a {name}; a DenseNet has {wanted[0]} there")
        if (
            path.startswith(f"{prefix}features.transition")
            and path.endswith(".pool")
            and not name.startswith("AvgPool")
        ):
            raise NotADenseNet(f"{path} is a {name}; a DenseNet has AvgPool2d there")
    modules = candidate.group.modules
    if f"{prefix}features.relu0" in modules and f"{prefix}features.pool0" not in modules:
        raise NotADenseNet(f"{prefix}features.pool0 is missing: a network without the stem's pooling")


def sidecar(checkpoint: Checkpoint) -> dict[str, Any]:
    """The Hub ``config.json`` in the file's folder, as timm's push_to_hf_hub writes it, or nothing."""
    path = checkpoint.path.parent / "config.json"
    try:
        if not path.is_file() or path.stat().st_size > 1 << 20:
            return {}
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) and "densenet" in str(values.get("architecture", "")) else {}


def _sidecar(checkpoint: Checkpoint, config: DenseNetConfig) -> dict[str, Any]:
    values = sidecar(checkpoint)
    said: dict[str, Any] = {}
    if not values or values.get("num_classes", config.num_classes) != config.num_classes:
        return said  # none, or it speaks of another file
    arguments = values.get("model_args") if isinstance(values.get("model_args"), dict) else {}
    assert isinstance(arguments, dict)
    blurred = "blur" in values["architecture"] or bool(arguments.get("aa_layer"))
    said["stem_pool"] = "blur" if blurred and config.stem != "cifar" else "max"
    said["transition_pool"] = "blur" if blurred and arguments.get("aa_stem_only") is False else "avg"
    if values.get("global_pool") in CHOICES["global_pool"]:
        said["global_pool"] = values["global_pool"]
    return said


def labels_of(checkpoint: Checkpoint, classes: int) -> list[str]:
    """Class names the file or its ``config.json`` gives, if there are as many as classes."""
    found: Any = None
    if LABELS_KEY in checkpoint.metadata:
        found = json_or_none(checkpoint.metadata[LABELS_KEY])
    if found is None:
        found = sidecar(checkpoint).get("label_names")
    if found is None and isinstance(checkpoint.tree, dict):
        meta = checkpoint.tree.get("meta")
        if isinstance(meta, dict):  # mmcls: CLASSES; mmengine: dataset_meta.classes
            dataset = meta.get("dataset_meta")
            found = dataset.get("classes") if isinstance(dataset, dict) else meta.get("CLASSES")
    if isinstance(found, Record) or not isinstance(found, (list, tuple)) or len(found) != classes:
        return []
    return [str(name) for name in found]


def stated_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a file of this tool's says of itself, as it stands there."""
    keys = (CONFIG_KEY, LABELS_KEY, PREPROCESS_KEY)
    return {k: json_or_none(checkpoint.metadata[k]) for k in keys if k in checkpoint.metadata}


def preprocess_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """Preprocessing this tool recorded in the file or timm beside it, as a dict, or nothing."""
    found = json_or_none(checkpoint.metadata.get(PREPROCESS_KEY, "null"))
    if isinstance(found, dict):
        return found
    values = sidecar(checkpoint).get("pretrained_cfg")
    if isinstance(values, dict):
        from densenet.preprocess import from_timm  # noqa: PLC0415 (Pillow, for few)

        with suppress(ValueError):  # something else than a square centre crop
            return from_timm(values).to_dict()
    return {}


def json_or_none(text: str) -> Any:
    """The value of a JSON text; None if it is damaged."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
