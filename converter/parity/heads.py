"""Several heads are judged one by one: as plain networks, of which the file as it is gives the logits by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import onnx

from converter.exporters.graph import PROBABILITIES
from converter.parity.locate import Break
from converter.parity.verdict import Verification
from converter.reading.facts import heads_said
from converter.reading.several_heads import metadata_of_head
from densenet.config import DenseNetConfig
from densenet.topology import LOGITS

JOINT = re.compile(r"([+,])")


def heads_of(proto: onnx.ModelProto) -> DenseNetConfig | None:
    """The config of several heads in the metadata of a file of this tool; None where there is none."""
    with suppress(ValueError, TypeError):
        return heads_said({prop.key: prop.value for prop in proto.metadata_props})
    return None


def branch_of(proto: onnx.ModelProto, config: DenseNetConfig, head: str) -> onnx.ModelProto:
    """One head of a graph of this tool as the plain network's graph, with the names that has."""
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    graph = result.graph
    names = [each.name for each in config.heads if each.name != head]
    others = {*names, *(f"{name}.{PROBABILITIES}" for name in names)}
    wanted = [value for value in graph.output if value.name not in others]
    makers = {name: node for node in graph.node for name in node.output}
    needed, stack = set[str](), [value.name for value in wanted]
    while stack:
        name = stack.pop()
        if name not in needed:
            needed.add(name)
            stack += [*makers[name].input] if name in makers else []
    nodes = [node for node in graph.node if needed.intersection(node.output)]
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    for node in nodes:
        node.name = _plain(node.name, head)
        node.input[:] = [_plain(name, head) for name in node.input]
        node.output[:] = [_plain(name, head) for name in node.output]
    for named in (*constants, *wanted):
        named.name = _plain(named.name, head)
    kept: tuple[tuple[Any, list[Any]], ...] = (
        (graph.node, nodes),
        (graph.initializer, constants),
        (graph.output, wanted),
    )
    copies = [[type(item).FromString(item.SerializeToString()) for item in items] for _, items in kept]
    for (field, _), items in zip(kept, copies):
        del field[:]
        field.extend(items)
    del graph.value_info[:]
    said = metadata_of_head({prop.key: prop.value for prop in proto.metadata_props}, config, head)
    onnx.helper.set_model_props(result, said)
    return result


def _plain(name: str, head: str) -> str:
    """A value of one head as the plain network's graph calls it: ``heads.age.head.0.linear+age.weight`` of age."""
    parts = JOINT.split(name)
    for i, part in enumerate(parts):
        if part.startswith(f"heads.{head}."):
            parts[i] = part.removeprefix(f"heads.{head}.")
        elif part.startswith(f"{head}.{PROBABILITIES}"):
            parts[i] = part.removeprefix(f"{head}.")
        elif part == head or part.startswith(f"{head}."):
            parts[i] = LOGITS + part.removeprefix(head)
    return "".join(parts)


def _in_head(found: Break, head: str) -> Break:
    """A break behind the features, with the module's own name."""
    behind = found.module.startswith(("head.", "classifier", LOGITS, PROBABILITIES))
    return replace(found, module=f"heads.{head}.{found.module}") if behind else found


def of_head(head: str) -> str:
    """What stands behind the name of an engine or a file where one of several heads is meant."""
    return f", head {head}" if head else ""


def by_heads(config: DenseNetConfig, judged: Callable[[str], Verification]) -> Verification:
    """The verdicts on all heads as one; what belongs to a head ends in its name."""
    verdicts = {head.name: judged(head.name) for head in config.heads}
    every = [*verdicts.values()]

    def named(field: str) -> dict[str, Any]:
        found: dict[str, Mapping[str, Any]] = {head: getattr(verdict, field) for head, verdict in verdicts.items()}
        return {f"{key}{of_head(head)}": value for head, of in found.items() for key, value in of.items()}

    common = [note for note in every[0].notes if all(note in verdict.notes for verdict in every)]
    own = [f"head {head}: {note}" for head, v in verdicts.items() for note in v.notes if note not in common]
    return replace(
        every[0],
        results=named("results"),
        checks=named("checks"),
        breaks={
            f"{key}{of_head(head)}": _in_head(found, head)
            for head, verdict in verdicts.items()
            for key, found in verdict.breaks.items()
        },
        budgets=named("budgets"),
        logits=named("logits"),
        limit=max(verdict.limit for verdict in every),
        reference_error=max(verdict.reference_error for verdict in every),
        spread=min(verdict.spread for verdict in every),
        problems=tuple(f"head {head}: {problem}" for head, v in verdicts.items() for problem in v.problems),
        notes=(*common, *own),
        seconds=None if every[0].seconds is None else sum(verdict.seconds or 0.0 for verdict in every),
    )
