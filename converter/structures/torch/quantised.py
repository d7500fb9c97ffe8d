"""Operators on integers, which are another network's."""

from __future__ import annotations

from converter.core.errors import NotADenseNet

NAMESPACES = frozenset("quantized quantized_decomposed _quantized torchao pt2e_quant quantized_engine".split())
FUNCTIONS = frozenset(
    """quantize_per_tensor quantize_per_channel quantize_per_tensor_dynamic dequantize fake_quantize_per_tensor_affine
    fake_quantize_per_channel_affine fake_quantize_per_tensor_affine_cachemask
    fake_quantize_per_channel_affine_cachemask""".split()
)


def refuse_quantised(function: str) -> None:
    """Refuse a function, by its name with namespaces, that computes with integers.

    Raises:
        NotADenseNet: it does.
    """
    parts = function.split(".")
    if not NAMESPACES.isdisjoint(parts) or not FUNCTIONS.isdisjoint(parts):
        raise NotADenseNet(f"the network is quantised ({function}); take the one it was made from")
