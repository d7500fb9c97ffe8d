"""The one judge of wiring: whether operators are put together as a DenseNet.

ONNX graphs, Torch's, Keras' configs, Lua module trees, prototxt, symbols and programs all say what is computed.  Their
readers put that into the few operators of ``ops.py``; here the wiring is followed from the result, every stride,
padding and concatenation compared with a DenseNet's, and what differs becomes a setting or an error that names the
operator.  Nobody's names are trusted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import prod
from typing import Any, get_args

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Array
from converter.core.errors import NotADenseNet
from converter.layouts.channel_order import OTHER_ORDER
from converter.structures.classifier import classifier_of, is_pointwise
from converter.structures.composed import composed
from converter.structures.front import Front, front_of
from converter.structures.graph_heads import chosen_of
from converter.structures.hidden import as_relu, hidden_of, is_relu
from converter.structures.needed import needed, producers
from converter.structures.ops import END, Op
from converter.structures.parts import Structure, part_of
from converter.structures.steps import compared, permuted, starts, steps_of, turned, width_of
from converter.structures.weights import made
from densenet.config import DenseNetConfig
from densenet.fields import Stem
from densenet.head import RELU
from densenet.topology import Step, steps

Value = tuple[str, ...]
"""What flows between operators: outputs of operators, concatenated.  Concat itself is no operator."""

TRANSITION_POOLS = {"avg_pool": "avg", "max_pool": "max", "blur": "blur"}
STRANGE = ("other", "add", "repeat", "function", *END, "linear")
"""What stands nowhere before the head."""


def _steps(part: str, **config: Any) -> list[Step]:
    """What a network does in its stem, its first layer or transition, up to a concatenation."""
    return [s for s in steps(DenseNetConfig(block_config=(1, 1), **config)) if s.name.startswith(f"{part}.")]


STEMS = [
    wanted
    for stem in get_args(Stem)
    for pool in ("max", "none")
    if (wanted := _steps("stem", stem=stem, stem_pool=pool)) and (pool == "max" or stem != "cifar")
]
LAYERS = [_steps("blocks.0.layers.0", bottleneck=bottleneck) for bottleneck in (True, False)]
TRANSITION = _steps("transitions.0")


def read_wiring(
    layout: str,
    ops: Iterable[Op],
    start: str,
    outputs: Iterable[str],
    *,
    size: Sequence[int] = (),
    constants: Iterable[str] = (),
    head: str = "",
) -> Structure:
    """The DenseNet that operators compute.

    Args:
        layout: name of the source's conventions.
        ops: in any order; what no result depends on is left out.
        start: the value that is the image.
        outputs: the results.  Of several the one that is the logits is followed, and the others are said.
        size: its height and width, where they are fixed.
        constants: names of all the file's constants; those no part needs are reported as dropped.
        head: which of several heads is wanted.

    Raises:
        SeveralHeads: there are several, and it is not said which.
        NotADenseNet: it is wired otherwise; names the operator.
    """
    made, results = producers(ops, start), list(dict.fromkeys(outputs))
    if len(made) > bounds.OPERATORS:
        raise NotADenseNet(f"{len(made)} operators; no DenseNet has so many")
    judges, reasons = list[_Judge](), list[NotADenseNet]()
    for output in results[: bounds.OUTPUTS]:
        behind = needed(composed(needed(made, output)), output)
        hidden = hidden_of(behind)
        judge = _Judge([as_relu(op, hidden) for op in behind], start, output, tuple(size))
        judge.settings["hidden_activation"] = str(hidden)
        try:
            with np.errstate(all="ignore"):  # weights that are not finite are for others to report
                judge.network()
            judges.append(judge)
        except NotADenseNet as error:
            said = "" if hidden == RELU else f"; the first activation is {hidden}"
            reasons.append(NotADenseNet(f"{error}{said}"))
    if not judges:
        raise reasons[0] if reasons else NotADenseNet("a graph without a result")
    alike, chosen = chosen_of(layout, judges, head)
    judge = min(alike, key=lambda judge: (judge.classifier is None, len(judge.notes)))
    heads = {other.output for other in judges if chosen and other.classifier is not None}  # are said by their names
    others = ", ".join(name for name in results if name not in (judge.output, *heads))
    notes = [*judge.notes, *([f"of its results {judge.output} is taken, {others} left out"] if others else [])]
    used = {source for step in judge.weighted for weight in step.weights.values() for source in weight.sources}
    parts = [
        part_of(
            {leaf: w.tensor for leaf, w in step.weights.items()},
            {leaf: w.key for leaf, w in step.weights.items()},
            step.eps,
            step.made_for,
        )
        for step in judge.weighted
    ]
    dropped = {name: "a constant that is no weight" for name in constants if name not in used}
    activation = max(judge.activation for judge in alike)  # of another result, too: "softmax" > "sigmoid" > "end" > ""
    return Structure(layout, parts, judge.settings, dropped, tuple(notes), judge.front, activation, head=chosen)


class _Judge:
    """Follows the values from the image on; collects steps with weights in order, and settings."""

    def __init__(self, ops: list[Op], start: str, output: str, size: tuple[int, ...]) -> None:
        self.ops, self.output, self.size = ops, output, size
        self.front, self.activation = Front(), ""
        self.classifier: Op | None = None
        self.weighted: list[Op] = []
        self.settings: dict[str, Any] = {}
        self.notes: list[str] = []
        self.eps = DenseNetConfig.eps
        self.takers: dict[Value, list[Op]] = {}
        self.joins: dict[frozenset[str], Value] = {}
        self.joined: set[str] = set()
        self.widths: dict[str, int] = {}
        self.start = (start,)
        self.values: dict[str, Value] = {start: self.start}
        self._index(ops)

    # -- values and who takes them -------------------------------------------------

    def _index(self, ops: list[Op]) -> None:
        """Who takes which value; concatenations become part of the values."""
        values = self.values
        for op in ops:
            taken = [values[name] for name in op.x if name in values]
            if len(taken) < len(op.x):
                continue  # depends on something before the start
            same = op.kind == "concat" and len(taken) > 1 == len(set(taken))
            if op.kind in ("skip", "concat") and not same:
                joined = sum(taken, ()) if len(taken) < bounds.JOINED else ()
                if not 0 < len(joined) <= bounds.JOINED:
                    raise NotADenseNet(f"{op.name} concatenates {len(joined)} values")
                values[op.y] = joined
                continue
            values[op.y] = (op.y,)
            by = replace(op, kind="repeat", times=len(taken)) if same else op
            for value in dict.fromkeys(taken):
                self.takers.setdefault(value, []).append(by)
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

    def steps(self, ops: list[Op], order: Array | None = None) -> list[Op]:
        """Operators as steps; those with weights are added to ``weighted``.

        Behind a concatenation in another order than ours the first norm and convolution
        have their channels reordered.
        """
        steps, self.size = steps_of(ops, self.eps, self.size)
        weighted = [step for step in steps if step.kind in ("conv", "norm")]
        if order is not None:
            weighted[:2] = [permuted(step, order) for step in weighted[:2]]
        self.weighted += weighted
        return steps

    # -- parts of the network ------------------------------------------------------

    def network(self) -> None:
        """Stem, then layers and transitions for as long as values are joined, then the head."""
        given, value = self.run(self.start)
        self.front, ops = front_of(given)
        before = given[: len(given) - len(ops)]
        norms = (op.eps for op in self.ops if op.kind == "norm" and op not in before)
        self.eps = next((eps for eps in norms if eps is not None), self.eps)
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

    def stem(self, steps: list[Op], value: Value) -> None:
        for wanted in STEMS:
            kinds = [step.op for step in wanted]
            pooled = kinds[-1] == "max_pool"
            if len(steps) == len(kinds) and starts(steps, kinds[:-2] if pooled else kinds):
                break
        else:
            raise self.astray(value, steps, "the stem: convolution, norm, ReLU, max pooling")
        rules = self.first(steps[0]) & compared(steps[1:], wanted[1:])
        odd = steps[0]
        if len(kinds) > 1 and not pooled:
            self.settings["stem_pool"] = "none"
        if pooled:
            odd = pool = self.activated_pool(steps[-2:])
            if (window := pool.window) is not None and pool.kind != "max_blur":
                plain = replace(pool, window=replace(window, zeros=False))
                rules &= plain.paddings(3, window.strides) & ({"symmetric"} if window.zeros else {"symmetric", "same"})
                self.settings["stem_pool_stride"] = window.stride
        if not rules:
            raise odd.unlike("padding of half the window, or as SAME pads it, and by one rule in all the stem")
        if pooled or len(rules) == 1:
            self.settings["padding"] = "symmetric" if "symmetric" in rules else "same"
        self.widths[value[0]] = width_of(steps)

    def first(self, conv: Op) -> set[str]:
        """The first convolution, whose size and stride are its own; the rules by which it may be padded."""
        window = conv.window
        if window is None or not all(n % 2 for n in window.kernel):
            raise conv.unlike("a convolution of odd size")
        self.settings["stem_stride"] = window.stride
        return conv.paddings(window.kernel, window.strides)

    def activated_pool(self, steps: list[Op]) -> Op:
        """The pooling that ends a stem; ReLU may come after it, since both are monotonic."""
        relu, pool = sorted(steps, key=lambda step: step.kind != "relu")
        if relu.kind != "relu" or pool.kind not in ("max_pool", "avg_pool", "max_blur"):
            odd = next((step for step in steps if step.kind not in ("relu", "max_pool", "max_blur")), steps[1])
            raise odd.unlike("ReLU and max pooling after the stem's convolution")
        window = pool.window
        zeros, ceil = window is not None and window.zeros, window is not None and window.ceil
        if relu is steps[1] and (pool.kind == "avg_pool" or zeros or not (relu.layer or RELU).is_monotonic):
            raise relu.unlike("max pooling")
        if (pool.kind == "avg_pool" and not zeros) or (zeros and ceil):
            raise pool.unlike("max pooling, or a border of zeros that count and sizes that are rounded down")
        kinds = {"max_blur": "blur", "avg_pool": "avg"}
        self.settings["stem_pool"] = kinds.get(pool.kind, "zero_max" if zeros else "max")
        if pool.kind == "max_pool":
            self.settings["stem_ceil"] = ceil
        return pool

    def layer(self, steps: list[Op], value: Value) -> None:
        wanted = next((w for w in LAYERS if len(w) == len(steps) and starts(steps, [step.op for step in w])), None)
        if wanted is None:
            raise self.astray((), steps, "a layer: norm, ReLU, convolution, once or twice")
        compared(steps, wanted)
        self.widths[value[0]] = width_of(steps)

    def transition(self, steps: list[Op], value: Value) -> None:
        relu = any(step.kind == "relu" for step in steps)
        rest = steps[1 + relu :]  # a 1x1 convolution and average pooling commute
        conv = next((step for step in rest if step.kind == "conv"), None)
        pool = next((step for step in rest if step.kind in TRANSITION_POOLS), None)
        if not starts(steps, ["norm", "relu"][: 1 + relu]) or len(rest) != 2 or conv is None or pool is None:
            raise self.astray((), steps, "a transition: norm, ReLU, convolution, average pooling")
        compared(steps, TRANSITION)
        window = pool.window
        assert window is not None
        if pool.kind == "max_pool" and pool is rest[0]:  # which does not commute
            raise pool.unlike("the convolution before the pooling")
        if pool.kind != "blur":
            if window.kernel != window.strides or any((*window.begin, *window.end)) or {*window.dilations} - {1}:
                raise pool.unlike("2x2 average pooling with stride 2 and no padding")
            self.agree("transition_stride", window.stride, pool)
        self.agree("transition_pool", TRANSITION_POOLS[pool.kind], pool)
        if pool.kind != "blur":
            # SAME averages a lone last row or column by itself, as rounding up does.
            self.agree("transition_ceil", window.ceil or window.same, pool)
        self.agree("transition_relu", relu, steps[0])
        self.widths[value[0]] = width_of(steps)

    def agree(self, name: str, value: Any, op: Op) -> None:
        """A setting that all transitions must share."""
        if self.settings.setdefault(name, value) != value:
            raise NotADenseNet(f"{op.name}: {name} is {value} here, {self.settings[name]} before")

    # -- the head ------------------------------------------------------------------

    def head(self, ops: list[Op], value: Value, order: Array | None) -> None:
        pooled = next(
            (i for i, op in enumerate(ops) if op.kind not in ("norm", "affine", "relu", "function")), len(ops)
        )
        steps, rest = self.steps(ops[:pooled], order), ops[pooled:]
        kinds = ["relu" if step.kind == "function" else step.kind for step in steps]
        if not ops and not self.forks(value):
            raise NotADenseNet(f"{self.output} is in the middle of a network, not the result of one")
        if kinds not in (["norm"], ["norm", "relu"]):
            raise self.astray(value, [*steps, *rest], "a layer, a transition or the final norm")
        self.settings["final_relu"] = "relu" in kinds
        positive = is_relu(steps[-1]) or steps[-1].layer == RELU
        final = str(steps[-1].layer or RELU)
        usual = final == self.settings["hidden_activation"] or not self.settings["final_relu"]
        self.settings["final_activation"] = None if usual else final
        if rest:
            at = next((i for i, op in enumerate(rest) if not is_pointwise(op)), 0)
            at = at if rest[at].kind == "global_avg" else 0  # the mean of what is linear: they commute
            self.settings["global_pool"] = self.global_pool(rest.pop(at))
        elif self.forks(value):
            kind, rest, value = self.two_pools(value)
            self.settings["global_pool"] = kind
            if kind != "avgmax" and order is not None:
                order = np.concatenate([order, order + prod(steps[0].weights["weight"].tensor.shape)])
        else:
            self.notes.append("the graph ends before global average pooling; the model here includes it")
        found = classifier_of(rest, positive=positive, eps=self.eps)
        if found.behind:
            self.activation = str(found.behind[0].kind)
            names = " and ".join(dict.fromkeys(op.name for op in found.behind if op.kind not in ("flatten", "turn")))
            self.notes.append(f"{names} behind the logits {'are' if ' and ' in names else 'is'} left out")
        elif self.values.get(self.output) != value:
            raise (
                self.fork(value)
                if self.forks(value)
                else NotADenseNet(f"what is made of {', '.join(value)} is not followed; it is not the result")
            )
        self.settings["head"] = tuple(map(str, found.words))
        if found.classifier is not None:
            layers = turned((*found.layers, found.classifier), order)
            self.classifier = layers[-1]
            self.weighted += [layer for layer in layers if layer.weights]
        elif order is not None:
            self.notes.append(OTHER_ORDER)

    def global_pool(self, op: Op) -> str:
        """``avg`` or ``max``; a window as large as its input is global too."""
        whole = op.window is not None and self.size and op.window.kernel == self.size and not any(op.window.begin)
        if op.kind == "global_avg" or (op.kind == "avg_pool" and whole):
            return "avg"
        if op.kind == "global_max" or (op.kind == "max_pool" and whole):
            return "max"
        raise op.unlike("global pooling")

    def two_pools(self, value: Value) -> tuple[str, list[Op], Value]:
        """Average and maximum, concatenated in either order or as their mean; the run behind that."""
        takers = self.takers[value]
        if len(takers) != 2:
            raise self.fork(value)
        pools = {self.global_pool(op): op.y for op in takers}
        both = (pools.get("avg", ""), pools.get("max", ""))
        for kind, joined in (("catavgmax", both), ("catmaxavg", both[::-1])):
            if joined in self.takers:
                return kind, *self.run(joined)
        adds = self.takers.get(both[:1], [])
        if adds != self.takers.get(both[1:]) or [op.kind for op in adds] != ["add"]:
            raise self.fork(value)
        ops, end = self.run((adds[0].y,))
        rest = [replace(adds[0], kind="affine", weights={"weight": made(np.full(1, 2.0), "sum of two pools")}), *ops]
        scale = ops[0].weights.get("weight") if ops else None
        if scale is not None and set(ops[0].weights) == {"weight"} and np.all(scale.tensor.read() == 0.5):
            return "avgmax", rest[2:], end
        return "avgmax", rest, end  # twice their mean

    # -- errors --------------------------------------------------------------------

    def fork(self, value: Value) -> NotADenseNet:
        names = " and ".join(list(dict.fromkeys(op.name for op in self.takers[value]))[:3])
        return NotADenseNet(f"one value goes to {names}, which a DenseNet does not have")

    def astray(self, value: Value, steps: list[Op], expected: str) -> NotADenseNet:
        """What to say of operators that are not what was expected: a strange one, a fork, or their order."""
        strange = next((step for step in steps if step.kind in STRANGE), None)
        if strange is not None:
            return strange.unlike(expected)
        if self.forks(value):
            return self.fork(value)
        found = ", ".join(step.name for step in steps[:8])
        return NotADenseNet(f"expected {expected}; found {found or 'nothing more'}")
