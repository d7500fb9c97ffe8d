"""The judge judged: a quick part of ``tools/fault_injection.py``, and that it counts rightly."""

from __future__ import annotations

from pathlib import Path

import fault_injection
import faults
import pytest


def test_the_catalogue_has_at_least_forty_ways() -> None:
    names = [fault.name for fault in faults.FAULTS]
    assert len(names) == len(set(names)) >= 40


def test_broken_networks_fail_and_honest_ones_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fault_injection, "FAULTS", faults.FAULTS[::3])
    result = fault_injection.run(["tiny"], 1, 1, quick=True)
    assert result["counting"] >= 15
    assert result["survivors"] == []
    assert result["false_alarms"] == []
    assert result["misnamed"] == []
    assert result["honest_pairs"] >= 10
    assert result["cosine_passes"] > 0  # the usual check lets some of them through


@pytest.mark.parametrize(
    ("named", "module", "right"),
    [
        ("blocks.0.layers.1.conv1", "blocks.0.layers.1.conv1", True),
        ("blocks.0.layers.1.conv1+norm2", "blocks.0.layers.1.norm2", True),
        ("blocks.0.layers.1", "blocks.0.layers.1.concat", True),
        ("norm", "norm", True),
        ("blocks.0.layers.1.conv1", "blocks.0.layers.1.conv2", False),
        ("blocks.0.layers.2.conv1", "blocks.0.layers.1.conv1", False),
        ("", "norm", False),
    ],
)
def test_what_counts_as_rightly_named(named: str, module: str, right: bool) -> None:
    mutant = fault_injection.Mutant("x", module, "exact", Path("x.onnx"), named=named)
    assert mutant.rightly_named is right


def test_a_fault_counts_by_its_effect() -> None:
    mutant = fault_injection.Mutant("x", "norm", "exact", Path("x.onnx"), effect=9e-6, own=1e-6)
    assert not mutant.counts
    mutant.effect = 11e-6
    assert mutant.counts
    mutant.effect = float("nan")
    assert mutant.counts
