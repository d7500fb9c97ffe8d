"""Graphs with a result for each of several heads: read whole, with what stands behind each of the logits."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from helpers.tasks import F, features
from torch import nn

from converter import export_onnx, load
from densenet.head import Head


class Probabilities(nn.Module):
    """Two heads, which give probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.features = features()
        self.findings = nn.Sequential(nn.Linear(F, 9), nn.Tanh(), nn.Linear(9, 4))
        self.view = nn.Linear(F, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Probabilities of findings, and of one view of two."""
        pooled = torch.relu(self.features(x)).mean((2, 3))
        return torch.sigmoid(self.findings(pooled)), torch.softmax(self.view(pooled), 1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["pt", "onnx"])
def test_every_result_is_the_original_s_own(tmp_path: Path, kind: str) -> None:
    net, x, path = Probabilities().eval(), torch.randn(2, 3, 64, 64), tmp_path / f"m.{kind}"
    if kind == "pt":
        torch.jit.save(torch.jit.script(net), path)
    else:
        torch.onnx.export(net, (x,), path, dynamo=False, output_names=["findings", "view"])
    model = load(path)
    assert model.config.heads == (Head("findings", 4, ("linear:9", "tanh")), Head("view", 2))
    assert [images.activation for _, images in model.images.heads] == ["sigmoid", "softmax"]
    outputs = export_onnx(path, tmp_path / "ours.onnx").outputs
    assert outputs == ("findings", "view", "findings.probabilities", "view.probabilities")
    session = onnxruntime.InferenceSession(tmp_path / "ours.onnx", providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        for found, expected in zip(session.run([*outputs[2:]], {"pixel_values": x.numpy()}), net(x)):
            np.testing.assert_allclose(found, expected, atol=1e-5)
    assert load(path, head="view").config.num_classes == 2
