"""ONNX graphs before they are looked at: functions put in place, fused nodes taken apart, nodes in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from converter.core import bounds
from converter.core.errors import NotADenseNet
from converter.structures.onnx_constants import Node


def inlined(nodes: Sequence[Node], functions: Sequence[Mapping[str, Any]]) -> list[Node]:
    """Nodes without calls of functions (FunctionProto, onnx/docs/IR.md): those of their bodies instead.

    Raises:
        NotADenseNet: they come to too many nodes, as functions that call themselves do.
    """
    known = {(function["domain"], function["name"]): function for function in functions}
    todo, result = list(reversed(nodes)), list[Node]()
    count = 0
    while todo:
        node = todo.pop()
        function = known.get((node["domain"], node["op"]))
        if function is None:
            result.append(node)
            continue
        body = _body(node, function)
        deep = any(len(inner["name"]) > bounds.NAME for inner in body)
        todo += reversed(body)
        count += len(body) + 1
        if deep or count > bounds.FUNCTION_NODES:
            raise NotADenseNet(f"its functions ({node['op'][:99]} among them) come to too many nodes")
    return result


def _body(call: Node, function: Mapping[str, Any]) -> list[Node]:
    """The nodes of a function with the values and attributes of a call."""
    names = dict.fromkeys(function["inputs"], "")
    names |= dict(zip(function["inputs"], call["inputs"]))
    names |= {formal: actual for formal, actual in zip(function["outputs"], call["outputs"]) if actual}
    inside = next((name for name in call["outputs"] if name), call["name"])
    given = {**function["attributes"], **call["attributes"]}

    def named(values: Sequence[str]) -> list[str]:
        return [names.get(value, f"{inside}/{value}") if value else "" for value in values]

    return [
        {
            **node,
            "name": f"{call['name'] or inside}/{node['name'] or node['op']}",
            "inputs": named(node["inputs"]),
            "outputs": named(node["outputs"]),
            "attributes": {
                **node["attributes"],
                **{name: given[of] for name, of in node["references"].items() if of in given},
            },
            "references": {name: of for name, of in node["references"].items() if of not in given},
        }
        for node in function["nodes"]
    ]


def unfused(node: Node) -> list[Node]:
    """The parts of one of ONNX Runtime's fused nodes (onnxruntime/docs/ContribOperators.md); others as they are."""
    fused = FUSED.get(node["op"]) if node["domain"] == MICROSOFT else None
    return [node] if fused is None else list(_parts(node, *fused))


def _parts(node: Node, plain: str, activation: str) -> Iterator[Node]:
    """A fused node as a plain one and what comes behind it."""
    of_first = {name: value for name, value in node["attributes"].items() if not name.startswith(ACTIVATION)}
    named = {name.removeprefix(f"{ACTIVATION}_"): v for name, v in node["attributes"].items() if name not in of_first}
    behind = activation or named.pop(ACTIVATION, "")
    named |= dict(zip(PARAMETERS.get(behind, ()), named.pop("params", ())))
    if not behind or (activation and len([name for name in node["inputs"] if name]) < 2):
        yield {**node, "op": activation or plain, "domain": ""}
        return
    inner = f"{node['outputs'][0]} before its activation"
    first, *further = node["outputs"]
    yield {**node, "op": plain, "domain": "", "outputs": [inner, *further], "attributes": of_first}
    yield {**node, "op": behind, "domain": "", "inputs": [inner], "outputs": [first], "attributes": named}


ACTIVATION = "activation"
MICROSOFT = "com.microsoft"
FUSED = {
    "FusedConv": ("Conv", ""),
    "FusedGemm": ("Gemm", ""),
    "BiasGelu": ("Add", "Gelu"),
    "FastGelu": ("Add", "FastGelu"),
}
"""The plain operator, and the activation where it is always the same one."""
PARAMETERS = {"LeakyRelu": ("alpha",), "Elu": ("alpha",), "HardSigmoid": ("alpha", "beta"), "Clip": ("min", "max")}
"""What the numbers of a FusedConv are to its activation."""


def in_order(nodes: Sequence[Node]) -> list[Node]:
    """Nodes so that each follows those it takes from; otherwise as they are.

    Raises:
        NotADenseNet: one depends on itself.
    """
    made = {name: i for i, node in enumerate(nodes) for name in node["outputs"] if name}
    result, state = list[Node](), [0] * len(nodes)  # 1: what it takes is being listed, 2: listed
    for first in range(len(nodes)):
        stack = [first]
        while stack:
            at = stack[-1]
            before = (
                [made[x] for x in nodes[at]["inputs"] if x in made and state[made[x]] != 2] if not state[at] else []
            )
            if state[at] == 0 and before:
                state[at] = 1
                if any(state[i] == 1 for i in before):
                    raise NotADenseNet(f"{nodes[at]['op']} {nodes[at]['name']} depends on its own result")
                stack += reversed(before)
                continue
            stack.pop()
            if state[at] != 2:
                state[at] = 2
                result.append(nodes[at])
    return result
