"""OpenVINO's intermediate representation: a network in XML, its constants in a ``.bin`` of the same name.

docs.openvino.ai, "OpenVINO IR format": layers with their attributes, ports with sizes, and edges between them.  From
version 10 on constants are layers; before, they are blobs of the layer that uses them.  XML is taken apart by the
standard library's expat; a declaration of a document type, and so of entities, is an error here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError, ParserCreate

import numpy as np

from converter.core import bounds
from converter.core.checkpoint import Array, Checkpoint, Tensor
from converter.core.dtypes import dtype
from converter.core.errors import UnreadableFile
from converter.core.mapping import mapped, steady
from converter.formats.damage import damaged, naming

NAME = "OpenVINO IR"
WEIGHTS = ".bin"
HEAD = re.compile(rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<net[\s>]|<!DOCTYPE\s+net\b)", re.DOTALL)
LETTERS = {"f": "float", "fp": "float", "bf": "bfloat", "i": "int", "u": "uint", "bool": "bool", "boolean": "bool"}
ELEMENT = re.compile(r"([a-z]+)(8|16|32|64)?")
LAYER = ("net", "layers", "layer")
INFO = ("net", "rt_info")
"""Where an IR says, by key, what its makers thought worth saying."""


@dataclass
class Port:
    """An input or output of a layer, by its number: element type and sizes, -1 where one is not fixed."""

    number: int
    precision: str = ""
    sizes: list[int] = field(default_factory=list)


@dataclass
class Layer:
    """One operator.

    Attributes:
        name, type, opset: what the file calls it; versions before 10 have no opset.
        attributes: its ``data``, as text.
        inputs, outputs: its ports.
        constants: by what it calls them (``weights``, ``biases``, ``custom``), flat; of a Const in its shape, as
            ``value``.  None for types that no weight has.
        element: the type of its constants.
    """

    name: str
    type: str
    opset: str
    element: str
    attributes: dict[str, str] = field(default_factory=dict)
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    constants: dict[str, Tensor | None] = field(default_factory=dict)


Edge = tuple[int, int, int, int]
"""From a layer's output to a layer's input: layer, port, layer, port, each by its number."""


@dataclass
class Description:
    """What the XML says.

    Attributes:
        version: of the format.
        layers: by their numbers.
        edges: between them.
        means: what a section ``pre-process`` subtracts of each channel; None where it says something else.
        calibrated: whether it has the ranges by which old versions computed in 8 bits.
    """

    version: int = 0
    layers: dict[int, Layer] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    means: list[float] | None = field(default_factory=list)
    calibrated: bool = False


def matches(_path: Path, head: bytes) -> bool:
    """Whether a file is the XML of an IR, by its outermost element."""
    return HEAD.match(head) is not None


def matches_weights(path: Path) -> bool:
    """Whether a file is the ``.bin`` beside such an XML."""
    described = path.with_suffix(".xml")
    if path.suffix != WEIGHTS or not described.is_file():
        return False
    with described.open("rb") as file:
        return matches(described, file.read(512))


def open_openvino(path: Path) -> Checkpoint:
    """Open an IR by either of its files; the tree has its constants by their names.

    Raises:
        UnreadableFile: malformed, larger than any network's, or its ``.bin`` is missing or too short.
    """
    path = path.with_suffix(".xml") if path.suffix == WEIGHTS else path
    with naming(path):
        if path.stat().st_size > bounds.IR:
            raise UnreadableFile("too large for a network's description")
        parser = _Parser(path.with_suffix(WEIGHTS))
        with damaged("damaged, no OpenVINO IR", ExpatError, ValueError, LookupError, why=str):
            parser.parse(steady(mapped(path)).tobytes())
        layers = parser.found.layers.values()
        tensors = {
            layer.name if what == "value" else f"{layer.name}/{what}": tensor
            for layer in layers
            for what, tensor in layer.constants.items()
            if tensor is not None
        }
        if len(tensors) > bounds.ARRAYS:
            raise UnreadableFile(f"more than {bounds.ARRAYS} constants")
    files = (path, *([parser.weights] if parser.data is not None else []))
    metadata = {**parser.framework, **parser.said}
    return Checkpoint(path, NAME, tensors, metadata, files, graph=parser.found)


def element_type(name: str) -> np.dtype[Any] | None:
    """An element type by its name (``f16``, in old versions ``FP16``); None for types that no weight has."""
    found = ELEMENT.fullmatch(name.lower())
    letters = LETTERS.get(found[1]) if found else None
    if found is None or letters is None or (letters == "bool") != (found[2] is None) or name.lower() in ("f8", "fp8"):
        return None
    return dtype(f"{letters}{found[2] or ''}")


class _Parser:
    """One XML being read.  Errors do not name the file."""

    def __init__(self, weights: Path) -> None:
        self.weights = weights
        self.found = Description()
        self.said: dict[str, str] = {}
        self.framework: dict[str, str] = {}  # what the ONNX file it was made from said
        self.path: list[str] = []
        self.left = int(bounds.IR_ELEMENTS)
        self.layer: Layer | None = None
        self.ports: list[Port] = []
        self.data: Array | None = None

    def parse(self, text: bytes) -> None:
        """Read all of it."""
        parser = ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self.refuse
        parser.StartElementHandler = self.start
        parser.EndElementHandler = self.end
        parser.CharacterDataHandler = self.text
        parser.Parse(text, True)

    def refuse(self, *_: object) -> None:
        """A document type may declare entities, which no network needs."""
        raise UnreadableFile("declares a document type, as no OpenVINO IR does")

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""
        self.left -= 1
        if self.left < 0 or len(self.path) >= bounds.IR_NESTED:
            raise UnreadableFile("more elements than any network's description has")
        self.path.append(name)
        where = tuple(self.path)
        if where[:3] == LAYER:
            self.of_layer(where[3:], attributes)
        elif where == ("net",):
            self.found.version = int(attributes.get("version", 0))
        elif where[:2] == INFO and len(where) > len(INFO) and "value" in attributes:
            inner = where[len(INFO) :]
            kept, key = (self.framework, inner[1:]) if inner[0] == "framework" and inner[1:] else (self.said, inner)
            kept["/".join(key)] = attributes["value"]
        elif where == ("net", "edges", "edge"):
            ends = (f"{way}-{what}" for way in ("from", "to") for what in ("layer", "port"))
            first, out, second, into = (int(attributes[end]) for end in ends)
            self.found.edges.append((first, out, second, into))
        elif where[:2] == ("net", "pre-process"):
            self.prepare(where[2:], attributes)
        elif where[:2] == ("net", "statistics"):
            self.found.calibrated = True

    def of_layer(self, where: tuple[str, ...], attributes: Mapping[str, str]) -> None:
        """A layer, or something in it; what is in the body of a loop or branch is not looked at."""
        layer = self.layer
        if not where:
            name, kind, opset, element = (attributes.get(key, "") for key in ("name", "type", "version", "precision"))
            self.layer, number = Layer(name, kind, opset, element), int(attributes["id"])
            if number in self.found.layers:
                raise UnreadableFile(f"two layers have the number {number}")
            self.found.layers[number] = self.layer
        elif layer is None:
            return
        elif where == ("data",):
            layer.attributes |= attributes
            if layer.type == "Const" and "offset" in attributes:
                layer.element = attributes.get("element_type", "")
                self.constant(layer, "value", attributes, integers(attributes.get("shape", "")))
        elif where[0] in ("input", "output") and where[1:] == ("port",):
            self.ports = layer.inputs if where[0] == "input" else layer.outputs
            self.ports.append(Port(int(attributes["id"]), attributes.get("precision", "")))
        elif (where[0] == "blobs" and len(where) == 2) or where in (("weights",), ("biases",)):
            layer.element = attributes.get("precision", layer.element)
            self.constant(layer, where[-1], attributes)

    def text(self, data: str) -> None:
        """The size along one axis of a port."""
        if self.path[-2:] == ["port", "dim"] and len(self.path) == len(LAYER) + 3 and self.ports and data.strip():
            self.ports[-1].sizes.append(int(data))

    def end(self, _: str) -> None:
        """An element ends."""
        self.path.pop()

    def prepare(self, where: tuple[str, ...], attributes: Mapping[str, str]) -> None:
        """The section of old versions in which images are normalised, for each channel."""
        found = self.found
        if where == ("channel", "mean") and found.means is not None and "value" in attributes:
            found.means.append(float(attributes["value"]))
        elif where not in ((), ("channel",)):
            found.means = None  # an image to subtract, or a scale

    def constant(self, layer: Layer, what: str, at: Mapping[str, str], shape: list[int] | None = None) -> None:
        """A constant by its place in the file of weights; without a shape it is flat."""
        kind, offset, size = element_type(layer.element), int(at["offset"]), int(at["size"])
        if self.data is None:
            self.data = self.opened()
        if offset < 0 or size < 0 or offset + size > len(self.data):
            raise UnreadableFile(f"{self.weights.name} is truncated, {layer.name} ends behind its end")
        if kind is None:
            layer.constants[what] = None
            return
        shape = [size // kind.itemsize] if shape is None else shape
        if len(shape) > bounds.DIMENSIONS or min(shape, default=0) < 0 or prod(shape) * kind.itemsize != size:
            raise UnreadableFile(f"{layer.name} of shape {shape[:8]} has {size} bytes of {kind}")
        layer.constants[what] = Tensor.over(self.data[offset : offset + size].data, kind, shape)

    def opened(self) -> Array:
        """The bytes of the constants."""
        if not self.weights.is_file() or not self.weights.stat().st_size:
            raise UnreadableFile(f"{self.weights.name}, which has its weights, is missing beside it, or empty")
        return mapped(self.weights)


def integers(text: str) -> list[int]:
    """Integers between commas."""
    return [int(part) for part in text.split(",")] if text.strip() else []
