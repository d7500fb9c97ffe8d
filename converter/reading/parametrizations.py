"""Weights that are kept as what they are computed from: pruning masks, weight norm, spectral norm.

Each is computed as PyTorch does it in evaluation, in float64 (torch/nn/utils/prune.py,
weight_norm.py, spectral_norm.py, parametrizations.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from converter.core.checkpoint import Array, Tensor, computed_dtype
from converter.reading.wrappers import Group

Compute = Callable[..., Array]

ITERATED = 0.9
"""The cosine between ``u`` and the weight times ``v`` after a step of power iteration is near 1."""
TINY = 1e-300


def _masked(original: Array, mask: Array) -> Array:
    return original * mask


def _weight_norm(g: Array, v: Array) -> Array:
    """``g`` has the length of the one axis that is kept, or is a single number."""
    kept = next((i for i in range(v.ndim) if g.ndim == v.ndim and g.shape[i] > 1), None)
    axes = tuple(i for i in range(v.ndim) if i != kept)
    norm: Array = np.sqrt(np.sum(v**2, axis=axes, keepdims=True))
    result: Array = v * (g / norm)
    return result


def _spectral_norm(weight: Array, u: Array, v: Array) -> Array:
    """``u`` is as long as the axis that was kept when the weight was made a matrix: the first, or the second.

    Where both are so long it is the first, PyTorch's own choice, unless ``u`` is what its power iteration makes of
    ``v`` along the second.
    """
    kept = [np.swapaxes(weight, 0, axis) for axis in (0, 1) if u.shape[0] == weight.shape[axis]]
    images = [turned.reshape(turned.shape[0], -1) @ v for turned in kept]
    norms = [u @ image for image in images]
    cosines = [norm / max(float(np.linalg.norm(image)), TINY) for norm, image in zip(norms, images)]
    iterated = int(len(kept) > 1 and cosines[1] > max(cosines[0], ITERATED))
    result: Array = weight / norms[iterated]
    return result


RULES: tuple[tuple[tuple[str, ...], str, Compute, str], ...] = (
    (("{}_orig", "{}_mask"), "pruning masks are applied", _masked, ""),
    (("{}_g", "{}_v"), "weight norm is computed", _weight_norm, ""),
    (("{}_orig", "{}_u", "{}_v"), "spectral norm is computed", _spectral_norm, ""),
    (("{}.original0", "{}.original1"), "weight norm is computed", _weight_norm, "parametrizations"),
    (("{}.original", "{}.0._u", "{}.0._v"), "spectral norm is computed", _spectral_norm, "parametrizations"),
)
"""Names of the parts (of ``{}``, the tensor), what is said, how it is computed, what stands before its name."""

UNKNOWN = "kept as what a parametrization computes it from; make it plain first (remove_parametrizations)"


def computed(group: Group) -> Group:
    """The group with plain tensors in place of what they are computed from."""
    tensors, sources, notes = dict(group.tensors), dict(group.sources), list(group.notes)
    for parts, note, compute, before in RULES:
        ending = parts[0].removeprefix("{}")
        for key in [key for key in tensors if key.endswith(ending)]:
            stem = key.removesuffix(ending)
            module, _, leaf = stem.rpartition(".")
            if before and not f".{module}".endswith(f".{before}"):
                continue
            keys = tuple(part.format(stem) for part in parts)
            plain = f"{module.removesuffix(before)}{leaf}" if before else stem
            if plain in tensors or not all(k in tensors for k in keys) or not _fit(compute, [tensors[k] for k in keys]):
                continue
            made = _made(compute, [tensors[k] for k in keys], compute is _weight_norm)
            tensors = {
                plain if k == key else k: made if k == key else t for k, t in tensors.items() if k not in keys[1:]
            }
            sources[plain] = tuple(name for k in keys for name in group.names(k))
            notes += [note] if note not in notes else []
    strange = {key: UNKNOWN for key in tensors if ".parametrizations." in f".{key}"}
    kept = {key: tensor for key, tensor in tensors.items() if key not in strange}
    return replace(group, tensors=kept, sources=sources, notes=tuple(notes), unread={**group.unread, **strange})


def _fit(compute: Compute, parts: list[Tensor]) -> bool:
    """Whether the shapes are those of such parts."""
    shapes = [part.shape for part in parts]
    if compute is _masked:
        return shapes[0] == shapes[1]
    if compute is _weight_norm:
        g, v = shapes
        return g == () or (
            len(g) == len(v) > 0 and all(a in (1, b) for a, b in zip(g, v)) and sum(n > 1 for n in g) < 2
        )
    weight, u, v = shapes
    if len(weight) < 2 or len(u) != 1 or len(v) != 1:
        return False
    return any(u[0] == weight[i] and u[0] * v[0] == _size(weight) for i in (0, 1))


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))


def _made(compute: Compute, parts: list[Tensor], last: bool) -> Tensor:
    """The tensor computed when it is read; of the (last or first) part's shape and type, at least float32."""
    like = parts[1] if last else parts[0]
    dtype = like.dtype if compute is _masked else computed_dtype(like.dtype)

    def read() -> Array:
        with np.errstate(all="ignore"):
            values: np.ndarray[Any, Any] = compute(*(part.read().astype(np.float64) for part in parts))
        return values.astype(dtype)

    return Tensor(like.shape, dtype, read)
