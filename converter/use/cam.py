"""Class activation maps: which places of an image speak for a class.

Where the classifier follows average pooling, a logit is a mean over places of a weighted sum of the last feature maps,
and that sum is the map, exactly (Zhou et al. 2016, arXiv 1512.04150).  Else the weights are the logit's derivatives,
averaged over places (Grad-CAM, Selvaraju et al. 2017, arXiv 1610.02391), for which PyTorch is needed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from converter.core.checkpoint import Array
from converter.core.errors import CannotExpress, Unavailable
from converter.engines.torch import gradients, has_torch
from converter.use.network import Network

EXACT = "Average pooling makes a logit the mean of its map over all places, so the map is exact."
GRADIENT = "The weights of the feature maps are the derivatives of the class' logit, averaged over places (Grad-CAM)."


@dataclass(frozen=True)
class ClassActivation:
    """How a network's maps are made.

    Attributes:
        weights: of the last feature maps (C, h, w) of an image, for a class: (C,).
        how: the same as a sentence.
    """

    weights: Callable[[Array, int], Array]
    how: str

    def __call__(self, maps: Array, label: int) -> Array:
        """What speaks for a class, and against, at each place: (h, w)."""
        maps = maps.astype(np.float32, copy=False)
        result: Array = np.tensordot(self.weights(maps, label), maps, 1)
        return result


def class_activation(network: Network) -> ClassActivation:
    """How a network's maps are made: exactly where that is possible.

    Raises:
        CannotExpress: the network takes no images.
        Unavailable: that needs PyTorch, which is not installed.
        ConverterError: the weights are not at hand.
    """
    if network.config.spatial_dims != 2:
        raise CannotExpress("class activation maps are drawn over images, and this network takes none")
    pool, head = network.config.global_pool, network.config.head
    if pool == "avg" and not head:
        weight = network.weight()
        return ClassActivation(lambda _, label: weight[label], EXACT)
    if not has_torch():
        what = "with layers before its classifier" if head else f"with {pool} pooling"
        raise Unavailable(f"--cam of a network {what} needs PyTorch: pip install 'densenet-converter[torch]'")
    slope = gradients(network.module())
    return ClassActivation(lambda maps, label: slope(maps[None], np.array([label]))[0], GRADIENT)


def heat(cam: Array) -> Array:
    """A map as numbers from 0 to 1: what speaks against the class is 0, the strongest place 1.

    Raises:
        ValueError: it is not finite.
    """
    if not np.isfinite(cam).all():
        raise ValueError("its class activation map is not finite")
    positive = np.maximum(cam, 0)
    result: Array = positive / (positive.max() or 1)
    return result
