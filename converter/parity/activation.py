"""Candidates that give probabilities: they are held against the probabilities of the reference's logits."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx

from converter.core.checkpoint import Array
from converter.engines.onnxruntime import main_output
from converter.parity.compare import FLOOR_ULPS, ULP, Comparison, compare
from converter.parity.proto import is_own
from converter.parity.truth import Truth
from converter.use.activation import FUNCTIONS, activated, sigmoid

PASSED_ON = ("Identity", "Cast", "Flatten", "Reshape", "Squeeze")
"""Operators behind an activation that change no number."""
SUM = 1e-3
"""How far from one a row of probabilities may sum up to, in any precision."""
NEAR = 0.05
"""How near to the reference's probabilities numbers must be that nothing calls so."""
SATURATED = 0.1
"""Where rounding may change the probabilities by more than that, they say nothing."""
HALF_ULP = float(np.finfo(np.float16).eps)


OPERATORS: Mapping[str, str] = {"Softmax": "softmax", "Sigmoid": "sigmoid"}


def activation_of_graph(proto: onnx.ModelProto) -> str:
    """What a foreign file's graph ends with: a key of :data:`converter.use.activation.FUNCTIONS`, or nothing.

    A file of this tool's says which of its outputs are logits, and has to keep to that.
    """
    if is_own(proto):
        return ""
    made = {name: node for node in proto.graph.node for name in node.output}
    node = made.get(main_output([value.name for value in proto.graph.output]))
    while node is not None and node.op_type in PASSED_ON:
        node = made.get(node.input[0])
    return OPERATORS.get(node.op_type, "") if node is not None else ""


def activation_of_numbers(outputs: Sequence[Array | None], truths: Sequence[Array]) -> str:
    """What turns the reference's logits into these numbers: ``softmax``, ``sigmoid``, or nothing."""
    pairs = [(o, t) for o, t in zip(outputs, truths) if o is not None and o.shape == t.shape and np.isfinite(o).all()]
    if not pairs or not all(((o >= 0) & (o <= 1 + SUM)).all() for o, _ in pairs):
        return ""
    if (
        pairs[0][0].shape[1] > 1
        and all(_sums_to_one(o) for o, _ in pairs)
        and not all(_sums_to_one(t) for _, t in pairs)
    ):
        return "softmax"
    if all(((t >= 0) & (t <= 1)).all() for _, t in pairs):
        return ""
    return "sigmoid" if all(np.abs(sigmoid(t) - o).max(initial=0) < NEAR for o, t in pairs) else ""


def _sums_to_one(values: Array) -> bool:
    return bool((np.abs(values.astype(np.float64).sum(axis=1) - 1) < SUM).all())


def through(truth: Truth, activation: str) -> Truth:
    """The truth in probabilities, on the inputs on which they say anything.

    Logits that are off by d make probabilities that are off by a fraction of 2 d.
    """
    apply = FUNCTIONS[activation]
    limits = [
        max(2 * limit * float(np.abs(logits).max(initial=0)), FLOOR_ULPS * ULP / _largest(apply(logits), activation))
        for limit, logits in zip(truth.limits, truth.truths)
    ]
    kept = [i for i, limit in enumerate(limits) if limit <= SATURATED]
    return replace(
        truth,
        batches=[truth.batches[i] for i in kept],
        truths=[apply(truth.truths[i]) for i in kept],
        limits=[limits[i] for i in kept],
        own=[truth.own[i] for i in kept],
        rounded={},
    )


def compare_probabilities(batch: str, found: Array, logits: Array, activation: str, *, half: bool) -> Comparison:
    """Whether an output (N, classes) is the activation of the file's own logits, which are judged by themselves.

    Where they are computed in float16 (``half``), an exponent is off by the rounding of its logit.
    """
    rounding = (HALF_ULP if half else ULP) * max(1.0, float(np.abs(logits).max(initial=0)))
    expected = activated(logits, activation)
    return compare(batch, found, expected, FLOOR_ULPS * rounding / _largest(expected, activation))


def _largest(probabilities: Array, activation: str) -> float:
    """What the errors of an engine's function are relative to: one where all sigmoids may be next to nothing."""
    largest = float(probabilities.max(initial=0)) if activation == "sigmoid" else 1.0
    return max(largest, float(np.finfo(np.float32).tiny))
