"""Networks with several heads in use: ONNX files of every precision, answers and tables by head, plain refusals."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from helpers.command import ok, refused
from helpers.tasks import Tasks
from PIL import Image

from converter import export_onnx, load
from converter.use.predict import predictor
from densenet import MultiHeadDenseNet, get_model, inference_model

Files = tuple[Path, list[Path], dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Files]:
    """A network in a file of ours, images, and what the original makes of them: probabilities by head."""
    folder = tmp_path_factory.mktemp("tasks")
    torch.manual_seed(0)
    net = Tasks().eval()
    torch.save(net, folder / "tasks.pth")
    paths = [folder / f"{i}.png" for i in range(3)]
    for i, path in enumerate(paths):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (90, 80, 3), np.uint8)).save(path)
    ok("convert", folder / "tasks.pth", folder / "m.safetensors")
    prepare = predictor(folder / "m.safetensors").prepare
    with torch.inference_mode():
        logits = net(torch.from_numpy(np.concatenate([prepare(path) for path in paths])))
    yield folder, paths, {name: torch.softmax(values, 1).numpy() for name, values in logits.items()}


@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
def test_answers_are_the_original_s_probabilities_by_head(files: Files, engine: str) -> None:
    folder, images, expected = files
    export_onnx(folder / "tasks.pth", folder / "answers.onnx")
    for source in ("tasks.pth", "m.safetensors", "answers.onnx"):
        results = inference_model(folder / source, images, engine=engine)
        for i, result in enumerate(results):
            assert list(result) == ["age", "sex"]
            for head, one in result.items():
                np.testing.assert_allclose(one["pred_scores"], expected[head][i], atol=1e-5)
                assert one["pred_label"] == expected[head][i].argmax()
    module = get_model(folder / "m.safetensors")
    assert isinstance(module, MultiHeadDenseNet)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_tables_have_columns_by_head(files: Files, suffix: str) -> None:
    folder, images, expected = files
    ok("predict", folder / "m.safetensors", *images, "-o", folder / f"r.{suffix}")
    if suffix == "csv":
        rows = list(csv.DictReader((folder / "r.csv").open()))
    elif suffix == "jsonl":
        rows = [json.loads(line) for line in (folder / "r.jsonl").read_text().splitlines()]
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        rows = parquet.read_table(folder / "r.parquet").to_pylist()
    ages = [f"age.{i}" for i in range(4)]
    assert list(rows[0]) == ["path", "age.label", "age.score", *ages, "sex.label", "sex.score", "sex.0", "sex.1"]
    for i, row in enumerate(rows):
        np.testing.assert_allclose([float(row[name]) for name in ages], expected["age"][i], atol=1e-5)
        np.testing.assert_allclose(float(row["sex.score"]), expected["sex"][i].max(), atol=1e-5)
        assert row["sex.label"] == str(expected["sex"][i].argmax())
    shown = ok("predict", folder / "m.safetensors", images[0])
    assert shown.index("age") < shown.index("sex")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_head_has_its_outputs_in_every_precision(files: Files, precision: str) -> None:
    folder, images, expected = files
    done = export_onnx(folder / "m.safetensors", folder / "p.onnx", precision=precision, probabilities=True)
    assert done.outputs == ("age", "sex", "age.probabilities", "sex.probabilities")
    proto = onnx.load(folder / "p.onnx")
    onnx.checker.check_model(proto, full_check=True)
    assert [value.type.tensor_type.shape.dim[1].dim_value for value in proto.graph.output] == [4, 2, 4, 2]
    session = onnxruntime.InferenceSession(folder / "p.onnx", providers=["CPUExecutionProvider"])
    prepare = predictor(folder / "m.safetensors").prepare
    names = ["age.probabilities", "sex.probabilities"]
    found = session.run(names, {"pixel_values": np.concatenate([prepare(path) for path in images])})
    limit = {"fp32": 1e-5, "fp16": 5e-3, "int8": 0.1}[precision]
    for head, values in zip(("age", "sex"), found):
        assert np.abs(values - expected[head]).max() < limit, head


def test_an_activation_said_is_that_of_every_head(files: Files) -> None:
    folder, _, _ = files
    done = export_onnx(folder / "m.safetensors", folder / "s.onnx", activation="sigmoid")
    assert done.outputs[2:] == ("age.probabilities", "sex.probabilities")
    assert [node.op_type for node in onnx.load(folder / "s.onnx").graph.node][-2:] == ["Sigmoid", "Sigmoid"]
    assert [images.activation for _, images in load(folder / "s.onnx").images.heads] == ["sigmoid"] * 2


def test_what_is_for_one_head_says_so(files: Files) -> None:
    folder, images, _ = files
    source, names = folder / "m.safetensors", "several heads: age, sex; densenet convert --head NAME takes one"
    classes = folder / "classes"
    for name in ("a", "b"):
        (classes / name).mkdir(parents=True, exist_ok=True)
        (classes / name / "0.png").write_bytes(images[0].read_bytes())
    assert names in refused(2, "evaluate", source, classes)
    assert names in refused(2, "predict", source, images[0], "--cam", folder / "cam")
    assert names in refused(2, "package", source, folder / "package")
    (folder / "labels.txt").write_text("a\nb\n")
    assert names in refused(2, "predict", source, images[0], "--labels", folder / "labels.txt")
    assert not (folder / "package").exists()
