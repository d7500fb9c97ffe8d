"""A graph as its users want it: names, lengths, channels last, float16 or 8-bit images; and the same taken off again.

What is computed in between keeps library names, so that a file with another interface is read, judged and located like
any other: :func:`plain` gives the graph that :func:`presented` was given.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import onnx
from onnx import TensorProto, helper

from converter.core.errors import ConverterError
from converter.core.interface import Interface, Presented
from converter.core.metadata import CONFIG_KEY, PRECISION_KEY, parsed
from converter.core.model import Model
from converter.exporters.graph import IMAGE, SPACE
from converter.exporters.image_input import image_input, resizes, steps_of
from converter.exporters.lazy import LazyModel
from converter.exporters.outputs import channels, sizes_of, stages
from densenet.config import DenseNetConfig
from densenet.topology import INPUT

Names = dict[str, str]
SET_ASIDE = " "
"""Behind a name that no value has for long: those of users do not end in it."""


def presented(made: LazyModel, model: Model, interface: Interface) -> LazyModel:
    """A graph of :func:`.lazy_onnx`, in whatever precision, with an interface.

    Raises:
        ConverterError: the network cannot have it.
    """
    graph = made.proto.graph
    values = {inner: value for value, inner in stages(model.config).items()}
    outputs = {value.name: values.get(value.name, value.name) for value in graph.output}
    if interface == Interface() and all(inner == value for inner, value in outputs.items()):
        return made
    return _Presenting(made, model, interface, outputs).result()


class _Presenting:
    """Changes a copy of the graph; ``outputs`` are values in the graph with what they are."""

    def __init__(self, made: LazyModel, model: Model, interface: Interface, outputs: Names) -> None:
        self.made, self.model, self.interface, self.outputs = made, model, interface, outputs
        self.config, self.opset = model.config, made.proto.opset_import[0].version
        self.values = dict(made.values)
        self.proto = made.derived().proto
        self.nodes = list(self.proto.graph.node)
        self.half = interface.io_dtype == "fp16"
        self.last = interface.io_layout == "nhwc"
        self.resized = False
        if self.last and interface.image_input and not self.maps():
            raise ConverterError(
                "8-bit images come with their channels last as it is; nhwc is of other images, and maps"
            )
        if self.half and interface.image_input and not outputs:
            raise ConverterError("8-bit images are no floats")

    def maps(self) -> list[str]:
        """Those of the outputs that are maps."""
        return [value for value in self.outputs.values() if value in channels(self.config)]

    def result(self) -> LazyModel:
        """The whole."""
        names = self.given_names()
        size = self.interface.lengths(self.config.spatial_dims)
        inner_size = size
        if self.interface.image_input:
            size, inner_size = self.images(size)
        else:
            self.floats()
        sizes = sizes_of(self.config, inner_size) if inner_size else {}
        rename(self.nodes, {INPUT if not self.interface.image_input else IMAGE: names[""]})
        for inner in self.outputs:  # which may swap names
            rename(self.nodes, {inner: f"{inner}{SET_ASIDE}"})
        for inner, value in self.outputs.items():
            self.output(inner, value, names)
        graph = self.proto.graph
        del graph.node[:], graph.input[:], graph.output[:]
        graph.node.extend(self.nodes)
        graph.input.append(self.declared_input(names[""], size))
        graph.output.extend(self.declared_output(value, names[value], sizes) for value in self.outputs.values())
        usual = IMAGE if self.interface.image_input else INPUT
        said = Presented(
            "" if names[""] == usual else names[""],
            self.interface.io_layout,
            {names[value]: value for inner, value in self.outputs.items() if not inner == value == names[value]},
            self.resized,
            self.interface.io_dtype,
        )
        known = {prop.key: prop.value for prop in self.proto.metadata_props}
        helper.set_model_props(self.proto, {**known, **said.metadata()})
        return LazyModel.of(self.proto, self.values)

    def given_names(self) -> Names:
        """What the outputs are called, by what they are, and by an empty name the input."""
        wanted, interface = [*self.outputs.values()], self.interface
        given = interface.output_names or tuple(wanted)
        if len(given) != len(wanted):
            raise ConverterError(f"{len(given)} names for {len(wanted)} outputs: {', '.join(wanted)}")
        names = {**dict(zip(wanted, given)), "": interface.input_name or (IMAGE if interface.image_input else INPUT)}
        free = {INPUT} if not interface.image_input else set()
        taken = {x for node in self.nodes for x in (*node.input, *node.output)} - free - {*self.outputs}
        twice = next((name for name in names.values() if name in taken), None)
        if twice is not None or len({*names.values()}) < len(names):
            raise ConverterError(f"something else in the graph is called {twice or names['']}; choose another name")
        return names

    # -- the input -----------------------------------------------------------------------

    def images(self, size: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Prepare 8-bit images; the size of those, empty for any, and of what is made of them."""
        steps = steps_of(self.config, self.model.images.preprocess)
        self.resized = not resizes(steps, self.opset)
        if self.resized and size not in ((), steps.crop):
            raise ConverterError(
                f"opset {self.opset} cannot resize images as this preprocessing does: they come resized and cropped to "
                f"{'x'.join(map(str, steps.crop))}, not of {'x'.join(map(str, size))}"
            )
        front = image_input(steps, resized=self.resized)
        self.nodes[:0] = [
            helper.make_node(n.op, list(n.inputs), [n.output], name=n.output, **n.attributes) for n in front.nodes
        ]
        self.values |= front.initializers
        return steps.crop if self.resized else size, steps.crop

    def floats(self) -> None:
        """Turn what comes into what the network takes."""
        x, added = INPUT, list[onnx.NodeProto]()
        if self.last:
            added.append(_node("Transpose", x, f"{INPUT}.nchw", perm=self.first()))
            x = f"{INPUT}.nchw"
        start = next(node for node in self.nodes if INPUT in node.input)
        if self.half and _casts(start, TensorProto.FLOAT16):
            self.nodes.remove(start)
            rename(self.nodes, {start.output[0]: x})
        else:
            if self.half:
                added.append(_node("Cast", x, f"{INPUT}.fp32", to=TensorProto.FLOAT))
                x = f"{INPUT}.fp32"
            rename(self.nodes, {INPUT: x})
        self.nodes[:0] = added

    def first(self) -> list[int]:
        """The permutation that puts channels first."""
        rank = self.config.spatial_dims + 2
        return [0, rank - 1, *range(1, rank - 1)]

    def declared_input(self, name: str, size: tuple[int, ...]) -> onnx.ValueInfoProto:
        """The input as users see it."""
        space: list[Any] = [*(size or SPACE[self.config.spatial_dims])]
        images = self.interface.image_input
        kind = TensorProto.UINT8 if images else TensorProto.FLOAT16 if self.half else TensorProto.FLOAT
        inner = [*space, self.config.in_channels] if images or self.last else [self.config.in_channels, *space]
        return helper.make_tensor_value_info(name, kind, [self.interface.batch or "batch_size", *inner])

    # -- outputs -------------------------------------------------------------------------

    def output(self, inner: str, value: str, names: Names) -> None:
        """Turn what the network gives into what users get."""
        added, source, name = list[tuple[str, str, dict[str, Any]]](), f"{inner}{SET_ASIDE}", names[value]
        maker = next(node for node in self.nodes if source in node.output)
        if self.last and value in channels(self.config):
            added.append(("Transpose", "nchw", {"perm": [0, *range(2, self.config.spatial_dims + 2), 1]}))
        if self.half and maker.op_type == "Cast" and maker.input[0] == f"{inner}.half":
            self.nodes.remove(maker)
            source = maker.input[0]
        elif self.half:
            added.append(("Cast", "fp32", {"to": TensorProto.FLOAT16}))
        kept = name if not added else inner if inner not in names.values() else f"{name}.{added[0][1]}"
        rename(self.nodes, {source: kept})
        for i, (op, _, attributes) in enumerate(added):
            target = name if i + 1 == len(added) else f"{name}.{added[i + 1][1]}"
            self.nodes.append(_node(op, kept, target, **attributes))
            kept = target

    def declared_output(self, value: str, name: str, sizes: Mapping[str, tuple[int, ...]]) -> onnx.ValueInfoProto:
        """An output as users see it."""
        inner = next(inner for inner, of in self.outputs.items() if of == value)
        found = next(each for each in self.made.proto.graph.output if each.name == inner)
        width = found.type.tensor_type.shape.dim[1].dim_value
        shape: list[Any] = [self.interface.batch or "batch_size", width]
        if value in channels(self.config):
            space: list[Any] = [*sizes.get(value, [None] * self.config.spatial_dims)]
            shape = [shape[0], *space, width] if self.last else [*shape, *space]
        return helper.make_tensor_value_info(name, TensorProto.FLOAT16 if self.half else TensorProto.FLOAT, shape)


def rename(nodes: Iterable[onnx.NodeProto], names: Mapping[str, str]) -> None:
    """Call values otherwise, and the nodes that make them."""
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        node.name = names.get(node.name, node.name)


def _node(op: str, source: str, target: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, [source], [target], name=target, **attributes)


def _casts(node: onnx.NodeProto, to: int) -> bool:
    return node.op_type == "Cast" and next((a.i for a in node.attribute if a.name == "to"), 0) == to


# -- the inverse -----------------------------------------------------------------------------------


def plain(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A file of this tool's with the input and outputs that it has without an interface; lengths as declared.

    Raises:
        ConverterError: its graph is not as its metadata says.
    """
    metadata = {prop.key: prop.value for prop in proto.metadata_props}
    said = Presented.of(metadata)
    inputs = [value for value in proto.graph.input if value.name not in {w.name for w in proto.graph.initializer}]
    if said == Presented() or len(inputs) != 1:
        return proto
    try:
        config = DenseNetConfig.from_dict(parsed(metadata[CONFIG_KEY]))
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ConverterError(f"its {CONFIG_KEY} metadata is damaged ({error})") from error
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    stripping = _Stripping(result, said, config, half=metadata.get(PRECISION_KEY) == "fp16")
    stripping.input(next(value for value in result.graph.input if value.name == inputs[0].name))
    for value in result.graph.output:
        stripping.output(value)
    return stripping.result()


class _Stripping:
    """Takes an interface off a graph."""

    def __init__(self, proto: onnx.ModelProto, said: Presented, config: DenseNetConfig, *, half: bool) -> None:
        self.proto, self.said, self.config = proto, said, config
        self.cast = said.dtype == "fp16" and not half
        self.nodes = list(proto.graph.node)
        self.names: Names = {}
        self.rank = config.spatial_dims + 2

    def input(self, value: onnx.ValueInfoProto) -> None:
        """Let the network begin where it takes prepared images."""
        kind = value.type.tensor_type
        pixels = kind.elem_type == TensorProto.UINT8
        usual = IMAGE if pixels else INPUT
        if value.name != (self.said.input or usual):
            raise ConverterError(f"says that its input is called {self.said.input or usual}, and it is {value.name}")
        end = value.name
        if self.said.layout == "nhwc" and not pixels:
            end = self.skipped("Transpose", end, [0, self.rank - 1, *range(1, self.rank - 1)])
            _turn(kind, [0, self.rank - 1, *range(1, self.rank - 1)])
        if kind.elem_type == TensorProto.FLOAT16 and self.cast:
            end = self.skipped("Cast", end, TensorProto.FLOAT)
            kind.elem_type = TensorProto.FLOAT
        self.names[end] = value.name = usual

    def output(self, value: onnx.ValueInfoProto) -> None:
        """Let an output be what the network makes."""
        of, kind, start = self.said.value(value.name), value.type.tensor_type, value.name
        inner = stages(self.config).get(of, of)
        maps = of in channels(self.config)
        if kind.elem_type == TensorProto.FLOAT16 and self.cast:
            start = self.made_of("Cast", start, TensorProto.FLOAT16)
            kind.elem_type = TensorProto.FLOAT
        if self.said.layout == "nhwc" and maps:
            start = self.made_of("Transpose", start, [0, *range(2, self.rank), 1])
            _turn(kind, [0, self.rank - 1, *range(1, self.rank - 1)])
        self.names[start] = value.name = inner

    def skipped(self, op: str, name: str, how: Any) -> str:
        """Past the node that alone takes a value."""
        takers = [node for node in self.nodes if name in node.input]
        if len(takers) != 1 or not _is(takers[0], op, how):
            raise ConverterError(
                f"says that its input comes otherwise than the network takes it, and has no {op} of it"
            )
        self.nodes.remove(takers[0])
        result: str = takers[0].output[0]
        return result

    def made_of(self, op: str, name: str, how: Any) -> str:
        """What the node takes that makes a value."""
        maker = next((node for node in self.nodes if name in node.output), None)
        if maker is None or not _is(maker, op, how):
            raise ConverterError(f"says that {name} goes otherwise than the network makes it, and has no {op} of it")
        self.nodes.remove(maker)
        result: str = maker.input[0]
        return result

    def result(self) -> onnx.ModelProto:
        """The whole."""
        rename(self.nodes, self.names)
        graph = self.proto.graph
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in self.nodes]
        del graph.node[:], graph.value_info[:]
        graph.node.extend(copies)
        return self.proto


def _is(node: onnx.NodeProto, op: str, how: Any) -> bool:
    """Whether a node is that Cast or Transpose."""
    said = next((helper.get_attribute_value(a) for a in node.attribute if a.name in ("to", "perm")), None)
    return bool(node.op_type == op and said == how)


def _turn(kind: Any, order: list[int]) -> None:
    """Put the lengths of a declared shape into another order."""
    dims = [onnx.TensorShapeProto.Dimension.FromString(dim.SerializeToString()) for dim in kind.shape.dim]
    if len(dims) == len(order):
        del kind.shape.dim[:]
        kind.shape.dim.extend(dims[i] for i in order)
