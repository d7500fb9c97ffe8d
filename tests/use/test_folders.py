"""Prediction for people with folders: tables, features, what fails, and graphs that take images as they are."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.command import ok, refused, run
from helpers.networks import SMALL, export_model, random_model, save
from helpers.packages import small_images
from PIL import Image

from converter import export_onnx
from converter.core.errors import ConverterError
from converter.core.model import Images
from converter.core.text import cell, from_cell
from converter.demo.demo import IMAGES
from converter.use.evaluation.table import read_sheet
from converter.use.images import gathered
from converter.use.in_order import in_order, one_ahead, workers
from converter.use.predict import predictor
from converter.use.tables import columns
from densenet.preprocess import Preprocess


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Twenty digits in two folders, and two files that are no images."""
    folder = tmp_path / "scans"
    for digit in range(10):
        for i, image in enumerate(sorted((IMAGES / str(digit)).iterdir())[:2]):
            place = folder / ("left" if i else "right") / f"{digit}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, place)
    (folder / "left" / "5b.png").write_bytes((folder / "left" / "5.png").read_bytes()[:90])
    (folder / "right" / "x.jpg").write_text("hello")
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_files_folders_and_patterns_in_the_order_named(scans: Path) -> None:
    one = scans / "left" / "3.png"
    odd = scans / "a[1].png"
    shutil.copy(one, odd)
    found = gathered([one, scans / "right", str(scans / "*" / "7.png"), odd, "missing.png"])
    assert found[0] == one
    assert found[1:12] == sorted((scans / "right").iterdir())
    assert found[12:14] == [scans / "left" / "7.png", scans / "right" / "7.png"]
    assert found[14:] == [odd, Path("missing.png")]
    assert gathered([str(scans / "**" / "7.png")]) == found[12:14]
    with pytest.raises(ConverterError, match="no files match"):
        gathered([str(scans / "*.tif")])


def test_a_folder_goes_on_after_bad_images(digits: Path, scans: Path, tmp_path: Path) -> None:
    table = tmp_path / "out.csv"
    done = run("predict", digits / "m.onnx", scans, "-o", table)
    assert done.returncode == 1
    assert "20 of 22 images" in done.stdout
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert "5b.png: the image is damaged" in lines[0]
    assert "x.jpg: not an image" in lines[1]
    rows = rows_of(table)
    good = [path for path in sorted(scans.rglob("*.*")) if path.name not in ("5b.png", "x.jpg")]
    assert [row["path"] for row in rows] == list(map(str, good))
    assert list(rows[0]) == ["path", "label", "score", *map(str, range(10))]
    expected = predictor(digits / "m.safetensors").results(good)
    for row, one in zip(rows, expected):
        scores = np.array([float(row[str(i)]) for i in range(10)], np.float32)
        np.testing.assert_allclose(scores, one["pred_scores"], atol=1e-6)
        assert row["label"] == one["pred_class"]
        assert np.float32(row["score"]) == scores.max()


def test_the_first_bad_image_ends_it_on_request_and_the_old_table_stays(
    digits: Path, scans: Path, tmp_path: Path
) -> None:
    table = tmp_path / "out.csv"
    table.write_text("path,label,score\n")  # an earlier run's, of nothing
    line = refused(2, "predict", digits / "m.onnx", scans, "-o", table, "--fail-fast")
    assert "5b.png" in line
    assert table.read_text() == "path,label,score\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "scans"]


def test_tables_of_every_kind_say_the_same(digits: Path, scans: Path, tmp_path: Path) -> None:
    model, images = digits / "m.onnx", scans / "left"
    for kind in ("csv", "jsonl"):
        assert run("predict", model, images, "-o", tmp_path / f"a.{kind}").returncode == 1
    rows = rows_of(tmp_path / "a.csv")
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text("utf-8").splitlines()]
    assert [{name: str(value) for name, value in line.items()} for line in lines] == [
        {name: value if name in ("path", "label") else str(float(value)) for name, value in row.items()} for row in rows
    ]
    parquet = pytest.importorskip("pyarrow.parquet")
    assert run("predict", model, images, "-o", tmp_path / "a.parquet").returncode == 1
    read = parquet.read_table(tmp_path / "a.parquet")
    assert str(read.schema.field("7").type) == "float"
    assert [np.float32(row["7"]) for row in rows] == [np.float32(value) for value in read["7"].to_pylist()]
    assert read["path"].to_pylist() == [row["path"] for row in rows]


def test_what_cannot_be_written_is_said_before_the_work(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = next(IMAGES.glob("3/*.png"))
    assert ".csv, .jsonl, .parquet" in refused(2, "predict", digits / "m.onnx", image, "-o", tmp_path / "a.xlsx")
    assert ".npy" in refused(2, "predict", digits / "m.onnx", image, "--features", tmp_path / "a.npz")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    line = refused(2, "predict", digits / "m.onnx", image, "-o", tmp_path / "a.parquet")
    assert "pip install 'densenet-converter[parquet]'" in line
    assert not list(tmp_path.iterdir())


def test_json_is_of_the_answers_or_of_the_table(digits: Path, scans: Path, tmp_path: Path) -> None:
    done = run("predict", digits / "m.onnx", scans / "left", "--json", "--top", 2)
    found = json.loads(done.stdout)
    assert (done.returncode, len(found)) == (1, 10)
    assert found[3]["image"].endswith("3.png")
    assert found[3]["top"][0]["label"] == found[3]["pred_label"] == 3
    summary = json.loads(run("predict", digits / "m.onnx", scans, "-o", tmp_path / "a.csv", "--json").stdout)
    assert (summary["images"], summary["answered"], len(summary["failed"])) == (22, 20, 2)


def test_two_classes_of_one_name_have_columns_of_their_own() -> None:
    assert columns(["crane", "path", "crane", "dog"], 4) == ["crane (0)", "path (1)", "crane (2)", "dog"]
    assert columns([], 3) == ["0", "1", "2"]


def test_features_are_the_networks_and_say_whose_they_are(digits: Path, scans: Path, tmp_path: Path) -> None:
    export_onnx(digits / "m.safetensors", tmp_path / "half.onnx", precision="fp16")
    torch = pytest.importorskip("torch")
    from densenet import get_model
    from densenet.images import load as load_image

    module, steps = get_model(digits / "m.safetensors"), predictor(digits / "m.onnx").preprocess
    good = [path for path in sorted((scans / "right").iterdir()) if path.name != "x.jpg"]
    with torch.inference_mode():
        batch = torch.from_numpy(np.concatenate([load_image(path, steps) for path in good]))
        expected = module.pool(module.forward_features(batch)).numpy()
    for source, engine, tolerance in (
        (digits / "m.onnx", "onnxruntime", 1e-5),
        (digits / "m.safetensors", "torch", 1e-6),
        (tmp_path / "half.onnx", "onnxruntime", 1e-2),
    ):
        target = tmp_path / f"{source.stem}.npy"
        assert run("predict", source, scans / "right", "--features", target, "--engine", engine).returncode == 1
        found = np.load(target)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max())
        rows = rows_of(target.with_suffix(".rows.csv"))
        assert [(row["row"], row["path"]) for row in rows] == [(str(i), str(path)) for i, path in enumerate(good)]


def test_graphs_that_take_bytes_run_directly(digits: Path, scans: Path, tmp_path: Path) -> None:
    export_onnx(digits / "m.safetensors", tmp_path / "bytes.onnx", image_input=True)
    small = scans / "left" / "7.png"
    Image.open(small).resize((61, 40)).save(scans / "left" / "7.png")
    assert run("predict", tmp_path / "bytes.onnx", scans, "-o", tmp_path / "a.csv").returncode == 1
    assert run("predict", digits / "m.onnx", scans, "-o", tmp_path / "b.csv").returncode == 1
    for one, other in zip(rows_of(tmp_path / "a.csv"), rows_of(tmp_path / "b.csv")):
        assert one["path"] == other["path"]
        for i in map(str, range(10)):
            assert float(one[i]) == pytest.approx(float(other[i]), abs=0.02)


def test_what_is_said_of_images_and_classes_is_obeyed(digits: Path, scans: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("\n".join(f"digit {i}" for i in range(10)))
    options = ("--labels", tmp_path / "names.txt", "--activation", "sigmoid")
    assert run("predict", digits / "m.onnx", scans, "-o", tmp_path / "a.csv", *options).returncode == 1
    row = rows_of(tmp_path / "a.csv")[3]
    logits = predictor(digits / "m.onnx").logits([Path(row["path"])])[0]
    assert row["label"] == f"digit {logits.argmax()}"
    assert [float(row[f"digit {i}"]) for i in range(10)] == pytest.approx(list(1 / (1 + np.exp(-logits))), abs=1e-6)
    (tmp_path / "steps.json").write_text('{"crop": [32, 32]}')
    export_onnx(digits / "m.safetensors", tmp_path / "bytes.onnx", image_input=True)
    line = refused(2, "predict", tmp_path / "bytes.onnx", scans, "--preprocess", tmp_path / "steps.json")
    assert "prepares images inside its graph" in line


def test_how_images_were_read_is_said_once_with_their_number(digits: Path, tmp_path: Path) -> None:
    upright = Image.open(next(IMAGES.glob("7/*.png"))).convert("RGB").resize((60, 40))
    turned = Image.Exif()
    turned[0x0112] = 6
    folder = tmp_path / "photos"
    folder.mkdir()
    upright.save(folder / "a.png")
    for name in "bc":
        upright.transpose(Image.Transpose.ROTATE_90).save(folder / f"{name}.png", exif=turned)
    done = run("predict", digits / "m.onnx", folder, "-o", tmp_path / "a.csv", "--cam", tmp_path / "cam")
    assert "note: turned as the EXIF orientation says (2 images)" in done.stderr
    first, *others = rows_of(tmp_path / "a.csv")
    for row in others:
        assert {**row, "path": ""} == {**first, "path": ""}
    pictures = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "cam").glob("*.png"))]
    for picture in pictures:
        np.testing.assert_array_equal(picture, pictures[0])


def test_a_graph_that_takes_bytes_does_not_pad(tmp_path: Path) -> None:
    steps = Preprocess(resize=None, crop=(64, 64))
    export_model(random_model(SMALL, preprocess=steps), tmp_path / "a.onnx", image_input=True)
    Image.new("RGB", (80, 70)).save(tmp_path / "fits.png")
    Image.new("RGB", (80, 60)).save(tmp_path / "low.png")
    done = run("predict", tmp_path / "a.onnx", tmp_path, "--json")
    assert [Path(found["image"]).name for found in json.loads(done.stdout)] == ["fits.png"]
    assert "low.png: 80x60 is smaller than the 64x64" in done.stderr


def fixed(source: Path, target: Path, batch: int, size: int, *, own: bool = True) -> Path:
    """The file with its batch and size fixed; with what this tool says in it, or without."""
    proto = onnx.load(source)
    for at, n in ((0, batch), (2, size), (3, size)):
        proto.graph.input[0].type.tensor_type.shape.dim[at].dim_value = n
    for output in proto.graph.output:
        output.type.tensor_type.shape.dim[0].dim_value = batch
    if not own:
        del proto.metadata_props[:]
    target.write_bytes(proto.SerializeToString())
    return target


def test_files_of_one_batch_and_one_size(digits: Path, scans: Path, tmp_path: Path) -> None:
    three = fixed(digits / "m.onnx", tmp_path / "three.onnx", 3, 32)
    for model, table in ((three, "a.csv"), (digits / "m.onnx", "b.csv")):
        assert run("predict", model, scans, "-o", tmp_path / table).returncode == 1
    for one, other in zip(rows_of(tmp_path / "a.csv"), rows_of(tmp_path / "b.csv")):
        assert float(one["score"]) == pytest.approx(float(other["score"]), abs=1e-5)
    other = fixed(digits / "m.onnx", tmp_path / "other.onnx", 1, 48)
    line = refused(2, "predict", other, scans)
    assert "takes images of 48x48 only, but its preprocessing makes 32x32" in line


def test_the_size_a_file_is_fixed_to_is_what_images_are_made_to(tmp_path: Path) -> None:
    export_model(random_model(SMALL), tmp_path / "any.onnx")
    image = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (120, 150, 3), np.uint8)).save(image)
    for own in (True, False):
        file = fixed(tmp_path / "any.onnx", tmp_path / f"{own}.onnx", 1, 112, own=own)
        loaded = predictor(file)
        assert (loaded.preprocess.resize, loaded.preprocess.crop) == (128, (112, 112))
        assert any("112 x 112 alone" in note for note in loaded.notes)
        assert "112 x 112 alone" in run("predict", file, image).stderr


def test_an_answer_that_is_not_finite_is_none(tmp_path: Path) -> None:
    export_model(random_model(SMALL, changes={"classifier.bias": np.full(5, np.nan, np.float32)}), tmp_path / "a.onnx")
    for name in "ab":
        Image.new("RGB", (40, 40)).save(tmp_path / f"{name}.png")
    done = run("predict", tmp_path / "a.onnx", tmp_path, "-o", tmp_path / "a.csv")
    assert done.returncode == 1
    assert done.stderr.count("the network's answer is not finite") == 2
    assert rows_of(tmp_path / "a.csv") == []


def test_what_has_no_classes_or_names_others_is_refused(tmp_path: Path) -> None:
    image = next(IMAGES.glob("3/*.png"))
    export_model(random_model(replace(SMALL, num_classes=0)), tmp_path / "a.onnx")
    assert "has no classifier" in refused(2, "predict", tmp_path / "a.onnx", image)
    export_model(random_model(SMALL, labels=("a", "b")), tmp_path / "b.onnx")
    assert "names 2 classes, and has 5" in refused(2, "predict", tmp_path / "b.onnx", image)


def test_labels_are_the_columns(tmp_path: Path) -> None:
    names = ("No Finding", "Mass, left", '"quoted"', "=1+1", "Ödem")
    export_model(random_model(SMALL, labels=names), tmp_path / "a.onnx")
    image = next(IMAGES.glob("3/*.png"))
    ok("predict", tmp_path / "a.onnx", image, "-o", tmp_path / "a.csv")
    (row,) = rows_of(tmp_path / "a.csv")
    assert tuple(map(from_cell, row))[3:] == names
    assert row["label"] in names


def test_work_is_done_in_order_and_not_far_ahead() -> None:
    asked: list[int] = []

    def numbers() -> object:
        for i in range(1000):
            asked.append(i)
            yield i

    done = in_order(lambda several: [i * i for i in several], numbers(), 3)  # type: ignore[arg-type]
    assert next(done) == [0, 1, 4]
    assert len(asked) <= 3 * 2 * workers() + 3
    assert [n for several in done for n in several] == [i * i for i in range(3, 1000)]

    def fails(several: object) -> object:
        raise ConverterError("the third")

    with pytest.raises(ConverterError, match="the third"):
        list(in_order(fails, range(10), 2))


def test_one_result_is_made_while_the_one_before_is_used() -> None:
    asked: list[int] = []

    def numbers() -> Iterator[int]:
        for i in range(100):
            asked.append(i)
            yield i

    def square(i: int) -> int:
        if i == 50:
            raise ConverterError("the fiftieth")
        return i * i

    done, found = one_ahead(square, numbers()), []
    with pytest.raises(ConverterError, match="the fiftieth"):
        for result in done:
            found.append(result)
            assert len(asked) == len(found) + 1
    assert found == [i * i for i in range(50)]
    assert list(one_ahead(square, [])) == []


def test_both_edges_are_resized_where_the_file_of_steps_says_so(tmp_path: Path) -> None:
    """Said once, kept by the checkpoint, obeyed inside a graph."""
    steps = Preprocess(resize=(72, 64), crop=(64, 64), interpolation="nearest")
    (tmp_path / "steps.json").write_text(json.dumps({"resize": [72, 64], "crop": [64, 64], "interpolation": "nearest"}))
    save(random_model(SMALL), tmp_path / "a.safetensors")
    ok("convert", tmp_path / "a.safetensors", tmp_path / "b.pth", "--preprocess", tmp_path / "steps.json")
    ok("export", tmp_path / "b.pth", tmp_path / "b.onnx", "--image-input")
    image = tmp_path / "wide.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 190, 3), np.uint8)).save(image)
    expected = predictor(tmp_path / "a.safetensors", images=Images(steps)).logits([image])
    for source in ("b.pth", "b.onnx"):
        found = predictor(tmp_path / source)
        assert found.preprocess == steps
        np.testing.assert_allclose(found.logits([image]), expected, atol=1e-5 * np.abs(expected).max())


FORMULAS = ["=1+1", "+1", "-x", "@SUM(1)", "\ttab", "'=1+1", "''-x", "it's", "'", "plain=1"]


def test_no_cell_of_a_table_is_a_formula_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OWASP, CSV Injection.  Paths open the same files; of labels one apostrophe less is the label."""
    monkeypatch.chdir(tmp_path)
    images = [name for name in FORMULAS if name.isprintable()]
    for name in images:
        shutil.copy(next((IMAGES / "3").iterdir()), name)
    classes = len(FORMULAS)
    export_model(random_model(replace(SMALL, num_classes=classes), labels=tuple(FORMULAS)), Path("a.onnx"))
    for kind in ("csv", "jsonl"):
        # An argument that begins with a hyphen is one after --.
        done = run("predict", "-o", f"t.{kind}", "--features", "f.npy", "a.onnx", "--", *images)
        assert (done.returncode, done.stderr.count("failed")) == (0, 0), done.stderr
    with Path("t.csv").open(newline="") as file:
        head, *rows = list(csv.reader(file))
    plain = [json.loads(line) for line in Path("t.jsonl").read_text().splitlines()]
    cells = [cell for row in (head, *(row[:2] for row in rows)) for cell in row]
    assert not [cell for cell in cells if cell[0] in "=+-@\t\r\n"]
    assert [from_cell(name) for name in head[3:]] == FORMULAS == list(plain[0])[3:]
    assert [from_cell(row[1]) for row in rows] == [row["label"] for row in plain]
    assert [Path(row[0]).resolve() for row in rows] == [Path(name).resolve() for name in images]
    assert [Path(row["path"]).resolve() for row in rows_of(Path("f.rows.csv"))] == [Path(n).resolve() for n in images]
    assert [cell(name) for name in FORMULAS if cell(name) == name] == ["it's", "'", "plain=1"]
    sheet = read_sheet(Path("t.csv"), Path("t.csv").read_text())
    assert [row[1] for row in sheet.rows] == [row["label"] for row in plain]


@pytest.mark.parametrize("steps", [small_images(SMALL), None], ids=["recorded", "assumed"])
def test_a_network_without_classifier_gives_its_features(steps: Preprocess | None, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from densenet import get_model
    from densenet.images import load as load_image

    source = save(random_model(replace(SMALL, num_classes=0), preprocess=steps), tmp_path / "backbone.safetensors")
    ok("export", source, tmp_path / "backbone.onnx")
    images = sorted((IMAGES / "3").iterdir())[:3]
    steps = steps or Preprocess.usual(SMALL)
    with torch.inference_mode():
        expected = get_model(source)(torch.from_numpy(np.concatenate([load_image(path, steps) for path in images])))
    ways = (("backbone.safetensors",), ("backbone.safetensors", "--engine", "torch"), ("backbone.onnx",))
    for name, *more in ways:
        said = ok("predict", tmp_path / name, *images, "--features", tmp_path / "f.npy", *more)
        assert "3 of 3 images" in said
        np.testing.assert_allclose(np.load(tmp_path / "f.npy"), expected, atol=1e-5)
    assert json.loads(ok("predict", source, images[0], "--features", tmp_path / "f.npy", "--json"))["answered"] == 1
    for asked in ((), ("-o", tmp_path / "a.csv"), ("--features", tmp_path / "g.npy", "-o", tmp_path / "a.csv")):
        line = refused(2, "predict", source, images[0], *asked)
        assert "has no classifier" in line
        assert "--features FILE.npy" in line
    assert not (tmp_path / "g.npy").exists()
