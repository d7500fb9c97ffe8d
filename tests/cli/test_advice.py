"""No message advises what would lose a tensor that computes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.networks import SMALL, random_tensors
from helpers.paddle import named

import converter
import densenet
from converter import load
from converter.core.checkpoint import Tensor
from converter.core.errors import ConverterError
from converter.formats.torch.zip_writer import write_torch
from converter.layouts.torchvision import TORCHVISION

ROOMS = [Path(module.__file__).parent for module in (converter, densenet) if module.__file__]
SAYS_WHAT_IT_DOES = {
    "--weights and --drop go by names, which this file lacks",
    "--drop ",
    "--layout, --weights, --drop and --set say how to read a checkpoint, and there is none",
}
"""Messages that name the option where somebody used it, and advise nothing."""


def texts() -> Iterator[tuple[str, str]]:
    """Every text in the package's code that is no docstring, with its place."""
    for file in (file for room in ROOMS for file in room.rglob("*.py")):
        tree = ast.parse(file.read_text("utf-8"))
        docs = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                yield f"{file.name}:{node.lineno}", node.value


def test_no_message_proposes_to_drop() -> None:
    found = {
        place: text
        for place, text in texts()
        if "--drop" in text and not text.startswith("--drop") and not any(known in text for known in SAYS_WHAT_IT_DOES)
    }
    assert found == {}


HEADS = {
    "layers apart": {"fc.0.weight": (7, 0), "fc.0.bias": (7,), "fc.2.weight": (5, 9), "fc.2.bias": (5,)},
    "a norm": {"head.weight": (0,), "head.bias": (0,), "head.running_mean": (0,), "head.running_var": (0,)},
    "another width": {"fc.weight": (5, 99), "fc.bias": (5,)},
    "convolution": {"fc.weight": (5, 0, 3, 3), "fc.bias": (5,)},
    "attention": {"att.in_proj_weight": (30, 0), "att.out_proj.weight": (0, 0), "fc.weight": (5, 0), "fc.bias": (5,)},
    "margin": {"arc.weight": (5, 0)},
    "decoder": {"decoder.0.weight": (0, 4, 2, 2), "decoder.1.weight": (5, 4, 1, 1)},
}
"""What stands behind the features; 0 for their number."""


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("wrapper", ["", "model."])
def test_what_computes_is_never_to_be_dropped(kind: str, wrapper: str, tmp_path: Path) -> None:
    _, arrays = named(TORCHVISION, SMALL)
    kept = {f"{wrapper}{name}": array for name, array in arrays.items() if not name.startswith("classifier")}
    width = SMALL.num_features
    kept |= {name: np.ones([n or width for n in shape], np.float32) for name, shape in HEADS[kind].items()}
    path = tmp_path / "model.pth"
    write_torch(path, {name: Tensor.of(array) for name, array in kept.items()})
    with pytest.raises(ConverterError) as error:
        load(path)
    assert "drop" not in str(error.value)
    assert len(random_tensors(SMALL)) > len(load(path, drop=tuple(f"{name}" for name in HEADS[kind])).tensors)
