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

from converter import Images, export_onnx, load
from converter.use.cam import class_activation
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
    assert "several heads (age, sex); --head NAME says which" in refused(2, "evaluate", source, classes)
    assert names in refused(2, "convert", source, folder / "plain.pth", "--to", "torchvision")
    (folder / "labels.txt").write_text("a\nb\n")
    said = folder / "labels.txt"
    assert "of age or sex: --labels age=FILE" in refused(2, "predict", source, images[0], "--labels", said)
    assert "head age: 2 labels for 4 classes" in refused(2, "predict", source, images[0], "--labels", f"age={said}")
    assert "no head 'size'; there are age, sex" in refused(2, "predict", source, images[0], "--labels", f"size={said}")
    assert "no head 'size'" in refused(2, "predict", source, images[0], "--head", "size")
    assert "twice of head sex" in refused(2, "predict", source, images[0], *["--activation", "sex=none"] * 2)


def test_labels_and_activations_are_said_of_one_head(files: Files) -> None:
    folder, images, expected = files
    (folder / "sex.txt").write_text("f\nm\n")
    said = ("--labels", f"sex={folder / 'sex.txt'}", "--activation", "age=none")
    found = json.loads(ok("predict", folder / "m.safetensors", images[0], *said, "--json"))[0]
    assert {each["class"] for each in found["sex"]["top"]} == {"f", "m"}
    assert {each["class"] for each in found["age"]["top"]} == {""}
    ages = {each["label"]: each["score"] for each in found["age"]["top"]}
    assert abs(np.exp([ages[i] - ages[0] for i in range(4)]) - expected["age"][0] / expected["age"][0][0]).max() < 1e-4
    ok("convert", folder / "m.safetensors", folder / "said.safetensors", *said)
    kept = dict(
        load(folder / "said.safetensors").described(Images(heads=(("age", Images(labels=tuple("abcd"))),))).images.heads
    )
    assert kept["sex"].labels == ("f", "m")
    assert (kept["age"].labels, kept["age"].activation) == (tuple("abcd"), "none")


@pytest.mark.parametrize("name", ["m.safetensors", "heads.onnx"])
def test_one_head_is_asked_alone(files: Files, name: str) -> None:
    folder, images, expected = files
    export_onnx(folder / "m.safetensors", folder / "heads.onnx")
    found = json.loads(ok("predict", folder / name, images[0], "--head", "sex", "--json"))[0]
    np.testing.assert_allclose(found["pred_score"], expected["sex"][0].max(), atol=1e-5)
    table = folder / "truths.csv"
    answers = [str(int(each.argmax())) for each in expected["age"]]
    table.write_text("path,age,sex\n" + "".join(f"{path},{age},0\n" for path, age in zip(images, answers)))
    right = json.loads(ok("evaluate", folder / name, table, "--head", "age", "--json"))
    assert (right["top1"], right["dataset"]) == (100.0, "truths.csv, head age")
    wrong = json.loads(ok("evaluate", folder / name, table, "--head", "sex", "--json"))
    assert wrong["top1_correct"] == sum(int(each.argmax()) == 0 for each in expected["sex"])


@pytest.mark.parametrize(
    ("name", "engine"), [("m.safetensors", "onnxruntime"), ("heads.onnx", "onnxruntime"), ("m.safetensors", "torch")]
)
def test_every_head_has_its_map(files: Files, name: str, engine: str, tmp_path: Path) -> None:
    folder, images, _ = files
    export_onnx(folder / "m.safetensors", folder / "heads.onnx")
    ok("predict", folder / name, *images[:2], "--cam", tmp_path / "cam", "--engine", engine)
    pictures = ["000001_0.age.png", "000001_0.sex.png", "000002_1.age.png", "000002_1.sex.png"]
    assert sorted(path.name for path in (tmp_path / "cam").glob("*.png")) == pictures
    page = (tmp_path / "cam" / "index.html").read_text()
    assert [page.index(picture) for picture in pictures] == sorted(page.index(picture) for picture in pictures)
    assert "2 images" in page
    assert "age: The weights of the feature maps are the derivatives" in page  # age has layers of its own
    assert "sex: Average pooling makes a logit the mean of its map" in page
    loaded, alone = predictor(folder / name, engine=engine), predictor(folder / "tasks.pth", head="sex")
    _, maps = loaded.network.start(("maps",))(loaded.prepare(images[0]))
    both = [class_activation(one.network)(maps[0], 1) for one in (loaded.by_head["sex"], alone)]
    np.testing.assert_allclose(*both, atol=1e-6)
