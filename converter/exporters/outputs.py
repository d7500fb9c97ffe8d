"""What a graph can be asked for beside its logits: pooled features, feature maps, class activation maps.

Maps of a stage are what timm calls its features: of ``stem``, ``blocks.N`` (a dense block, before its transition),
``transitions.N``, and ``maps``, the last ones, behind the last norm and ReLU.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from converter.core.errors import CannotExpress, ConverterError
from converter.core.nearest import meant
from converter.exporters.graph import PROBABILITIES, Graph
from densenet.config import DenseNetConfig
from densenet.costs import spaces
from densenet.topology import FEATURES, LOGITS, steps

MAPS, CAM, STEM = "maps", "cam", "stem"


def stages(config: DenseNetConfig) -> dict[str, str]:
    """Feature maps by what they are called as outputs: the value in the graph that they are."""
    flow = steps(config)
    first = next(step for step in flow if step.name.startswith("blocks."))
    last = next(step for step in flow if step.op == "global_pool")
    found = {STEM: first.inputs[0]}
    for block, layers in enumerate(config.block_config):
        found[f"blocks.{block}"] = f"blocks.{block}.layers.{layers - 1}"
        if block + 1 < len(config.block_config):
            found[f"transitions.{block}"] = f"transitions.{block}.pool"
    return {**found, MAPS: last.inputs[0]}


def vectors(config: DenseNetConfig) -> dict[str, int]:
    """Outputs that are a vector for each image, with its length."""
    found = {head.name: head.num_classes for head in config.heads}
    if config.num_classes and not config.heads:
        found[LOGITS] = config.num_classes
    found |= {f"{name}.{PROBABILITIES}" if config.heads else PROBABILITIES: n for name, n in found.items()}
    return {**found, FEATURES: config.classifier_features}


def channels(config: DenseNetConfig) -> dict[str, int]:
    """Outputs that are maps, with their number of channels."""
    widths = config.block_widths()
    found = {STEM: widths[0][0], MAPS: config.num_features}
    for block, (_, made) in enumerate(widths):
        found[f"blocks.{block}"] = made
        if block + 1 < len(widths):
            found[f"transitions.{block}"] = widths[block + 1][0]
    return {**found, CAM: config.num_classes} if has_cam(config) else found


def has_cam(config: DenseNetConfig) -> bool:
    """Whether a logit is the mean of a map over all places, and its bias."""
    return bool(config.num_classes and config.global_pool == "avg" and not config.head and not config.heads)


def check_outputs(config: DenseNetConfig, wanted: Sequence[str]) -> None:
    """Refuse outputs that a network does not have, or that are no use without others.

    Raises:
        ConverterError: names the first, and what there is.
    """
    heads = [head.name for head in config.heads] or [LOGITS]
    for name in wanted:
        if name == CAM and not has_cam(config):
            raise CannotExpress(
                "class activation maps are of one classifier that follows average pooling, which this network has not"
            )
        known = [*vectors(config), *channels(config)]
        if name not in known:
            raise ConverterError(f"no output is called {name!r}; there are {', '.join(known)}{meant(name, known)}")
        needed = name.removesuffix(PROBABILITIES).removesuffix(".") or LOGITS
        if (name == CAM or name.endswith(PROBABILITIES)) and needed not in (*wanted, CAM):
            raise ConverterError(f"{name} is given beside {needed}, not alone")
    if len(set(wanted)) < len(wanted):
        raise ConverterError(f"an output is asked for twice: {', '.join(wanted)}")
    if not wanted:
        raise ConverterError("a graph has at least one output")
    if any(name in heads for name in wanted) and not all(name in wanted for name in heads):
        raise ConverterError(f"the heads are given together: {', '.join(heads)}; --head NAME exports one of them")


def maps_in(proto: onnx.ModelProto) -> set[str]:
    """Outputs of a graph that are maps, going by their declared shapes."""
    return {value.name for value in proto.graph.output if len(value.type.tensor_type.shape.dim) > 2}


def add_cam(graph: Graph, config: DenseNetConfig) -> str:
    """Append the maps of all classes (N, classes, h, w), whose means with the bias are the logits."""
    linear = next(node for node in graph.nodes if node.output == LOGITS)
    ones = [1] * config.spatial_dims
    shape = graph.constant("cam.shape", [config.num_classes, config.num_features, *ones], np.int64)
    weight = graph.add("Reshape", (linear.inputs[1], shape), "cam.weight")
    return graph.add("Conv", (stages(config)[MAPS], weight), CAM, kernel_shape=ones, strides=ones)


def sizes_of(config: DenseNetConfig, size: tuple[int, ...]) -> Mapping[str, tuple[int, ...]]:
    """The size of all feature maps by the name of the output, of images of a size.

    Raises:
        ConverterError: nothing is left of such images.
    """
    made = {step.name: after for step, _, after in spaces(config, size)}
    named = {name: made[value] for name, value in stages(config).items()}
    if not all(all(space) for space in named.values()):
        raise ConverterError(f"images of {'x'.join(map(str, size))} are too small: this network leaves nothing of them")
    return {**named, CAM: named[MAPS]}
