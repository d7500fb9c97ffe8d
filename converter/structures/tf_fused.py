"""Nodes into which TensorFlow's optimiser (grappler, remapper.cc) or TensorFlow.js' converter wrote several."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from converter.structures.tf_calls import Step
from converter.structures.tf_elementwise import MAKERS

FIRST = {"_FusedConv2D": "Conv2D", "_FusedMatMul": "MatMul"}
NORM = "_FusedBatchNormEx"


def unfused(step: Step) -> Iterator[Step]:
    """The nodes that one stands for, in order; itself where it is no such node, or has one that is not known."""
    node = step.node
    ops = node.strings("fused_ops")
    if node.op == NORM and len(step.x) == 5 and node.text("activation_mode", "Identity") in ("Identity", "Relu"):
        parts: list[tuple[str, tuple[str, ...]]] = [("FusedBatchNormV3", step.x)]
        parts += [("Relu", ())] * (node.text("activation_mode") == "Relu")
    elif (
        node.op in FIRST
        and all(op == "BiasAdd" or op in MAKERS for op in ops)
        and len(step.x) == 2 + ops.count("BiasAdd")
    ):
        parts = [(FIRST[node.op], step.x[:2]), *((op, step.x[2:] if op == "BiasAdd" else ()) for op in ops)]
    else:
        yield step
        return
    x: tuple[str, ...] = ()
    for i, (op, given) in enumerate(parts, 1):
        y = step.y if i == len(parts) else f"{step.y} (its {op})"
        yield replace(step, node=node.as_op(op), y=y, x=(*x, *given))
        x = (y,)
