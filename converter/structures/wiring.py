"""A traced network as operators and the values between them; verified to be wired as a DenseNet.

An ONNX graph and a frozen TorchScript module both say what is computed, and with which
constants.  Their readers put that into the few operators below; here the wiring is
followed from the input, every stride, padding and concatenation compared with a
DenseNet's, and what differs becomes a setting or an error that names the operator.
Nobody's names are trusted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Literal

import numpy as np

from converter.core.checkpoint import Tensor
from converter.core.errors import NotADenseNet
from converter.structures.parts import Part, Structure
from densenet.config import NORM_TENSORS, DenseNetConfig

Array = np.ndarray[Any, Any]
Value = tuple[str, ...]
"""What flows between operators: outputs of operators, concatenated.  Concat itself is no operator."""

MAX_OPS = 20_000
MAX_JOINED = 1024

Kind = Literal[
    "conv",
    "norm",
    "affine",
    "row",
    "relu",
    "max_pool",
    "avg_pool",
    "global_avg",
    "global_max",
    "pad",
    "reflect",
    "concat",
    "add",
    "linear",
    "flatten",
    "skip",
    "end",
    "other",
    "blur",
    "max_blur",
]
"""What an operator does.

affine: times ``weight``, plus ``bias``, each per channel or absent.
row: the same along the last axis, which is the channels behind a linear layer only.
pad, reflect: borders of zeros, or reflected.
add: two values.
flatten: changes the shape alone.
skip: changes nothing.
end: what may follow logits (softmax, argmax).
other: none of these; refused where the network depends on it.
blur, max_blur: found here; blur pooling, and max pooling with it.
"""


@dataclass(frozen=True)
class Weight:
    """A constant, in the library's orientation.

    Attributes:
        key: what reports call it.
        tensor: its values.
        sources: names of the file's constants it is made of.
    """

    key: str
    tensor: Tensor
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Window:
    """What a convolution or pooling sees, per spatial dimension.

    ``same`` is TensorFlow's padding rule; ``size`` the input's, where it is fixed.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    dilations: tuple[int, ...] = ()
    groups: int = 1
    ceil: bool = False
    same: bool = False
    size: tuple[int, ...] = ()

    def is_same(self) -> bool:
        """Whether explicit padding is what TensorFlow's SAME comes to at this input size."""
        total = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(self.size, self.kernel, self.strides)]
        begin = tuple(t // 2 for t in total)
        return bool(total) and (self.begin, self.end) == (begin, tuple(t - b for t, b in zip(total, begin)))

    def size_after(self) -> tuple[int, ...]:
        """Output size."""
        if self.same:
            return tuple(-(-n // s) for n, s in zip(self.size, self.strides))
        spans = zip(self.size, self.begin, self.end, self.kernel, self.strides)
        return tuple((n + b + e - k + (s - 1) * self.ceil) // s + 1 for n, b, e, k, s in spans)


@dataclass(frozen=True)
class Op:
    """One operator: the values it takes and makes, its constants by the library's leaf names.

    ``name`` is how errors call it.
    """

    kind: Kind
    x: tuple[str, ...]
    y: str
    name: str
    weights: Mapping[str, Weight] = field(default_factory=dict)
    window: Window | None = None
    eps: float | None = None


def read_wiring(
    layout: str,
    ops: Iterable[Op],
    start: str,
    outputs: Iterable[str],
    *,
    size: Sequence[int] = (),
    constants: Iterable[str] = (),
) -> Structure:
    """The DenseNet that operators compute.

    Args:
        layout: name of the source's conventions.
        ops: in an order in which each follows those it depends on.
        start: the value that is the image.
        outputs: the results; the last value of the network must be among them.
        size: its height and width, where they are fixed.
        constants: names of all the file's constants; those no part needs are reported as dropped.

    Raises:
        NotADenseNet: it is wired otherwise; names the operator.
    """
    walk = _Walk(list(ops), start, tuple(size))
    with np.errstate(all="ignore"):  # weights that are not finite are for others to report
        walk.network()
    if walk.end and walk.end not in [walk.values.get(name) for name in outputs]:
        raise NotADenseNet(f"what is made of {', '.join(walk.end)} is not followed; it is not the result")
    used = {source for step in walk.parts for weight in step.weights.values() for source in weight.sources}
    return Structure(
        layout,
        [
            Part(
                "conv" if step.kind == "conv" else "norm" if step.kind == "norm" else "linear",
                {leaf: weight.tensor for leaf, weight in step.weights.items()},
                {leaf: weight.key for leaf, weight in step.weights.items()},
                step.eps,
            )
            for step in walk.parts
        ],
        walk.settings,
        {name: "a constant that is no weight" for name in constants if name not in used},
        tuple(walk.notes),
    )


# -- from operators to the steps of a DenseNet -------------------------------------------


class _Walk:
    """Follows the values from the image on; collects parts in order, and settings."""

    def __init__(self, ops: list[Op], start: str, size: tuple[int, ...]) -> None:
        if len(ops) > MAX_OPS:
            raise NotADenseNet(f"{len(ops)} operators; no DenseNet has so many")
        self.size = size
        self.parts: list[Op] = []
        self.settings: dict[str, Any] = {}
        self.notes: list[str] = []
        self.eps = next((op.eps for op in ops if op.kind == "norm" and op.eps is not None), DenseNetConfig.eps)
        self.takers: dict[Value, list[Op]] = {}
        self.joins: dict[frozenset[str], Value] = {}
        self.joined: set[str] = set()
        self.widths: dict[str, int] = {}
        self.end: Value = ()  # where the network ends; nothing if something may follow
        self.start = (start,)
        self.values: dict[str, Value] = {start: self.start}
        self._index(ops)

    def _index(self, ops: list[Op]) -> None:
        """Who takes which value; concatenations become part of the values."""
        values = self.values
        for op in ops:
            if op.y in values:
                if op.y == self.start[0]:
                    continue  # what is before the start is not followed
                raise NotADenseNet(f"{op.name} makes a value that is there already")
            taken = [values[name] for name in op.x if name in values]
            if len(taken) < len(op.x):
                continue  # depends on something before the start
            joined = sum(taken, ()) if len(taken) < MAX_JOINED else ()
            if op.kind in ("skip", "concat"):
                if not 0 < len(joined) <= MAX_JOINED:
                    raise NotADenseNet(f"{op.name} concatenates {len(joined)} values")
                values[op.y] = joined
                continue
            values[op.y] = (op.y,)
            for value in dict.fromkeys(taken):
                self.takers.setdefault(value, []).append(op)
                if len(value) > 1:
                    self.joins.setdefault(frozenset(value), value)
                    self.joined.update(value)

    def run(self, value: Value) -> tuple[list[Op], Value]:
        """The operators from a value on, up to a value that is concatenated, forks, or ends."""
        ops: list[Op] = []
        while len(takers := self.takers.get(value, [])) == 1:
            ops.append(takers[0])
            value = (takers[0].y,)
            if takers[0].y in self.joined or takers[0].kind == "add":
                break
        return ops, value

    def network(self) -> None:
        """Stem, then layers and transitions for as long as values are joined, then the head."""
        ops, value = self.run(self.start)
        self.stem(self.steps(ops), value)
        features = ours = value  # as the file concatenates them, and oldest first
        while True:
            ops, value = self.run(features)
            order = self.order(features, ours)
            wider = self.joins.get(frozenset((*features, *value))) if ops else None
            if wider is not None and len(wider) == len(features) + 1:
                self.layer(self.steps(ops, order), value)
                features, ours = wider, (*ours, *value)
            elif ops and self.joined.issuperset(value) and not self.forks(value):
                self.transition(self.steps(ops, order), value)
                features = ours = value
            else:
                self.head(ops, value, order)
                return

    def forks(self, value: Value) -> bool:
        return len(self.takers.get(value, ())) > 1

    def order(self, features: Value, ours: Value) -> Array | None:
        """Where the channels of our concatenation (oldest first) are in the file's; None if they agree."""
        if features == ours:
            return None
        width = {name: self.widths[name] for name in features}
        ends = np.cumsum([width[name] for name in features])
        begin = dict(zip(features, ends - [width[name] for name in features]))
        return np.concatenate([begin[name] + np.arange(width[name]) for name in ours])

    # -- parts of the network ------------------------------------------------------

    def stem(self, steps: list[Op], value: Value) -> None:
        kinds = [step.kind for step in steps]
        if kinds == ["conv"]:  # CIFAR
            self.window(steps[0], 3, 1)
        elif kinds[:-2] in (["conv", "norm"], [*["conv", "norm", "relu"] * 2, "conv", "norm"]):
            first, pool = steps[0], self.activated_pool(steps[-2:])
            for conv in steps[3:-2:3]:
                self.window(conv, 3, 1)
            padding = self.window(first, first.window.kernel[0] if first.window else 7, 2)
            padding &= self.window(pool, 3, 2) if pool.kind == "max_pool" else {"symmetric", "same"}
            if not padding:
                raise self.unlike(pool, "padding by the same rule as before the convolution")
            self.settings["padding"] = "symmetric" if "symmetric" in padding else "same"
        else:
            raise self.astray(value, steps, "the stem: convolution, norm, ReLU, max pooling")
        self.widths[value[0]] = self.width(steps)

    def activated_pool(self, steps: list[Op]) -> Op:
        """The pooling that ends a stem; ReLU may come after it, since both are monotonic."""
        relu, pool = sorted(steps, key=lambda step: step.kind != "relu")
        if relu.kind != "relu" or pool.kind not in ("max_pool", "max_blur"):
            raise self.unlike(steps[1], "ReLU and max pooling after the stem's convolution")
        self.settings["stem_pool"] = "blur" if pool.kind == "max_blur" else "max"
        if pool.kind == "max_pool":
            self.settings["stem_ceil"] = pool.window is not None and pool.window.ceil
        return pool

    def layer(self, steps: list[Op], value: Value) -> None:
        kinds = [step.kind for step in steps]
        if kinds not in (["norm", "relu", "conv"], ["norm", "relu", "conv"] * 2):
            raise self.astray((), steps, "a layer: norm, ReLU, convolution, once or twice")
        for i, conv in enumerate(steps[2::3]):
            self.window(conv, 1 if len(steps) > 3 and i == 0 else 3, 1)
        self.widths[value[0]] = self.width(steps)

    def transition(self, steps: list[Op], value: Value) -> None:
        relu = any(step.kind == "relu" for step in steps)
        before, rest = steps[: 1 + relu], steps[1 + relu :]  # a 1x1 convolution and pooling commute
        conv = next((step for step in rest if step.kind == "conv"), None)
        pool = next((step for step in rest if step.kind in ("avg_pool", "blur")), None)
        if [step.kind for step in before] != ["norm", "relu"][: 1 + relu] or len(rest) != 2 or not (conv and pool):
            raise self.astray((), steps, "a transition: norm, ReLU, convolution, average pooling")
        self.window(conv, 1, 1)
        window = pool.window
        assert window is not None
        if pool.kind == "avg_pool" and (
            (set(window.kernel), set(window.strides)) != ({2}, {2}) or any((*window.begin, *window.end))
        ):
            raise self.unlike(pool, "2x2 average pooling with stride 2 and no padding")
        self.agree("transition_pool", "blur" if pool.kind == "blur" else "avg", pool)
        if pool.kind == "avg_pool":
            # SAME averages a lone last row or column by itself, as rounding up does.
            self.agree("transition_ceil", window.ceil or window.same, pool)
        self.agree("transition_relu", relu, steps[0])
        self.widths[value[0]] = self.width(steps)

    def agree(self, name: str, value: Any, op: Op) -> None:
        """A setting that all transitions must share."""
        if self.settings.setdefault(name, value) != value:
            raise NotADenseNet(f"{op.name}: {name} is {value} here, {self.settings[name]} before")

    def head(self, ops: list[Op], value: Value, order: Array | None) -> None:
        pooled = next((i for i, op in enumerate(ops) if op.kind not in ("norm", "affine", "relu")), len(ops))
        steps, rest = self.steps(ops[:pooled], order), ops[pooled:]
        kinds = [step.kind for step in steps]
        if kinds not in (["norm"], ["norm", "relu"]):
            raise self.astray(value, [*steps, *rest], "a layer, a transition or the final norm")
        self.settings["final_relu"] = "relu" in kinds
        self.end = value
        if rest:
            self.settings["global_pool"] = self.global_pool(rest.pop(0))
        elif self.forks(value):
            kind, rest, self.end, swapped = self.two_pools(value)
            self.settings["global_pool"] = kind
            if kind == "catavgmax" and (order is not None or swapped):
                width = prod(steps[0].weights["weight"].tensor.shape)
                first = np.arange(width) if order is None else order
                order = np.concatenate([first + width * swapped, first + width * (not swapped)])
        else:
            self.notes.append("the graph ends before global average pooling; the model here includes it")
        self.classifier(rest, order)

    def global_pool(self, op: Op) -> str:
        """``avg`` or ``max``; a window as large as its input is global too."""
        whole = op.window is not None and self.size and op.window.kernel == self.size and not any(op.window.begin)
        if op.kind == "global_avg" or (op.kind == "avg_pool" and whole):
            return "avg"
        if op.kind == "global_max" or (op.kind == "max_pool" and whole):
            return "max"
        raise self.unlike(op, "global pooling")

    def two_pools(self, value: Value) -> tuple[str, list[Op], Value, bool]:
        """Average and maximum, concatenated or as their mean; the run behind that; whether the maximum is first."""
        takers = self.takers[value]
        if len(takers) != 2:
            raise self.fork(value)
        pools = {self.global_pool(op): op.y for op in takers}
        both = (pools.get("avg", ""), pools.get("max", ""))
        for joined in (both, both[::-1]):
            if joined in self.takers:
                return "catavgmax", *self.run(joined), joined != both
        adds = self.takers.get(both[:1], [])
        if adds != self.takers.get(both[1:]) or [op.kind for op in adds] != ["add"]:
            raise self.fork(value)
        ops, end = self.run((adds[0].y,))
        half, *rest = ops or adds
        scale = half.weights.get("weight")
        if set(half.weights) != {"weight"} or scale is None or not np.all(scale.tensor.read() == 0.5):
            raise self.unlike(half, "the mean of average and maximum")
        return "avgmax", rest, end, False

    def classifier(self, ops: list[Op], order: Array | None) -> None:
        linear: Op | None = None
        for op in ops:
            weight = op.weights.get("weight")
            if op.kind == "flatten":
                continue
            if op.kind == "end":
                self.notes.append(f"{op.name} behind the logits is left out")
                self.end = ()
                break
            if linear is None and op.kind == "linear":
                linear = op
            elif linear is None and op.kind == "conv" and weight and prod(weight.tensor.shape[2:]) == 1:
                flat = reshaped(weight, weight.tensor.shape[:2])
                linear = replace(op, kind="linear", weights={**op.weights, "weight": flat})
            elif linear is not None and op.kind in ("affine", "row") and set(op.weights) == {"bias"}:
                linear = replace(linear, weights={**linear.weights, "bias": _sum(linear, op)})
            else:
                raise self.unlike(op, "the logits" if linear else "the classifier")
        if linear is None:
            return
        weights = dict(linear.weights)
        classes, bias = weights["weight"].tensor.shape[0], weights.get("bias")
        if bias is None or bias.tensor.shape != (classes,):
            weights["bias"] = made(_vector(bias, classes), f"{(bias or weights['weight']).key} (bias)", bias)
        linear = replace(linear, weights=weights)
        self.parts.append(linear if order is None else _permuted(linear, order))

    # -- convolutions and windows --------------------------------------------------

    def window(self, step: Op, size: int, stride: int) -> set[str]:
        """Check a window; its padding, ``symmetric`` or ``same`` (with fixed sizes it can be both)."""
        window = step.window
        assert window is not None
        what = f"a {size}x{size} window with stride {stride}, padded by {size // 2}"
        shape = (set(window.kernel), set(window.strides), window.groups, set(window.dilations) | {1})
        if shape != ({size}, {stride}, 1, {1}):
            raise self.unlike(step, what)
        centred = not window.same and {*window.begin, *window.end} == {size // 2}
        same = window.same or window.is_same()
        if stride == 1:
            centred = same = centred or window.same
        if not (centred or same):
            raise self.unlike(step, f"{what} or as TensorFlow's SAME")
        return {name for name, has in (("symmetric", centred), ("same", same)) if has}

    def width(self, steps: list[Op]) -> int:
        """Channels after the last convolution."""
        return next(step.weights["weight"].tensor.shape[0] for step in reversed(steps) if step.kind == "conv")

    # -- errors --------------------------------------------------------------------

    def unlike(self, op: Op, expected: str) -> NotADenseNet:
        return NotADenseNet(f"{op.name}: a DenseNet has {expected} there")

    def fork(self, value: Value) -> NotADenseNet:
        names = " and ".join(op.name for op in self.takers[value][:3])
        return NotADenseNet(f"one value goes to {names}, which a DenseNet does not have")

    def astray(self, value: Value, steps: list[Op], expected: str) -> NotADenseNet:
        """What to say of operators that are not what was expected: a strange one, a fork, or their order."""
        strange = next((step for step in steps if step.kind in ("other", "add", "end", "linear")), None)
        if strange is not None:
            return self.unlike(strange, expected)
        if self.forks(value):
            return self.fork(value)
        found = ", ".join(step.name for step in steps[:8])
        return NotADenseNet(f"expected {expected}; found {found or 'nothing more'}")

    # -- operators merged into steps -----------------------------------------------

    def steps(self, ops: list[Op], order: Array | None = None) -> list[Op]:
        """Operators without the variety: scales merged into norms, folded norms unfolded, pads into windows.

        Those with weights are added to ``parts``; behind a concatenation in another order
        than ours the first norm and convolution have their channels reordered.
        """
        steps: list[Op] = []
        pad: Op | None = None
        for given in ops:
            op, last = given, steps[-1] if steps else None
            if op.kind in ("pad", "reflect") and pad is None:
                pad = op
                continue
            if pad is not None:
                op, pad = self.padded(pad, op, last), None
            if op.window is not None and self.size:
                op = replace(op, window=replace(op.window, size=self.size))
                self.size = op.window.size_after() if op.window else ()
            if op.kind == "conv":
                op = _without_zeros(op)
            if op.kind == "affine":
                merged = self.merged(op, last)
                if merged is not None:
                    steps[-1] = merged
                    continue
                op = self.as_norm(op)
            elif op.kind in ("relu", "max_pool") and last is not None and last.kind == "conv":
                steps[-1:] = self.unfolded(last)
            elif op.kind == "blur":
                at = -2 if last is not None and last.kind == "relu" else -1
                if len(steps) >= -at and steps[at].kind == "max_pool":
                    self.window(steps.pop(at), 3, 1)
                    op = replace(op, kind="max_blur")
            steps.append(op)
        if pad is not None:
            raise self.unlike(pad, "no padding")
        weighted = [step for step in steps if step.kind in ("conv", "norm")]
        if order is not None:
            weighted[:2] = [_permuted(step, order) for step in weighted[:2]]
        self.parts += weighted
        return steps

    def padded(self, pad: Op, op: Op, last: Op | None) -> Op:
        """An operator with the padding that stands before it."""
        amount, window = pad.window, op.window
        assert amount is not None
        if not any((*amount.begin, *amount.end)):
            return op
        if pad.kind == "reflect":
            if {*amount.begin, *amount.end} == {1} and _is_blur(op):
                return replace(op, kind="blur", weights={})
            raise self.unlike(pad, "reflected borders before blur pooling only")
        # Zeros are below nothing that ReLU gives: to max pooling they are what its own padding is.
        harmless = op.kind == "conv" or (op.kind == "max_pool" and last is not None and last.kind == "relu")
        if window is None or window.same or not harmless:
            raise self.unlike(pad, "no padding")
        begin = tuple(a + b for a, b in zip(amount.begin, window.begin))
        end = tuple(a + b for a, b in zip(amount.end, window.end))
        return replace(op, window=replace(window, begin=begin, end=end))

    def merged(self, op: Op, last: Op | None) -> Op | None:
        """A scale and shift as part of the norm or convolution before it, if it can be."""
        if last is None or last.kind not in ("norm", "conv"):
            return None
        if last.kind == "conv":
            if "weight" in op.weights:
                return None
            return replace(last, y=op.y, weights={**last.weights, "bias": _sum(last, op)})
        gamma, beta = last.weights["weight"], last.weights["bias"]
        scale, shift = op.weights.get("weight"), op.weights.get("bias")
        width = prod(gamma.tensor.shape)
        factor = _vector(scale, width, 1.0)
        moved = _vector(beta, width) * factor + _vector(shift, width)
        values = {
            "weight": made(_vector(gamma, width) * factor, f"{gamma.key} ({op.y})", gamma, scale),
            "bias": made(moved, f"{beta.key} ({op.y})", beta, scale, shift),
        }
        return replace(last, y=op.y, weights={**last.weights, **values})

    def as_norm(self, op: Op) -> Op:
        """A scale and shift of its own: a norm with mean 0 and variance 1 - eps."""
        have = [weight for weight in op.weights.values() if weight.tensor.shape]
        if not have or not all(prod(w.tensor.shape) == max(w.tensor.shape) for w in have):
            raise self.unlike(op, "one scale and shift per channel")
        width = max(prod(weight.tensor.shape) for weight in have)
        return self.identity(op, width, op.weights.get("weight"), op.weights.get("bias"))

    def unfolded(self, conv: Op) -> tuple[Op, Op]:
        """A convolution into which a norm was folded, and that norm again: it only adds the bias."""
        bias = conv.weights.get("bias")
        width = conv.weights["weight"].tensor.shape[0]
        plain = replace(conv, weights={"weight": conv.weights["weight"]})
        return plain, self.identity(conv, width, None, bias)

    def identity(self, op: Op, width: int, scale: Weight | None, shift: Weight | None) -> Op:
        leaves = {"weight": (scale, 1.0), "bias": (shift, 0.0), "running_mean": (None, 0.0)}
        weights: dict[str, Weight] = {}
        for leaf, (weight, value) in {**leaves, "running_var": (None, 1.0 - self.eps)}.items():
            if weight is not None and weight.tensor.shape == (width,):
                weights[leaf] = weight
            else:
                key = f"{op.y} ({leaf} of the norm folded into it)" if weight is None else f"{weight.key} ({op.y})"
                weights[leaf] = made(_vector(weight, width, value), key, weight)
        return replace(op, kind="norm", weights={leaf: weights[leaf] for leaf in NORM_TENSORS}, window=None)


# -- constants -----------------------------------------------------------------------------


def made(values: Array, key: str, *of: Weight | None) -> Weight:
    """A constant made of others."""
    sources = tuple(source for weight in of if weight is not None for source in weight.sources)
    return Weight(key, Tensor.of(np.asarray(values, np.float32)), sources)


def reshaped(weight: Weight, shape: tuple[int, ...]) -> Weight:
    """The same values in another shape."""
    tensor = weight.tensor
    return replace(weight, tensor=Tensor(shape, tensor.dtype, lambda: tensor.read().reshape(shape)))


def _vector(weight: Weight | None, width: int, default: float = 0.0) -> Array:
    """Per-channel values in float64; a scalar is one for every channel."""
    if weight is None:
        return np.full(width, default)
    if prod(weight.tensor.shape) not in (1, width):
        raise NotADenseNet(f"{weight.key} has shape {list(weight.tensor.shape)}, {width} channels need one value each")
    return np.broadcast_to(weight.tensor.read().astype(np.float64).reshape(-1), (width,))


def _sum(op: Op, shift: Op) -> Weight:
    """The bias of a convolution or linear layer and what is added behind it."""
    bias, added = op.weights.get("bias"), shift.weights["bias"]
    width = op.weights["weight"].tensor.shape[0]
    values = _vector(bias, width) + _vector(added, width)
    return made(values, f"{added.key} ({shift.y})", bias, added)


def _permuted(step: Op, order: Array) -> Op:
    """What follows a concatenation in another order than ours, with its input channels in our order."""
    axis = 0 if step.kind == "norm" else 1

    def turned(weight: Weight) -> Weight:
        tensor = weight.tensor
        if tensor.shape[axis] != len(order):
            raise NotADenseNet(f"{step.name}: {weight.key} has {tensor.shape[axis]} channels of {len(order)}")
        taken = Tensor(tensor.shape, tensor.dtype, lambda: np.take(tensor.read(), order, axis))
        return replace(weight, key=f"{weight.key} ({step.y})", tensor=taken)

    leaves = NORM_TENSORS if step.kind == "norm" else ("weight",)
    return replace(step, weights={**step.weights, **{leaf: turned(step.weights[leaf]) for leaf in leaves}})


def _without_zeros(conv: Op) -> Op:
    """A convolution without a bias that adds nothing (torch's exporter writes one when it does not optimise)."""
    bias = conv.weights.get("bias")
    if bias is None or bias.tensor.read().any():
        return conv
    return replace(conv, weights={"weight": conv.weights["weight"]})


def _is_blur(op: Op) -> bool:
    """timm's BlurPool2d (timm/layers/blur_pool.py): a binomial 3x3 filter per channel, stride 2."""
    weight, window = op.weights.get("weight"), op.window
    if op.kind != "conv" or weight is None or window is None or "bias" in op.weights:
        return False
    shape = weight.tensor.shape
    if window.groups != shape[0] or shape[1:] != (1, 3, 3) or set(window.strides) != {2} or any(window.begin):
        return False
    row = np.array([0.25, 0.5, 0.25])
    return bool(np.allclose(weight.tensor.read().astype(np.float64), np.outer(row, row), atol=1e-3))
