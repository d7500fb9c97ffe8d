"""Values under names of tensors that are no arrays we can read: named, never passed over."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from converter.core.checkpoint import Record, Tensor

LEAF = (
    r"(^|[./_])(weight|bias|running_mean|running_var|gamma|beta|moving_mean|moving_variance|kernel)"
    r"(_orig|_mask|_[guv])?$"
)
"""How names of tensors end."""

FLAT = r"(^|\.)_?flat_param(_\d+)?$"
"""What FSDP calls the parameters of a module as one (torch/distributed/fsdp/_flat_param.py)."""

KINDS: tuple[tuple[str, str], ...] = (
    ("_rebuild_sparse", "a sparse tensor; save it with to_dense()"),
    ("_rebuild_qtensor", "a quantised tensor; only a float one is exact: save the network before it is quantised"),
    ("_rebuild_meta_tensor", "a tensor on the meta device, which has no values"),
    ("DTensor", "a DTensor of which the file holds one shard; save it with full_tensor()"),
    ("ShardedTensor", "a ShardedTensor of which the file holds one shard; save a FULL_STATE_DICT"),
    ("torchao.", "a quantised tensor of torchao's; save the network before it is quantised"),
    ("numpy.", "an array of no numbers"),
)
"""What stands in a class's name, and what that is."""

EMPTY = "an empty placeholder, as ZeRO stage 3 leaves them; gather the weights first (zero_to_fp32.py)"


def unreadable(values: Mapping[Any, Any]) -> dict[str, str]:
    """Names of tensors whose values cannot be read, and what those are."""
    found = {}
    for key, value in values.items():
        if isinstance(value, Tensor):
            if 0 in value.shape and re.search(LEAF, str(key)):
                found[str(key)] = EMPTY
            elif "flat_param" in str(key) and re.search(FLAT, str(key)):
                found[str(key)] = "FSDP's flat parameter of several tensors; save a FULL_STATE_DICT"
        elif packed := next(filter(_is_tensor, value if isinstance(value, (list, tuple)) else ()), None):
            found[str(key)] = _what(packed)  # what a quantised layer packs: its weight and bias
        elif not isinstance(value, dict) and (re.search(LEAF, str(key)) or _is_tensor(value)):
            found[str(key)] = _what(value)
    return found


def _is_tensor(value: Any) -> bool:
    """Whether a record is of a class of tensors."""
    return isinstance(value, Record) and ("Tensor" in value.cls or "._rebuild_" in value.cls)


def _what(value: Any) -> str:
    name = value.cls if isinstance(value, Record) else type(value).__name__
    if value is None:
        return "None"
    about = next((what for part, what in KINDS if part in name), f"no array but a {name}")
    return f"{about} ({name})" if isinstance(value, Record) and name not in about else about
