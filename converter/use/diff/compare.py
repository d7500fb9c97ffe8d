"""Compare two networks, tensor by tensor."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

import numpy as np

from converter.core.checkpoint import Array, Tensor
from converter.core.errors import CannotExpress
from converter.core.fingerprint import Fingerprint, brain, half, weights
from converter.core.model import Images, Model
from converter.core.norms import with_eps
from converter.core.progress import Progress, shown_in_notebooks
from converter.core.source import AnySource, Source
from converter.reading.load import load
from converter.use.diff.difference import Difference, TensorDifference
from densenet.names import parse

EXACT = 1e-6
"""To how much of the largest value a factor must hold everywhere: a float32 product rounds to less."""

FOLDED = 2 * float(np.finfo(np.float32).eps)
"""How far from each other, relatively, values may be that were rounded to float32 after an eps was folded in."""


def diff(a: AnySource, b: AnySource, *, progress: Progress = shown_in_notebooks) -> Difference:
    """Compare the weights of two checkpoints, of whatever formats and layouts.

    Args:
        a, b: checkpoints, as for :func:`converter.load`.
        progress: called with a line before each step.

    Raises:
        ConverterError: one cannot be read, or is no DenseNet.

    Example:
        >>> from converter import diff
        >>> diff("digits.pth", "digits.safetensors").relation  # which is float16
        'rounded'
    """
    models = []
    for source in (a, b):
        progress(f"reading {Source.of(source)}")
        models.append(load(source))
    progress("comparing")
    names = (str(Source.of(a)), str(Source.of(b)))
    return compare(*names, *models)


def compare(a: str, b: str, first: Model, second: Model) -> Difference:
    """Compare two networks in the library layout, called ``a`` and ``b``.

    Where they have another eps, B's norms are brought to A's: what one format cannot say is folded into them.
    """
    ours, theirs = weights(first.tensors), weights(second.tensors)
    eps = first.config.eps, second.config.eps
    if eps[0] != eps[1]:
        theirs = _with_eps(theirs, have=eps[1], want=eps[0])
    dots = np.zeros(3)
    found = []
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        if name not in ours or name not in theirs:
            found.append(TensorDifference(name, "only in B" if name not in ours else "only in A"))
            continue
        x, y = (np.asarray(tensors[name].read()) for tensors in (ours, theirs))
        found.append(_of_tensor(name, x, y, folded=eps[0] != eps[1] and parse(name).kind == "norm"))
        if parse(name).kind == "conv" and x.shape == y.shape:
            p, q = x.ravel().astype(np.float64), y.ravel().astype(np.float64)
            dots += (p @ q, p @ p, q @ q)
    cosine = float(dots[0] / np.sqrt(dots[1] * dots[2])) if dots[1] and dots[2] else None
    configs = [model.config.to_dict() for model in (first, second)]
    keys = dict.fromkeys([*configs[0], *configs[1]])
    settings = {
        key: (configs[0].get(key), configs[1].get(key)) for key in keys if configs[0].get(key) != configs[1].get(key)
    }
    if all(tensor.same for tensor in found):
        settings.pop("eps", None)
    return Difference(
        a,
        b,
        tuple(_moved(found, ours, theirs)),
        settings,
        _said(first.images, second.images),
        cosine,
        (first.config.num_classes, second.config.num_classes),
        (str(Fingerprint.of(first.tensors)), str(Fingerprint.of(second.tensors))),
    )


def _with_eps(tensors: Mapping[str, Tensor], *, have: float, want: float) -> dict[str, Tensor]:
    """Tensors whose norms do with eps ``want`` what they did with ``have``; as they are where that cannot be said."""
    result = dict(tensors)
    for name in tensors:
        norm = name.removesuffix(".running_var")
        weight = f"{norm}.weight"
        if norm != name and weight in tensors:
            with suppress(CannotExpress):
                result[weight], result[name] = with_eps(norm, tensors[weight], tensors[name], have, want)
    return result


def _of_tensor(name: str, x: Array, y: Array, *, folded: bool) -> TensorDifference:
    """One tensor against that of the same name; ``folded`` is whether it was computed, and rounded anew."""
    if x.shape != y.shape:
        return TensorDifference(name, "reshaped", f"{list(x.shape)} and {list(y.shape)}")
    p, q = x.astype(np.float64), y.astype(np.float64)
    if np.array_equal(p, q, equal_nan=True):
        return TensorDifference(name, "identical", distance=0.0)
    size = float(np.linalg.norm(p))
    distance = float(np.linalg.norm(q - p) / size) if size else float("inf")
    distance = distance if np.isfinite(distance) else float("inf")
    if folded and (np.abs(q - p) <= FOLDED * np.abs(p)).all():
        return TensorDifference(name, "rounded", "float32", distance)
    rough = [np.ascontiguousarray(v, np.float32) for v in (p, q)]
    for precision, rounded in (("float32", np.asarray), ("float16", half), ("bfloat16", brain)):
        left, right = (rounded(values) for values in rough)
        if np.array_equal(left, right, equal_nan=precision != "bfloat16"):
            return TensorDifference(name, "rounded", precision, distance)
    factor = float(p.ravel() @ q.ravel() / size**2) if size else 0.0
    if factor and np.abs(q - factor * p).max() <= EXACT * np.abs(q).max():
        return TensorDifference(name, "scaled", f"x {factor:.6g}", distance)
    if np.array_equal(np.sort(p, axis=None), np.sort(q, axis=None)):
        return TensorDifference(name, "permuted", distance=distance)
    return TensorDifference(name, "changed", distance=distance)


def _moved(
    found: list[TensorDifference], ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]
) -> list[TensorDifference]:
    """The same, where tensors of B that differ are tensors of A with another name."""
    other = [each.name for each in found if not each.same]
    places = {key: name for name in other if name in ours and (key := _key(ours[name]))}
    result = []
    for each in found:
        home = places.get(_key(theirs[each.name])) if each.name in theirs and not each.same else None
        moved = home is not None and home != each.name
        result.append(replace(each, status="moved", detail=f"A's {home}") if moved else each)
    return result


def _key(tensor: Tensor) -> str:
    """A tensor's values as something to look up; empty where they are all one, which tells nothing."""
    values = np.ascontiguousarray(tensor.read(), np.float32)
    if not values.size or (values == values.flat[0]).all():
        return ""
    return hashlib.sha256(f"{values.shape}".encode() + values.tobytes()).hexdigest()


def _said(a: Images, b: Images) -> dict[str, tuple[object, object]]:
    """What both say of images and classes, and differently."""
    steps = [images.preprocess.to_dict() if images.preprocess else {} for images in (a, b)]
    rows: dict[str, tuple[object, object]] = {
        **({key: (steps[0].get(key), steps[1].get(key)) for key in steps[0] | steps[1]} if all(steps) else {}),
        "activation": (a.activation, b.activation),
        "labels": (list(a.labels), list(b.labels)),
        "thresholds": (list(a.thresholds), list(b.thresholds)),
    }
    for name in ("activation", "labels", "thresholds"):
        if not all(rows[name]):
            del rows[name]
    return {key: pair for key, pair in rows.items() if pair[0] != pair[1]}
