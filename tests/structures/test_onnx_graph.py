"""ONNX as a source: whoever exported, folded or optimised it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers.cases import CASES, logits_of
from helpers.graphs import (
    TINY,
    attribute,
    constants,
    exported,
    images,
    node_named,
    run,
    set_attribute,
    set_constants,
    set_nodes,
)
from helpers.networks import export_model, imagenet_configs, random_model, random_tensors
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from converter import load
from converter.core.errors import NotADenseNet
from converter.core.model import Images
from densenet.config import DenseNetConfig
from densenet.module import NORM_TENSORS
from densenet.preprocess import Preprocess

NETWORKS = {
    "plain": {},
    "cifar": {"stem": "cifar"},
    "without bottleneck": {"stem": "cifar", "bottleneck": False, "bn_size": 4},
    "one block": {"block_config": (3,)},
    "deep stem": {"stem": "deep"},
    "deep stem, blurred": {"stem": "deep", "stem_pool": "blur"},
    "blur everywhere": {"stem_pool": "blur", "transition_pool": "blur"},
    "TensorFlow padding": {"padding": "same"},
    "TensorFlow padding, blurred": {"padding": "same", "stem_pool": "blur"},
    "rounded up": {"stem_ceil": True, "transition_ceil": True},
    "no ReLU": {"transition_relu": False, "final_relu": False},
    "max": {"global_pool": "max"},
    "mean and max": {"global_pool": "avgmax"},
    "mean beside max": {"global_pool": "catavgmax"},
    "max beside mean": {"global_pool": "catmaxavg"},
    "max beside mean, under a head": {"global_pool": "catmaxavg", "head": ("linear:6", "relu")},
    "backbone": {"num_classes": 0},
    "volumes": {"spatial_dims": 3},
    "eps": {"eps": 1.001e-5},
}


# -- reference files ---------------------------------------------------------------


@pytest.mark.parametrize("case", ["onnx-dynamo", "onnx-zoo-small-external"])
def test_reference_files_compute_what_their_producer_did(case: str) -> None:
    folder = CASES / case
    file = json.loads((folder / "case.json").read_text())["file"]
    expected = np.load(folder / "logits.npy")
    computed = logits_of(folder / file, np.load(folder / "input.npy"))
    assert np.abs(computed - expected).max() < 1e-5 * np.abs(expected).max()


def test_names_that_lie_are_not_believed() -> None:
    """torch's dynamo exporter calls a convolution with a norm folded in by the convolution's own name."""
    model = load(CASES / "onnx-dynamo" / "model.onnx")
    assert model.origin.layout == "onnx"
    assert np.all(model.tensors["blocks.0.layers.0.norm2.weight"].read() == 1)


def test_every_constant_is_used_or_accounted_for() -> None:
    path = CASES / "onnx-dynamo" / "model.onnx"
    model = load(path)
    assert set(model.dropped) < {tensor.name for tensor in onnx.load(path).graph.initializer}
    assert set(model.dropped.values()) == {"a constant that is no weight"}


# -- our own files -----------------------------------------------------------------


@pytest.mark.parametrize("changes", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("graph", ["exact", "fused"])
def test_there_and_back(tmp_path: Path, graph: str, changes: dict[str, object]) -> None:
    config = replace(TINY, **changes)
    x = images(config)
    path, _ = exported(tmp_path, config, graph=graph)
    model = load(path)
    assert model.config == config
    if graph == "exact":
        for name, array in random_tensors(config).items():
            assert np.array_equal(model.tensors[name].read(), array), name
    assert np.abs(run(path, x) - logits_of(path, x)).max() < 1e-5


@settings(max_examples=25)
@given(config=imagenet_configs(), seed=st.integers(0, 3))
def test_any_network_exported_exactly_comes_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, config: DenseNetConfig, seed: int
) -> None:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    arrays = random_tensors(config, seed)
    export_model(random_model(config, seed), path, graph="exact")
    model = load(path)
    assert model.config == config
    assert all(np.array_equal(model.tensors[name].read(), array) for name, array in arrays.items())


def test_our_metadata_is_used(tmp_path: Path) -> None:
    path, labels = tmp_path / "model.onnx", ("a", "b", "c", "d", "e")
    export_model(random_model(TINY, preprocess=Preprocess(crop=(32, 32)), labels=labels), path)
    model = load(path)
    assert model.images == Images(Preprocess(crop=(32, 32)), labels)


def test_metadata_that_contradicts_the_graph_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    proto = export_model(random_model(TINY), path)
    helper.set_model_props(proto, {"densenet.config": json.dumps({**TINY.to_dict(), "final_relu": False})})
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(NotADenseNet, match="final_relu"):
        load(path)


def test_outputs_beside_the_logits_and_image_input(tmp_path: Path) -> None:
    path, x = tmp_path / "model.onnx", images()
    export_model(random_model(TINY), tmp_path / "plain.onnx")
    export_model(random_model(TINY), path, features=True, probabilities=True)
    assert np.abs(run(tmp_path / "plain.onnx", x) - logits_of(path, x)).max() < 1e-5
    export_model(random_model(TINY), path, image_input=True)
    assert np.abs(run(tmp_path / "plain.onnx", x) - logits_of(path, x)).max() < 1e-5


# -- the same network, written otherwise -----------------------------------------------


def norms_as_multiply_and_add(proto: onnx.ModelProto) -> None:
    arrays, nodes = constants(proto), []
    for node in proto.graph.node:
        if node.op_type != "BatchNormalization":
            nodes.append(node)
            continue
        gamma, beta, mean, variance = (arrays.pop(name).astype(np.float64) for name in node.input[1:])
        scale, y = gamma / np.sqrt(variance + 1e-5), node.output[0]
        arrays[f"{y}.s"] = scale.reshape(1, -1, 1, 1).astype(np.float32)
        arrays[f"{y}.b"] = (beta - mean * scale).reshape(-1, 1, 1).astype(np.float32)
        nodes.append(helper.make_node("Mul", [f"{y}.s", node.input[0]], [f"{y}.scaled"]))
        nodes.append(helper.make_node("Add", [f"{y}.scaled", f"{y}.b"], [y]))
    set_constants(proto, arrays)
    set_nodes(proto, nodes)


def scales_behind_norms(proto: onnx.ModelProto) -> None:
    """Caffe's Scale layer: the norm's own weight and bias are one and zero, or anything."""
    arrays, nodes = constants(proto), []
    for node in proto.graph.node:
        nodes.append(node)
        if node.op_type == "BatchNormalization":
            y = node.output[0]
            width = len(arrays[node.input[1]])
            arrays[f"{y}.w"] = np.linspace(0.5, 1.5, width, dtype=np.float32)
            arrays[f"{y}.b"] = np.linspace(-1, 1, width, dtype=np.float32)
            node.output[0] = f"{y}.normed"
            nodes += [
                helper.make_node("Unsqueeze", [f"{y}.w", "axes"], [f"{y}.w1"]),
                helper.make_node("Mul", [f"{y}.normed", f"{y}.w1"], [f"{y}.scaled"]),
                helper.make_node("Unsqueeze", [f"{y}.b", "axes"], [f"{y}.b1"]),
                helper.make_node("Add", [f"{y}.scaled", f"{y}.b1"], [y]),
            ]
    arrays["axes"] = np.array([1, 2])
    set_constants(proto, arrays)
    set_nodes(proto, nodes)


def matmul_classifier(proto: onnx.ModelProto) -> None:
    node, arrays = proto.graph.node[-1], constants(proto)
    arrays["classifier.weight"] = arrays["classifier.weight"].T
    set_constants(proto, arrays)
    nodes = [*proto.graph.node[:-1]]
    nodes.append(helper.make_node("MatMul", [node.input[0], "classifier.weight"], ["product"]))
    nodes.append(helper.make_node("Add", ["classifier.bias", "product"], ["logits"]))
    set_nodes(proto, nodes)


def convolution_classifier(proto: onnx.ModelProto) -> None:
    arrays = constants(proto)
    arrays["classifier.weight"] = arrays["classifier.weight"][:, :, None, None]
    set_constants(proto, arrays)
    flatten, gemm = proto.graph.node[-2:]
    conv = helper.make_node("Conv", [flatten.input[0], *gemm.input[1:]], ["scores"], kernel_shape=[1, 1])
    out = helper.make_node("Flatten", ["scores"], ["logits"])
    set_nodes(proto, [*proto.graph.node[:-2], conv, out])


def weights_through_constant_nodes(proto: onnx.ModelProto) -> None:
    arrays, nodes = constants(proto), []
    for name, array in list(arrays.items()):
        if array.ndim == 4:
            arrays[f"{name}.hwio"] = arrays.pop(name).transpose(2, 3, 1, 0)
            nodes.append(helper.make_node("Transpose", [f"{name}.hwio"], [name], perm=[3, 2, 0, 1]))
        elif name.endswith("running_mean"):
            nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(arrays.pop(name))))
        elif name.endswith("running_var"):
            arrays[f"{name}.row"] = arrays.pop(name)[None]
            nodes.append(helper.make_node("Squeeze", [f"{name}.row"], [f"{name}.flat"]))
            nodes.append(helper.make_node("Identity", [f"{name}.flat"], [name]))
    set_constants(proto, arrays)
    set_nodes(proto, [*nodes, *proto.graph.node])


def typed_fields(proto: onnx.ModelProto) -> None:
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor).reshape(-1).tolist()
        made = helper.make_tensor(tensor.name, TensorProto.FLOAT, tensor.dims, values)
        assert made.float_data
        tensor.CopyFrom(made)


def zeros_before_the_stem(proto: onnx.ModelProto) -> None:
    """Keras: explicit padding, then a convolution and a pooling without any."""
    nodes, arrays = list(proto.graph.node), constants(proto)
    for name, op in (("stem.conv", "Conv"), ("stem.pool", "MaxPool")):
        node = node_named(proto, name)
        assert node.op_type == op
        width = attribute(node, "pads").ints[0]
        arrays[f"{name}.pads"] = np.array([0, 0, width, width] * 2)
        pad = helper.make_node("Pad", [node.input[0], f"{name}.pads"], [f"{name}.padded"])
        set_attribute(node, "pads", [0] * 4)
        node.input[0] = f"{name}.padded"
        nodes.insert(nodes.index(node), pad)
    set_constants(proto, arrays)
    set_nodes(proto, nodes)


def newest_first(proto: onnx.ModelProto) -> None:
    for node in proto.graph.node:
        if node.op_type == "Concat":
            node.input[:] = node.input[::-1]


def dropout_and_casts(proto: onnx.ModelProto) -> None:
    nodes = []
    for node in proto.graph.node:
        nodes.append(node)
        if node.op_type == "Relu":
            y, node.output[0] = node.output[0], node.output[0] + ".before"
            nodes.append(helper.make_node("Dropout", [node.output[0]], [f"{y}.kept"]))
            nodes.append(helper.make_node("Cast", [f"{y}.kept"], [y], to=TensorProto.FLOAT))
    set_nodes(proto, nodes)


def every_concat_at_once(proto: onnx.ModelProto) -> None:
    """torch: each layer concatenates all feature maps there are."""
    made: dict[str, list[str]] = {}
    for node in proto.graph.node:
        if node.op_type == "Concat":
            made[node.output[0]] = [*made.get(node.input[0], [node.input[0]]), node.input[1]]
            node.input[:] = made[node.output[0]]


def biases_of_convolutions(proto: onnx.ModelProto) -> None:
    arrays = constants(proto)
    for node in proto.graph.node:
        if node.op_type == "Conv":
            width = arrays[node.input[1]].shape[0]
            arrays[f"{node.output[0]}.bias"] = np.linspace(-1, 1, width, dtype=np.float32)
            node.input.append(f"{node.output[0]}.bias")
    set_constants(proto, arrays)


REWRITES: list[Callable[[onnx.ModelProto], None]] = [
    norms_as_multiply_and_add,
    scales_behind_norms,
    matmul_classifier,
    convolution_classifier,
    weights_through_constant_nodes,
    typed_fields,
    zeros_before_the_stem,
    newest_first,
    dropout_and_casts,
    every_concat_at_once,
    biases_of_convolutions,
]


def test_features_in_another_order_are_said(tmp_path: Path) -> None:
    """Without a classifier nothing takes them in the order in which the file has them."""
    path, proto = exported(tmp_path, replace(TINY, num_classes=0))
    assert not load(path).notes
    newest_first(proto)
    path.write_bytes(proto.SerializeToString())
    model, x = load(path), images(TINY)
    assert any("another order" in note for note in model.notes)
    assert np.abs(np.sort(run(path, x)) - np.sort(logits_of(path, x))).max() < 1e-5


@pytest.mark.parametrize("rewrite", REWRITES, ids=lambda rewrite: rewrite.__name__)
@pytest.mark.parametrize("global_pool", ["avg", "catavgmax"])
def test_the_same_network_written_otherwise(
    tmp_path: Path, rewrite: Callable[[onnx.ModelProto], None], global_pool: str
) -> None:
    path, proto = exported(tmp_path, replace(TINY, global_pool=global_pool))
    rewrite(proto)
    if rewrite is convolution_classifier and global_pool != "avg":
        proto.graph.node[-2].input[0] = "global_pool"
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString())
    x = images()
    expected = run(path, x)
    assert np.abs(logits_of(path, x) - expected).max() < 2e-5 * np.abs(expected).max()


def test_constants_shared_between_nodes(tmp_path: Path) -> None:
    """Equal constants, as the statistics of a fresh network, are stored once."""
    path, proto = exported(tmp_path)
    arrays, first = constants(proto), {}
    for node in proto.graph.node:
        if node.op_type == "BatchNormalization":
            for i, leaf in enumerate(NORM_TENSORS[2:], 3):
                key = (leaf, arrays[node.input[i]].shape)
                node.input[i] = first.setdefault(key, node.input[i])
    path.write_bytes(proto.SerializeToString())
    x = images()
    assert np.abs(logits_of(path, x) - run(path, x)).max() < 1e-4
    assert load(path).dropped


def test_eps_is_the_number_that_was_meant(tmp_path: Path) -> None:
    path, _ = exported(tmp_path, replace(TINY, eps=1.1e-5))
    assert load(path).config.eps == 1.1e-5


def test_fixed_sizes_explain_paddings_and_pools(tmp_path: Path) -> None:
    """At 64 pixels SAME is (2, 3) around 7 and (0, 1) around 3; a pooling of all 4x4 positions is global."""
    config = replace(TINY, padding="same")
    path, proto = exported(tmp_path, config)
    x = images(config, 64)
    expected = run(path, x)
    for name, pads in (("stem.conv", [2, 2, 3, 3]), ("stem.pool", [0, 0, 1, 1])):
        node = node_named(proto, name)
        set_attribute(node, "auto_pad", "NOTSET")
        set_attribute(node, "pads", pads)
    pool = node_named(proto, "global_pool.avg")
    pool.op_type = "AveragePool"
    set_attribute(pool, "kernel_shape", [4, 4])
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(NotADenseNet, match="SAME"):
        load(path)  # of any size, it is neither
    for axis, value in enumerate((2, 3, 64, 64)):
        proto.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = value
    path.write_bytes(proto.SerializeToString())
    assert load(path).config == config
    assert np.abs(logits_of(path, x) - expected).max() < 1e-5


# -- not a DenseNet ------------------------------------------------------------------


def residual(proto: onnx.ModelProto) -> None:
    node = node_named(proto, "blocks.0.layers.0")
    node.op_type = "Add"
    del node.attribute[:]


def other_activation(proto: onnx.ModelProto) -> None:
    node_named(proto, "blocks.1.layers.0.relu1").op_type = "LeakyRelu"


def dilated(proto: onnx.ModelProto) -> None:
    set_attribute(node_named(proto, "blocks.0.layers.0.conv2"), "dilations", [2, 2])


def strided(proto: onnx.ModelProto) -> None:
    set_attribute(node_named(proto, "transitions.0.conv"), "strides", [2, 2])


def shifted(proto: onnx.ModelProto) -> None:
    set_attribute(node_named(proto, "stem.conv"), "pads", [2, 2, 4, 4])


def overlapping(proto: onnx.ModelProto) -> None:
    set_attribute(node_named(proto, "transitions.1.pool"), "kernel_shape", [3, 3])


def once_rounded_up(proto: onnx.ModelProto) -> None:
    set_attribute(node_named(proto, "transitions.1.pool"), "ceil_mode", 1)


def training(proto: onnx.ModelProto) -> None:
    set_attribute(node_named(proto, "norm"), "training_mode", 1)


def by_column(proto: onnx.ModelProto) -> None:
    """(C,) is added along the width, not the channels."""
    arrays = constants(proto)
    arrays["columns"] = np.ones(len(arrays["norm.bias"]), np.float32)
    set_constants(proto, arrays)
    node = node_named(proto, "norm")
    node.output[0] = "normed"
    add = helper.make_node("Add", ["normed", "columns"], ["norm"])
    at = list(proto.graph.node).index(node)
    set_nodes(proto, [*proto.graph.node[: at + 1], add, *proto.graph.node[at + 1 :]])


def quantised(proto: onnx.ModelProto) -> None:
    arrays = constants(proto)
    arrays["stem.conv.int8"] = (arrays.pop("stem.conv.weight") * 127).astype(np.int8)
    arrays["scale"] = np.float32(1 / 127)
    set_constants(proto, arrays)
    node = helper.make_node("DequantizeLinear", ["stem.conv.int8", "scale"], ["stem.conv.weight"])
    set_nodes(proto, [node, *proto.graph.node])


def behind(*nodes: onnx.NodeProto, **arrays: np.ndarray) -> Callable[[onnx.ModelProto], None]:
    """Nodes that make y of logits."""

    def change(proto: onnx.ModelProto) -> None:
        set_constants(proto, {**constants(proto), **arrays})
        set_nodes(proto, [*proto.graph.node, *nodes])
        proto.graph.output[0].name = "y"

    return change


def dynamically_quantised(proto: onnx.ModelProto) -> None:
    node = proto.graph.node[-1]
    made = helper.make_node("DynamicQuantizeLinear", [node.input[0]], ["q", "s", "z"], "quantise")
    proto.graph.node.insert(len(proto.graph.node) - 1, made)


def old_training(proto: onnx.ModelProto) -> None:
    """Before opset 14 it is the number of results that tells."""
    proto.opset_import[0].version = 13
    node_named(proto, "norm").output.extend(["mean", "variance", "m", "v"])


def old_dropout(proto: onnx.ModelProto) -> None:
    proto.opset_import[0].version = 6
    for node in proto.graph.node:
        if node.op_type == "BatchNormalization":
            set_attribute(node, "is_test", 1)
    behind(helper.make_node("Dropout", ["logits"], ["y"], "drop"))(proto)


SPLIT = helper.make_node("Split", ["logits", "sizes"], ["a", "b"], "split", axis=1)
BRANCH = onnx.parser.parse_graph("g () => (float[N, 5] r) { r = Identity(logits) }")

STRANGE = {
    dynamically_quantised: "DynamicQuantizeLinear quantise: it is quantised",
    old_training: "training mode",
    old_dropout: "Dropout drop",
    behind(helper.make_node("Softmax", ["logits"], ["y"], "over the batch", axis=0)): "Softmax over the batch",
    behind(helper.make_node("ArgMax", ["logits"], ["y"], "by default")): "ArgMax by default",
    behind(SPLIT, helper.make_node("Relu", ["b"], ["y"]), sizes=np.array([2, 3])): "Split split",
    behind(
        helper.make_node("If", ["c"], ["y"], "choice", then_branch=BRANCH, else_branch=BRANCH), c=np.array(True)
    ): "If choice: a branch or loop",
    residual: "Add blocks.0.layers.0|stem.pool",
    other_activation: "LeakyRelu blocks.1.layers.0.relu1",
    dilated: "blocks.0.layers.0.conv2",
    strided: "transitions.0.conv",
    shifted: "stem.conv",
    overlapping: "transitions.1.pool",
    once_rounded_up: "transition_ceil",
    training: "training mode",
    by_column: "Add norm",
    quantised: "stem.conv.weight",
}


@pytest.mark.parametrize("change", STRANGE, ids=STRANGE.values())
def test_what_a_densenet_does_not_do_is_refused_by_name(
    tmp_path: Path, change: Callable[[onnx.ModelProto], None]
) -> None:
    path, proto = exported(tmp_path)
    change(proto)
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(NotADenseNet, match=STRANGE[change]):
        load(path)


def test_functions_of_the_model_are_put_in_place(tmp_path: Path) -> None:
    """A function with a function in it, an attribute of its own and one it has a default for."""
    path, proto = exported(tmp_path)
    node, x = node_named(proto, "transitions.0.pool"), images()
    expected, opsets = run(path, x), [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    pool = helper.make_node("AveragePool", ["x"], ["y"])
    for name, of in (("kernel_shape", "size"), ("strides", "step")):
        attribute = onnx.AttributeProto(name=name, ref_attr_name=of, type=onnx.AttributeProto.INTS)
        pool.attribute.append(attribute)
    outer = helper.make_node("Pool", ["x"], ["y"], domain="local", size=[2, 2])
    default = helper.make_attribute("step", [2, 2])
    proto.functions.extend(
        [
            helper.make_function("local", "Pool", ["x"], ["y"], [pool], opsets, ["size"], [default]),
            helper.make_function("local", "Outer", ["x", "unused"], ["y"], [outer], opsets),
        ]
    )
    proto.opset_import.append(helper.make_opsetid("local", 1))
    node.CopyFrom(helper.make_node("Outer", list(node.input), list(node.output), "call", domain="local"))
    path.write_bytes(proto.SerializeToString())
    assert np.abs(run(path, x) - expected).max() == 0
    assert np.abs(logits_of(path, x) - expected).max() < 1e-5


def test_a_function_that_calls_itself_is_refused(tmp_path: Path) -> None:
    path, proto = exported(tmp_path)
    node_named(proto, "blocks.0.layers.0.relu1").domain = "local"
    body = [helper.make_node("Relu", ["x"], [y], domain="local") for y in ("y", "z")]
    proto.functions.append(helper.make_function("local", "Relu", ["x"], ["y"], body, [helper.make_opsetid("", 17)]))
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(NotADenseNet, match="too many nodes"):
        load(path)


def test_a_result_that_is_not_the_networks_is_refused(tmp_path: Path) -> None:
    path, proto = exported(tmp_path)
    proto.graph.output[0].name = "stem.pool"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(NotADenseNet, match="not the result"):
        load(path)


# -- before the stem and behind the logits ----------------------------------------------

INTEGERS = {"last": [-1], "first": [-(1 << 62)], "axis": [1], "back": [-1], "bgr": [2, 1, 0], "ones": [1, 1, 1]}
GIVEN = {
    **{name: np.array(values) for name, values in INTEGERS.items()},
    **{f"at{i}": np.array([i]) for i in range(4)},
    "three": np.array([1, 2, 3], np.float32).reshape(1, 3, 1, 1),
    "classes": np.arange(1, 6, dtype=np.float32),
    "zero": np.float32(0),
}


def slices(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    made = [helper.make_node("Slice", ["x", f"at{i}", f"at{i + 1}", "axis"], [f"c{i}"]) for i in range(3)]
    return [*made, helper.make_node("Concat", ["c2", "c1", "c0"], ["p"], axis=1)]


def split(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    made = helper.make_node("Split", ["x", "ones"], ["c0", "c1", "c2"], axis=1)
    return [made, helper.make_node("Concat", ["c2", "c1", "c0"], ["p"], axis=1)]


FRONTS = {
    "gathered": [helper.make_node("Gather", ["x", "bgr"], ["p"], axis=1)],
    "sliced": [helper.make_node("Slice", ["x", "last", "first", "axis", "back"], ["p"])],
    "pieces": slices(onnx.ModelProto()),
    "split": split(onnx.ModelProto()),
    "negative": [helper.make_node("Neg", ["x"], ["p"])],
    "scaled, then turned": [
        helper.make_node("Mul", ["x", "three"], ["s"]),
        helper.make_node("Gather", ["s", "bgr"], ["p"], axis=1),
    ],
}
BEHINDS = {
    "negative": [helper.make_node("Neg", ["logits"], ["y"])],
    "from": [helper.make_node("Sub", ["classes", "logits"], ["y"])],
    "softmax": [helper.make_node("Softmax", ["logits"], ["y"])],
}


@pytest.mark.parametrize("nodes", FRONTS.values(), ids=FRONTS)
def test_what_images_go_through_is_part_of_the_first_convolution(tmp_path: Path, nodes: list[onnx.NodeProto]) -> None:
    path, proto = exported(tmp_path)
    proto.graph.node[0].input[0] = "p"
    set_constants(proto, {**constants(proto), **GIVEN})
    proto.graph.input[0].name = "x"
    set_nodes(proto, [*nodes, *proto.graph.node])
    path.write_bytes(proto.SerializeToString())
    x = images() * 9
    expected = run(path, x)
    assert np.abs(logits_of(path, x) - expected).max() < 2e-5 * np.abs(expected).max()


@pytest.mark.parametrize("nodes", BEHINDS.values(), ids=BEHINDS)
def test_what_follows_the_logits(tmp_path: Path, nodes: list[onnx.NodeProto]) -> None:
    path, proto = exported(tmp_path)
    behind(*nodes, **GIVEN)(proto)
    path.write_bytes(proto.SerializeToString())
    x = images()
    expected, have = run(path, x), logits_of(path, x)
    if nodes[0].op_type == "Softmax":
        have = np.exp(have) / np.exp(have).sum(1, keepdims=True)
        assert any("Softmax" in note for note in load(path).notes)
    assert np.abs(have - expected).max() < 2e-5 * np.abs(expected).max()


@pytest.mark.parametrize("flat", [True, False])
def test_a_mean_over_positions_in_two_steps(tmp_path: Path, flat: bool) -> None:
    path, proto = exported(tmp_path)
    arrays = {**constants(proto), "flat": np.array([0, 0, -1])}
    first = helper.make_node("Reshape", ["r", "flat"], ["m"])
    nodes = [first] if flat else [helper.make_node("ReduceMean", ["r"], ["m"], axes=[3], keepdims=0)]
    nodes.append(helper.make_node("ReduceMean", ["m"], ["pooled"], axes=[2], keepdims=0))
    proto.opset_import[0].version = 17
    at = next(i for i, node in enumerate(proto.graph.node) if node.op_type == "GlobalAveragePool")
    nodes[0].input[0], gemm = proto.graph.node[at].input[0], proto.graph.node[-1]
    gemm.input[0] = "pooled"
    set_constants(proto, arrays)
    set_nodes(proto, [*proto.graph.node[:at], *nodes, gemm])
    path.write_bytes(proto.SerializeToString())
    x = images()
    assert np.abs(logits_of(path, x) - run(path, x)).max() < 1e-5


# -- torch's exporters and ONNX Runtime's optimiser -------------------------------------


def torch_network(seed: int = 0) -> object:
    torch = pytest.importorskip("torch")
    densenet = pytest.importorskip("torchvision.models.densenet")
    torch.manual_seed(seed)
    network = densenet.DenseNet(4, (2, 1, 2), 6, bn_size=2, num_classes=5)
    for name, tensor in network.state_dict().items():
        if "running" in name or ("norm" in name and tensor.dtype == torch.float32):
            tensor.uniform_(0.5, 1.5)
    return network.eval()


def torch_export(path: Path, **options: object) -> np.ndarray:
    """Export with torch, return the logits of ``images()`` at 64 pixels."""
    torch = pytest.importorskip("torch")
    network, x = torch_network(), torch.from_numpy(images(size=64))
    with torch.no_grad():
        expected = network(x).numpy()
    torch.onnx.export(network, (x,), str(path), **options)
    return expected


TORCH_EXPORTS = {
    "opset 9": {"opset_version": 9},
    "opset 11": {"opset_version": 11},
    "opset 18": {"opset_version": 18},
    "nothing folded": {"do_constant_folding": False, "training": "PRESERVE"},
    "constants as inputs": {"keep_initializers_as_inputs": True, "opset_version": 12},
    "dynamic": {"input_names": ["x"], "dynamic_axes": {"x": {0: "n", 2: "h", 3: "w"}}},
}


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", TORCH_EXPORTS.values(), ids=TORCH_EXPORTS)
def test_exports_of_torch_by_tracing(tmp_path: Path, options: dict[str, object]) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "model.onnx"
    if "training" in options:
        options = {**options, "training": torch.onnx.TrainingMode.PRESERVE}
    expected = torch_export(path, dynamo=False, **options)
    assert np.abs(logits_of(path, images(size=64)) - expected).max() < 1e-5


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", [{}, {"optimize": False}, {"external_data": False}], ids=str)
def test_exports_of_torch_by_dynamo(tmp_path: Path, options: dict[str, object]) -> None:
    pytest.importorskip("onnxscript")
    path = tmp_path / "model.onnx"
    expected = torch_export(path, dynamo=True, **options)
    assert np.abs(logits_of(path, images(size=64)) - expected).max() < 1e-5


@pytest.mark.parametrize("level", ["BASIC", "EXTENDED", "ALL"])
@pytest.mark.parametrize("graph", ["exact", "fused"])
def test_files_optimised_by_onnx_runtime(tmp_path: Path, level: str, graph: str) -> None:
    config = replace(TINY, growth_rate=8, init_features=16)  # blocked weights need multiples of 8
    path, _ = exported(tmp_path, config, graph=graph)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    optimised, x = tmp_path / "optimised.onnx", images()
    if any(node.domain == "com.microsoft.nchwc" for node in onnx.load(optimised).graph.node):
        with pytest.raises(NotADenseNet, match="ORT_ENABLE_EXTENDED"):
            load(optimised)
    else:
        assert np.abs(logits_of(optimised, x) - run(path, x)).max() < 1e-5


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
def test_what_stands_beside_the_network_need_not_be_understood(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    network, x, path = torch_network(), torch.from_numpy(images(size=64)), tmp_path / "model.onnx"

    class Embedding(torch.nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: object) -> tuple[object, object]:
            """Logits, and the pooled features of length 1, for a search."""
            pooled = torch.relu(self.network.features(x)).mean((2, 3))
            return self.network.classifier(pooled), torch.nn.functional.normalize(pooled)

    torch.onnx.export(Embedding().eval(), (x,), str(path), dynamo=False)
    with torch.no_grad():
        expected = network(x).numpy()
    assert np.abs(logits_of(path, images(size=64)) - expected).max() < 1e-5
    assert any("left out" in note for note in load(path).notes)


def strided(proto: onnx.ModelProto, indices: np.ndarray, *, times_images: bool) -> None:
    """The features read once more by their places, as torch's dynamo exporter writes ``as_strided``."""
    set_constants(proto, {**constants(proto), "all": np.array([-1]), "places": indices})
    size = [
        helper.make_node("Shape", ["pixel_values"], ["n"], start=0, end=1),
        helper.make_node("Squeeze", ["n"], ["images"]),
        helper.make_node("Range", ["zero", "images", "one"], ["image"]),
        helper.make_node("Mul", ["image", "width"], ["first"]),
        helper.make_node("Unsqueeze", ["first", "inner"], ["firsts"]),
        helper.make_node("Add", ["firsts", "places"], ["places of all"]),
    ]
    numbers = {"zero": 0, "one": 1, "width": indices.shape[1], "inner": [1, 2, 3]}
    set_constants(proto, {**constants(proto), **{name: np.array(n) for name, n in numbers.items()}})
    nodes = list(proto.graph.node)
    at = next(i for i, node in enumerate(nodes) if node.op_type == "GlobalAveragePool")
    pooled = nodes[at].output[0]
    taken = [
        helper.make_node("Reshape", [pooled, "all"], ["flat"]),
        helper.make_node("Gather", ["flat", "places of all" if times_images else "places"], ["taken"], axis=0),
    ]
    for node in nodes[at + 1 :]:
        node.input[:] = ["taken" if name == pooled else name for name in node.input]
    set_nodes(proto, [*nodes[: at + 1], *(size if times_images else []), *taken, *nodes[at + 1 :]])


def test_features_taken_by_their_places(tmp_path: Path) -> None:
    """So PyTorch's default exporter writes the pooling of networks in channels-last memory."""
    path, proto = exported(tmp_path)
    width = constants(proto)["classifier.weight"].shape[1]
    places = np.arange(width).reshape(1, width, 1, 1)
    for fixed in (False, True):
        _, proto = exported(tmp_path)
        if fixed:
            proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
        strided(proto, places, times_images=not fixed)
        path.write_bytes(proto.SerializeToString())
        x = images()[:1] if fixed else images()
        np.testing.assert_allclose(logits_of(path, x), run(path, x), atol=1e-5)
    for wrong, times_images in ((places, False), (places[:, ::-1], True)):
        _, proto = exported(tmp_path)
        strided(proto, wrong, times_images=times_images)
        path.write_bytes(proto.SerializeToString())
        with pytest.raises(NotADenseNet, match="Gather taken: a DenseNet has the classifier there"):
            load(path)


def border(proto: onnx.ModelProto, name: str, value: float) -> None:
    """The padding of a convolution or pooling as a node of its own."""
    nodes, node = list(proto.graph.node), node_named(proto, name)
    width = attribute(node, "pads").ints[0]
    numbers = {"amount": np.array([0, 0, width, width] * 2), "value": np.array(value, np.float32)}
    set_constants(proto, {**constants(proto), **numbers})
    pad = helper.make_node("Pad", [node.input[0], "amount", "value"], ["padded"])
    set_attribute(node, "pads", [0] * 4)
    node.input[0] = "padded"
    set_nodes(proto, [*nodes[: nodes.index(node)], pad, *nodes[nodes.index(node) :]])


@pytest.mark.parametrize("value", [-np.inf, np.finfo(np.float32).min, np.finfo(np.float16).min])
def test_borders_below_all_numbers_are_nothing_to_max_pooling(tmp_path: Path, value: float) -> None:
    """As TensorFlow has them, and what OpenVINO makes of that, in half precision too."""
    path, proto = exported(tmp_path)
    expected = run(path, images())
    border(proto, "stem.pool", value)
    path.write_bytes(proto.SerializeToString())
    assert load(path).config == TINY
    np.testing.assert_allclose(logits_of(path, images()), expected, atol=1e-5)


@pytest.mark.parametrize(("name", "value"), [("stem.pool", -1.0), ("stem.pool", 1.0), ("stem.conv", -np.inf)])
def test_other_borders_are_refused(tmp_path: Path, name: str, value: float) -> None:
    path, proto = exported(tmp_path)
    border(proto, name, value)
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(NotADenseNet, match="Pad padded: a DenseNet has "):
        load(path)


def test_what_is_not_understood_is_named_before_what_it_leads_to(tmp_path: Path) -> None:
    """Behind it numbers per channel are those of nothing known."""
    path, proto = exported(tmp_path)
    set_constants(proto, {**constants(proto), "full": np.float32(255).reshape(1), "mean": np.ones((1, 3, 1, 1), "f4")})
    before = [
        helper.make_node("Transpose", ["pixel_values"], ["strange"], perm=[1, 0, 2, 3]),
        helper.make_node("Div", ["strange", "full"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "mean"], ["shifted"]),
    ]
    nodes = list(proto.graph.node)
    nodes[0].input[0] = "shifted"
    set_nodes(proto, [*before, *nodes])
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(NotADenseNet, match="Transpose strange: a DenseNet has nothing of the kind there"):
        load(path)


def test_a_border_of_images_with_their_channels_last(tmp_path: Path) -> None:
    """As tf2onnx has it of TensorFlow Lite's files: Pad, Transpose, Conv."""
    path, proto = exported(tmp_path)
    expected = run(path, images())
    border(proto, "stem.conv", 0.0)
    width = constants(proto)["amount"].max()
    set_constants(proto, {**constants(proto), "amount": np.array([0, width, width, 0] * 2)})
    pad, *nodes = proto.graph.node
    nodes[0].input[0] = "turned"
    turn = helper.make_node("Transpose", ["padded"], ["turned"], perm=[0, 3, 1, 2])
    set_nodes(proto, [pad, turn, *nodes])
    del proto.graph.input[0].type.tensor_type.shape.dim[:]
    for size in (2, 37, 37, 3):
        proto.graph.input[0].type.tensor_type.shape.dim.add().dim_value = size
    path.write_bytes(proto.SerializeToString())
    np.testing.assert_allclose(run(path, np.ascontiguousarray(images().transpose(0, 2, 3, 1))), expected, atol=1e-5)
    assert any("NHWC" in note for note in load(path).notes)
    np.testing.assert_allclose(logits_of(path, images()), expected, atol=1e-5)
    set_attribute(turn := proto.graph.node[1], "perm", [0, 1, 2, 3])
    assert turn.op_type == "Transpose"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(NotADenseNet):
        load(path)


def test_grey_images_are_turned_by_their_shape(tmp_path: Path) -> None:
    path, proto = exported(tmp_path, replace(TINY, in_channels=1))
    x = images(replace(TINY, in_channels=1))
    expected = run(path, x)
    set_constants(proto, {**constants(proto), "shape": np.array([-1, 1, 37, 37])})
    nodes = list(proto.graph.node)
    nodes[0].input[0] = "turned"
    set_nodes(proto, [helper.make_node("Reshape", ["pixel_values", "shape"], ["turned"]), *nodes])
    for dim, size in zip(proto.graph.input[0].type.tensor_type.shape.dim, (2, 37, 37, 1)):
        dim.dim_value = size
    path.write_bytes(proto.SerializeToString())
    assert any("NHWC" in note for note in load(path).notes)
    np.testing.assert_allclose(logits_of(path, x), expected, atol=1e-5)
