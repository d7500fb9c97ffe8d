"""What people wrap weights in: training checkpoints, whole modules, lists of arrays.

``groups`` lists every place in a checkpoint's tree that holds enough named tensors to
be a network; ``choice.py`` says which is to be preferred, ``recognise.py`` which is a
DenseNet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from converter.core import bounds
from converter.core.checkpoint import Record, Tensor, child_items
from converter.reading.unreadable import unreadable
from densenet.module import COUNTER

MIN_TENSORS = 8

SKIPPED = frozenset(
    "optimizer optimizers optimizer_states optimizer_state_dict optim_state_dict opt optim opt_state lr_scheduler "
    "lr_schedulers lr_schedule scheduler param_schedulers amp_scaler scaler grad_scaler message_hub callbacks loops "
    "rng_state _metadata".split()
)
"""Training state that holds tensors but no network."""

STANDS_FOR = frozenset("torch._dynamo.eval_frame.OptimizedModule builtins.getattr __builtin__.getattr".split())
"""What is made of a module and computes what it does: ``torch.compile``; ``model.state_dict`` saved without ``()``."""

GRAPH_MODULE = "torch.fx.graph_module.reduce_graph_module"
GRAPH_PROBLEM = "a torch.fx GraphModule that is not the only network of the file: save it alone, or its state_dict()"

HOOKS = ("_forward_hooks", "_forward_pre_hooks")
KNOWN_HOOKS = ("torch.nn.utils.weight_norm.", "torch.nn.utils.spectral_norm.", "torch.nn.utils.prune.")
"""What these do is computed from the tensors they leave (``parametrizations.py``)."""

OWN_CONFIG = "densenet.config.DenseNetConfig"
"""What a module of this library's knows of itself."""

MANGLED = re.compile(r"^__torch__\.|___torch_mangle_\d+\.")


@dataclass(frozen=True)
class Group:
    """Named tensors that belong together.

    Attributes:
        path: where in the file they are, ``""`` for the top, ``state_dict``, ``model`` ...
        tensors: by dotted name.
        modules: names of all modules, also those without tensors, where the file tells.
        attributes: plain values of a pickled module by dotted name: ``eps``, ``ceil_mode`` ...
        classes: class of a pickled module by dotted name, parents before children, in order of definition.
        unread: names under which there is no array that can be read, and what there is.
        sources: the file's own names of what has another name here, or was computed from several.
        dropped: names that were left out already, and why.
        notes: what people should know of these tensors.
        siblings: the few tensors that stand beside this group in the file, by their place there.
        problem: why this cannot be read at all.
        flax: whether these were flax', whose windows may be padded by another rule.
    """

    path: str
    tensors: Mapping[str, Tensor]
    modules: frozenset[str] = frozenset()
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    classes: Mapping[str, str] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    siblings: Mapping[str, Group] = field(default_factory=dict)
    problem: str = ""
    flax: bool = False

    def names(self, key: str) -> tuple[str, ...]:
        """What the file calls a tensor."""
        return self.sources.get(key, (key,))


def groups(tree: Any) -> list[Group]:
    """Every group of tensors in a tree, in the file's order; a tree with few in each place is one group."""
    return list(_groups(tree, "", bounds.WRAPPERS, set())) or list(_nested(tree))


def _nested(tree: Any) -> Iterator[Group]:
    """The tensors of dicts within dicts, by dotted names (``{"features": {"conv0": {"weight": ...}}}``)."""
    flat: dict[str, Any] = {}
    waiting: list[tuple[str, Any, int]] = [("", tree, 0)]
    while waiting and len(flat) <= bounds.TENSORS:
        name, node, depth = waiting.pop()
        if isinstance(node, dict) and depth < bounds.NESTED_NAMES:
            dot = f"{name}." if name else ""
            inside = [(dot + str(key), value, depth + 1) for key, value in node.items() if key not in SKIPPED]
            waiting += reversed(inside)
        elif name:
            flat[name] = node
    if (group := _named(flat, "")) and len(group.tensors) + len(group.unread) >= MIN_TENSORS:
        yield group


def _groups(node: Any, path: str, depth: int, seen: set[int]) -> Iterator[Group]:
    if id(node) in seen:  # a pickle can hold the same object a million times
        return
    seen.add(id(node))
    if isinstance(node, Record):
        if node.cls in STANDS_FOR and node.args:
            yield from _groups(node.args[0], path, depth, seen)
            return
        group = _module_group(node, path) if _is_module(node) else Group(path, {})
        if len(group.tensors) + len(group.unread) >= MIN_TENSORS:
            yield group
            return
    elif isinstance(node, dict):
        if (found := _named(node, path)) and len(found.tensors) + len(found.unread) >= MIN_TENSORS:
            yield found
    elif (found := _listed(node, path)) is not None:
        yield found
        return
    if depth:
        beside = {} if isinstance(node, Record) else _small(node, path)
        for name, child in (*child_items(node), *_arguments(node)):
            if name not in SKIPPED and isinstance(child, (dict, list, tuple, Record)):
                place = f"{path}.{name}" if path else name
                for group in _groups(child, place, depth - 1, seen):
                    yield replace(group, siblings=beside) if group.path == place else group


def _is_module(record: Record) -> bool:
    """Whether an object is a torch module, eager or scripted, and not somebody's own that holds one."""
    if record.cls == GRAPH_MODULE:  # its state is what it was made of
        return True
    state = record.state
    return isinstance(state, dict) and ("_modules" in state or record.cls.startswith("__torch__"))


def _arguments(node: Any) -> Iterator[tuple[str, Any]]:
    """What a record was made of."""
    if isinstance(node, Record):
        yield from ((f"argument{i}", value) for i, value in enumerate(node.args))


def _named(node: Mapping[Any, Any], path: str) -> Group | None:
    """A dict's own tensors, and what it has in place of some."""
    tensors = {str(k): v for k, v in node.items() if isinstance(v, Tensor)}
    unread = unreadable(node)
    if (not tensors and not unread) or len(tensors) > bounds.TENSORS:
        return None
    if any(len(name) > bounds.NAME or name.count(".") >= bounds.NAME_PARTS for name in tensors):
        return None
    metadata = getattr(node, "attributes", {}).get("_metadata", {})
    modules = frozenset(map(str, metadata)) if isinstance(metadata, dict) else frozenset()
    return Group(path, {k: v for k, v in tensors.items() if k not in unread}, modules, unread=unread)


def _listed(node: Any, path: str) -> Group | None:
    """A list of arrays, named by their places, or of names and arrays."""
    if not isinstance(node, (list, tuple)) or not MIN_TENSORS <= len(node) <= bounds.TENSORS:
        return None
    pairs = [tuple(value) for value in node if isinstance(value, (list, tuple)) and len(value) == 2]
    if len(pairs) == len(node) and all(isinstance(name, str) for name, _ in pairs):
        return _named(dict(pairs), path)
    if not all(isinstance(value, Tensor) for value in node):
        return None
    return Group(path, {str(i): value for i, value in enumerate(node)})


def _small(node: Any, path: str) -> dict[str, Group]:
    """Members of a dict or list that hold a few tensors each, by name; and a dict's own few under the empty name."""
    found: dict[str, Group] = {}
    members = {k: v for k, v in child_items(node) if isinstance(v, (dict, Record)) and k not in SKIPPED}
    own = {"": node} if isinstance(node, dict) else {}
    for name, child in {**own, **members}.items():
        group = _module_group(child, name) if isinstance(child, Record) else _named(child, name)
        if group is not None and 0 < len(group.tensors) + len(group.unread) < MIN_TENSORS:
            found[name] = group
    return found


def _module_group(root: Record, path: str) -> Group:
    """A pickled module as the group its ``state_dict()`` would be."""
    group = Group(path, {}, attributes={}, classes={}, problem=GRAPH_PROBLEM if root.cls == GRAPH_MODULE else "")
    tensors: dict[str, Tensor] = {}
    unread: dict[str, str] = {}
    attributes: dict[str, Mapping[str, Any]] = {}
    classes: dict[str, str] = {}
    graph = root.cls == GRAPH_MODULE and root.args and isinstance(root.args[0], dict)
    todo: list[tuple[Record, str]] = [(Record(root.cls, state=root.args[0]) if graph else root, "")]
    seen: set[int] = set()
    while todo:
        record, name = todo.pop()
        if record.cls in STANDS_FOR and record.args and isinstance(record.args[0], Record):
            record = record.args[0]
        if id(record) in seen or not isinstance(record.state, dict):
            continue
        state, dot = record.state, f"{name}." if name else ""
        classes[name] = MANGLED.sub("", record.cls)
        attributes[name] = _plain(state)
        unsaved = state.get("_non_persistent_buffers_set")
        hidden = unsaved if isinstance(unsaved, (list, tuple)) else ()
        # A scripted module keeps its tensors and children as plain attributes, an eager one in three dicts.
        eager = "_modules" in state
        members = [state.get(k) or {} for k in ("_parameters", "_buffers")] if eager else [state]
        for member in members:
            tensors |= {dot + str(k): v for k, v in child_items(member) if isinstance(v, Tensor) and k not in hidden}
            if eager and isinstance(member, dict):
                # a norm without statistics or a layer without bias has None there
                values = {k: v for k, v in member.items() if v is not None and k not in hidden}
                unread |= {dot + k: what for k, what in unreadable(values).items()}
        children = [
            (v, dot + k) for k, v in child_items(state["_modules"] if eager else state) if isinstance(v, Record)
        ]
        if children:  # one without any can stand in several places: a ReLU that is used again, a weight that is shared
            seen.add(id(record))
        todo += reversed(children)  # depth first, as state_dict()
    kept = {key: tensor for key, tensor in tensors.items() if key not in unread}
    modules = frozenset(classes)
    return replace(group, tensors=kept, modules=modules, attributes=attributes, classes=classes, unread=unread)


def _plain(state: Mapping[Any, Any]) -> dict[str, Any]:
    """A module's plain values, lists as tuples; and under ``hooks`` what else it calls."""
    values: dict[str, Any] = {
        str(k): tuple(v) if isinstance(v, list) and all(isinstance(n, (int, float)) for n in v) else v
        for k, v in state.items()
        if isinstance(v, (int, float, str, bool, tuple, list, Tensor)) and k != COUNTER
    }
    config = values.get("config", state.get("config"))
    if isinstance(config, Record) and config.cls == OWN_CONFIG and isinstance(config.state, dict):
        values["config"] = config.state
    hooks = [hook for name in HOOKS for _, hook in child_items(state.get(name)) if state.get(name)]
    called = [hook.cls if isinstance(hook, Record) else str(hook) for hook in hooks]
    unknown = tuple(name for name in called if not name.startswith(KNOWN_HOOKS))
    return {**values, **({"hooks": unknown} if unknown else {})}
