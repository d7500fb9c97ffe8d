"""Loading what was published over real HTTP, against a stand-in Hub."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from helpers.cases import CASES
from helpers.hub import REPO, client, densenet
from helpers.hub_server import Hub

from converter.demo.demo import IMAGES
from converter.publish.repository import verify_repository
from converter.use.predict import predictor


def snippets(card: str) -> dict[str, str]:
    """The card's examples, by what they import first of the things that tell them apart."""
    blocks = re.findall(r"```python\n(.*?)```", card, re.S)
    kinds = {
        "import timm": "timm",
        "from transformers": "transformers",
        "from densenet": "library",
        "onnxruntime": "onnx",
    }
    return {next(kind for mark, kind in kinds.items() if mark in block): block for block in blocks}


SHOW = """
import json, numpy
def plain(value):
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return value.tolist() if hasattr(value, "tolist") else value
print(json.dumps([plain(v) for v in output] if isinstance(output, list) else plain(output)))
"""


@pytest.mark.parametrize("kind", ["timm", "transformers", "library", "onnx"])
def test_the_cards_examples_run_and_agree(hub: Hub, digits: Path, tmp_path: Path, kind: str) -> None:
    for needed in {"timm": ["timm"], "transformers": ["transformers", "timm", "torchvision"]}.get(kind, []):
        if find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    assert densenet(hub, tmp_path / "publisher", "push", digits, REPO).status == 0
    image = sorted(IMAGES.glob("7/*.png"))[0]
    (tmp_path / "image.png").write_bytes(image.read_bytes())
    code = snippets(hub.repos[REPO].files["README.md"].decode())[kind] + SHOW
    environment = {**os.environ, **hub.environment(tmp_path / "reader", token=None)}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    output = json.loads(done.stdout.splitlines()[-1])
    expected = predictor(digits / "model.safetensors").logits([image])[0]
    order = np.argsort(-expected)[:5]
    if kind in ("timm", "onnx"):
        assert np.abs(np.array(output)[0] - expected).max() < 1e-5 * np.abs(expected).max()
        assert np.argsort(-np.array(output)[0])[:5].tolist() == order.tolist()
    elif kind == "transformers":
        assert [found["label"] for found in output] == [f"digit {i}" for i in order]
        scores = np.exp(expected - expected.max())
        assert np.abs(np.array([found["score"] for found in output]) - (scores / scores.sum())[order]).max() < 1e-5
    else:
        assert output["pred_class"] == f"digit {order[0]}"
        assert np.argsort(-np.array(output["pred_scores"]))[:5].tolist() == order.tolist()


def test_an_address_on_the_hub_is_a_source(hub: Hub, digits: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    densenet(hub, home, "push", digits, REPO, "--tag", "v1")
    commit = hub.repos[REPO].branches["main"]
    hub.add(REPO, {"model.safetensors": b"broken"})
    facts = json.loads(densenet(hub, home, "inspect", f"hf://{REPO}@v1", "--json").out)
    assert facts["source"] == f"hf://{REPO}@{commit}/model.safetensors"
    for address in (f"hf://{REPO}@v1", f"hf://{REPO}@{commit}/model.safetensors"):
        done = densenet(hub, home, "convert", address, tmp_path / "a.safetensors")
        assert done.status == 0, done.err
        assert densenet(hub, home, "export", address, tmp_path / "a.onnx").status == 0
        image = sorted(IMAGES.glob("4/*.png"))[0]
        result = json.loads(densenet(hub, home, "predict", address, image, "--json").out)
        assert result[0]["pred_class"] == "digit 4"
    count = len(hub.requests)
    assert densenet(hub, home, "inspect", f"hf://{REPO}@v1", HF_HUB_OFFLINE="1").status == 0
    assert densenet(hub, home, "inspect", f"hf://{REPO}@v1", DENSENET_OFFLINE="1").status == 0
    assert len(hub.requests) == count
    done = densenet(hub, home, "inspect", "hf://me/other", HF_HUB_OFFLINE="1")
    assert (done.status, "not in the cache, and offline mode is on" in done.line) == (2, True)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://me/nothing", "not found, or your token may not see it"),
        (f"hf://{REPO}@nothing", "no such branch, tag or commit"),
        (f"hf://{REPO}/nothing.bin", "no such file in the repository"),
        ("hf://me", "write hf://owner/name"),
        (f"hf://{REPO}/../x", "not a path in a repository"),
    ],
)
def test_a_wrong_address_is_one_line(hub: Hub, tmp_path: Path, address: str, message: str) -> None:
    hub.add(REPO, {"model.safetensors": b""})
    done = densenet(hub, tmp_path, "inspect", address)
    assert (done.status, message in done.line) == (2, True), done.err


def test_shards_and_config_come_along(hub: Hub, tmp_path: Path) -> None:
    data = CASES / "timm-hf-small"
    hub.add(
        REPO,
        {
            "model.safetensors": (data / "model.safetensors").read_bytes(),
            "config.json": (data / "config.json").read_bytes(),
        },
    )
    facts = json.loads(densenet(hub, tmp_path, "inspect", f"hf://{REPO}", "--json").out)
    assert facts["source"].endswith("/model.safetensors")
    assert any(line.endswith("/config.json") for line in hub.requests)


def test_a_published_repository_is_proved_from_its_own_files(hub: Hub, digits: Path, tmp_path: Path) -> None:
    densenet(hub, tmp_path / "a", "push", digits, REPO)
    for target in (REPO, f"hf://{REPO}"):
        with client(hub, tmp_path / "b", token=None):
            proof = verify_repository(target)
        assert (proof.passed, len(proof.checks["provenance.json"])) == (True, 11)
    reports = [tmp_path / f"report.{kind}" for kind in ("json", "md", "xml", "html")]
    wanted = [part for report in reports for part in ("--report", report)]
    done = densenet(hub, tmp_path / "b", "verify", REPO, *wanted, token=None, HF_HUB_OFFLINE="1")
    assert done.status == 0, done.err
    for report in reports:
        assert "provenance.json" in report.read_text()
    cached = next((tmp_path / "b").rglob("snapshots/*/config.json")).resolve()
    cached.write_bytes(b"x" * cached.stat().st_size)
    done = densenet(hub, tmp_path / "b", "verify", REPO, token=None, HF_HUB_OFFLINE="1")
    assert (done.status, "its SHA-256 is not the recorded one" in done.out) == (1, True)
    assert densenet(hub, tmp_path / "b", "verify", REPO, token=None).status == 0  # the fault was the cache's
