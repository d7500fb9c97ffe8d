"""The steps of a pickled module held against a DenseNet's: what they settle, what must be said, what is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from converter.core.errors import NotADenseNet
from converter.reading.candidate import Candidate
from converter.reading.global_pools import is_plain_average, say_global_pool
from converter.reading.module_head import HeadOrder
from converter.reading.module_hidden import ACTIVATES, Hidden
from converter.reading.module_tree import ModuleTree, Step, numbers, what_is
from converter.reading.told import Told
from densenet.config import DenseNetConfig
from densenet.head import RELU
from densenet.module import Module

Slot = str
"""What stands between two modules with weights, by what a DenseNet has there (the keys of :data:`SLOTS`)."""

SLOTS: Mapping[Slot, frozenset[str]] = {
    "nothing": frozenset(),
    "relu": frozenset({"relu"}),
    "stem": frozenset({"relu", "max", "avg", "blur"}),
    "transition relu": frozenset({"relu"}),
    "transition pool": frozenset({"avg", "max", "blur"}),
    "head": frozenset({"relu", "avg", "global", "function"}),
    "layers": frozenset({"relu", "function", "end"}),
}
"""What can stand there."""

USUAL: Mapping[Slot, str] = {
    "nothing": "nothing",
    "relu": "ReLU",
    "stem": "ReLU and MaxPool2d",
    "transition relu": "ReLU",
    "transition pool": "AvgPool2d",
    "head": "ReLU and global pooling",
    "layers": "an activation",
}


class Chain:
    """Follows the steps of a pickled module along the network that its tensors are.

    Args:
        candidate: the module, recognised.
        config: its network.
    """

    def __init__(self, candidate: Candidate, config: DenseNetConfig) -> None:
        self.group = candidate.group
        self.config = config
        self.told = Told()
        self.tree = ModuleTree(candidate.group, _ignored(candidate))
        self.places = [
            (module, candidate.used[f"{module.name}.weight"].keys[0].rpartition(".")[0])
            for module in config.modules()
            if f"{module.name}.weight" in candidate.used
        ]
        everything = list(self.tree.steps())
        weighted = {place for _, place in self.places}
        self.loose = [s for s in everything if s.loose and s.path not in weighted]
        self.steps = [s for s in everything if (not s.loose or s.path in weighted) and s.kind not in ("idle", "beside")]
        self.hidden = Hidden(self.steps, weighted, self.group.attributes)
        self.steps = list(map(self.hidden.as_relu, self.steps))
        if self.hidden.layer != RELU:
            self.told.settings["hidden_activation"] = str(self.hidden.layer)
        self.at = {step.path: i for i, step in enumerate(self.steps) if step.path in weighted}
        self.assumed: set[Slot] = set()
        self.pooled: Step | None = None  # global pooling behind a head that is a convolution
        self.order = HeadOrder(config, self.group.attributes)

    def follow(self) -> Told:
        """What the steps settle.

        Raises:
            NotADenseNet: there is a step that a DenseNet does not have; names it.
        """
        ends = [self.at[place] for _, place in self.places if place in self.at]
        if ends:
            self.front(self.steps[: min(ends)])
            behind: Sequence[Step] = self.steps[max(ends) + 1 :]
            if behind and behind[0].kind == "global" and self.steps[max(ends)].kind == "conv":
                self.pooled, behind = behind[0], behind[1:]
                self.global_pool(self.pooled)
                if self.told.settings.get("global_pool") != "avg":
                    raise NotADenseNet(f"{what_is(self.pooled)} behind the head; only an average is the same there")
                if any(layer.is_activation for layer in self.config.head_layers):
                    raise NotADenseNet(f"{what_is(self.pooled)} behind a head with activations, which is not the same")
            for (one, here), (other, there) in zip(self.places, self.places[1:]):
                if here in self.at and there in self.at:
                    self.between(one, here, other, there)
            last = self.places[-1]
            if last[0].kind == "norm":
                behind = self.headless(behind)
            self.back(behind)
        if self.config.head or any(self.order.before.values()):
            found = self.order.words([step for step in self.loose if step.kind == "function"])
            self.told.settings |= {} if found is None else {"head": found}
            if found is not None and self.order.assumed:
                keys = {module.name: place for module, place in self.places}
                names = " and ".join(keys.get(name, name) for name in self.order.assumed)
                self.told.notes.append(
                    f"the head is read as {','.join(found)}: a ReLU is assumed before {names}; "
                    "--set head=... changes it"
                )
        self.beside()
        return self.told

    # -- around the network ------------------------------------------------------

    def front(self, steps: Sequence[Step]) -> None:
        """What stands before the first convolution."""
        for step in steps:
            if step.kind != "normalise":
                raise NotADenseNet(f"{what_is(step)}, which stands before the network and cannot be carried")
            self.normalise(step)

    def normalise(self, step: Step) -> None:
        """Record a normalisation."""
        mean, std = map(numbers, self.tree.normalising[step.path])
        self.told.mean, self.told.std = mean, std
        self.told.notes.append(
            f"{what_is(step)} before the network, which is left out: images must be normalised before, with mean "
            f"{_list(mean)} and std {_list(std)}"
        )

    def back(self, steps: Sequence[Step]) -> None:
        """What stands behind the last module with weights."""
        for step in steps:
            if step.kind != "end":
                raise NotADenseNet(f"{what_is(step)}, which stands behind the logits and cannot be carried")
            self.end(step)

    def end(self, step: Step) -> None:
        """Say that logits come before it.

        Raises:
            NotADenseNet: it is not along the classes.
        """
        name = step.cls.rpartition(".")[2]
        axis = self.tree.group.attributes.get(step.path, {}).get("dim")
        if axis not in (None, 1, -1):  # None is 1, of logits (torch/nn/functional.py, _get_softmax_dim)
            raise NotADenseNet(f"{what_is(step)} over dim {axis}, not over the classes; that cannot be carried")
        self.told.activation = self.told.activation or ("sigmoid" if name == "Sigmoid" else "softmax")
        note = f"the {name} behind the classifier is left out: logits come before it"
        self.told.notes += [note] if note not in self.told.notes else []

    def headless(self, steps: Sequence[Step]) -> Sequence[Step]:
        """A network whose output is its pooled features."""
        count = next((i for i, step in enumerate(steps) if step.kind not in SLOTS["head"]), len(steps))
        head = steps[:count]
        if any(step.kind in ("avg", "global") for step in head):
            self.head(head, strict=True)
        elif steps == head:
            self.told.notes.append("the module ends before global pooling; the model here includes it")
        return steps[count:]

    # -- between modules with weights -----------------------------------------------

    def between(self, one: Module, here: str, other: Module, there: str) -> None:
        """What stands between two modules with weights that follow each other in the network."""
        first, last = self.at[here], self.at[there]
        strict = self.tree.says_all_between(here, there)
        if first > last and strict:
            raise NotADenseNet(f"{there} runs before {here}; a DenseNet has them the other way round")
        steps = [step for step in self.steps[first + 1 : last] if step.path not in self.at]
        slot = _slot(one, other)
        for step in steps:
            if step.kind not in SLOTS[slot]:
                before = f", behind a {self.hidden.layer}" if self.hidden.layer != RELU else ""
                raise NotADenseNet(f"{what_is(step)}{before}; a DenseNet has {USUAL[slot]} there")
        relu = slot not in ("layers", "head") and self.hidden.one(steps) is not None
        if slot == "layers":
            if strict or steps:  # what Sequentials hold between the two stands there, whatever runs the Sequentials
                self.order.add(other.name, steps)
        elif not steps and not strict:
            self.assumed.add(slot)
        elif slot == "relu":
            if not relu and strict:
                raise NotADenseNet(f"there is no ReLU between {here} and {there}{self.instead(here, there)}")
        elif slot == "stem":
            if not relu and strict:
                raise NotADenseNet(f"there is no ReLU between {here} and {there}{self.instead(here, there)}")
            self.hidden.before_maximum(steps)
            self.stem(steps, strict)
        elif slot == "transition relu":
            if relu or strict:
                self.told.say("transition_relu", relu, here)
        elif slot == "transition pool":
            self.transition(steps, here, strict)
        elif slot == "head":
            self.to_head(steps, other, strict)

    def instead(self, here: str, there: str) -> str:
        """The idle modules between two places, as an addition to a message."""
        above = self.tree.common(here, there)
        names = [path for path in self.tree.children.get(above, []) if "relu" in path.rpartition(".")[2]]
        found = [path for path in names if self.tree.kind(path) == "idle"]
        return f" ({found[0]} is a {self.tree.classes[found[0]].rpartition('.')[2]})" if found else ""

    def stem(self, steps: Sequence[Step], strict: bool) -> None:
        """The stem's pooling: a maximum, one that is blurred, or none."""
        pools = [step for step in steps if step.kind != "relu"]
        if not pools:
            if strict:
                self.told.say("stem_pool", "none", "")
        elif [step.kind for step in pools] == ["max", "blur"]:
            self.max_pool(pools[0], stride=1)
            self.blur_pool(pools[1])
            self.told.say("stem_pool", "blur", pools[1].path)
        elif len(pools) == 1 and pools[0].kind != "blur":
            self.told.say("stem_pool", pools[0].kind, pools[0].path)
            self.max_pool(pools[0])
        else:
            raise NotADenseNet(f"{what_is(pools[-1])}; a DenseNet has one MaxPool2d there")

    def max_pool(self, step: Step, stride: int | None = None) -> None:
        """The stem's pooling: its window is fixed, its stride is a setting (or fixed, before a blur)."""
        values = self.group.attributes.get(step.path, {})
        if step.kind == "avg" and not is_plain_average(values):
            raise NotADenseNet(f"{step.path} has a divisor or counts no border, or rounds up; a DenseNet does not")
        for name, number in (("kernel_size", 3), ("padding", 1), ("dilation", 1)):
            if self.axes(values.get(name, number)) != self.axes(number):
                raise NotADenseNet(f"{step.path} has {name} {values[name]}; a DenseNet has {number} there")
        if "kernel_size" not in values:  # a scripted module keeps it in its code
            return
        steps = self.axes(values.get("stride") or values["kernel_size"])
        if stride is None:
            self.told.say("stem_pool_stride", _uniform(steps), step.path)
            self.told.say("stem_ceil", bool(values.get("ceil_mode", False)), step.path)
        elif steps != self.axes(stride):
            raise NotADenseNet(f"{step.path} has stride {steps}; a DenseNet has {stride} there")

    def blur_pool(self, step: Step) -> None:
        """timm's blur, whose window is fixed."""
        values = self.group.attributes.get(step.path, {})
        for name, usual in (("filt_size", 3), ("stride", 2), ("pad_mode", "reflect")):
            if values.get(name, usual) not in (usual, (usual, usual)):
                raise NotADenseNet(f"{step.path} has {name} {values[name]}; a DenseNet has {usual} there")

    def transition(self, steps: Sequence[Step], here: str, strict: bool) -> None:
        """The pooling behind a transition's convolution; a window of one is none."""
        if len(steps) > 1:
            raise NotADenseNet(f"{what_is(steps[1])}; a DenseNet has one AvgPool2d there")
        if not steps:
            if strict:
                self.told.say("transition_stride", 1, here)
            return
        step = steps[0]
        self.told.say("transition_pool", step.kind, step.path)
        if step.kind == "blur":
            self.blur_pool(step)
            return
        values = self.group.attributes.get(step.path, {})
        if "kernel_size" not in values:
            return
        window = self.axes(values["kernel_size"])
        stride = self.axes(values.get("stride") or values["kernel_size"])
        if window != stride:
            raise NotADenseNet(
                f"{step.path} has kernel_size {_uniform(window)}, stride {_uniform(stride)}; in a DenseNet they agree"
            )
        odd = values.get("divisor_override") is not None or {*self.axes(values.get("dilation", 1))} != {1}
        if odd or {*self.axes(values.get("padding", 0))} != {0}:
            raise NotADenseNet(f"{step.path} has padding, dilation or a divisor; a DenseNet has none there")
        self.told.say("transition_stride", _uniform(window), step.path)
        self.told.say("transition_ceil", bool(values.get("ceil_mode", False)), step.path)

    def to_head(self, steps: Sequence[Step], first: Module, strict: bool) -> None:
        """What stands between the last norm and the first linear layer or norm of the head."""
        pool = next((i for i, step in enumerate(steps) if step.kind in ("avg", "global")), len(steps) - 1)
        self.head(steps[: pool + 1], strict=strict)
        behind = steps[pool + 1 :]
        if strict and behind and self.hidden.one(steps[:pool]) == self.hidden.one(behind[:1]) == RELU:
            behind = behind[1:]  # twice is once
        if strict:
            self.order.add(first.name, behind)
        elif behind:
            raise NotADenseNet(f"{what_is(behind[0])}; a DenseNet has one ReLU and one pooling there")

    def head(self, steps: Sequence[Step], *, strict: bool) -> None:
        """ReLU and global pooling, in this order."""
        pools = [i for i, step in enumerate(steps) if step.kind in ("avg", "global")]
        final = self.hidden.one(steps)
        last = max((i for i, step in enumerate(steps) if step.kind in ACTIVATES), default=-1)
        if len(pools) > 1 or (pools and last > pools[0]):
            strange = steps[pools[0]] if len(pools) > 1 else steps[last]
            raise NotADenseNet(f"{what_is(strange)}; a DenseNet has one ReLU and one pooling there")
        if final not in (None, self.hidden.layer):
            self.told.say("final_activation", str(final), steps[last].path)
        if strict and not pools and self.pooled is None:
            raise NotADenseNet("there is no global pooling before the classifier")
        if strict or final is not None:
            self.told.say("final_relu", final is not None, steps[0].path)
        else:
            self.assumed.add("transition relu")
        if pools:
            self.global_pool(steps[pools[0]])

    def global_pool(self, step: Step) -> None:
        """How a module pools globally."""
        say_global_pool(step, self.group, self.tree, self.told)

    # -- modules whose place in the order is not known ----------------------------------

    def beside(self) -> None:
        """Modules without weights that an opaque module holds: it may run them anywhere."""
        pools = [step for step in self.loose if step.kind == "global"]
        if len(pools) > 1:
            kinds = {step.cls.rpartition(".")[2] for step in pools}
            if len(kinds) > 1:
                raise NotADenseNet(
                    f"{what_is(pools[1])}, and {what_is(pools[0])}: it cannot be told how they are joined"
                )
        for step in self.loose:
            if step.kind in ("idle", "beside", "relu") or (step.kind == "function" and self.config.head):
                continue
            if step.kind == "max":
                self.told.say("stem_pool", "max", step.path)
                self.max_pool(step)
            elif step.kind == "avg":
                self.loose_average(step)
            elif step.kind == "global":
                self.global_pool(step)
            elif step.kind == "end":
                self.end(step)
            elif step.kind == "normalise":
                self.normalise(step)
            else:
                raise NotADenseNet(f"{what_is(step)}, which a DenseNet does not have")
        self.opaque()

    def opaque(self) -> None:
        """Say whose code is not known: in the network, and around it."""
        above = self.tree.common(self.places[0][1], self.places[-1][1])
        inside = self.tree.opaque_around([place for _, place in self.places], above)
        if inside:
            hidden = self.hidden.layer
            last = "the ReLUs" if hidden == RELU else f"{hidden} behind the last norm as elsewhere"
            self.told.notes.append(
                f"the code of {', '.join(inside)} is not in the file: it is taken as usual, with {last}, the "
                "pooling and the order of concatenation that no module shows, and nothing else before, between and "
                "behind them (--set final_relu, final_activation, global_pool, stem_pool)"
            )
        while above:
            above = self.tree.parent(above)
            if not self.tree.in_order(above):
                self.told.notes.append(
                    f"the code of {self.tree.classes[above]} is not in the file: what it does before and behind the "
                    "network is not known"
                )

    def loose_average(self, step: Step) -> None:
        """Average pooling of a class whose code is not known: in a transition, or before the classifier."""
        above = self.tree.parent(step.path)
        held = [module for module, place in self.places if place.startswith(f"{above}." if above else "")]
        if held and all(module.place.part == "transition" for module in held):
            self.transition([step], step.path, strict=False)
        else:
            self.global_pool(step)

    def axes(self, value: Any) -> tuple[int, ...]:
        """A number for each axis."""
        return tuple(value) if isinstance(value, (tuple, list)) else (value,) * self.config.spatial_dims


def _ignored(candidate: Candidate) -> frozenset[str]:
    """Places all of whose tensors are left out: with them what is in them is not run."""
    holds: dict[str, set[bool]] = {}
    for key in candidate.group.tensors:
        path = key
        while path:
            path = path.rpartition(".")[0]
            holds.setdefault(path, set()).add(key in candidate.dropped)
    normalises = ModuleTree(candidate.group).normalising
    return frozenset(path for path, dropped in holds.items() if dropped == {True} and path not in normalises)


def _slot(one: Module, other: Module) -> Slot:
    """What a DenseNet has between two modules that follow each other."""
    here, there = one.place, other.place
    if there.part == "head" and (there.kind == "linear" or there.number is not None):
        return "head" if here.template == "norm" else "layers"
    if one.kind == "conv":
        return "transition pool" if here.part == "transition" else "nothing"
    if here.part == "stem":
        return "relu" if there.part == "stem" else "stem"
    return "transition relu" if here.part == "transition" else "relu"


def _uniform(values: Sequence[int]) -> Any:
    return values[0] if len(set(values)) == 1 else tuple(values)


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
