"""How an ONNX file takes images and gives results, where that is not as this tool usually writes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from converter.core.errors import ConverterError
from converter.core.metadata import INTERFACE_KEY, parsed, to_json
from converter.core.nearest import meant

LAYOUTS = ("nchw", "nhwc")
IO_DTYPES = ("fp32", "fp16")


class InterfaceFields(TypedDict, total=False):
    """The fields of an :class:`Interface` as keywords."""

    batch: int | None
    size: int | Iterable[int]
    input_name: str
    output_names: Iterable[str]
    io_layout: Literal["nchw", "nhwc"]
    io_dtype: Literal["fp32", "fp16"]
    image_input: bool


@dataclass(frozen=True)
class Interface:
    """What a file's users have to know of it.

    Attributes:
        batch: how many images come at once; None for any number.
        size: height and width of the images (of volumes all three lengths), or one number for all; empty for any.
        input_name: what the input is called; by default ``pixel_values``, or ``image`` where it takes 8-bit images.
        output_names: what the outputs are called, in their order; by default as what they are.
        io_layout: ``nhwc`` where images come, and feature maps go, with their channels last.
        io_dtype: ``fp16`` where prepared images come, and results go, in float16, whatever it computes in.
        image_input: it takes 8-bit RGB images (N, H, W, C) and prepares them itself.

    Raises:
        ConverterError: one of them is none of these.
    """

    batch: int | None = None
    size: tuple[int, ...] = ()
    input_name: str = ""
    output_names: tuple[str, ...] = ()
    io_layout: Literal["nchw", "nhwc"] = "nchw"
    io_dtype: Literal["fp32", "fp16"] = "fp32"
    image_input: bool = False

    def __post_init__(self) -> None:
        size: Any = self.size
        object.__setattr__(self, "size", (size,) if isinstance(size, int) else tuple(size or ()))
        object.__setattr__(self, "output_names", tuple(self.output_names or ()))
        if self.batch is not None and not _is_length(self.batch):
            raise ConverterError(f"a batch is a number of images, 1 or more, not {self.batch!r}")
        if not all(map(_is_length, self.size)):
            raise ConverterError(f"a size is in pixels, 1 or more on each axis, not {'x'.join(map(str, self.size))}")
        for what, value, known in (("io_layout", self.io_layout, LAYOUTS), ("io_dtype", self.io_dtype, IO_DTYPES)):
            if value not in known:
                raise ConverterError(
                    f"no {what} is called {value!r}; there are {' and '.join(known)}{meant(str(value), known)}"
                )
        names = [self.input_name, *self.output_names] if self.input_name else [*self.output_names]
        if not all(isinstance(name, str) and name.isprintable() and name.strip() == name != "" for name in names):
            raise ConverterError("names of inputs and outputs are printable, and not empty")
        if len(set(names)) < len(names):
            raise ConverterError(f"two inputs or outputs have one name: {', '.join(names)}")

    def lengths(self, axes: int) -> tuple[int, ...]:
        """The size on each of so many axes; empty for any.

        Raises:
            ConverterError: it is of another number of axes.
        """
        if len(self.size) not in (0, 1, axes):
            raise ConverterError(f"a size of {len(self.size)} axes, the network's images have {axes}")
        return self.size * axes if len(self.size) == 1 else self.size


def _is_length(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number > 0


@dataclass(frozen=True)
class Presented:
    """What a file of this tool says of its own input and outputs.

    Attributes:
        input: its name.
        layout: the ``io_layout`` of an :class:`Interface`.
        values: by the name of an output what it is, where that is another: ``logits``, ``features``, ``blocks.3``.
        resized: it takes 8-bit images that somebody else has resized and cropped.
        dtype: the ``io_dtype`` of an :class:`Interface`.
    """

    input: str = ""
    layout: Literal["nchw", "nhwc"] = "nchw"
    values: Mapping[str, str] = field(default_factory=dict)
    resized: bool = False
    dtype: Literal["fp32", "fp16"] = "fp32"

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> Presented:
        """What the metadata of a file says.

        Raises:
            ConverterError: it is damaged.
        """
        text = metadata.get(INTERFACE_KEY)
        if text is None:
            return cls()
        try:
            said = parsed(text)
            given, layout, values = said.get("input", ""), said.get("layout", "nchw"), said.get("outputs", {})
            texts = all(isinstance(name, str) for name in (given, *values, *values.values()))
            dtype = said.get("dtype", "fp32")
            if not texts or layout not in LAYOUTS or dtype not in IO_DTYPES or len({*values.values()}) < len(values):
                raise ValueError(text)
            return cls(given, layout, values, said.get("resized") is True, dtype)
        except (ValueError, AttributeError, TypeError) as error:
            raise ConverterError(f"its {INTERFACE_KEY} metadata is damaged") from error

    def metadata(self) -> dict[str, str]:
        """The inverse of :meth:`of`; nothing where all is as usual."""
        said: dict[str, Any] = {"input": self.input} if self.input else {}
        said |= {"layout": self.layout} if self.layout != "nchw" else {}
        said |= {"outputs": dict(self.values)} if self.values else {}
        said |= {"resized": True} if self.resized else {}
        said |= {"dtype": self.dtype} if self.dtype != "fp32" else {}
        return {INTERFACE_KEY: to_json(said)} if said else {}

    def value(self, name: str) -> str:
        """What an output of this name is."""
        return self.values.get(name, name)

    def name(self, value: str) -> str:
        """What the output that is this value is called."""
        return next((name for name, of in self.values.items() if of == value), value)
