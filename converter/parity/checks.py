"""What can be compared without computing: settings, metadata and weights.

A wrong eps of 1e-8 is a wrong contract though no float32 logit shows it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from converter.core.checkpoint import Array, Tensor
from converter.core.errors import ConverterError
from converter.core.fingerprint import weights
from converter.core.folded_head import folded_config, folded_head
from converter.core.metadata import CONFIG_KEY, LABELS_KEY
from converter.core.model import Images, Model
from converter.layouts import LAYOUTS
from converter.parity.compare import ULP
from densenet.config import DenseNetConfig
from densenet.module import NORM_TENSORS, Module
from densenet.preprocess import Preprocess

WEIGHT_ULPS = 16.0
"""What folding a norm in float32 may cost a weight: a few roundings, in units of its own last place."""


@dataclass(frozen=True)
class Rounding:
    """What storing weights in some precision, and folding norms before or after that, may cost them.

    Attributes:
        relative: part of a value, or of what it is the sum of.
        kernel: in weights of convolutions and linear layers, whatever their size: some writers make
            zeros of what is smaller than float16's normal numbers.
        norm: the same in biases and in what norms hold.
    """

    relative: float
    kernel: float = 0.0
    norm: float = 0.0


FOLDED = 4
"""Roundings of a value that was folded in half precision: its weight's, its norm's two, and the last."""
ROUNDINGS: Mapping[str, Rounding] = {
    "fp32": Rounding(WEIGHT_ULPS * ULP),
    "fp16": Rounding(FOLDED * 2.0**-11, float(np.finfo(np.float16).smallest_normal), 2.0**-25),
    "bf16": Rounding(FOLDED * 2.0**-8),
}
"""By precision; 8 bits are rounded with their inputs in mind, and cannot be told weight by weight."""

ASPECTS: Mapping[str, tuple[str, ...]] = {
    "eps": ("eps",),
    "padding": ("padding",),
    "pooling": ("stem_pool", "stem_ceil", "transition_pool", "transition_ceil", "global_pool"),
    "activations": ("transition_relu", "final_relu", "hidden_activation", "final_activation", "head"),
    "classes": ("num_classes",),
    "input channels": ("in_channels",),
}
"""Checks by the config fields they compare; the remaining fields show in the shapes of tensors."""


@dataclass(frozen=True)
class Check:
    """One static comparison.

    Attributes:
        name: what was compared.
        ok: whether it agrees; None if it could not be checked, which fails nothing.
        detail: what differs, or why it could not be checked.
    """

    name: str
    ok: bool | None
    detail: str = ""

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON values."""
        return asdict(self)


def model_checks(reference: Model, candidate: Model, precision: str = "fp32") -> list[Check]:
    """Settings, metadata and, where they should be the same but for rounding, weights of two readable models."""
    reference, candidate = comparable(reference, candidate)
    result = [*config_checks(reference.config, candidate.config)]
    same_shapes = result[0].ok
    said = candidate.images
    result += metadata_checks(reference.images, said.preprocess, said.labels, said.activation)
    result += own_metadata(candidate.stated, candidate.config)
    if precision in ROUNDINGS and same_shapes:
        result = [*with_folded_eps(result, reference, candidate), weight_check(reference, candidate, precision)]
    return result


def comparable(reference: Model, candidate: Model) -> tuple[Model, Model]:
    """Two models, with their heads folded where these are not layer for layer the same.

    A layer without a bias is the same as one whose bias is zeros, which converters leave out.
    """
    if reference.config.head == candidate.config.head:
        return reference, candidate
    biased = with_biases(reference), with_biases(candidate)
    if biased[0].config.head == biased[1].config.head:
        return biased
    return folded_head(reference), folded_head(candidate)


def with_biases(model: Model) -> Model:
    """The model with zeros as the bias of every layer of its head that has none."""
    layers = [layer._replace(bias=True) if layer.kind == "linear" else layer for layer in model.config.head_layers]
    config = replace(model.config, head=tuple(map(str, layers)))
    lacking = {name: shape for name, shape in config.tensors().items() if name not in model.tensors}
    zeros = {name: Tensor.of(np.zeros(shape, np.float32)) for name, shape in lacking.items() if name.endswith(".bias")}
    return replace(model, config=config, tensors={**model.tensors, **zeros})


def metadata_checks(images: Images, preprocess: Any, labels: Any, activation: str) -> list[Check]:
    """What the candidate says about images and classes (JSON values will do), against what the reference says."""
    said, found = (
        steps.to_dict() if isinstance(steps, Preprocess) else steps for steps in (images.preprocess, preprocess)
    )
    checks = [_metadata("preprocessing", said, found), _metadata("labels", images.labels, labels)]
    if images.activation and activation:
        same = images.activation == activation
        checks.append(Check("activation", same, "" if same else f"{activation}, {images.activation} expected"))
    return checks


def own_metadata(stated: Mapping[str, Any], config: DenseNetConfig) -> list[Check]:
    """Whether a file of this tool's says of itself (JSON values by key) what it is; nothing for another file."""
    if CONFIG_KEY not in stated:
        return []
    try:
        said = DenseNetConfig.from_dict(stated[CONFIG_KEY])
    except (ValueError, TypeError, AttributeError) as error:
        return [Check("metadata", False, f"{CONFIG_KEY} is damaged ({error})")]
    wrong = [check.detail for check in config_checks(config, said) if not check.ok]
    labels = stated.get(LABELS_KEY)
    if labels is not None and (not isinstance(labels, list) or len(labels) != config.num_classes):
        wrong.append(f"{LABELS_KEY} does not name {config.num_classes} classes")
    return [Check("metadata", not wrong, "; ".join(wrong))]


def config_checks(expected: DenseNetConfig, found: DenseNetConfig) -> Iterator[Check]:
    """One check for the architecture, which shapes tell, and one for each aspect they do not."""
    if expected.head != found.head:
        expected, found = folded_config(expected), folded_config(found)
    ours, theirs = expected.tensors(), found.tensors()
    wrong = next((name for name in (*ours, *theirs) if ours.get(name) != theirs.get(name)), None)
    detail = f"{wrong}: {_shape(theirs, wrong)}, {_shape(ours, wrong)} expected" if wrong else ""
    yield Check("architecture", wrong is None, detail)
    for name, fields in ASPECTS.items():
        differ = [f for f in fields if getattr(expected, f) != getattr(found, f)]
        detail = ", ".join(f"{f} {_short(getattr(found, f))}, {_short(getattr(expected, f))} expected" for f in differ)
        yield Check(name, not differ, detail)


def _short(value: Any) -> Any:
    """A setting as it is told: a number that was once a float32, with no more digits than that had."""
    return f"{value:.8g}" if isinstance(value, float) else value


def with_folded_eps(checks: Sequence[Check], reference: Model, candidate: Model) -> list[Check]:
    """Checks of two networks of the same shapes, in which another eps is right where variances make up for it."""
    ours, theirs = reference.config.eps, candidate.config.eps
    made_up = ours != theirs and _variances_make_up(reference, candidate)
    folded = Check("eps", True, f"{ours:g} as {theirs:g}, folded into the variances where float32 shows it")
    return [folded if check.name == "eps" and made_up else check for check in checks]


def _variances_make_up(reference: Model, candidate: Model) -> bool:
    """Whether every norm that cannot be folded into a convolution does the same, though variances differ.

    An eps that is wrong by less than variances can show is wrong: they are the same then.  But where a layout fixes it,
    as Keras does, the candidate could have no other.
    """
    moved = any(
        "eps" not in layout.expresses and layout.eps == candidate.config.eps
        for layout in LAYOUTS
        if layout.name == candidate.origin.layout
    )
    modules = list(reference.config.modules())
    for before, norm in pairwise(modules):
        if norm.kind != "norm" or follows(before, norm):
            continue
        a, b = (m.tensors[f"{norm.name}.running_var"].read() for m in (reference, candidate))
        moved |= not np.array_equal(a, b)
        ours, theirs = _affine(reference, norm.name), _affine(candidate, norm.name)
        for leaf, (expected, allowed) in ours.items():
            if not (np.abs(theirs[leaf][0] - expected) <= allowed).all():
                return False
    return moved


def weight_check(reference: Model, candidate: Model, precision: str = "fp32") -> Check:
    """Whether all weights are the same, as far as that precision can keep them when norms are folded.

    What a norm does with its statistics and eps counts, not how they are stored.
    """
    try:
        for name, problem in different_weights(reference, candidate, ROUNDINGS[precision]):
            return Check("weights", False, f"{name}: {problem}")
    except ConverterError as error:
        return Check("weights", None, str(error))
    return Check("weights", True)


def same_numbers(reference: Model, candidate: Model | None) -> bool:
    """Whether two networks are the same, and their weights in float32, bit for bit."""
    if candidate is None or candidate.config != reference.config:
        return False
    theirs = weights(candidate.tensors)

    def bits(tensor: Tensor) -> bytes:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(tensor.read(), np.float32, order="C").tobytes()

    return all(bits(tensor) == bits(theirs[name]) for name, tensor in weights(reference.tensors).items())


def different_weights(
    reference: Model, candidate: Model, rounding: Rounding = ROUNDINGS["fp32"]
) -> Iterator[tuple[str, str]]:
    """Modules, in order of execution, whose weights differ; and which, and how much.

    Both models have the same architecture.
    """
    modules = list(reference.config.modules())
    norms = [*modules[1:], None]
    folded: Module | None = None
    for module, after in zip(modules, norms):
        if module is folded:
            continue
        folded = after if after is not None and follows(module, after) else None
        ours = _effective(reference, module, folded, rounding)
        theirs = _effective(candidate, module, folded, rounding)
        for leaf, (expected, allowed) in ours.items():
            found = theirs[leaf][0]
            with np.errstate(invalid="ignore", over="ignore"):
                off = ~(np.abs(found - expected) <= allowed)
            if off.any():
                where = folded if folded and leaf != "weight" else module
                yield where.name if where else module.name, f"{leaf} {difference(found, expected, off)}"
                break


def follows(conv: Module, norm: Module) -> bool:
    """Whether a norm takes what a convolution makes, and nothing else does: then it may be folded into it."""
    a, b = conv.place, norm.place
    if (a.kind, b.kind) != ("conv", "norm") or (a.part, a.block, a.layer) != (b.part, b.block, b.layer):
        return False
    if a.part == "stem":
        return a.number == b.number
    return a.part == "layer" and (a.number, b.number) == (1, 2)


def _effective(model: Model, module: Module, norm: Module | None, rounding: Rounding) -> dict[str, tuple[Array, Array]]:
    """What a module (and the norm behind it) multiplies by and adds, float64, and how far off rounding may be."""

    def read(name: str) -> Array:
        with np.errstate(invalid="ignore"):  # of signalling NaNs
            return model.tensors[name].read().astype(np.float64)

    if module.kind == "norm":
        return _affine(model, module.name, rounding)
    weight = read(f"{module.name}.weight")
    if norm is None:
        values = {"weight": (weight, rounding.relative * np.abs(weight) + rounding.kernel)}
        if module.bias:
            bias = read(f"{module.name}.bias")
            values["bias"] = (bias, rounding.relative * np.abs(bias) + rounding.norm)
        return values
    affine = _affine(model, norm.name, rounding)
    with np.errstate(all="ignore"):
        scale, allowed = (array.reshape(-1, *[1] * (weight.ndim - 1)) for array in affine["scale"])
        allowed = np.abs(weight) * allowed + rounding.kernel * np.abs(scale)
        return {"weight": (weight * scale, allowed), "shift": affine["shift"]}


def _affine(model: Model, name: str, rounding: Rounding = ROUNDINGS["fp32"]) -> dict[str, tuple[Array, Array]]:
    with np.errstate(all="ignore"):
        arrays = (model.tensors[f"{name}.{leaf}"].read() for leaf in NORM_TENSORS)
        gamma, beta, mean, variance = (array.astype(np.float64) for array in arrays)
        squared = variance + model.config.eps
        scale = gamma / np.sqrt(squared)
        shift = beta - mean * scale
        least = rounding.norm * (1 / np.sqrt(squared) + np.abs(scale) / (2 * squared))
        sums = np.abs(beta) + np.abs(mean * scale)
        off = rounding.relative * sums + rounding.norm * (1 + np.abs(scale)) + np.abs(mean) * least
        return {"scale": (scale, rounding.relative * np.abs(scale) + least), "shift": (shift, off)}


def difference(found: Array, expected: Array, off: Array) -> str:
    """How two arrays differ, where they are marked as being off."""
    at = tuple(int(i) for i in np.argwhere(off)[0])
    values = f"{found[at]:.6g}, {expected[at]:.6g} expected"
    return f"differs in {int(off.sum())} of {off.size} values, first at {list(at)}: {values}"


def _metadata(name: str, expected: Any, found: Any) -> Check:
    if not expected or not found:
        missing = "the reference" if not expected else "the candidate"
        return Check(name, None, f"{missing} records none")
    if isinstance(expected, Mapping) != isinstance(found, Mapping) or not isinstance(found, Mapping | Sequence):
        return Check(name, False, "damaged")
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        differ = [k for k in {**expected, **found} if _plain(expected.get(k)) != _plain(found.get(k))]
        detail = ", ".join(f"{k} {found.get(k)}, {expected.get(k)} expected" for k in differ)
        return Check(name, not differ, detail)
    same = list(expected) == list(found)
    first = next((i for i, (a, b) in enumerate(zip(expected, found)) if a != b), min(len(expected), len(found)))
    return Check(name, same, "" if same else f"class {first} is called otherwise")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _shape(shapes: Mapping[str, tuple[int, ...]], name: str) -> str:
    return str(list(shapes[name])) if name in shapes else "no such tensor"
