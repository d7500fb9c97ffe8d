"""A pickled module as the steps it runs, as far as its classes say it.

A Sequential runs its children in order, and so do the DenseNets of torchvision, timm
and MONAI, whose code is known.  Any other class is opaque: what it holds is known, what
it does with it is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from converter.core.checkpoint import Tensor
from converter.reading.wrappers import Group

Kind = Literal[
    "conv",
    "norm",
    "linear",
    "relu",
    "function",
    "max",
    "avg",
    "blur",
    "global",
    "idle",
    "end",
    "normalise",
    "beside",
    "other",
]
"""What a module does.

function: an activation that only a head may have.
global: pools to a vector.
end: may stand behind logits.
beside: is never run.
"""


class Step(NamedTuple):
    """A module that computes, where it stands, its class, and whether an opaque module holds it."""

    kind: Kind
    path: str
    cls: str
    loose: bool = False


LEAVES: Mapping[str, Kind] = {
    **dict.fromkeys(("Conv1d", "Conv2d", "Conv3d"), "conv"),
    **dict.fromkeys(
        """BatchNorm1d BatchNorm2d BatchNorm3d SyncBatchNorm SynchronizedBatchNorm2d NaiveSyncBatchNorm
        FrozenBatchNorm2d FrozenBatchNorm BatchNormAct2d FrozenBatchNormAct2d SyncBatchNormAct""".split(),
        "norm",
    ),
    **dict.fromkeys(("Linear", "NonDynamicallyQuantizableLinear"), "linear"),
    "ReLU": "relu",
    **dict.fromkeys(
        "ReLU6 GELU SiLU Mish Tanh Softplus Hardswish Hardsigmoid SELU Softsign LeakyReLU ELU CELU".split(), "function"
    ),
    **dict.fromkeys(("MaxPool1d", "MaxPool2d", "MaxPool3d"), "max"),
    **dict.fromkeys(("AvgPool1d", "AvgPool2d", "AvgPool3d"), "avg"),
    "BlurPool2d": "blur",
    **dict.fromkeys((f"Adaptive{kind}Pool{n}d" for kind in ("Avg", "Max") for n in (1, 2, 3)), "global"),
    **dict.fromkeys(
        """FastAdaptiveAvgPool AdaptiveAvgMaxPool2d AdaptiveCatAvgMaxPool2d FastAdaptiveAvgMaxPool
        FastAdaptiveCatAvgMaxPool SelectAdaptivePool2d AdaptiveConcatPool2d""".split(),
        "global",
    ),
    **dict.fromkeys(
        "Identity Dropout Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout DropPath Flatten".split(),
        "idle",
    ),
    **dict.fromkeys(("Softmax", "Softmax2d", "LogSoftmax", "Sigmoid"), "end"),
}
"""Classes by their own name: torch.nn's, and others' that do the same."""

OWN = frozenset(
    """Identity Flatten SynchronizedBatchNorm2d NaiveSyncBatchNorm SyncBatchNorm FrozenBatchNorm2d
    AdaptiveConcatPool2d""".split()
)
"""Names that people give to classes of their own that do what the name says."""
HOMES = re.compile(r"(torch\.nn|torchvision|timm|monai|fastai)\.|torch\.ao\.nn\.qat\.")
WITH_ACTIVATION = frozenset("BatchNormAct2d FrozenBatchNormAct2d SyncBatchNormAct".split())
"""timm's norms, which run their children behind themselves."""

IN_ORDER = re.compile(
    r"torch\.nn\.modules\.container\.(Sequential|ModuleDict)|torchvision\.models\.densenet\._\w+|"
    r"timm\.models\.densenet\.Dense(Layer|Block|Transition)|monai\.networks\.nets\.densenet\._\w+|"
    r"torchxrayvision\.models\._\w+|(\w+\.)*(DataParallel|DistributedDataParallel|OptimizedModule|CheckpointWrapper|"
    r"FullyShardedDataParallel|AveragedModel)"
)
"""Classes that run their children in order, or run the only one."""
CONTAINERS = re.compile(r"torch\.nn\.modules\.container\.(ModuleDict|ModuleList)")

FUNCTIONS: tuple[Step, ...] = (
    Step("relu", "", "relu"),
    Step("global", "", "adaptive_avg_pool2d"),
)
FRAMES: tuple[tuple[re.Pattern[str], tuple[str | Step, ...]], ...] = (
    (
        re.compile(r"(torchvision\.models\.densenet|torchxrayvision\.models)\.DenseNet"),
        ("features", *FUNCTIONS, "classifier"),
    ),
    (re.compile(r"timm\.models\.densenet\.DenseNet"), ("features", "global_pool", "head_drop", "classifier")),
    (re.compile(r"monai\.networks\.nets\.densenet\.[Dd]ense[Nn]et\w*"), ("features", "class_layers")),
)
"""Networks whose forward is known: what it runs, children by name."""

BESIDE = re.compile(r"(torchmetrics|ignite|sklearn)\.|torch\.nn\.modules\.loss\.|(.*\.)?\w*(Loss|Criterion|Metric)\w*$")
NORMALISES = re.compile(r"normali[sz]", re.IGNORECASE)
MEANS, STDS = ("mean", "means", "_mean"), ("std", "stds", "_std", "sd", "sds")


def normalising(group: Group) -> dict[str, tuple[Any, Any]]:
    """Modules that are called a normalisation and have a mean and a standard deviation: these two, by place."""
    found = {}
    for path, cls in group.classes.items():
        if NORMALISES.search(cls.rpartition(".")[2]):
            values = group.attributes.get(path, {})
            own = [
                next((v for n in names if (v := values.get(n, group.tensors.get(f"{path}.{n}"))) is not None), None)
                for names in (MEANS, STDS)
            ]
            if all(value is not None for value in own):
                found[path] = (own[0], own[1])
    return found


def what_is(step: Step) -> str:
    """A step, as errors call it."""
    name = step.cls.rpartition(".")[2] if step.cls.startswith("torch.") else step.cls
    return f"{step.path or 'it'} is a {name}"


def numbers(value: Any) -> tuple[float, ...]:
    """The numbers of a tuple, a list or a tensor."""
    array = value.read().reshape(-1) if isinstance(value, Tensor) else value
    flat = array if isinstance(array, (tuple, list)) or hasattr(array, "__len__") else (array,)
    return tuple(float(n) for n in flat)


class ModuleTree:
    """The modules of a group that was pickled whole.

    Args:
        group: the group.
        ignored: places whose modules are left out, with all below.
    """

    def __init__(self, group: Group, ignored: frozenset[str] = frozenset()) -> None:
        self.group = group
        self.classes = group.classes
        self.ignored = ignored
        self.normalising = normalising(group)
        self.children: dict[str, list[str]] = {}
        for path in self.classes:
            if path:
                self.children.setdefault(self.parent(path), []).append(path)

    def parent(self, path: str) -> str:
        """The module that holds another; names can have dots in them."""
        while path:
            path = path.rpartition(".")[0]
            if path in self.classes:
                return path
        return ""

    def says_all_between(self, here: str, there: str) -> bool:
        """Whether every module around the two, up to the one that holds both, runs its children in order."""
        above = self.common(here, there)
        around = [above]
        for path in (here, there):
            while (path := path.rpartition(".")[0]) and path != above and path.startswith(above):
                around.append(path)
        return all(self.in_order(path) for path in around)

    def opaque_around(self, places: Sequence[str], above: str) -> list[str]:
        """Classes that do not say what they do, of the modules that hold these places, from ``above`` down."""
        around = dict.fromkeys((above,))
        for place in places:
            path = place
            while path and path != above:
                path = self.parent(path)
                around[path] = None
        unknown = [self.classes[path] for path in around if not self.in_order(path)]
        return list(dict.fromkeys(cls for cls in unknown if not CONTAINERS.fullmatch(cls)))

    def common(self, one: str, other: str) -> str:
        """The nearest module that holds both."""
        above = {""}
        while one:
            one = self.parent(one)
            above.add(one)
        while other:
            other = self.parent(other)
            if other in above:
                return other
        return ""

    def in_order(self, path: str) -> bool:
        """Whether a module's class says what it does with its children."""
        cls = self.classes.get(path, "")
        known = cls.rpartition(".")[2] in WITH_ACTIVATION or any(frame.fullmatch(cls) for frame, _ in FRAMES)
        return known or bool(IN_ORDER.fullmatch(cls))

    def kind(self, path: str) -> Kind | None:
        """What a module without modules of its own in it does; None for one that is run by its parts."""
        cls = self.classes[path]
        name = cls.rpartition(".")[2]
        if BESIDE.match(cls):
            return "beside"
        if path in self.normalising:
            return "normalise"
        if name in LEAVES and (HOMES.match(cls) or name in OWN):
            return LEAVES[name]
        children = self.children.get(path)
        if self.in_order(path) or CONTAINERS.fullmatch(cls) or (children and not cls.startswith("torch.nn.modules.")):
            return None
        return "other"

    def steps(self, path: str = "") -> Iterator[Step]:
        """What a module runs, in order as far as that is known."""
        if path in self.ignored:
            return
        cls = self.classes[path]
        kind = self.kind(path)
        if kind is not None:
            above = self.parent(path)
            yield Step(kind, path, cls, loose=bool(path) and not self.in_order(above))
            if cls.rpartition(".")[2] in WITH_ACTIVATION:
                for child in self.children.get(path, []):
                    yield from self.steps(child)
            return
        frame = next((parts for pattern, parts in FRAMES if pattern.fullmatch(cls)), None)
        dot = f"{path}." if path else ""
        if frame is None:
            for child in self.children.get(path, []):
                yield from self.steps(child)
            return
        named = [part for part in frame if isinstance(part, str)]
        for part in frame:
            if isinstance(part, Step):
                yield part
            elif dot + part in self.classes:
                yield from self.steps(dot + part)
        for child in self.children.get(path, []):  # what people hung on it, which its forward does not run
            if child.removeprefix(dot) not in named:
                yield from (step._replace(loose=True) for step in self.steps(child))
