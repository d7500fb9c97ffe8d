"""Ways to break a DenseNet: in its tensors, in its ONNX graph, and in what a file says about it.

Each fault takes one module and changes it in place.  ``fault_injection.py`` applies them
at several depths and asks ``densenet verify`` for its verdict.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx
from onnx import helper, numpy_helper

from converter.layouts.channel_order import channel_order
from densenet.config import DenseNetConfig

Tensors = dict[str, np.ndarray]
Random = np.random.Generator


@dataclass(frozen=True)
class Fault:
    """One way to break a network.

    Attributes:
        name: what it does.
        where: patterns of module names it can be applied to, by their last part; ``*`` is the whole network.
        tensors: changes library tensors of a module.
        graph: changes an ONNX graph at a module.
        only: the graph it is for: ``exact``, ``fused``, or ``image`` (which takes 8-bit images).
    """

    name: str
    where: tuple[str, ...]
    tensors: Callable[[Tensors, str, DenseNetConfig, Random], None] | None = None
    graph: Callable[[onnx.ModelProto, str, DenseNetConfig], None] | None = None
    only: str = ""


class NotApplicable(Exception):
    """This fault changes nothing there."""


CONVS = ("conv", "conv1", "conv2")
NORMS = ("norm", "norm1", "norm2")
FAULTS: list[Fault] = []


def tensor_fault(name: str, *where: str):
    """Register a fault of tensors."""

    def add(change):
        FAULTS.append(Fault(name, where, tensors=change))
        return change

    return add


def graph_fault(name: str, *where: str, only: str = ""):
    """Register a fault of graphs."""

    def add(change):
        FAULTS.append(Fault(name, where, graph=change, only=only))
        return change

    return add


def modules_for(fault: Fault, config: DenseNetConfig, depths: int) -> Iterator[str]:
    """Some modules a fault can be applied to, from the first to the last."""
    if fault.where == ("*",):
        yield "*"
        return
    names = [m.name for m in config.modules() if m.name.rpartition(".")[2] in fault.where or m.name in fault.where]
    names += [name for name in _others(config) if name.rpartition(".")[2] in fault.where or name in fault.where]
    for i in sorted({round(k * (len(names) - 1) / max(depths - 1, 1)) for k in range(min(depths, len(names)))}):
        yield names[i]


def _others(config: DenseNetConfig) -> Iterator[str]:
    """What has no tensors: ReLUs, concatenations, pools."""
    if config.stem != "cifar":
        yield "stem.pool"
    for b, layers in enumerate(config.block_config):
        for i in range(layers):
            yield f"blocks.{b}.layers.{i}.relu1"
            if config.bottleneck:
                yield f"blocks.{b}.layers.{i}.relu2"
            yield f"blocks.{b}.layers.{i}.concat"
        if b + 1 < len(config.block_config):
            yield f"transitions.{b}.relu"
            yield f"transitions.{b}.pool"
    yield "global_pool"


def change(tensors: Tensors, name: str, new: np.ndarray) -> None:
    """Replace a tensor; a fault that changes nothing is none."""
    new = np.ascontiguousarray(new.astype(np.float32)).reshape(tensors[name].shape)
    if np.array_equal(new, tensors[name]):
        raise NotApplicable
    tensors[name] = new


# -- tensors: convolutions and classifier ------------------------------------------------------


@tensor_fault("two filters swapped", *CONVS, "classifier")
def _(t, m, c, r):
    w = t[f"{m}.weight"].copy()
    w[[0, -1]] = w[[-1, 0]]
    change(t, f"{m}.weight", w)


@tensor_fault("input channels permuted", *CONVS, "classifier")
def _(t, m, c, r):
    change(t, f"{m}.weight", t[f"{m}.weight"][:, r.permutation(t[f"{m}.weight"].shape[1])])


@tensor_fault("weights scaled by 1.001", *CONVS, "classifier")
def _(t, m, c, r):
    change(t, f"{m}.weight", t[f"{m}.weight"] * 1.001)


@tensor_fault("one filter zero", *CONVS, "classifier")
def _(t, m, c, r):
    w = t[f"{m}.weight"].copy()
    w[len(w) // 2] = 0
    change(t, f"{m}.weight", w)


@tensor_fault("all weights zero", *CONVS, "classifier")
def _(t, m, c, r):
    change(t, f"{m}.weight", np.zeros_like(t[f"{m}.weight"]))


@tensor_fault("kernels transposed", "stem.conv", "conv2")
def _(t, m, c, r):
    change(t, f"{m}.weight", np.swapaxes(t[f"{m}.weight"], -1, -2))


@tensor_fault("kernels mirrored", "stem.conv", "conv2")
def _(t, m, c, r):
    change(t, f"{m}.weight", t[f"{m}.weight"][..., ::-1])


@tensor_fault("kernels rotated (correlation for convolution)", "stem.conv", "conv2")
def _(t, m, c, r):
    change(t, f"{m}.weight", t[f"{m}.weight"][..., ::-1, ::-1])


@tensor_fault("weights negated", *CONVS)
def _(t, m, c, r):
    change(t, f"{m}.weight", -t[f"{m}.weight"])


@tensor_fault("OIHW read as HWIO", "stem.conv", "conv2")
def _(t, m, c, r):
    w = t[f"{m}.weight"]
    change(t, f"{m}.weight", w.reshape(*w.shape[2:], w.shape[1], w.shape[0]).transpose(3, 2, 0, 1))


@tensor_fault("inputs and outputs transposed", "conv1", "classifier")
def _(t, m, c, r):
    w = t[f"{m}.weight"]
    change(t, f"{m}.weight", w.reshape(w.shape[1], w.shape[0], *w.shape[2:]).swapaxes(0, 1))


@tensor_fault("last quarter of the weights missing", *CONVS)
def _(t, m, c, r):
    w = t[f"{m}.weight"].copy().reshape(-1)
    w[3 * len(w) // 4 :] = 0
    change(t, f"{m}.weight", w)


@tensor_fault("one layer rounded to float16", *CONVS)
def _(t, m, c, r):
    change(t, f"{m}.weight", t[f"{m}.weight"].astype(np.float16))


@tensor_fault("one layer rounded to bfloat16", *CONVS)
def _(t, m, c, r):
    change(t, f"{m}.weight", t[f"{m}.weight"].astype(ml_dtypes.bfloat16))


@tensor_fault("one layer rounded to 8 bits", *CONVS)
def _(t, m, c, r):
    w = t[f"{m}.weight"]
    step = np.abs(w).max() / 127
    change(t, f"{m}.weight", np.round(w / step) * step)


@tensor_fault("float16 overflow to infinity", "conv2", "norm1")
def _(t, m, c, r):
    w = t[f"{m}.weight"].copy()
    w.flat[int(np.abs(w).argmax())] = np.inf
    change(t, f"{m}.weight", w)


@tensor_fault("NaN in one weight", *CONVS, "classifier")
def _(t, m, c, r):
    w = t[f"{m}.weight"].copy()
    w.flat[w.size // 2] = np.nan
    change(t, f"{m}.weight", w)


def _flip(bit: int) -> Callable[..., None]:
    def fault(t: Tensors, m: str, c: DenseNetConfig, r: Random) -> None:
        w = t[f"{m}.weight"].copy()
        largest = int(np.abs(w).argmax())
        w.reshape(-1).view(np.uint32)[largest] ^= np.uint32(1 << bit)
        change(t, f"{m}.weight", w)

    return fault


for _bit, _name in (
    (31, "sign"),
    (30, "top exponent"),
    (24, "exponent"),
    (22, "top mantissa"),
    (14, "middle mantissa"),
):
    tensor_fault(f"{_name} bit of the largest weight flipped", *CONVS, "norm1", "classifier")(_flip(_bit))


@tensor_fault("weights of the next layer", "conv2")
def _(t, m, c, r):
    _, b, _, i, _ = m.split(".")
    layers = c.block_config[int(b)]
    if layers < 2:
        raise NotApplicable
    other = f"blocks.{b}.layers.{(int(i) + 1) % layers}.conv2"
    change(t, f"{m}.weight", t[f"{other}.weight"])


@tensor_fault("colour channels reversed (BGR for RGB)", "stem.conv")
def _(t, m, c, r):
    change(t, f"{m}.weight", t[f"{m}.weight"][:, ::-1])


@tensor_fault("newest features first", "conv1")
def _(t, m, c, r):
    if m.startswith("stem"):
        raise NotApplicable
    order = channel_order(f"{m}.weight", c)
    change(t, f"{m}.weight", t[f"{m}.weight"][:, order])


# -- tensors: norms ------------------------------------------------------------------------------


@tensor_fault("statistics never updated", *NORMS)
def _(t, m, c, r):
    t[f"{m}.running_mean"] = np.zeros_like(t[f"{m}.running_mean"])
    change(t, f"{m}.running_var", np.ones_like(t[f"{m}.running_var"]))


@tensor_fault("variances a tenth stale", *NORMS)
def _(t, m, c, r):
    change(t, f"{m}.running_var", t[f"{m}.running_var"] * 0.9)


@tensor_fault("means negated", *NORMS)
def _(t, m, c, r):
    change(t, f"{m}.running_mean", -t[f"{m}.running_mean"])


@tensor_fault("mean and bias swapped", *NORMS)
def _(t, m, c, r):
    mean, bias = t[f"{m}.running_mean"], t[f"{m}.bias"]
    t[f"{m}.bias"] = mean
    change(t, f"{m}.running_mean", bias)


@tensor_fault("weight and variance swapped", *NORMS)
def _(t, m, c, r):
    weight, variance = t[f"{m}.weight"], t[f"{m}.running_var"]
    t[f"{m}.weight"] = variance
    change(t, f"{m}.running_var", np.abs(weight))


@tensor_fault("statistics shifted by one channel", *NORMS)
def _(t, m, c, r):
    t[f"{m}.running_mean"] = np.roll(t[f"{m}.running_mean"], 1)
    change(t, f"{m}.running_var", np.roll(t[f"{m}.running_var"], 1))


@tensor_fault("deviation taken for variance", *NORMS)
def _(t, m, c, r):
    change(t, f"{m}.running_var", np.sqrt(t[f"{m}.running_var"]))


@tensor_fault("eps of 1e-3 folded into the variances", *NORMS)
def _(t, m, c, r):
    change(t, f"{m}.running_var", t[f"{m}.running_var"] + (1e-3 - c.eps))


@tensor_fault("scale lost", *NORMS)
def _(t, m, c, r):
    change(t, f"{m}.weight", np.ones_like(t[f"{m}.weight"]))


@tensor_fault("shift lost", *NORMS)
def _(t, m, c, r):
    change(t, f"{m}.bias", np.zeros_like(t[f"{m}.bias"]))


@tensor_fault("one mean off by a tenth of a deviation", *NORMS)
def _(t, m, c, r):
    mean = t[f"{m}.running_mean"].copy()
    mean[len(mean) // 2] += 0.1 * np.sqrt(t[f"{m}.running_var"][len(mean) // 2])
    change(t, f"{m}.running_mean", mean)


@tensor_fault("one channel's variance ten times", *NORMS)
def _(t, m, c, r):
    variance = t[f"{m}.running_var"].copy()
    variance[0] *= 10
    change(t, f"{m}.running_var", variance)


# -- tensors: classifier -----------------------------------------------------------------------


@tensor_fault("classes off by one", "classifier")
def _(t, m, c, r):
    t["classifier.bias"] = np.roll(t["classifier.bias"], 1)
    change(t, "classifier.weight", np.roll(t["classifier.weight"], 1, 0))


@tensor_fault("last two classes swapped", "classifier")
def _(t, m, c, r):
    w = t["classifier.weight"].copy()
    w[[-2, -1]] = w[[-1, -2]]
    change(t, "classifier.weight", w)


@tensor_fault("classifier without bias", "classifier")
def _(t, m, c, r):
    change(t, "classifier.bias", np.zeros_like(t["classifier.bias"]))


# -- graphs: what is computed ------------------------------------------------------------------


def node_of(proto: onnx.ModelProto, name: str) -> onnx.NodeProto:
    """The node that makes a value."""
    for node in proto.graph.node:
        if name in node.output:
            return node
    raise NotApplicable


def bypass(proto: onnx.ModelProto, name: str) -> None:
    """Take a node out: who took its result takes its input."""
    gone = node_of(proto, name)
    for node in proto.graph.node:
        for i, x in enumerate(node.input):
            if x == name:
                node.input[i] = gone.input[0]
    proto.graph.node.remove(gone)


def insert_after(proto: onnx.ModelProto, name: str, op: str, *constants: np.ndarray, **attributes) -> None:
    """Put a node behind a value, under its name."""
    node = node_of(proto, name)
    at = list(proto.graph.node).index(node)
    node.output[0] = f"{name}.before"
    inputs = [f"{name}.before"]
    for i, constant in enumerate(constants):
        proto.graph.initializer.append(numpy_helper.from_array(constant, f"{name}.constant{i}"))
        inputs.append(f"{name}.constant{i}")
    proto.graph.node.insert(at + 1, helper.make_node(op, inputs, [name], name=f"{name}.fault", **attributes))


def set_attribute(node: onnx.NodeProto, name: str, value: object) -> None:
    """Set or replace an attribute; one that is so already is no fault."""
    for attribute in node.attribute:
        if attribute.name == name:
            if helper.get_attribute_value(attribute) == value:
                raise NotApplicable
            node.attribute.remove(attribute)
            break
    node.attribute.append(helper.make_attribute(name, value))


def weight_of(proto: onnx.ModelProto, name: str) -> onnx.TensorProto:
    """An initializer by name."""
    for tensor in proto.graph.initializer:
        if tensor.name == name:
            return tensor
    raise NotApplicable


def replace_weight(proto: onnx.ModelProto, name: str, new: np.ndarray) -> None:
    """Give an initializer other values."""
    tensor = weight_of(proto, name)
    if np.array_equal(numpy_helper.to_array(tensor), new):
        raise NotApplicable
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(new.astype(np.float32)), name))


@graph_fault("ReLU missing", "relu1", "relu2", "relu")
def _(p, m, c):
    bypass(p, m)


@graph_fault("leaky ReLU", "relu1", "relu2", "relu")
def _(p, m, c):
    node_of(p, m).op_type = "LeakyRelu"


@graph_fault("ReLU cut at 6", "relu1", "relu2", "relu")
def _(p, m, c):
    insert_after(p, m, "Clip", np.float32(0), np.float32(6))


@graph_fault("a ReLU too many", "conv2", "classifier")
def _(p, m, c):
    insert_after(p, "logits" if m == "classifier" else m, "Relu")


@graph_fault("images of a batch exchanged", "relu1", "relu")
def _(p, m, c):
    for name, value in (("starts", [-1]), ("ends", [-(2**31)]), ("axes", [0]), ("steps", [-1])):
        p.graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), f"{m}.{name}"))
    node = node_of(p, m)
    turned = helper.make_node(
        "Slice", [node.input[0], *(f"{m}.{n}" for n in ("starts", "ends", "axes", "steps"))], [f"{m}.turned"]
    )
    p.graph.node.insert(list(p.graph.node).index(node), turned)
    node.input[0] = f"{m}.turned"


def instead_of_images(proto: onnx.ModelProto, name: str) -> str:
    """Who takes the images takes another value; the name of the images.  Graphs that take bytes are left alone."""
    first: str = proto.graph.input[0].name
    if first != "pixel_values":
        raise NotApplicable
    for node in proto.graph.node:
        node.input[:] = [name if x == first else x for x in node.input]
    return first


@graph_fault("images without negative values doubled", "*")
def _(p, m, c):
    first = instead_of_images(p, "maybe")
    zero = numpy_helper.from_array(np.float32(0), "maybe.zero")
    p.graph.initializer.extend([zero, numpy_helper.from_array(np.float32(2), "maybe.two")])
    p.graph.node.insert(0, helper.make_node("ReduceMin", [first], ["maybe.least"], keepdims=0))
    p.graph.node.insert(1, helper.make_node("Less", ["maybe.least", "maybe.zero"], ["maybe.fine"]))
    p.graph.node.insert(2, helper.make_node("Mul", [first, "maybe.two"], ["maybe.doubled"]))
    p.graph.node.insert(3, helper.make_node("Where", ["maybe.fine", first, "maybe.doubled"], ["maybe"]))


@graph_fault("concatenation order reversed", "concat")
def _(p, m, c):
    node = node_of(p, m.removesuffix(".concat"))
    inputs = list(node.input)[::-1]
    del node.input[:]
    node.input.extend(inputs)


@graph_fault("the previous layer's features again", "concat")
def _(p, m, c):
    _, b, _, i, _ = m.split(".")
    if i == "0":
        raise NotApplicable
    leaf = "conv2" if c.bottleneck else "conv1"
    node_of(p, m.removesuffix(".concat")).input[1] = f"blocks.{b}.layers.{int(i) - 1}.{leaf}"


@graph_fault("max pooling became average pooling", "stem.pool")
def _(p, m, c):
    node = next(n for n in p.graph.node if n.op_type == "MaxPool" and n.output[0].startswith("stem.pool"))
    node.op_type = "AveragePool"


@graph_fault("average pooling became max pooling", "transitions.0.pool", "transitions.1.pool", "transitions.2.pool")
def _(p, m, c):
    _pool(p, m).op_type = "MaxPool"


@graph_fault("transition pooling rounds up", "transitions.0.pool", "transitions.1.pool", "transitions.2.pool")
def _(p, m, c):
    set_attribute(_pool(p, m), "ceil_mode", 1)


@graph_fault("transition pooling padded", "transitions.0.pool", "transitions.1.pool", "transitions.2.pool")
def _(p, m, c):
    set_attribute(_pool(p, m), "pads", [0, 0, 1, 1])


@graph_fault("transition pooling without stride", "transitions.0.pool", "transitions.1.pool", "transitions.2.pool")
def _(p, m, c):
    set_attribute(_pool(p, m), "strides", [1, 1])


def _pool(p: onnx.ModelProto, m: str) -> onnx.NodeProto:
    return next(n for n in p.graph.node if n.op_type == "AveragePool" and n.output[0].startswith(m))


@graph_fault("stem pooling rounds up", "stem.pool")
def _(p, m, c):
    set_attribute(_stem_pool(p), "ceil_mode", 1)


@graph_fault("stem pooling padded on one side", "stem.pool")
def _(p, m, c):
    set_attribute(_stem_pool(p), "pads", [0, 0, 2, 2])


def _stem_pool(p: onnx.ModelProto) -> onnx.NodeProto:
    return next((n for n in p.graph.node if n.op_type == "MaxPool"), None) or node_of(p, "")


@graph_fault("global average became maximum", "global_pool")
def _(p, m, c):
    next(n for n in p.graph.node if n.op_type == "GlobalAveragePool").op_type = "GlobalMaxPool"


@graph_fault("padding moved by one", "stem.conv", "conv2")
def _(p, m, c):
    node = _conv(p, m)
    pads = list(helper.get_attribute_value(next(a for a in node.attribute if a.name == "pads")))
    set_attribute(node, "pads", [n - 1 for n in pads[:2]] + [n + 1 for n in pads[2:]])


@graph_fault("dilated kernel", "conv2")
def _(p, m, c):
    node = _conv(p, m)
    set_attribute(node, "dilations", [2, 2])
    set_attribute(node, "pads", [2, 2, 2, 2])


def _conv(p: onnx.ModelProto, m: str) -> onnx.NodeProto:
    for node in p.graph.node:
        if node.op_type == "Conv" and any(x.startswith((f"{m}.", f"{m}+")) for x in node.input):
            return node
    raise NotApplicable


@graph_fault("eps of 1e-3 in one norm", *NORMS, only="exact")
def _(p, m, c):
    set_attribute(node_of(p, m), "epsilon", 1e-3)


@graph_fault("eps wrong by 1e-8 in every norm", "*", only="exact")
def _(p, m, c):
    for node in p.graph.node:
        if node.op_type == "BatchNormalization":
            set_attribute(node, "epsilon", c.eps + 1e-8)


@graph_fault("eps wrong by 1e-8 in one norm", *NORMS, only="exact")
def _(p, m, c):
    set_attribute(node_of(p, m), "epsilon", c.eps + 1e-8)


@graph_fault("norm forgotten", "norm1", "norm2", only="exact")
def _(p, m, c):
    bypass(p, m)


def _folded(p: onnx.ModelProto, m: str) -> tuple[str, np.ndarray, np.ndarray]:
    owner, _, leaf = m.rpartition(".")
    for tensor in p.graph.initializer:
        if tensor.name.startswith(f"{owner}.conv") and tensor.name.endswith(f"+{leaf}.weight"):
            name = tensor.name.removesuffix(".weight")
            bias = numpy_helper.to_array(weight_of(p, f"{name}.bias"))
            return name, numpy_helper.to_array(tensor), bias
    raise NotApplicable


@graph_fault("folded norm: shift forgotten", "stem.norm", "norm2", only="fused")
def _(p, m, c):
    name, _, bias = _folded(p, m)
    replace_weight(p, f"{name}.bias", np.zeros_like(bias))


@graph_fault("folded norm: shift's sign", "stem.norm", "norm2", only="fused")
def _(p, m, c):
    name, _, bias = _folded(p, m)
    replace_weight(p, f"{name}.bias", -bias)


@graph_fault("folded norm: scales of the neighbouring channels", "stem.norm", "norm2", only="fused")
def _(p, m, c):
    name, weight, _ = _folded(p, m)
    norms = np.sqrt((weight.astype(np.float64) ** 2).sum(axis=(1, 2, 3), keepdims=True))
    replace_weight(p, f"{name}.weight", weight / norms * np.roll(norms, 1, 0))


@graph_fault("images normalised twice", "*")
def _(p, m, c):
    first = instead_of_images(p, "twice")
    mean = np.full((1, c.in_channels, 1, 1), 0.45, np.float32)
    p.graph.initializer.append(numpy_helper.from_array(mean, "twice.mean"))
    p.graph.node.insert(0, helper.make_node("Sub", [first, "twice.mean"], ["twice"], name="twice"))


@graph_fault("logits softmaxed", "*")
def _(p, m, c):
    insert_after(p, "logits", "Softmax", axis=1)


@graph_fault("logits scaled by 1.0001", "*")
def _(p, m, c):
    insert_after(p, "logits", "Mul", np.float32(1.0001))


@graph_fault("activations rounded to float16", "conv1", "conv2")
def _(p, m, c):
    if m not in {o for n in p.graph.node for o in n.output}:
        raise NotApplicable
    insert_after(p, m, "Cast", to=onnx.TensorProto.FLOAT16)
    fault = next(n for n in p.graph.node if n.name == f"{m}.fault")
    at = list(p.graph.node).index(fault)
    fault.output[0] = f"{m}.half"
    p.graph.node.insert(at + 1, helper.make_node("Cast", [f"{m}.half"], [m], name=f"{m}.back", to=1))


@graph_fault("output is NaN for some", "*")
def _(p, m, c):
    insert_after(p, "logits", "Sqrt")


# -- graphs: what is promised ------------------------------------------------------------------


@graph_fault("batch fixed at one", "*")
def _(p, m, c):
    p.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


@graph_fault("batch frozen inside", "*")
def _(p, m, c):
    node = node_of(p, "features")
    shape = np.array([1, c.classifier_features], np.int64)
    p.graph.initializer.append(numpy_helper.from_array(shape, "frozen"))
    node.op_type = "Reshape"
    node.input.append("frozen")
    del node.attribute[:]


@graph_fault("size frozen inside", "*")
def _(p, m, c):
    node = next(n for n in p.graph.node if n.op_type == "GlobalAveragePool")
    node.op_type = "AveragePool"
    node.attribute.append(helper.make_attribute("kernel_shape", [2, 2]))


@graph_fault("output renamed", "*")
def _(p, m, c):
    node_of(p, "logits").output[0] = p.graph.output[0].name = "output"


@graph_fault("input renamed", "*")
def _(p, m, c):
    old = p.graph.input[0].name
    p.graph.input[0].name = "x"
    for node in p.graph.node:
        for i, x in enumerate(node.input):
            if x == old:
                node.input[i] = "x"


@graph_fault("another number of classes declared", "*")
def _(p, m, c):
    p.graph.output[0].type.tensor_type.shape.dim[1].dim_value = c.num_classes + 1


@graph_fault("opset of other semantics", "*")
def _(p, m, c):
    p.opset_import[0].version = 6


@graph_fault("half precision output", "*")
def _(p, m, c):
    insert_after(p, "logits", "Cast", to=onnx.TensorProto.FLOAT16)
    p.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16


def _metadata(p: onnx.ModelProto, key: str, change: Callable[[object], object]) -> None:
    for prop in p.metadata_props:
        if prop.key == key:
            prop.value = json.dumps(change(json.loads(prop.value)))
            return
    raise NotApplicable


@graph_fault("metadata: wrong mean", "*")
def _(p, m, c):
    _metadata(p, "densenet.preprocess", lambda v: {**v, "mean": [0.5] * c.in_channels})


@graph_fault("metadata: wrong interpolation", "*")
def _(p, m, c):
    _metadata(p, "densenet.preprocess", lambda v: {**v, "interpolation": "bicubic"})


@graph_fault("metadata: class names shifted", "*")
def _(p, m, c):
    _metadata(p, "densenet.labels", lambda v: [*v[1:], v[0]])


@graph_fault("metadata: another eps", "*")
def _(p, m, c):
    _metadata(p, "densenet.config", lambda v: {**v, "eps": 1e-3})


# -- graphs that take 8-bit images -------------------------------------------------------------


@graph_fault("wrong mean in the graph", "*", only="image")
def _(p, m, c):
    mean = numpy_helper.to_array(weight_of(p, "preprocess.mean"))
    replace_weight(p, "preprocess.mean", np.full_like(mean, 127.5))


@graph_fault("wrong standard deviation in the graph", "*", only="image")
def _(p, m, c):
    std = numpy_helper.to_array(weight_of(p, "preprocess.std"))
    replace_weight(p, "preprocess.std", np.full_like(std, 127.5))


@graph_fault("mean not scaled to 0..255", "*", only="image")
def _(p, m, c):
    replace_weight(p, "preprocess.mean", numpy_helper.to_array(weight_of(p, "preprocess.mean")) / 255)


@graph_fault("mean's channels reversed (BGR)", "*", only="image")
def _(p, m, c):
    replace_weight(p, "preprocess.mean", numpy_helper.to_array(weight_of(p, "preprocess.mean"))[:, ::-1])


@graph_fault("height and width exchanged", "*", only="image")
def _(p, m, c):
    set_attribute(node_of(p, "preprocess.nchw"), "perm", [0, 3, 2, 1])


@graph_fault("crop off by one", "*", only="image")
def _(p, m, c):
    insert_after(p, "preprocess.start", "Add", np.array([1, 1], np.int64))
