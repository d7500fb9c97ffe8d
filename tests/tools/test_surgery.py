"""The generator of random surgery: the same variant from the same name, and a verdict that can be each of them."""

from dataclasses import replace

import pytest

pytest.importorskip("timm")
pytest.importorskip("monai")

from tools.surgery import judge
from tools.surgery.__main__ import main
from tools.surgery.judge import EQUAL, NOTED, NOTED_EQUAL, REFUSED, SILENT, Variant, tried

SOFTMAX = "monai/behind-softmax/safetensors/3"


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("torchvision/stem-stride1+body-pool-none/whole/1", EQUAL),
        ("timm/dtype-half+file-ddp/pth/2", NOTED_EQUAL),
        (SOFTMAX, NOTED),
        ("torchvision/body-circular/whole-legacy/4", REFUSED),
    ],
)
def test_verdicts(text: str, verdict: str) -> None:
    variant = Variant.of(text)
    assert str(variant) == text
    assert tried(variant).verdict == verdict


def test_other_logits_without_their_cause_are_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    surgery = judge.BY_NAME["behind-softmax"]
    monkeypatch.setitem(judge.BY_NAME, surgery.name, replace(surgery, note="never"))
    assert tried(Variant.of(SOFTMAX)).verdict == SILENT
    # Of two surgeries one is read right and the other is named: nothing was silent.
    monkeypatch.setitem(judge.BY_NAME, surgery.name, surgery)
    assert tried(Variant.of("monai/norm-momentum+behind-softmax/safetensors/3")).verdict == NOTED


def test_the_exit_status_says_it_and_the_same_seed_draws_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["surgery", "--count", "2", "--seed", "5", "--kind", "behind-t", "--container", "safetensors"]
    monkeypatch.setattr("sys.argv", arguments)
    assert main() == 0
    surgery = judge.BY_NAME["behind-tanh"]
    monkeypatch.setitem(judge.BY_NAME, surgery.name, replace(surgery, note="never"))
    assert main() == 1
    printed = capsys.readouterr().out
    assert "SILENT --variant" in printed
    assert "behind-tanh" in printed
