"""The whole mission on a small model that ships with the package: no network, no PyTorch needed.

The model is a DenseNet trained on scikit-learn's digits by ``tools/train_demo.py``,
stored as the published torchvision files are: legacy names, older torch container.
"""

import json
import shlex
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from converter.core.errors import CannotWrite, VerificationFailed
from converter.core.files import make_folder
from converter.core.progress import Progress
from converter.engines.torch import has_torch
from converter.parity.verify import Verification, verify, verify_against
from converter.publish.package import package
from converter.reading.load import inspect
from converter.use.evaluate import evaluate
from converter.use.evaluation.choice import Choice
from converter.use.evaluation.result import Evaluation
from converter.use.export import export_onnx
from converter.use.images import DATA
from converter.writing.convert import convert

CHECKPOINT = DATA / "digits-densenet.pth"
IMAGES = DATA / "images"
RECORD = DATA / "reference.npz"
NO_TORCH = "PyTorch is not installed: pip install 'densenet-converter[torch]'"


@dataclass(frozen=True)
class Demo:
    """What the demo did, step by step.

    Attributes:
        folder: where it left everything: its checkpoint, images and recorded reference, too.
        steps: verb, what came of it, seconds.
        skipped: verb, and why.
        commands: what can be typed next, as it is.
    """

    folder: Path
    steps: tuple[tuple[str, str, float], ...]
    verifications: tuple[Verification, ...]
    evaluations: dict[str, Evaluation]
    skipped: tuple[tuple[str, str], ...]
    commands: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {
            "folder": str(self.folder),
            "steps": [{"verb": verb, "result": result, "seconds": round(t, 3)} for verb, result, t in self.steps],
            "skipped": [{"verb": verb, "why": why} for verb, why in self.skipped],
            "commands": list(self.commands),
            "verifications": [verification.to_dict() for verification in self.verifications],
            "evaluations": {name: evaluation.to_dict() for name, evaluation in self.evaluations.items()},
        }


def record() -> dict[str, Any]:
    """How the shipped model was trained and what it scored."""
    result: dict[str, Any] = json.loads((DATA / "record.json").read_text("utf-8"))
    return result


def demo(folder: Path, progress: Progress = lambda _: None) -> Demo:
    """Inspect, convert, export, verify, evaluate and package the shipped model; the results stay in ``folder``.

    Raises:
        VerificationFailed: the artifacts do not agree with the checkpoint.
        ConverterError: the folder cannot be written.
    """
    _leave(folder)
    trained = record()
    steps: list[tuple[str, str, float]] = []
    safetensors, onnx = folder / "model.safetensors", folder / "model.onnx"

    def step(verb: str, work: Callable[[], Any], say: Callable[[Any], str]) -> Any:
        progress(verb)
        start = time.perf_counter()
        value = work()
        steps.append((verb, say(value), time.perf_counter() - start))
        return value

    step(
        "inspect",
        lambda: inspect(CHECKPOINT),
        lambda i: (
            f"{i.checkpoint.format}, {i.chosen.layout.name} layout, {i.model.config.name}, "
            f"{i.model.config.parameters():,} parameters"
        ),
    )
    step(
        "convert",
        lambda: convert(CHECKPOINT, safetensors, preprocess=trained["preprocessing"], labels=trained["class_names"]),
        lambda c: f"{c.tensors} tensors, {c.layout} layout, {_size(c.path)}",
    )
    step(
        "export",
        lambda: export_onnx(safetensors, onnx),
        lambda e: f"opset {e.opset}, {e.nodes} nodes, {_size(e.path)}",
    )
    verifications = [
        step("verify (recorded reference)", lambda: verify_against(RECORD, onnx), _verdict),
    ]
    engines = {"ONNX Runtime": (onnx, "onnxruntime"), "PyTorch": (safetensors, "torch")}
    skipped = []
    if has_torch():
        verifications.append(step("verify (PyTorch float64)", lambda: verify(safetensors, onnx), _verdict))
    else:
        del engines["PyTorch"]
        skipped = [(verb, NO_TORCH) for verb in ("verify (PyTorch float64)", "evaluate (PyTorch)")]
    evaluations = {}
    for name, (path, engine) in engines.items():
        evaluations[name] = step(
            f"evaluate ({name})",
            partial(evaluate, path, IMAGES, engine=engine),
            lambda e: f"{_choice(e).top1} of {e.images} held-out images right",
        )
    step(
        "package",
        lambda: package(
            CHECKPOINT,
            folder / "repository",
            calibration=IMAGES,
            evaluation=IMAGES,
            license_id="apache-2.0",
            preprocess=trained["preprocessing"],
            labels=trained["class_names"],
            about=_about(trained),
        ),
        lambda p: (
            f"{len(p.files)} files for the Hub; "
            + ", ".join(f"{j.precision} error {j.error:.1%}" for j in p.judgements.values())
        ),
    )
    if not all(verification.passed for verification in verifications):
        raise VerificationFailed(
            f"{onnx}: does not agree with the checkpoint; this should not happen, please report it"
        )
    return Demo(folder, tuple(steps), tuple(verifications), evaluations, tuple(skipped), _commands(folder))


def _leave(folder: Path) -> None:
    """Put what the demo works on into its folder, which git ignores."""
    make_folder(folder)
    try:
        if not (folder / ".gitignore").exists():
            (folder / ".gitignore").write_text("*\n")
        shutil.copytree(IMAGES, folder / IMAGES.name, dirs_exist_ok=True)
        for path in (CHECKPOINT, RECORD):
            shutil.copyfile(path, folder / path.name)
    except OSError as error:
        raise CannotWrite(f"{folder}: cannot be written ({error.strerror or error})") from error


def _commands(folder: Path) -> tuple[str, ...]:
    """Commands on what is in the folder, for a shell."""
    checkpoint, safetensors, onnx, three, record = (
        shlex.quote(str(folder / name))
        for name in (CHECKPOINT.name, "model.safetensors", "model.onnx", "images/3", RECORD.name)
    )
    judged = f"{checkpoint} {onnx}" if has_torch() else f"{onnx} --against {record}"
    return (
        f"densenet inspect {checkpoint}",
        f"densenet diff {checkpoint} {safetensors}",
        f"densenet predict {onnx} {three}",
        f"densenet verify {judged}",
    )


def _about(trained: dict[str, Any]) -> list[str]:
    """What the card says beside the facts every card states."""
    data, score = trained["data"], trained["accuracy"]["held_out"]
    return [
        f"A small example, trained on {data['name']}: {data['training']} of {data['images']} images; "
        f"{score['correct']} of the {score['n']} held out are classified right ({data['caveat']}).",
        "",
        f"Data: {data['attribution']}",
    ]


def _choice(evaluation: Evaluation) -> Choice:
    assert isinstance(evaluation.found, Choice)  # its folders are classes
    return evaluation.found


def _verdict(verification: Verification) -> str:
    word = "pass" if verification.passed else "FAIL"
    return f"{word}: error {verification.worst():.1e}, allowed {verification.limit:.1e}"


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 1000:,.0f} kB"
