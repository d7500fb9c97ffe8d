"""What is written of images: folders, lists and tables, and which output it is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from converter.core.errors import ConverterError
from converter.use.evaluation.classes import Outputs, match_classes
from converter.use.evaluation.dataset import Dataset, Truths, read_truths
from converter.use.evaluation.task import Task, understand
from converter.use.tables import columns
from densenet.labels import imagenet_classes, imagenet_synsets

PETS = Outputs(3, ("cat", "dog", "red fox"))


def images(folder: Path, *names: str) -> Path:
    """A folder of small images; none is looked into."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def task(path: Path, outputs: Outputs, activation: str = "softmax", **said: object) -> Task:
    return understand(read_truths(Dataset(path, **said)), outputs, activation)  # type: ignore[arg-type]


def written(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


# -- folders --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folders", "outputs", "expected", "how"),
    [
        (("cat", "dog"), PETS, [0, 1], "by name"),
        (("Cat", "red_fox"), PETS, [0, 2], "by name"),
        (("a", "b", "c"), PETS, [0, 1, 2], "in order"),
        (("a", "b", "c"), Outputs(3), [0, 1, 2], "in order"),
        (("0", "2"), Outputs(3), [0, 2], "by number from 0"),
        (("1", "2", "3"), Outputs(3), [0, 1, 2], "by number from 1"),
        (("0", "1"), Outputs(2, ("1", "0")), [1, 0], "by name"),
        (("n01443537", "n15075141"), Outputs(1000), [1, 999], "by synset"),
        (("n01443537-goldfish", "n15075141"), Outputs(1000, imagenet_classes()), [1, 999], "by synset"),
        (("goldfish", "tench"), Outputs(1000, imagenet_classes()), [1, 0], "by name"),
        (("n01", "n02"), Outputs(2, ("n01, one", "n02, two")), [0, 1], "by name"),
    ],
)
def test_classes_are_matched(
    folders: Sequence[str], outputs: Outputs, expected: list[int], how: str, tmp_path: Path
) -> None:
    found = task(images(tmp_path, *(f"{name}/a.png" for name in folders)), outputs)
    assert found.truth.tolist() == expected
    assert how in found.how


def test_numbered_folders_of_a_network_without_names_have_their_order_as_text(tmp_path: Path) -> None:
    """torchvision's ImageFolder sorts 10 before 2, and so did whoever trained on such folders."""
    folder = images(tmp_path, *(f"{i}/a.png" for i in range(12)))
    found = task(folder, Outputs(12))
    assert [path.parent.name for path in found.images] == ["0", "1", "10", "11", *map(str, range(2, 10))]
    assert found.truth.tolist() == list(range(12))
    assert "10 before 2" in found.how
    named = task(folder, Outputs(12, tuple("abcdefghijkl")))
    assert dict(zip((path.parent.name for path in named.images), named.truth.tolist())) == {
        str(i): i for i in range(12)
    }


@pytest.mark.parametrize(
    ("folders", "outputs", "words"),
    [
        (("cat", "dgo"), PETS, "dgo: no output is called so, as cat are; is dog meant"),
        (("a", "b"), PETS, "2 subfolders for a model of 3 classes"),
        (("cat", "Cat", "dog"), PETS, "Cat and cat are both cat"),
        (("crane", "x"), Outputs(2, ("crane", "crane")), "several outputs are called crane"),
        (("n00000001",), Outputs(1000), "none of ImageNet's"),
        (("0", "7"), Outputs(3), "class 7 for a model of 3"),
        (("train", "val"), Outputs(2), "parts of a data set, not classes"),
        (("a", "b", "c"), Outputs(1), "3 classes .* for a model of one output"),
    ],
)
def test_folders_that_do_not_fit_are_refused(
    folders: Sequence[str], outputs: Outputs, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConverterError, match=words):
        task(images(tmp_path, *(f"{name}/a.png" for name in folders)), outputs)


def test_folders_say_what_is_left_out(tmp_path: Path) -> None:
    images(tmp_path, "a/1.png", "b/deep/2.JPG", "b/notes.txt", ".cache/3.png", "__MACOSX/4.png")
    (tmp_path / "c").mkdir()
    found = task(tmp_path, Outputs(3))
    assert found.truth.tolist() == [0, 1]
    assert "1 .txt" in found.notes[0]
    assert "no images of c" in found.notes[1]


# -- lists ----------------------------------------------------------------------------------------


def test_imagenets_list(tmp_path: Path) -> None:
    images(tmp_path, "val/ILSVRC2012_val_00000001.JPEG", "val/ILSVRC2012_val_00000002.JPEG")
    path = written(
        tmp_path / "val.txt", "ILSVRC2012_val_00000001.JPEG 65\n\n# seen\nILSVRC2012_val_00000002.JPEG 970\n"
    )
    found = task(path, Outputs(1000, imagenet_classes()), images=tmp_path / "val")
    assert (found.truth.tolist(), found.how) == ([65, 970], "classes matched by number from 0")
    synsets = imagenet_synsets()
    text = f"ILSVRC2012_val_00000001.JPEG {synsets[65]}\nILSVRC2012_val_00000002.JPEG {synsets[970]}\n"
    assert task(written(path, text), Outputs(1000), images=tmp_path / "val").truth.tolist() == [65, 970]


def test_paths_and_labels_may_have_blanks(tmp_path: Path) -> None:
    images(tmp_path, "my cat.png", "b.png")
    path = written(tmp_path / "list.txt", "\ufeffmy cat.png\tred fox\nb.png, cat\n")
    assert task(path, PETS).truth.tolist() == [2, 0]


def test_numbers_from_1_are_said(tmp_path: Path) -> None:
    images(tmp_path, "a.png", "b.png")
    found = task(written(tmp_path / "l.txt", "a.png 1\nb.png 3\n"), Outputs(3))
    assert found.truth.tolist() == [0, 2]
    assert "the numbers of classes begin at 1" in found.notes


def test_a_list_of_several_values_is_one_of_labels(tmp_path: Path) -> None:
    """As CheXNet's test_list.txt."""
    images(tmp_path, "a.png", "b.png")
    found = task(written(tmp_path / "l.txt", "a.png 0 1 0\nb.png 1 0 -1\n"), PETS, "sigmoid")
    np.testing.assert_array_equal(found.truth, [[0, 1, 0], [1, 0, np.nan]])
    assert found.how == "columns matched in order"


# -- tables ---------------------------------------------------------------------------------------

CHEXPERT = """Path,Sex,Age,No Finding,Edema,Pleural Effusion
CheXpert-v1.0-small/valid/patient1/view1.jpg,Male,73,0.0,1.0,
CheXpert-v1.0-small/valid/patient2/view1.jpg,Female,70,,-1.0,1.0
"""


@pytest.mark.parametrize("root", ["CheXpert-v1.0-small", "CheXpert-v1.0-small/valid", "."])
def test_chexperts_table(root: str, tmp_path: Path) -> None:
    """Blank and -1 are unknown; paths begin above the folder in which the table lies."""
    images(tmp_path, *(f"CheXpert-v1.0-small/valid/patient{i}/view1.jpg" for i in (1, 2)))
    path = written(tmp_path / "valid.csv", CHEXPERT)
    outputs = Outputs(3, ("Edema", "Pleural_Effusion", "Fracture"))
    found = task(path, outputs, "sigmoid", images=tmp_path / root)
    np.testing.assert_array_equal(found.truth, [[1, np.nan], [np.nan, 1]])
    assert (found.outputs, found.names) == ((0, 1), ("Edema", "Pleural_Effusion"))
    assert found.how == "columns matched by name"
    notes = "; ".join(found.notes)
    for words in (
        "2 of 4 truths are unknown",
        "no output: Sex, Age, No Finding",
        "without a column, not evaluated: Fr",
    ):
        assert words in notes


def test_a_file_that_two_paths_would_be_is_refused(tmp_path: Path) -> None:
    images(tmp_path, "view1.jpg")
    path = written(tmp_path / "valid.csv", CHEXPERT)
    with pytest.raises(ConverterError, match="would both be"):
        task(path, Outputs(1, ("Edema",)))


def test_names_between_bars(tmp_path: Path) -> None:
    """NIH's Data_Entry: bare names of files in twelve folders, and all findings in one column."""
    images(tmp_path, "images_001/images/1_000.png", "images_002/images/2_000.png")
    text = (
        "Image Index,Finding Labels,Patient ID\n1_000.png,Cardiomegaly|Pleural Thickening,1\n2_000.png,No Finding,2\n"
    )
    outputs = Outputs(3, ("Cardiomegaly", "Hernia", "Pleural_Thickening"))
    path = written(tmp_path / "Data_Entry.csv", text)
    found = task(path, outputs, "sigmoid")
    np.testing.assert_array_equal(found.truth, [[1, 0, 1], [0, 0, 0]])
    with pytest.raises(ConverterError, match="'edema', which no output is called"):
        task(written(path, text.replace("Cardiomegaly", "Edema")), outputs, "sigmoid")


@pytest.mark.parametrize(
    "text",
    [
        "image,label\na.png,dog\nb.png,cat\n",
        "a.png,dog\nb.png,cat\n",
        "image;label\na.png;1\nb.png;0\n",
        "id,diagnosis,age\na,dog,3\nb,cat,4\n",
        "image,cat,dog,red fox\na,0.0,1.0,0.0\nb,1.0,0.0,0.0\n",
        "x,y,z,image\n0,1,0,a.png\n1,0,0,b.png\n",
    ],
)
def test_tables_of_one_class_each(text: str, tmp_path: Path) -> None:
    images(tmp_path, "a.png", "b.png")
    assert task(written(tmp_path / "t.csv", text), PETS).truth.tolist() == [1, 0]


def test_one_of_two_classes(tmp_path: Path) -> None:
    images(tmp_path, "a.png", "b.png")
    path = written(tmp_path / "t.csv", "image,pneumonia\na,1\nb,0\n")
    assert task(path, Outputs(2, ("normal", "pneumonia"))).truth.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,cat,dog\na.png,1,1\nb.png,0,1\n", "a.png has 2 labels.*--activation sigmoid"),
        ("image,cat,dog\na.png,1,0.5\nb.png,0,1\n", "dog of a.png is '0.5'"),
        ("image,lion,tiger\na.png,1,0\nb.png,0,1\n", "no column .lion, tiger. is called as an output is .cat, dog"),
        ("image,cat,dog\na.png,1\n", "row 1 has 2 values for 3 columns"),
        ("image,cat,cat\na.png,1,0\n", "two columns are called cat"),
        ("image,label\nc.png,cat\n", "no column of image, label holds paths of files"),
        ("image,label\na.png,cat\na.png,dog\n", "a.png is named twice"),
        ("image,label\n", "no rows"),
        ("", "is empty"),
    ],
)
def test_tables_that_do_not_fit_are_refused(text: str, words: str, tmp_path: Path) -> None:
    images(tmp_path, "a.png", "b.png")
    with pytest.raises(ConverterError, match=words):
        task(written(tmp_path / "t.csv", text), PETS)


def test_the_column_of_paths_can_be_named(tmp_path: Path) -> None:
    images(tmp_path, "a.png", "b.png", "masks/a.png", "masks/b.png")
    path = written(tmp_path / "t.csv", "mask,image,label\nmasks/a.png,a.png,cat\nmasks/b.png,b.png,dog\n")
    assert task(path, PETS, path_column="image").images[0] == tmp_path / "a.png"
    with pytest.raises(ConverterError, match="no column is called imag; is image meant"):
        task(path, PETS, path_column="imag")


def test_columns_that_could_both_be_paths(tmp_path: Path) -> None:
    """Classes are called as images are, in one; images and masks lie side by side in the other."""
    images(tmp_path, *(f"{i}.png" for i in range(4)), "masks/a.png", "masks/b.png")
    rows = "".join(f"{i % 2},{i}\n" for i in range(4))
    found = task(written(tmp_path / "t.csv", f"label,id\n{rows}"), Outputs(2))
    assert [path.name for path in found.images] == ["0.png", "1.png", "2.png", "3.png"]
    path = written(tmp_path / "t.csv", "image,mask,label\n0.png,masks/a.png,cat\n1.png,masks/b.png,dog\n")
    with pytest.raises(ConverterError, match=r"several columns \(image, mask\) hold paths.*--path-column"):
        task(path, PETS)


def test_images_that_are_not_there_are_named_and_the_rest_is_taken(tmp_path: Path) -> None:
    images(tmp_path, "a.png")
    truths = read_truths(Dataset(written(tmp_path / "l.txt", "a.png cat\nnot/there.png dog\n")))
    assert truths.missing == {"not/there.png": "no such file"}
    assert truths.columns == {"": ["cat"]}
    with pytest.raises(ConverterError, match=r"none of its 1 images .*--images FOLDER"):
        read_truths(Dataset(written(tmp_path / "l.txt", "x.png cat\n")))


# -- a single output ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folders", "label", "expected", "positive"),
    [
        (("NORMAL", "PNEUMONIA"), "", [0, 1], "PNEUMONIA"),
        (("pneumonia", "healthy"), "Pneumonia", [0, 1], "pneumonia"),
        (("0", "1"), "sick", [0, 1], "sick"),
    ],
)
def test_two_folders_for_one_output(
    folders: Sequence[str], label: str, expected: list[int], positive: str, tmp_path: Path
) -> None:
    outputs = Outputs(1, (label,) if label else ())
    found = task(images(tmp_path, *(f"{name}/a.png" for name in folders)), outputs, "sigmoid")
    assert found.truth[:, 0].tolist() == expected
    assert found.names == (positive,)
    assert not found.one_class_each


def test_synsets_are_imagenets() -> None:
    assert len(set(imagenet_synsets())) == 1000
    assert list(imagenet_synsets()) == sorted(imagenet_synsets())
    timm = find_spec("timm")
    if timm is None or not timm.origin:
        pytest.skip("timm is not installed")
    info = Path(timm.origin).parent / "data" / "_info"  # read, since importing timm takes long
    assert list(imagenet_synsets()) == (info / "imagenet_synsets.txt").read_text().split()
    lemmas = dict(line.split("\t") for line in (info / "imagenet_synset_to_lemma.txt").read_text().splitlines())
    names = [(name.lower(), lemmas[synset].lower()) for name, synset in zip(imagenet_classes(), imagenet_synsets())]
    assert sum(name in lemma for name, lemma in names) > 990  # torchvision tells apart those of the same name


def test_many_classes_take_no_longer_than_their_number() -> None:
    """Of 20000 names every pair compared would take a minute, one pass a second."""
    names = [f"kind {i}" for i in range(20_000)]
    outputs, started = Outputs(len(names), names), time.monotonic()
    assert match_classes(sorted(names), outputs, "x", folders=True).index["kind 777"] == 777
    assert columns([*names[1:], "kind 1"], len(names))[-1] == "kind 1 (19999)"
    truths = Truths("x", "table", [Path("a.png")] * 2, {name: ["0", "1"] for name in names[1:]})
    task = understand(truths, outputs, "sigmoid")
    assert len(task.outputs) == len(names) - 1
    assert task.notes[-1] == "outputs without a column, not evaluated: kind 0"
    assert time.monotonic() - started < 20
