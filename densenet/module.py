"""The modules a DenseNet is made of, and their tensors."""

from typing import NamedTuple

from densenet.names import Kind, Name, parse

NORM_TENSORS = ("weight", "bias", "running_mean", "running_var")
COUNTER = "num_batches_tracked"
"""Kept when a checkpoint has it (PyTorch 0.4.1 and later do); zeros are made for packages that transformers reads."""


class Module(NamedTuple):
    """One module that owns tensors: its library name, the shape of its weight, its stride, whether it has a bias."""

    name: str
    shape: tuple[int, ...]
    stride: tuple[int, ...] = ()
    bias: bool = False

    @property
    def place(self) -> Name:
        """Where it is: its block, its layer, its part in them."""
        return parse(self.name)

    @property
    def kind(self) -> Kind:
        """What it does."""
        return self.place.kind

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Full tensor names and their shapes."""
        if self.kind == "norm":
            return {f"{self.name}.{leaf}": self.shape for leaf in NORM_TENSORS}
        if self.bias:
            return {f"{self.name}.weight": self.shape, f"{self.name}.bias": self.shape[:1]}
        return {f"{self.name}.weight": self.shape}
