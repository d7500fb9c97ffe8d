"""What each verb imports of others: no more than what it does needs.  A slow start is felt at every use."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.cases import LEGACY
from helpers.command import python
from helpers.keras import FLYYUFELIX
from helpers.networks import TIMM, save

from converter.demo.demo import CHECKPOINT, IMAGES, RECORD

LIST = """
import atexit, sys

def say():
    mine = ("converter", "densenet")
    others = {
        name.partition(".")[0]
        for name, module in list(sys.modules.items())
        if "-packages" in (getattr(module, "__file__", None) or "") and not name.startswith(mine)
    }
    print("imported:", *sorted(others), file=sys.stderr)

atexit.register(say)
from converter.cli import main
main()
"""
BROUGHT = frozenset(
    "_distutils_hack annotated_doc attr attrs backports click colorama flatbuffers google markdown_it mdurl "
    "more_itertools packaging pygments shellingham typing_extensions".split()
)
"""What those packages bring along, by version and system."""
IMAGE = next(IMAGES.glob("3/*.png"))


def imported(folder: Path, *words: object) -> set[str]:
    """What a command that must succeed has imported of others at its end, beside what shows its options."""
    done = python(LIST, *(folder / word if isinstance(word, Path) else word for word in words))
    assert done.returncode == 0, done.stderr
    found = set(done.stderr.splitlines()[-1].split()[1:]) - BROUGHT
    assert "typer" in found
    return found - {"typer"}


NUMPY = {"numpy"}
ONNX = NUMPY | {"ml_dtypes", "onnx"}
RUN = ONNX | {"onnxruntime", "PIL"}

COMMANDS: dict[str, tuple[tuple[object, ...], set[str]]] = {
    "convert .pth to .safetensors": (("convert", LEGACY, Path("b.safetensors")), NUMPY),
    "convert .safetensors to .pth": (("convert", Path("a.safetensors"), Path("b.pth"), "--to", "timm"), NUMPY),
    "convert to .npz in half": (("convert", LEGACY, Path("b.npz"), "--dtype", "fp16"), NUMPY),
    "convert to .h5": (
        ("convert", FLYYUFELIX, Path("b.h5")),
        NUMPY | {"h5py"},
    ),
    "inspect": (("inspect", LEGACY), NUMPY),
    "inspect .h5": (("inspect", FLYYUFELIX), NUMPY),
    "inspect --json": (("inspect", LEGACY, "--json"), NUMPY),
    "inspect --tensors": (("inspect", LEGACY, "--tensors"), NUMPY | {"rich"}),
    "export": (("export", LEGACY, Path("b.onnx")), ONNX),
    "export --precision fp16": (("export", LEGACY, Path("b.onnx"), "--precision", "fp16"), ONNX),
    "export --image-input": (("export", LEGACY, Path("b.onnx"), "--image-input"), ONNX),
    "predict": (("predict", CHECKPOINT, IMAGE, "--json"), RUN),
    "predict with .onnx": (("predict", Path("a.onnx"), IMAGE, "--json"), RUN - {"ml_dtypes", "onnx"}),
    "evaluate": (("evaluate", CHECKPOINT, IMAGES, "--json"), RUN),
    "list": (("list", "--json"), set()),
    "list --layouts": (("list", "--layouts", "--json"), {"numpy"}),
    "verify --against": (("verify", Path("a.onnx"), "--against", RECORD, "--json"), RUN),
    "--version": (("--version",), set()),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from converter import export_onnx

    folder = tmp_path_factory.mktemp("files")
    save(TIMM, folder / "a.safetensors")
    export_onnx(CHECKPOINT, folder / "a.onnx")
    return folder


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_verb_imports_what_it_needs_and_nothing_else(verb: str, files: Path) -> None:
    words, allowed = COMMANDS[verb]
    assert imported(files, *words) == allowed


@pytest.mark.parametrize(
    "verb",
    ["inspect", "convert", "export", "verify", "predict", "evaluate", "package", "push", "list", "demo", "doctor"],
)
def test_help_imports_nothing_of_others(verb: str, tmp_path: Path) -> None:
    assert imported(tmp_path, verb, "--help") == set()
