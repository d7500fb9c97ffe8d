"""A model as ONNX, made of its tensors without tracing anything.

Batch, height and width are dynamic; weights are inside the file; the metadata holds
the config and the source with its SHA-256.
"""

from typing import Any, Literal, Unpack

import onnx
from onnx import TensorProto

from converter.core.errors import ConverterError
from converter.core.metadata import GRAPH_KEY
from converter.core.model import Model
from converter.core.version import __version__
from converter.exporters.graph import IMAGE, PROBABILITIES, SPACE, Graph, GraphOptions, build
from converter.exporters.image_input import add_image_input
from converter.exporters.lazy import LazyModel
from converter.exporters.passes import PASSES
from densenet.topology import FEATURES, LOGITS

DEFAULT_OPSET = 21
"""The newest that ONNX Runtime runs since 1.20, the oldest we depend on."""
LOWEST_OPSET = 11
"""Below, padding and rounding up cannot be said the way the graph needs."""
IMAGE_OPSET = 18
"""The first with antialiased resizing."""


def to_onnx(model: Model, **options: Unpack[GraphOptions]) -> onnx.ModelProto:
    """The ONNX model as one message in memory; options as for :func:`lazy_onnx`."""
    return lazy_onnx(model, **options).whole()


def lazy_onnx(
    model: Model,
    *,
    graph: Literal["fused", "exact"] = "fused",
    opset: int | None = None,
    features: bool = False,
    probabilities: bool | None = False,
    image_input: bool = False,
) -> LazyModel:
    """Build the ONNX model; its weights are read when it is written.

    Args:
        model: weights in the library layout.
        graph: ``exact`` is operator for operator what PyTorch does; ``fused`` applies
            the rewrites of ``passes.py``, exact in real arithmetic.
        opset: version of the ONNX operators; default 21.
        features: also give the pooled features, output ``features`` (N, classifier_features).
        probabilities: also give what the model's activation makes of the logits as output ``probabilities``.
        image_input: take ``image``, uint8 (N, H, W, C) in RGB, and resize, crop and
            normalise it inside the graph.

    Raises:
        ConverterError: an opset that cannot express the graph, no such output, or more weights than a file holds.
    """
    opset = opset or DEFAULT_OPSET
    newest = onnx.defs.onnx_opset_version()
    if not LOWEST_OPSET <= opset <= newest:
        raise ConverterError(f"opset {opset} cannot be written; choose from {LOWEST_OPSET} to {newest}")
    if image_input and opset < IMAGE_OPSET:
        raise ConverterError(f"resizing images inside the graph needs opset {IMAGE_OPSET} or newer, not {opset}")
    config = model.config
    if probabilities and not config.num_classes:
        raise ConverterError("a model without a classifier has no probabilities")
    if probabilities and model.activation == "none":
        raise ConverterError("the model's activation is none, so it has no probabilities; --activation sets another")
    built = build(config, model.tensors)
    if graph == "fused":
        for rewrite in PASSES.values():
            rewrite(built)
    elif graph != "exact":
        raise ConverterError(f"no graph is called {graph!r}; there are fused and exact")
    if features and FEATURES not in built.outputs:
        built.outputs.append(FEATURES)
    if probabilities:
        built.outputs.append(_probabilities(built, model.activation))
    if image_input:
        add_image_input(built, config, model.images.preprocess)
    return _proto(built, model, graph, opset)


def _probabilities(graph: Graph, activation: str) -> str:
    if activation == "sigmoid":
        return graph.add("Sigmoid", (LOGITS,), PROBABILITIES)
    return graph.add("Softmax", (LOGITS,), PROBABILITIES, axis=1)


def _proto(graph: Graph, model: Model, kind: str, opset: int) -> LazyModel:
    helper, config = onnx.helper, model.config
    space = SPACE[config.spatial_dims]
    if graph.input == IMAGE:
        shape: list[Any] = ["batch_size", *space, config.in_channels]
    else:
        shape = ["batch_size", config.in_channels, *space]
    input_type = TensorProto.UINT8 if graph.input == IMAGE else TensorProto.FLOAT
    widths = {FEATURES: config.classifier_features}
    nodes = [helper.make_node(n.op, list(n.inputs), [n.output], name=n.output, **n.attributes) for n in graph.nodes]
    proto = helper.make_graph(
        nodes,
        config.name,
        [helper.make_tensor_value_info(graph.input, input_type, shape)],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch_size", widths.get(name, config.num_classes)])
            for name in graph.outputs
        ],
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
