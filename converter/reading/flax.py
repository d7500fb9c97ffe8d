"""flax' names and kernels as PyTorch has them: ``params/stem/kernel`` (HWIO) is ``stem.weight`` (OIHW).

flax.linen keeps parameters and statistics in two trees of one shape (``params``, ``batch_stats``), flax.nnx in one;
flattened they are joined by slashes or dots (flax.traverse_util).  Modules that nobody named are called after their
class, each class counted by itself (``Conv_3``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from converter.core.checkpoint import Tensor
from converter.reading.wrappers import SKIPPED, Group

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
COLLECTIONS = ("params", "batch_stats")
BOXES = ("value", "raw_value")
"""What nnx keeps a variable's array under."""
COUNTS = ("step", "count")
TRAINING = "state of the training, not of the network"
AUTOMATIC = r"([A-Z]\w*?)_(\d{1,9})"
PADDING = (
    "flax' files do not say how strided windows are padded: by half the window, as in PyTorch's networks, and not by "
    "flax' own rule; --set padding=same changes it"
)


def from_flax(group: Group) -> Group:
    """The group in PyTorch's names and orientation; as it is where it is not flax'."""
    parts = {key: _parts(key) for key in group.tensors}
    training = {k: TRAINING for k, names in parts.items() if not SKIPPED.isdisjoint(names) or names[-1] in COUNTS}
    parts = {key: names for key, names in parts.items() if names[-1] in LEAVES and key not in training}
    leaves = {key: names[-1] for key, names in parts.items()}
    if not {"kernel", "scale", "mean", "var"} <= set(leaves.values()):
        return group
    kernels = [group.tensors[key] for key, leaf in leaves.items() if leaf == "kernel"]
    if not {len(tensor.shape) for tensor in kernels} & {4, 5}:
        return group
    modules = _in_order([".".join(names[:-1]) for names in parts.values()])
    called = {key: ".".join(filter(None, (modules[".".join(n[:-1])], LEAVES[n[-1]]))) for key, n in parts.items()}
    if len(set(called.values())) < len(called):
        return group
    others = {key: tensor for key, tensor in group.tensors.items() if key not in called and key not in training}
    tensors = {new: _turned(group.tensors[old], leaves[old]) for old, new in called.items()}
    sources = {new: group.names(old) for old, new in called.items()}
    dropped = {**group.dropped, **training}
    return replace(group, tensors={**others, **tensors}, sources=sources, dropped=dropped, flax=True)


def _parts(key: str) -> list[str]:
    """A name's components, without the collection it is in and what its array is boxed in."""
    parts = key.replace("/", ".").split(".")
    if parts[-1] in BOXES:
        parts = parts[:-1] or parts
    at = next((i for i, part in enumerate(parts[:-1]) if part in COLLECTIONS), None)
    return parts if at is None else parts[:at] + parts[at + 1 :]


def _turned(tensor: Tensor, leaf: str) -> Tensor:
    """A kernel with its last axes, in and out, first."""
    dims = len(tensor.shape)
    if leaf != "kernel" or dims < 2:
        return tensor
    from converter.structures.weights import lazily  # noqa: PLC0415 (for few)

    order = (dims - 1, dims - 2, *range(dims - 2))
    return lazily(tensor, lambda array: array.transpose(order))


def _in_order(modules: Iterable[str]) -> Mapping[str, str]:
    """Modules under names that can be put in order: those that are called after their class, by what they are.

    Of those outside all others the first convolution is the stem, with the first norm if there is one more norm than
    the layers need; the last norm and the linear layers are the head.  A layer's, counted by themselves, alternate.
    """
    names = list(dict.fromkeys(modules))
    lead = next((i for i, of in enumerate(zip(*(n.split(".") for n in names))) if len(set(of)) > 1), 0)
    prefix = ".".join(names[0].split(".")[:lead])
    inside = {name: name.removeprefix(f"{prefix}.") if prefix else name for name in names}
    roots = {name: match for name, own in inside.items() if (match := re.fullmatch(AUTOMATIC, own))}
    counted: dict[str, list[tuple[int, str]]] = {}
    for name, match in roots.items():
        counted.setdefault(match[1], []).append((int(match[2]), name))
    result = {name: _lowered(own) for name, own in inside.items()}
    convs, norms = (sorted(counted.get(kind, [])) for kind in ("Conv", "BatchNorm"))
    if not convs or not norms:
        return result if counted else {name: name for name in names}
    alone = len(roots) == len(names)
    with_norm = len(norms) > len(convs) if alone else len(norms) > 1
    result |= {name: f"conv_{number - 1 + with_norm}" for number, name in convs}
    result |= {name: f"norm_{number}" for number, name in norms}
    result |= {convs[0][1]: "stem.conv", norms[-1][1]: "norm_final"}
    result |= {name: f"head.{number}" for number, name in counted.get("Dense", [])}
    return result | ({norms[0][1]: "stem.norm"} if with_norm else {})


def _lowered(name: str) -> str:
    """``DenseBlock_0.BatchNorm_1`` as ``denseblock_0.batchnorm_1``, by which order is told."""
    return ".".join(part.lower() if re.fullmatch(AUTOMATIC, part) else part for part in name.split("."))
