"""An ONNX graph that computes in 8 bits, about a quarter of the size.

Quantise/dequantise pairs (QDQ, which every runtime understands) around every operator, so that
the feature maps, which DenseNet copies and normalises again in every layer, stay 8-bit numbers
all the way.  What makes that exact enough:

* A scale per channel costs nothing here.  What a convolution makes goes through a norm or into
  another convolution, so a channel's range is taken out of the weights that make it and put into
  those that take it.  All values then lie in [0, 1] and share one scale, and concatenation copies.
* A norm is a 1x1 depthwise convolution, whose single weight per channel its scale holds exactly;
  average pooling by 2x2 is another.  The ReLU behind is the lower end of the range.
* Images are padded before they become bytes, since black is not zero once they are normalised.
  CIFAR's stem, which no ReLU follows, stays float32.
* The last norm, the global pooling and the classifier's arithmetic stay float32: they take no time.
  The classifier's weights are 8 bits.
* Scales leave room for adding two products in 16 bits, as processors with AVX2 and no VNNI do, and
  for the bias in 32: of a channel with a bias and next to no weight, the bias is what counts.
* Weights are rounded together, so that what they lose cancels (:mod:`.rounding`); that alone brought the error of a
  trained densenet121 from 8.7 % to 1.2 %.
* Ranges are the minimum and maximum seen in calibration, and a margin: clipping costs more than coarser steps.
* What average pooling makes has a scale of its own: with that of what it takes, a quarter of all averages would lie
  halfway between two bytes, and integer kernels round all of these one way.

Each choice was measured (docs/int8.md).
"""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from converter.core.checkpoint import Array, Tensor
from converter.core.errors import CannotExpress
from converter.core.metadata import PRECISION_KEY
from converter.core.version import __version__
from converter.exporters.lazy import LazyModel
from converter.exporters.moments import Needed, Seen, Window
from converter.exporters.onnx import attributes_of
from converter.exporters.rounding import LEVELS, quantised, rounded
from converter.exporters.tap import MAPS
from densenet.topology import INPUT

LOWEST_OPSET = 13
"""The first whose QuantizeLinear has a scale per channel."""
MARGIN = 0.1
"""By how much ranges exceed what calibration saw, as a part of them."""
NARROWEST = 0.01
"""No channel's range is a smaller part of the widest: a channel that calibration hardly moved may move later."""
LARGEST_BIAS = 2.0**30
"""In units of a product: half of what 32 bits hold is left for the products."""
SCALE, ZERO = "u8.scale", "u8.zero"


def needed(model: LazyModel) -> Needed:
    """What calibration has to find out of a graph.

    Raises:
        CannotExpress: the graph takes bytes, or its opset is too old.
    """
    quantiser = _Quantiser(model)
    return Needed(quantiser.scaled_values(), quantiser.takers())


def to_int8(model: LazyModel, seen: Seen) -> LazyModel:
    """A float32 model of :func:`.lazy_onnx` in 8 bits up to the last norm, and with 8-bit weights in the classifier.

    Raises:
        CannotExpress: the graph takes bytes, or its opset is too old.
    """
    quantiser = _Quantiser(model)
    quantiser.seen = seen
    nodes, values = quantiser.write()
    result = model.derived(values)
    proto = result.proto
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    proto.producer_name, proto.producer_version = "densenet-converter", __version__
    helper.set_model_props(proto, {**{p.key: p.value for p in proto.metadata_props}, PRECISION_KEY: "int8"})
    return result


class _Quantiser:
    """Rewrites a graph node by node; what stays float32 stays as it is.

    A quantised value ``v`` is ``offset + width * x`` with ``x`` in [0, 1] held as ``round(255 x)``
    under the name ``v.u8``; offset and width are per channel, float64 (C,).
    """

    def __init__(self, model: LazyModel) -> None:
        proto = model.proto
        opset = proto.opset_import[0].version
        if opset < LOWEST_OPSET:
            raise CannotExpress(f"8 bits with a scale per channel need opset {LOWEST_OPSET} or newer, not {opset}")
        if proto.graph.input[0].name != INPUT:
            raise CannotExpress("8 bits are for graphs that take normalised images, not bytes")
        if not any(node.op_type == "Relu" and node.output[0] not in MAPS for node in proto.graph.node):
            raise CannotExpress("8 bits are for networks with ReLUs, between which values have one sign")
        self.source, self.given = list(proto.graph.node), [value.name for value in proto.graph.output]
        self.weights = model.values
        self.makers = {node.output[0]: node for node in self.source}
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.source:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)
        self.seen = Seen({}, {})
        self.offset: dict[str, Array] = {}
        self.width: dict[str, Array] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Tensor] = {}
        self.written: set[str] = set()
        self.eight_bit = self.choose()

    # -- what is quantised -------------------------------------------------------------

    def choose(self) -> set[str]:
        """Values made in 8 bits: from the stem's first convolution to the last concatenation.

        A norm is where what it makes goes to convolutions and pooling; anything else is where
        what it takes is 8-bit already, or the image.
        """
        chosen: set[str] = set()
        for node in self.source:
            name, known = node.output[0], [x in chosen for x in node.input]
            if node.op_type == "BatchNormalization":
                after = self.consumers.get(self.rectified(name), [])
                wanted = bool(after) and all(n.op_type in ("Conv", "MaxPool") or self.halves(n) for n in after)
            elif node.op_type == "Conv":
                wanted = (known[0] or node.input[0] == INPUT) and self.dense(node)
            else:
                wanted = any(known) and (node.op_type in ("Relu", "Concat", "MaxPool") or self.halves(node))
            if wanted:
                chosen.add(name)
        return chosen

    def dense(self, conv: onnx.NodeProto) -> bool:
        """Whether 8 bits can express a convolution: what pads is zero, so zero must be a number.

        Images may be padded before; CIFAR's stem, small and with no ReLU behind, loses more than it gains.
        """
        attributes, x = attributes_of(conv), conv.input[0]
        if x == INPUT:
            wanted = "auto_pad" not in attributes and self.is_rectified(self.rectified(conv.output[0]))
        else:
            wanted = self.makers[x].op_type in ("Relu", "MaxPool") or not any(attributes.get("pads", [1]))
        return wanted and attributes.get("group", 1) == 1

    def halves(self, node: onnx.NodeProto) -> bool:
        """Whether a node is average pooling that no border disturbs, which a convolution can do."""
        if node.op_type != "AveragePool":
            return False
        attributes = attributes_of(node)
        plain = not any(attributes.get(name) for name in ("pads", "ceil_mode", "auto_pad"))
        return plain and attributes["kernel_shape"] == attributes["strides"]

    def rectified(self, name: str) -> str:
        """The value behind a ReLU that alone takes this one; else this one."""
        after = self.consumers.get(name, [])
        return after[0].output[0] if len(after) == 1 and after[0].op_type == "Relu" else name

    def is_rectified(self, name: str) -> bool:
        """Whether a ReLU makes a value, or will alone take it, perhaps from max pooling, which does not mind."""
        if self.makers[name].op_type == "Relu":
            return True
        after = self.consumers[name]
        return len(after) == 1 and after[0].op_type == "MaxPool" and self.rectified(x := after[0].output[0]) != x

    def scaled_values(self) -> list[str]:
        """Values whose ranges are needed: what 8-bit operators make, and what they take of float32."""
        names = []
        for node in self.source:
            if node.output[0] in self.eight_bit:
                taken = node.input if node.op_type == "Concat" else node.input[:1]
                names += [x for x in taken if x not in self.eight_bit and x != INPUT]
                if node.op_type in ("Conv", "BatchNormalization", "AveragePool"):
                    names.append(self.rectified(node.output[0]))
        return list(dict.fromkeys(names))

    def takers(self) -> dict[str, dict[str, Window]]:
        """The convolutions written in 8 bits, by what they take."""
        result: dict[str, dict[str, Window]] = {}
        for node in self.source:
            if node.op_type == "Conv" and node.output[0] in self.eight_bit:
                given = attributes_of(node)
                kernel = given["kernel_shape"]
                window = Window(
                    kernel, given.get("strides", [1] * len(kernel)), given.get("pads", [0, 0] * len(kernel))
                )
                result.setdefault(node.input[0], {})[node.output[0]] = window
        return result

    # -- writing -----------------------------------------------------------------------

    def write(self) -> tuple[list[onnx.NodeProto], dict[str, Tensor]]:
        """The nodes and constants of the graph in 8 bits."""
        self.constant(SCALE, np.float32(1 / LEVELS))
        self.constant(ZERO, np.uint8(0))
        for node in self.source:
            name = node.output[0]
            if name not in self.eight_bit:
                self.float32(node)
            elif node.op_type == "Concat":
                self.concat(node)
            elif node.op_type == "MaxPool":
                self.max_pool(node)
            elif node.op_type != "Relu":  # which is written with what it rectifies
                self.linear(node)
        for value in self.given:
            self.decoded(value)
        used = {name for node in self.nodes for name in node.input}
        kept = {name: tensor for name, tensor in self.weights.items() if name not in self.constants}
        values = {name: tensor for name, tensor in {**kept, **self.constants}.items() if name in used}
        return self.nodes, values

    def concat(self, node: onnx.NodeProto) -> None:
        """Values of one scale are copied as the bytes they are."""
        name = node.output[0]
        for x in node.input:
            self.encode(x)
        for known in (self.offset, self.width):
            known[name] = np.concatenate([known[x] for x in node.input])
        self.add("Concat", [f"{x}.u8" for x in node.input], f"{name}.u8", axis=1)

    def max_pool(self, node: onnx.NodeProto) -> None:
        """The largest value is that of the largest byte; a ReLU behind has gone before."""
        x, result = node.input[0], self.rectified(node.output[0])
        self.encode(x)
        self.offset[result], self.width[result] = self.offset[x], self.width[x]
        self.add("MaxPool", [f"{x}.u8"], f"{result}.u8", **attributes_of(node))

    def linear(self, node: onnx.NodeProto) -> None:
        """A convolution, or what is written as one (a norm, average pooling), and the ReLU behind it."""
        x, name = node.input[0], node.output[0]
        self.encode(x)
        weight, bias, attributes = self.as_convolution(node)
        if x == INPUT:
            attributes.pop("pads", None)  # which encoding has done
        result = self.rectified(name)
        self.measure(result)
        alone = weight.shape[1] == 1 < len(self.width[x])
        inward = (self.width[x], self.offset[x])
        by_input = [a.reshape(-1, 1) if alone else a.reshape(1, -1) for a in inward]
        bias = bias + (weight.reshape(*weight.shape[:2], -1).sum(2) * by_input[1]).sum(1) - self.offset[result]
        rest = [1] * (weight.ndim - 2)
        weight = weight * by_input[0].reshape(*by_input[0].shape, *rest) / self.width[result].reshape(-1, 1, *rest)
        last = self.add("Conv", [self.decode(x), *self.parameters(name, x, weight, bias / self.width[result])],
                        f"{name}.unrounded", **attributes)  # fmt: skip
        if self.is_rectified(result):
            last = self.add("Relu", [last], f"{name}.rectified")
        self.add("QuantizeLinear", [last, SCALE, ZERO], f"{result}.u8")

    def as_convolution(self, node: onnx.NodeProto) -> tuple[Array, Array, dict[str, Any]]:
        """Weight (M, C / groups, ...), bias (M,), both float64, and attributes."""
        attributes = attributes_of(node)
        if node.op_type == "Conv":
            weight = self.real(node.input[1])
            return weight, self.real(node.input[2]) if len(node.input) > 2 else np.zeros(len(weight)), attributes
        if node.op_type == "AveragePool":
            channels, kernel = len(self.width[node.input[0]]), attributes["kernel_shape"]
            weight = np.full((channels, 1, *kernel), 1 / np.prod(kernel))
            return weight, np.zeros(channels), {**attributes, "group": channels}
        scale, shift = self.affine(node)
        kernel = [1] * self.rank
        return scale.reshape(-1, 1, *kernel), shift, {"kernel_shape": kernel, "group": len(scale)}

    def float32(self, node: onnx.NodeProto) -> None:
        """A node as it is; where it takes 8-bit values, those become what they were."""
        for x in node.input:
            if x in self.width and node.op_type == "BatchNormalization":
                scale, shift = self.affine(node)
                self.norm(self.decode(x), node.output[0], scale * self.width[x], shift + scale * self.offset[x])
                return
            self.decoded(x)
        if node.op_type == "Gemm":
            x, weight, *bias = node.input
            self.add("Gemm", [x, self.classifier(weight), *bias], node.output[0], **attributes_of(node))
        elif node.op_type == "Reshape":
            weight, shape = node.input
            self.add("Reshape", [self.classifier(weight), shape], node.output[0])
        else:
            self.nodes.append(node)

    def decoded(self, name: str) -> None:
        """An 8-bit value as what it was, under its own name."""
        if name in self.eight_bit and name not in self.written:
            self.norm(self.decode(name), name, self.width[name], self.offset[name])

    def norm(self, x: str, name: str, scale: Array, shift: Array) -> None:
        """``scale * x + shift`` in float32."""
        leaves = {"weight": scale, "bias": shift, "running_mean": 0 * scale, "running_var": 1 + 0 * scale}
        constants = [self.constant(f"{name}.{leaf}", array.astype(np.float32)) for leaf, array in leaves.items()]
        self.add("BatchNormalization", [x, *constants], name, epsilon=0.0)

    def encode(self, name: str) -> None:
        """A float32 value as 8 bits, if it is not already."""
        if name not in self.width:
            self.measure(name)
            start = name
            if name == INPUT:
                border = attributes_of(self.consumers[name][0]).get("pads", [0, 0] * self.rank)
                pads = np.array([0, 0, *border[: self.rank], 0, 0, *border[self.rank :]], np.int64)
                start = self.add("Pad", [name, self.constant(f"{name}.border", pads)], f"{name}.padded")
            self.norm(start, f"{name}.unrounded", 1 / self.width[name], -self.offset[name] / self.width[name])
            self.add("QuantizeLinear", [f"{name}.unrounded", SCALE, ZERO], f"{name}.u8")

    def decode(self, name: str) -> str:
        """An 8-bit value as float32 in [0, 1]."""
        decoded = f"{name}.unit"
        return (
            decoded if decoded in self.written else self.add("DequantizeLinear", [f"{name}.u8", SCALE, ZERO], decoded)
        )

    def measure(self, name: str) -> None:
        """Set offset and width from what calibration saw.

        Norms, whose weights are exact, take each channel's own width.  The weights of a convolution share a scale:
        there widths meet halfway between one for each channel, best for the value, and one for all, best for those.
        """
        low, high = self.seen.ranges[name]
        rectified = name != INPUT and self.is_rectified(name)
        low, high = np.minimum(low, 0) * (not rectified), np.maximum(high, 0)
        width = (high - low) * (1 + (2 if low.any() else 1) * MARGIN)
        width = np.maximum(width, NARROWEST * (width.max(initial=0) or 1 / NARROWEST))
        self.offset[name] = low - MARGIN * (high - low) if low.any() else low
        mixed = name != INPUT and all(n.op_type in ("Conv", "AveragePool") for n in self.consumers[name])
        self.width[name] = np.sqrt(width * width.max()) if mixed else width

    # -- constants ---------------------------------------------------------------------

    def parameters(self, name: str, x: str, weight: Array, bias: Array) -> list[str]:
        """Weight and bias of a convolution of ``x`` as integers; returns them decoded."""
        values, scale = quantised(weight, least=np.abs(bias) * LEVELS / LARGEST_BIAS)
        if name in self.seen.moments:
            moments, taps = self.seen.moments[name], int(np.prod(weight.shape[2:]))
            width, offset = np.repeat(self.width[x], taps), np.repeat(self.offset[x], taps)
            values = rounded(weight, scale, moments, width)
            lost = weight - values * scale.astype(np.float64).reshape(-1, *[1] * (weight.ndim - 1))
            bias = bias + lost.reshape(len(lost), -1) @ ((moments.mean - offset) / width)
        unit = (scale.astype(np.float64) / LEVELS).astype(np.float32)  # that of a product
        whole = np.rint(bias / unit.astype(np.float64)).astype(np.int32)
        return [self.stored(f"{name}.weight", values, scale), self.stored(f"{name}.bias", whole, unit)]

    def stored(self, name: str, values: Array, scale: Array) -> str:
        """Integers with a scale for each of the first axis; returns them decoded."""
        constants = [
            self.constant(f"{name}.{what}", array)
            for what, array in (("integer", values), ("scale", scale), ("zero", np.zeros(len(scale), values.dtype)))
        ]
        return self.add("DequantizeLinear", constants, f"{name}.decoded", axis=0)

    def classifier(self, name: str) -> str:
        """The classifier's weights in 8 bits; decoded by operators that runtimes compute once, on loading."""
        if f"{name}.decoded" in self.written:
            return f"{name}.decoded"
        values, scale = quantised(self.real(name), products=False)
        whole = self.add("Cast", [self.constant(f"{name}.integer", values)], f"{name}.whole", to=TensorProto.FLOAT)
        return self.add("Mul", [whole, self.constant(f"{name}.scale", scale[:, None])], f"{name}.decoded")

    def affine(self, norm: onnx.NodeProto) -> tuple[Array, Array]:
        """What a norm multiplies by and adds, float64 (C,) each."""
        gamma, beta, mean, variance = (self.real(name) for name in norm.input[1:])
        scale = gamma / np.sqrt(variance + attributes_of(norm)["epsilon"])
        return scale, beta - mean * scale

    def real(self, name: str) -> Array:
        return self.weights[name].read().astype(np.float64)

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(attributes_of(next(node for node in self.source if node.op_type == "Conv"))["kernel_shape"])

    def add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.written.add(output)
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, array: Array | np.generic) -> str:
        self.constants[name] = Tensor.of(np.asarray(array))
        return name
