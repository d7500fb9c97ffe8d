"""Sets that say one thing and hold another: what they unpack to, what their headers are, which classes there are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers.sets import DIGITS, FEATURES, images, parquet, sample, tar

from converter.core import bounds
from converter.core.errors import ConverterError, UnreadableFile
from converter.use.evaluation.classes import Outputs
from converter.use.evaluation.dataset import Dataset, read_truths
from converter.use.evaluation.task import Task, understand
from converter.use.sets.find import image_set, open_shards

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def table(path: Path, columns: Any, **options: Any) -> Path:
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), path, **options)
    return path


def of_dictionary(value: bytes | str, count: int) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([value]))


def big_dictionary(path: Path, image: bytes, label: str, count: int) -> Path:
    columns = {"image": of_dictionary(image, count), "label": of_dictionary(label, count)}
    return table(path, columns, store_schema=False, dictionary_pagesize_limit=1 << 30)


def varint(number: int, length: int = 0) -> bytes:
    """A number as Thrift writes it, in no fewer bytes than ``length``."""
    number, result = number << 1, bytearray()
    while number > 0x7F or len(result) + 1 < length:
        result.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*result, number])


@contextmanager
def little_memory(most: int = 60 << 20) -> Iterator[None]:
    """What pyarrow allocates meanwhile is no more."""
    usual = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(pool)
    try:
        yield
    finally:
        pa.set_memory_pool(usual)
    assert pool.max_memory() < most


def test_a_small_file_takes_little_memory_whatever_it_unpacks_to(tmp_path: Path) -> None:
    path = big_dictionary(tmp_path / "a.parquet", b"x" * 40, "x" * (1 << 18), 300)
    with little_memory(), pytest.raises(UnreadableFile, match="a class of 262,144 characters"):
        open_shards([str(path)])
    path = big_dictionary(tmp_path / "b.parquet", bytes(3 << 20), "3", 24)
    with little_memory():
        records = list(open_shards([str(path)]).parts[0].records())
    assert not any(record.failed for record in records)
    assert len({id(record.image.data) for record in records}) == 1
    number = 68 << 20
    plain = {"image": pa.array([bytes(number)]), "label": pa.array([1])}
    options = {"use_dictionary": False, "write_statistics": False, "store_schema": False}
    path = table(tmp_path / "c.parquet", plain, compression="zstd", **options)
    said = path.read_bytes()[-300:]  # the footer, and what it says of the sum of all columns
    for each in range(number, number + 200):
        said = said.replace(varint(each), varint(999, len(varint(each))))
    path.write_bytes(path.read_bytes()[:-300] + said)
    with little_memory():
        (record,) = open_shards([str(path)]).parts[0].records()
    assert "the shard is damaged here (a page that unpacks to 71,303," in record.failed


def test_rows_are_bounded_by_the_file(tmp_path: Path) -> None:
    count = bounds.ROWS + 5000
    path = table(tmp_path / "a.parquet", {"image": pa.nulls(count, pa.binary()), "label": pa.array([3] * count)})
    with pytest.raises(UnreadableFile, match=f"{count:,} rows, "):
        open_shards([str(path)])


def test_pages_are_compared_with_their_checksums(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", images(8), compression="none")
    table(path, pq.read_table(path), write_page_checksum=True, compression="none", use_dictionary=False)
    data = bytearray(path.read_bytes())
    at = data.index(images(8)[5][2]) + 60  # in the picture
    data[at] ^= 1
    path.write_bytes(data)
    failed = [record.failed for record in image_set([str(path)]).parts[0].records()]
    assert all("the shard is damaged here" in why and "CRC" in why for why in failed)


def task(path: Path, outputs: Outputs) -> Task:
    return understand(read_truths(Dataset(path)), outputs, "softmax")


def of_classes(names: Any) -> dict[str, Any]:
    return {**FEATURES, "label": {"names": names, "_type": "ClassLabel"}}


def test_numbers_stand_for_the_names_that_the_set_gives_them(tmp_path: Path) -> None:
    """As ``datasets`` numbers folders: sorted as text, 10 before 2."""
    every, digits = images(10), [int(name) for _, name, _ in images(10)]
    shifted = sorted(str(n) for n in range(2, 12))
    path = parquet(tmp_path / "a.parquet", every, features=of_classes(shifted))
    nameless = task(path, Outputs(10))
    assert nameless.truth.tolist() == digits
    assert "in the order in which the data set names them" in nameless.how
    named = task(path, Outputs(12, [str(n) for n in range(12)]))
    assert named.truth.tolist() == [int(shifted[n]) for n in digits]
    mapped = {str(n): f"kind {n}" for n in (9, 1, 8, 2, 0, 3, 4, 5, 6, 7)}
    path = parquet(tmp_path / "b.parquet", every, features=of_classes(mapped))
    assert task(path, Outputs(10, [f"kind {n}" for n in range(10)])).truth.tolist() == digits


def test_a_number_is_the_same_once_another_is_missing(tmp_path: Path) -> None:
    every, digits = images(12), [float(name) for _, name, _ in images(12)]
    column = [None, float("nan"), *digits[2:]]
    path = parquet(tmp_path / "a.parquet", every, features={"image": FEATURES["image"]}, target=column)
    table(path, pq.read_table(path).drop_columns(["label"]))
    found = task(path, Outputs(12))
    assert found.truth.tolist() == [int(n) for n in digits[2:]]
    path = parquet(tmp_path / "b.parquet", every, features=FEATURES)
    rows = pq.read_table(path)
    table(path, rows.set_column(1, "label", pa.array(digits)))
    assert task(path, Outputs(10, DIGITS)).truth.tolist() == [int(n) for n in digits]


@pytest.mark.parametrize(
    ("features", "columns", "why"),
    [
        (of_classes(["a", "a", *DIGITS[2:]]), {}, "two of its classes are called 'a'"),
        (of_classes(DIGITS[:3]), {}, "class"),
        (FEATURES, {"label": [str(n) + "x" for n in range(6)]}, "none of the 10 classes it names"),
    ],
)
def test_classes_that_cannot_be_told(tmp_path: Path, features: Any, columns: Any, why: str) -> None:
    path = parquet(tmp_path / "a.parquet", images(6), features=features)
    rows = pq.read_table(path)
    for name, values in columns.items():
        rows = rows.set_column(rows.schema.get_field_index(name), name, pa.array(values))
    table(path, rows)
    with pytest.raises(ConverterError, match=why):
        task(path, Outputs(10))


def test_columns_of_one_name_and_files_without_images(tmp_path: Path) -> None:
    rows = pq.read_table(parquet(tmp_path / "a.parquet", images(3)))
    twice = pa.Table.from_arrays([*rows.columns, rows["label"]], names=["image", "label", "label"])
    table(tmp_path / "a.parquet", twice)
    with pytest.raises(UnreadableFile, match="two columns are called 'label'"):
        open_shards([str(tmp_path / "a.parquet")])
    table(tmp_path / "a.parquet", rows.slice(0, 0))
    with pytest.raises(UnreadableFile, match=r"a\.parquet: has no images"):
        open_shards([str(tmp_path / "a.parquet")])


def test_a_damaged_header_of_a_tar_gives_no_image_another_name(tmp_path: Path) -> None:
    data = bytearray(tar(tmp_path / "a.tar", map(sample, images(6))).read_bytes())
    at = data.index(b"00003.cls")
    data[at + 4] ^= 7  # 00004.cls, which would be the class of the next image
    (tmp_path / "a.tar").write_bytes(data)
    (shard,) = open_shards([str(tmp_path / "a.tar")]).shards
    assert "a header has another sum than it says" in shard.broken
    assert shard.columns[""][:3] == [name for _, name, _ in images(3)]


@pytest.mark.parametrize("written", ["\ufeff{}\r\n", "0{}", "{}.0", " {} "])
def test_a_number_however_it_is_written(tmp_path: Path, written: str) -> None:
    every = [(key, {"png": data, "cls": written.format(name).encode()}) for key, name, data in images(10)]
    found = task(tar(tmp_path / "a.tar", every), Outputs(10, DIGITS))
    assert found.truth.tolist() == [int(name) for _, name, _ in images(10)]


@pytest.mark.parametrize("odd", ["-1", "99999999999999999999", "01"])
def test_no_number_is_taken_for_another(tmp_path: Path, odd: str) -> None:
    """The sign of -1 is no hyphen, for which names are not told apart."""
    names = ["1", odd, *DIGITS[2:]] if odd == "01" else [odd, "0", *DIGITS[2:]]
    every = [(f"{i}", {"png": images(1)[0][2], "cls": name.encode()}) for i, name in enumerate(names)]
    path = tar(tmp_path / "a.tar", every)
    for labels in ((), DIGITS):
        with pytest.raises(ConverterError, match=odd):
            task(path, Outputs(10, labels))


def test_a_note_where_numbers_may_begin_at_0_or_1(tmp_path: Path) -> None:
    ones = [digit for digit in images(60) if digit[1] in "123456789"]
    found = task(tar(tmp_path / "a.tar", map(sample, ones)), Outputs(10, [f"kind {n}" for n in range(10)]))
    assert "taken to begin at 0, of which there are no images" in " ".join(found.notes)
    odd = task(tar(tmp_path / "b.tar", map(sample, images(10))), Outputs(10, [*"12345678", "x", "y"]))
    assert "though outputs are called so: 1 is 2" in " ".join(odd.notes)


def test_each_sample_of_a_repeated_key_counts_by_itself(tmp_path: Path) -> None:
    (key, name, data) = images(1)[0]
    path = tar(tmp_path / "a.tar", [(key, {"png": data, "cls": name.encode()})] * 4)
    names = [record.name for record in image_set([str(path)]).parts[0].records()]
    assert names == [f"{path}/{key}.png", *(f"{path}/{key}.png (sample {number})" for number in (2, 3, 4))]


@pytest.mark.parametrize(
    ("kind", "why"),
    [("packed", "a page of 100,000,000"), ("dictionary", "of 100,000,000 values"), ("list", "footer is damaged")],
)
def test_numbers_in_headers_are_not_allocated(tmp_path: Path, kind: str, why: str) -> None:
    """Each made pyarrow take a hundred megabytes and more for a file of some kilobytes."""
    path = parquet(tmp_path / "a.parquet", images(20), rows=20, compression="none")
    data, large = path.read_bytes(), varint(100_000_000)
    chunk = pq.read_metadata(path).row_group(0).column(2)
    at, size = chunk.dictionary_page_offset, varint(10 * 8)
    head = b"\x15\x04\x15" + size + b"\x15"  # of a dictionary: its kind, its size unpacked
    assert data[at:].startswith(head)
    content = data[data.index(b"\x00\x00", at) + 2 :][:80]
    length = int.from_bytes(data[-8:-4], "little")
    footer = data[-8 - length : -8]
    if kind == "list":  # a schema of a million columns
        assert footer[3] & 15 == 12
        footer = footer[:3] + b"\xfc\xbf\x84\x3d" + footer[4:]
    count = b"\x15\x14" if kind != "dictionary" else b"\x15" + large
    header = head + (large if kind == "packed" else size) + b"\x4c" + count + b"\x15\x00\x12\x00\x00" + content
    if kind != "list":
        data = data[:at] + header + data[at + len(header) :]
    path.write_bytes(data[: -8 - length] + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    with little_memory(), pytest.raises(UnreadableFile, match=why):
        open_shards([str(path)])
