"""Sets of images: what readers of shards give, and what of damaged and odd ones is told."""

from __future__ import annotations

import gc
import pickle
from pathlib import Path

import numpy as np
import pytest
from helpers.command import refused, run
from helpers.dicoms import dicom
from helpers.hub import densenet
from helpers.hub_server import Hub
from helpers.sets import FEATURES, images, parquet, sample, tar, tars
from PIL import Image

from converter.core import bounds
from converter.core.errors import ConverterError, UnreadableFile
from converter.parity.bench import Bench
from converter.parity.truth import batches_for
from converter.reading.load import load as load_model
from converter.use.calibrate import images_of
from converter.use.evaluation.dataset import Dataset, read_truths
from converter.use.in_order import workers
from converter.use.predict import predictor
from converter.use.rows import all_rows, rows_of, session
from converter.use.sample import sampled
from converter.use.sets.find import image_set, open_shards, shards_of
from densenet.images import load
from densenet.preprocess import Preprocess
from densenet.volumes import Encoded

pq = pytest.importorskip("pyarrow.parquet")


def written(folder: Path, kind: str, count: int = 100) -> str:
    if kind == "tar":
        return str(tars(folder / "tars", images(count), 40))
    return str(parquet(folder / "digits.parquet", images(count)))


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_a_block_gives_the_same_rows_wherever_it_is_asked(kind: str, digits: Path, tmp_path: Path) -> None:
    found = image_set([written(tmp_path, kind)])
    assert found.count == 100
    one = session(predictor(digits / "m.onnx"))
    blocks = list(found.blocks(16))
    assert [block.first for block in blocks][:3] == [0, 16, 32]
    together = list(all_rows(one, blocks))
    other = session(predictor(digits / "m.onnx"), threads=1)
    for rows, block in zip(together, reversed(list(reversed(blocks))), strict=True):
        alone = rows_of(other, pickle.loads(pickle.dumps(block)))
        assert (alone.names, alone.places, alone.block) == (rows.names, rows.places, rows.block)
        assert alone.outputs[0].tobytes() == rows.outputs[0].tobytes()
    names = [name for rows in together for name in rows.names]
    assert len(set(names)) == 100
    assert "00099" in names[-1]


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_shards_answer_as_their_files_do(kind: str, digits: Path, tmp_path: Path) -> None:
    files = [tmp_path / "files" / f"{key}.png" for key, _, _ in images(24)]
    files[0].parent.mkdir()
    for path, (_, _, data) in zip(files, images(24)):
        path.write_bytes(data)
    loaded = predictor(digits / "m.onnx")
    found = image_set([written(tmp_path, kind, 24)])
    rows = list(all_rows(session(loaded), list(found.blocks())))
    logits = np.concatenate([each.outputs[0] for each in rows])
    np.testing.assert_allclose(logits, loaded.logits(files), rtol=0, atol=1e-6)
    truths = read_truths(Dataset(written(tmp_path, kind, 24)))
    assert truths.columns[""] == [name for _, name, _ in images(24)]


def test_memory_holds_a_few_batches(digits: Path, tmp_path: Path) -> None:
    found = image_set([written(tmp_path, "tar", 120), written(tmp_path, "parquet", 120)])
    one = session(predictor(digits / "m.onnx"))
    most = 0
    for rows in all_rows(one, list(found.blocks(8))):
        if rows.block % 10 == 5:
            most = max(most, sum(isinstance(each, Encoded) for each in gc.get_objects()))
    assert found.count == 240
    assert 0 < most <= 8 * (2 * workers() + 2) + 32  # and what Parquet hands out at once


def test_image_files_in_memory_are_read_as_on_disk(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    deep = random.integers(0, 4096, (40, 40), np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(deep).save(tmp_path / "deep.tif")
    np.save(tmp_path / "array.npy", random.integers(0, 256, (40, 40, 3), np.uint8))
    dicom(tmp_path / "scan.dcm", deep, 12)
    Image.fromarray(random.integers(0, 256, (40, 40, 3), np.uint8)).save(tmp_path / "photo.jpg")
    for path in sorted(tmp_path.iterdir()):
        said: list[list[str]] = [[], []]
        steps = Preprocess(resize=32, crop=(32, 32))
        on_disk = load(path, steps, say=said[0].append)
        held = load(Encoded(f"a.tar/{path.name}", path.read_bytes()), steps, say=said[1].append)
        assert held.tobytes() == on_disk.tobytes()
        assert said[0] == said[1]
    with pytest.raises(ValueError, match=r"^a\.tar/x\.png: the image is damaged"):
        load(Encoded("a.tar/x.png", (tmp_path / "deep.png").read_bytes()[:200]))
    with pytest.raises(ValueError, match=r"^a\.tar/x\.png: not an image"):
        load(Encoded("a.tar/x.png", b"hello"))


def test_what_is_wrong_in_a_tar_is_named_with_shard_and_key(digits: Path, tmp_path: Path) -> None:
    good = images(12)
    bad = tar(
        tmp_path / "s" / "a.tar",
        [
            *map(sample, good[:5]),
            ("x/nolabel", {"png": good[5][2]}),
            ("noimage", {"cls": b"3"}),
            ("two", {"png": good[6][2], "jpg": good[6][2], "cls": b"3"}),
            ("withmask", {"png": good[7][2], "mask.png": good[6][2], "cls": good[7][1].encode()}),
            sample(good[2]),
            ("broken", {"png": b"hello", "cls": b"3"}),
            ("._hidden", {"png": b"x"}),
        ],
    )
    cut = tar(tmp_path / "s" / "b.tar", map(sample, good[8:]))  # of which the fourth breaks off
    cut.write_bytes(cut.read_bytes()[:6300])
    done = run("evaluate", digits / "m.onnx", tmp_path / "s", "--json")
    assert done.returncode == 1
    failed = [line.removeprefix(f"failed: {tmp_path}/s/") for line in done.stderr.splitlines() if "failed" in line]
    assert failed[0].startswith("b.tar: damaged after")
    assert failed[1:] == [
        "a.tar/x/nolabel.png: no class is written of it",
        "a.tar/noimage: holds no image (cls)",
        "a.tar/two: holds several images (png, jpg, cls)",
        f"a.tar/{good[2][0]}.png: its key stood in the shard before",
        "a.tar/broken.png: not an image Pillow can read",
    ]
    assert '"images": 9' in done.stdout  # five, the one with a mask, three of b.tar
    line = refused(2, "predict", digits / "m.onnx", tar(tmp_path / "c.tar", []))
    assert "c.tar: a tar without images" in line or "c.tar: not a tar" in line
    (tmp_path / "d.tar").write_bytes(b"no tar at all" * 200)
    assert "d.tar: not a tar" in refused(2, "predict", digits / "m.onnx", tmp_path / "d.tar")
    (tmp_path / "e.tar.gz").write_bytes(b"")
    assert "unpack it first" in refused(2, "predict", digits / "m.onnx", tmp_path / "e.tar.gz")
    assert bad.is_file()


def test_tars_put_together_or_cut_between_members_are_told(tmp_path: Path) -> None:
    whole = tar(tmp_path / "a.tar", map(sample, images(4)))
    data = whole.read_bytes()
    (tmp_path / "b.tar").write_bytes(data + data)
    (tmp_path / "c.tar").write_bytes(data.rstrip(b"\0") + bytes(-len(data.rstrip(b"\0")) % 512))
    for name, why in (("b", "several tars put together"), ("c", "the rest is missing")):
        assert why in open_shards([str(tmp_path / f"{name}.tar")]).broken[str(tmp_path / f"{name}.tar")]


def test_a_size_with_a_sign_leads_nowhere(tmp_path: Path) -> None:
    """Which made a reader go back to the header it came from, for ever."""
    path = tar(tmp_path / "a.tar", map(sample, images(2)))
    data = bytearray(path.read_bytes())
    data[124:136], data[148:156] = b"-1000".ljust(12, b"\0"), b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    path.write_bytes(data)
    with pytest.raises(UnreadableFile, match=r"a\.tar: damaged after 0 images \(a size of b'-1000'\)"):
        open_shards([str(path)])


def test_keys_of_several_shards_are_noted(tmp_path: Path) -> None:
    for name in "ab":
        tar(tmp_path / f"{name}.tar", map(sample, images(3)))
    (note,) = open_shards(shards_of([str(tmp_path)])).notes
    assert f"{tmp_path}/a.tar/00000.png is in {tmp_path}/b.tar, too, and so are 2 others" in note


def test_columns_of_parquet(tmp_path: Path) -> None:
    every = images(6)
    names = {"_type": "ClassLabel", "names": ["old", "young"]}
    listed = {"feature": {"names": ["a", "b", "c"], "_type": "ClassLabel"}, "_type": "Sequence"}
    plain = read_truths(Dataset(parquet(tmp_path / "a.parquet", every, features={"image": {"_type": "Image"}})))
    assert plain.columns == {"": [name for _, name, _ in every]}
    image_alone = {"image": FEATURES["image"]}
    age = parquet(tmp_path / "b.parquet", every, features={**image_alone, "age": names}, age=[0, 1, -1, 0, None, 1])
    found = read_truths(Dataset(age))
    assert found.columns == {"": ["old", "young", "old", "young"]}
    assert found.names == ("old", "young")
    assert [image.name.rpartition(":")[2] for image in found.images] == [f"0000{i}.png" for i in (0, 1, 3, 5)]
    several = parquet(
        tmp_path / "c.parquet",
        every,
        features={**image_alone, "findings": listed},
        findings=[[0], [0, 2], [], [1], [2], []],
    )
    assert read_truths(Dataset(several)).columns == {"labels": ["a", "a|c", "", "b", "c", ""]}
    two = parquet(tmp_path / "d.parquet", every, features={**FEATURES, "age": names}, age=[0] * 6)
    assert list(read_truths(Dataset(two)).columns) == ["label", "age"]
    with pytest.raises(ConverterError, match="damaged"):
        read_truths(
            Dataset(parquet(tmp_path / "e.parquet", every, features={**image_alone, "age": names}, age=[2] * 6))
        )


def test_damaged_and_hostile_parquet(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = parquet(tmp_path / "a.parquet", images(60), rows=20)
    data = bytearray(path.read_bytes())
    chunk = pq.read_metadata(path).row_group(1).column(0)
    at = chunk.dictionary_page_offset or chunk.data_page_offset
    data[at : at + 40] = b"\xff" * 40
    path.write_bytes(data)
    done = run("predict", digits / "m.onnx", path, "-o", tmp_path / "a.csv")
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("failed")]
    assert [line.split(":")[2] for line in lines] == [str(row) for row in range(20, 40)]
    assert all("the shard is damaged here" in line for line in lines)
    assert len((tmp_path / "a.csv").read_text().splitlines()) - 1 == 40
    (tmp_path / "b.parquet").write_bytes(bytes(data[:-100]))
    assert "b.parquet: damaged, or no Parquet" in refused(2, "predict", digits / "m.onnx", tmp_path / "b.parquet")
    small = parquet(tmp_path / "c.parquet", [("0", "1", bytes(1 << 16))] * 20, compression="zstd")
    monkeypatch.setattr(bounds, "LARGE", 1 << 10)
    assert "unpacks to" in refused(2, "predict", digits / "m.onnx", small)
    monkeypatch.setattr(bounds, "RECORDS", 10)
    assert "rows, 10 are read" in refused(2, "predict", digits / "m.onnx", small)
    no_image = parquet(tmp_path / "d.parquet", images(3), features={"image": {"_type": "Value"}})
    assert image_set([str(no_image)]).count == 3  # by its type


def test_which_shards_words_mean(tmp_path: Path) -> None:
    for name in ("train-0.tar", "test-0.tar", "test-1.tar"):
        tar(tmp_path / "data" / name, map(sample, images(2)))
    test = [str(tmp_path / "data" / f"test-{i}.tar") for i in (0, 1)]
    assert shards_of([str(tmp_path / "data" / "test-*.tar")]) == test
    assert shards_of([str(tmp_path / "data" / "test-{0..1}.tar")]) == test
    with pytest.raises(ConverterError, match="shards of test, train"):
        shards_of([str(tmp_path)])
    with pytest.raises(ConverterError, match="is named twice"):
        shards_of([test[0], test[0]])
    with pytest.raises(ConverterError, match="no files match"):
        shards_of([str(tmp_path / "none-*.tar")])


def test_a_list_and_a_table_of_paths(digits: Path, tmp_path: Path) -> None:
    for key, _, data in images(5):
        (tmp_path / f"{key}.png").write_bytes(data)
    (tmp_path / "paths.txt").write_text("00003.png\n00001.png\nnone.png\n")
    (tmp_path / "table.csv").write_text("image,label\n00002.png,1\n00004.png,2\n")
    out = tmp_path / "out.csv"
    done = run("predict", digits / "m.onnx", tmp_path / "paths.txt", tmp_path / "table.csv", "-o", out)
    assert done.returncode == 1
    assert "failed: none.png: no such file" in done.stderr
    assert "4 of 4 images" in done.stdout
    assert [line.split(",")[0] for line in out.read_text().splitlines()[1:]] == [
        str(tmp_path / f"0000{i}.png") for i in (3, 1, 2, 4)
    ]


def test_a_few_of_many_are_taken_evenly(digits: Path, tmp_path: Path) -> None:
    path = written(tmp_path, "parquet", 100)
    names = [getattr(image, "name", "") for image in sampled(path, 8)]
    assert [int(name.split(":")[1]) for name in names] == list(range(0, 100, 13))
    model = load_model(digits / "m.safetensors")
    assert len(images_of(model, path)) == 100
    several = batches_for(model, Bench(path), ())
    assert several[-1].name == "8 images"
    assert several[-1].array.shape[0] == 8


def test_a_data_set_on_the_hub(digits: Path, tmp_path: Path) -> None:
    whole = parquet(tmp_path / "x.parquet", images(30)).read_bytes()
    with Hub() as hub:
        commit = hub.add("datasets/me/digits", {"data/test-00000-of-00001.parquet": whole, "README.md": b"x"})
        hub.add("datasets/me/digits", {"data/train-00000-of-00001.parquet": b"no"})
        hub.add("datasets/me/none", {"README.md": b"x"})
        done = densenet(hub, tmp_path / "home", "evaluate", digits / "m.onnx", f"hf://datasets/me/digits@{commit}")
        assert done.status == 0
        assert "30 images: top-1" in done.out
        name = hub.repos["datasets/me/digits"].branches["main"]
        both = densenet(hub, tmp_path / "home", "predict", digits / "m.onnx", "hf://datasets/me/digits")
        assert "shards of test, train" in both.line
        for more in ({}, {"HF_HUB_OFFLINE": "1", "DENSENET_OFFLINE": "1"}):
            address = "hf://datasets/me/digits/test"
            out = tmp_path / "a.csv"
            done = densenet(hub, tmp_path / "home", "predict", digits / "m.onnx", address, "-o", out, **more)
            assert done.status == 0
            first = out.read_text().splitlines()[1]
            if not more:
                assert first.startswith(f"hf://datasets/me/digits@{name}/data/test-00000-of-00001.parquet:0:00000.png,")
        line = densenet(hub, tmp_path / "home", "predict", digits / "m.onnx", "hf://datasets/me/none").line
        assert "no file there ends in .tar or .parquet" in line
        assert "not found" in densenet(hub, tmp_path / "home", "predict", digits / "m.onnx", "hf://datasets/me/no").line
