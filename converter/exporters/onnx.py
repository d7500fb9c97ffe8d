"""A model as ONNX, made of its tensors without tracing anything.

Batch, height and width are dynamic; weights are inside the file; the metadata holds
the config and the source with its SHA-256.
"""

from collections.abc import Sequence
from typing import Any, Literal, Unpack

import onnx
from onnx import TensorProto

from converter.core.errors import ConverterError
from converter.core.interface import Interface, InterfaceFields
from converter.core.metadata import GRAPH_KEY
from converter.core.model import Model
from converter.core.nearest import meant
from converter.core.shorthand import taken
from converter.core.version import __version__
from converter.exporters.graph import PROBABILITIES, SPACE, Graph, GraphOptions, build
from converter.exporters.lazy import LazyModel
from converter.exporters.outputs import CAM, add_cam, channels, check_outputs, stages, vectors
from converter.exporters.passes import PASSES
from converter.exporters.presented import presented
from densenet.topology import FEATURES, LOGITS

DEFAULT_OPSET = 21
"""The newest that ONNX Runtime runs since 1.20, the oldest we depend on."""
LOWEST_OPSET = 11
"""Below, padding and rounding up cannot be said the way the graph needs."""


class Options(GraphOptions, InterfaceFields, total=False):
    """Keywords of :func:`to_onnx`."""


def to_onnx(model: Model, **options: Unpack[Options]) -> onnx.ModelProto:
    """The ONNX model in float32 as one message in memory.

    Args:
        model: weights in the library layout.
        options: as for :func:`lazy_onnx`, and the fields of an :class:`Interface`.
    """
    made = lazy_onnx(model, **taken(options, GraphOptions))
    return presented(made, model, Interface(**taken(options, InterfaceFields))).whole()


def lazy_onnx(
    model: Model,
    *,
    graph: Literal["fused", "exact"] = "fused",
    opset: int | None = None,
    features: bool = False,
    probabilities: bool | None = False,
    outputs: Sequence[str] = (),
) -> LazyModel:
    """Build the ONNX model; its weights are read when it is written.

    Args:
        model: weights in the library layout.
        graph: ``exact`` is operator for operator what PyTorch does; ``fused`` applies
            the rewrites of ``passes.py``, exact in real arithmetic.
        opset: version of the ONNX operators; default 21.
        features: also give the pooled features, output ``features`` (N, classifier_features).
        probabilities: also give what the model's activation makes of the logits as output ``probabilities``, of
            several heads as ``NAME.probabilities`` beside ``NAME``.
        outputs: all that it gives, in this order (:mod:`.outputs`), instead of the logits; a graph that gives no
            logits ends where it gives the last.

    Raises:
        ConverterError: an opset that cannot express the graph, or no such output.
    """
    opset = opset or DEFAULT_OPSET
    newest = onnx.defs.onnx_opset_version()
    if not LOWEST_OPSET <= opset <= newest:
        raise ConverterError(f"opset {opset} cannot be written; choose from {LOWEST_OPSET} to {newest}")
    config, heads = model.config, model.branches()
    wanted = _wanted(model, outputs, features, probabilities)
    check_outputs(config, wanted)
    if not any(name in heads or name == LOGITS for name in wanted):
        model = model.headless()
    built = build(model.config, model.tensors)
    if graph == "fused":
        for rewrite in PASSES.values():
            rewrite(built)
    elif graph != "exact":
        raise ConverterError(
            f"no graph is called {graph!r}; there are fused and exact{meant(graph, ('fused', 'exact'))}"
        )
    if CAM in wanted:
        add_cam(built, config)
    for name, one in heads.items():
        if f"{name}.{PROBABILITIES}".removeprefix(".") in wanted:
            _add_probabilities(built, one.activation, name)
    built.outputs = [stages(config).get(name, name) for name in wanted]
    built.cut()
    return _proto(built, model, graph, opset)


def _wanted(model: Model, outputs: Sequence[str], features: bool, probabilities: bool | None) -> list[str]:
    """What a graph gives, in order."""
    heads = model.branches()
    if probabilities and not all(one.config.num_classes for one in heads.values()):
        raise ConverterError("a model without a classifier has no probabilities")
    usual = [head.name for head in model.config.heads] or [LOGITS if model.config.num_classes else FEATURES]
    wanted = list(outputs) or usual
    wanted += [FEATURES] * (features and FEATURES not in wanted)
    probable = {f"{name}.{PROBABILITIES}".removeprefix("."): one.activation for name, one in heads.items()}
    given = [name for name, activation in probable.items() if activation != "none"]
    if (probabilities and not given) or any(name in wanted and name not in given for name in probable):
        raise ConverterError("the model's activation is none, so it has no probabilities; --activation sets another")
    return wanted + [name for name in given if probabilities and name not in wanted]


def _add_probabilities(graph: Graph, activation: str, head: str) -> None:
    logits, name = (head, f"{head}.{PROBABILITIES}") if head else (LOGITS, PROBABILITIES)
    if activation == "sigmoid":
        graph.add("Sigmoid", (logits,), name)
    else:
        graph.add("Softmax", (logits,), name, axis=1)


def _proto(graph: Graph, model: Model, kind: str, opset: int) -> LazyModel:
    helper, config = onnx.helper, model.config
    widths, maps = vectors(config), {stages(config).get(name, name): n for name, n in channels(config).items()}
    nodes = [helper.make_node(n.op, list(n.inputs), [n.output], name=n.output, **n.attributes) for n in graph.nodes]
    shapes = {
        name: ["batch_size", widths[name]]
        if name in widths
        else ["batch_size", maps[name], *[None] * config.spatial_dims]
        for name in graph.outputs
    }
    proto = helper.make_graph(
        nodes,
        config.name,
        [
            helper.make_tensor_value_info(
                graph.input, TensorProto.FLOAT, ["batch_size", config.in_channels, *SPACE[config.spatial_dims]]
            )
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
    )
    imports = [helper.make_opsetid("", opset)]
    result = helper.make_model(
        proto,
        opset_imports=imports,
        ir_version=helper.find_min_ir_version_for(imports),
        producer_name="densenet-converter",
        producer_version=__version__,
    )
    helper.set_model_props(result, {**model.metadata(), GRAPH_KEY: kind})
    return LazyModel.of(result, graph.initializers)


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes as plain values."""
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
