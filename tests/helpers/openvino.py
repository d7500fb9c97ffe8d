"""OpenVINO's IR of version 7, which nothing that can be installed writes any more, as its documentation has it."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from densenet.config import DenseNetConfig
from helpers.networks import export_model, random_model

OTHERS = {"Relu": ("ReLU", {}), "Concat": ("Concat", {"axis": 1}), "Flatten": ("Reshape", {"dim": "0,-1"})}


class Version7:
    """Layers, edges and blobs, made of the nodes of one of our exact graphs for images of one size."""

    def __init__(
        self, config: DenseNetConfig, folder: Path, size: int, dtype: str = "f4", *, oldest: bool = False
    ) -> None:
        proto = export_model(random_model(config), folder / "m.onnx", graph="exact")
        for dim, n in zip(proto.graph.input[0].type.tensor_type.shape.dim, (1, config.in_channels, size, size)):
            dim.dim_value = n
        proto = shape_inference.infer_shapes(proto)
        self.constants = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
        values = (*proto.graph.value_info, *proto.graph.input, *proto.graph.output)
        self.shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
        self.dtype, self.oldest = np.dtype(dtype), oldest
        self.blob, self.edges = bytearray(), list[str]()
        self.places: dict[str, tuple[int, int]] = {}
        self.layers: list[str] = []
        start = proto.graph.input[0].name
        self.add("data", "Input", {}, [], start, {})
        for node in proto.graph.node:
            self.node(node, {a.name: helper.get_attribute_value(a) for a in node.attribute})

    def node(self, node: onnx.NodeProto, found: dict) -> None:
        given, made = [x for x in node.input if x not in self.constants], node.output[0]
        blobs = [self.constants[x] for x in node.input if x in self.constants]
        if node.op_type == "Conv":
            weight = blobs[0]
            data = {**self.window(found), "output": len(weight), "group": found.get("group", 1)}
            self.add(
                node.name, "Convolution", data, given, made, {"weights": weight, **dict(zip(["biases"], blobs[1:]))}
            )
        elif node.op_type == "BatchNormalization":
            gamma, beta, mean, variance = blobs
            inner = f"{made} normalised"
            self.shapes[inner] = self.shapes[made]
            eps = {"epsilon": found["epsilon"]}
            self.add(f"{node.name}/bn", "BatchNormalization", eps, given, inner, {"weights": variance, "biases": mean})
            self.add(node.name, "ScaleShift", {}, [inner], made, {"weights": gamma, "biases": beta})
        elif node.op_type in ("MaxPool", "AveragePool", "GlobalAveragePool"):
            if node.op_type.startswith("Global"):
                found = {"kernel_shape": self.shapes[given[0]][2:], "strides": [1, 1]}
            kind = "max" if node.op_type == "MaxPool" else "avg"
            ceil = "ceil" if found.get("ceil_mode") else "floor"
            data = {**self.window(found), "pool-method": kind, "exclude-pad": "true", "rounding_type": ceil}
            self.add(node.name, "Pooling", data, given, made, {})
        elif node.op_type == "Gemm":
            data = {"out-size": len(blobs[0])}
            self.add(node.name, "FullyConnected", data, given, made, {"weights": blobs[0], "biases": blobs[1]})
        else:
            kind, data = OTHERS[node.op_type]
            self.add(node.name, kind, data, given, made, {})

    def window(self, found: dict) -> dict:
        kernel, strides = found["kernel_shape"], found["strides"]
        pads = found.get("pads") or [0] * 4
        if self.oldest:
            named = {"kernel": kernel, "stride": strides, "pad": pads[:2]}
            result = {f"{name}-{axis}": n for name, values in named.items() for axis, n in zip("yx", values)}
            return {**result, "pad-b": pads[2], "pad-r": pads[3]}
        joined = {
            "kernel": kernel,
            "strides": strides,
            "pads_begin": pads[:2],
            "pads_end": pads[2:],
            "dilations": [1, 1],
        }
        return {"auto_pad": "explicit", **{name: ",".join(map(str, values)) for name, values in joined.items()}}

    def add(self, name: str, kind: str, data: dict, given: list[str], made: str, blobs: dict) -> None:
        number, precision = len(self.layers), {"f4": "FP32", "f2": "FP16"}[self.dtype.str[1:]]
        said = "".join(f" {key}={quoteattr(str(value))}" for key, value in data.items())
        text = f'<layer id="{number}" name={quoteattr(name)} precision="{precision}" type="{kind}"><data{said}/>'
        for i, x in enumerate(given):
            layer, port = self.places[x]
            self.edges.append(f'<edge from-layer="{layer}" from-port="{port}" to-layer="{number}" to-port="{i}"/>')
        text += "<input>" + "".join(self.port(i, x) for i, x in enumerate(given)) + "</input>" if given else ""
        text += f"<output>{self.port(len(given), made)}</output>"
        inner = ""
        for what, array in blobs.items():
            content = array.astype(self.dtype).tobytes()
            inner += f'<{what} offset="{len(self.blob)}" size="{len(content)}"/>'
            self.blob += content
        self.layers.append(f"{text}{inner if self.oldest else f'<blobs>{inner}</blobs>'}</layer>")
        self.places[made] = number, len(given)

    def port(self, number: int, name: str) -> str:
        return f'<port id="{number}">{"".join(f"<dim>{n}</dim>" for n in self.shapes[name])}</port>'

    def write(self, path: Path, beside: str = "") -> Path:
        """Both files."""
        version = 2 if self.oldest else 7
        path.write_text(
            f'<?xml version="1.0" ?>\n<net batch="1" name="m" version="{version}">'
            f"<layers>{''.join(self.layers)}</layers><edges>{''.join(self.edges)}</edges>{beside}</net>"
        )
        path.with_suffix(".bin").write_bytes(self.blob)
        return path
