"""Probabilities of logits."""

from collections.abc import Callable, Mapping

import numpy as np

from converter.core.checkpoint import Array


def softmax(logits: Array) -> Array:
    """Probabilities (N, classes) of which one is true, float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    result: Array = shifted / shifted.sum(axis=1, keepdims=True)
    return result


def sigmoid(logits: Array) -> Array:
    """The probability of each class by itself, float64."""
    result: Array = 0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64)))
    return result


FUNCTIONS: Mapping[str, Callable[[Array], Array]] = {"softmax": softmax, "sigmoid": sigmoid}
"""Those of :data:`converter.core.model.ACTIVATIONS` that change anything."""


def activated(logits: Array, activation: str) -> Array:
    """What an activation makes of logits; themselves where there is none."""
    return FUNCTIONS[activation](logits) if activation in FUNCTIONS else logits
