"""What words on a command line mean, and where results go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from converter.core.errors import ConverterError
from converter.fleet.sources import find, places


def tree(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def named(found: object, root: Path) -> list[str]:
    return [os.path.relpath(item.address, root) for item in found.items]  # type: ignore[attr-defined]


def test_folders_are_gone_through_but_not_those_that_are_one_checkpoint(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "models",
        *("b.pth", "a/x.pth", "a/notes.txt", ".git/object", "saved/saved_model.pb", "saved/variables/variables.index"),
        *("dcp/.metadata", "dcp/__0_0.distcp", "Net.mlpackage/Data/m/model.mlmodel", "a/.densenet-0.tmp"),
    )
    (root / "Net.mlpackage" / "Manifest.json").write_text(
        '{"rootModelIdentifier": "1", "itemInfoEntries": {"1": {"path": "m/model.mlmodel"}}}'
    )
    found = find([str(root)], recursive=True)
    assert named(found, root) == ["Net.mlpackage", "a/notes.txt", "a/x.pth", "b.pth", "dcp", "saved"]
    assert all(item.walked for item in found.items)
    assert list(map(str, places(found.items, ".onnx"))) == [
        *("Net.onnx", "a/notes.txt.onnx", "a/x.onnx", "b.onnx", "dcp.onnx", "saved.onnx"),
    ]
    assert named(find([str(root)], recursive=False), root) == ["."]  # then the folder is the source


def test_results_are_not_sources_and_do_not_stand_among_them(tmp_path: Path) -> None:
    root = tree(tmp_path / "models", "x.pth", "out/x.safetensors")
    assert named(find([str(root)], recursive=True, leave_out=root / "out"), root) == ["x.pth"]
    with pytest.raises(ConverterError, match="among their sources"):
        find([str(root)], recursive=True, leave_out=root)


def test_parts_of_others_are_not_read_alone(tmp_path: Path) -> None:
    root = tree(tmp_path / "models", "ckpt-1.index", "ckpt-1.data-00000-of-00001", "ckpt-1.meta", "m.bin", "other.bin")
    (root / "m.xml").write_text('<?xml version="1.0"?>\n<net name="m" version="11"><layers/></net>\n')
    found = find([str(root)], recursive=True)
    assert named(found, root) == ["ckpt-1.index", "m.xml", "other.bin"]
    assert sorted(Path(part).name for part in found.parts) == ["ckpt-1.data-00000-of-00001", "ckpt-1.meta", "m.bin"]


def test_patterns_and_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree(tmp_path, "a/x.pth", "a/b/y.pth", "a/[z].pth", "c/x.pth"))
    assert [str(item.place) for item in find(["a/**/*.pth"], recursive=False).items] == ["[z].pth", "b/y.pth", "x.pth"]
    assert [item.address for item in find(["a/[z].pth"], recursive=False).items] == [
        "a/[z].pth"
    ]  # a name, where it is one
    (tmp_path / "list").write_text("a/x.pth\n\nc/x.pth\nhf://owner/name\n")
    found = find(["@list"], recursive=False)
    assert [(item.address, str(item.place)) for item in found.items] == [
        *(("a/x.pth", "a/x.pth"), ("c/x.pth", "c/x.pth"), ("hf://owner/name", "name")),
    ]
    (tmp_path / "list").write_text(f"{tmp_path}/a/x.pth\n{tmp_path}/c/x.pth\n")
    assert [str(item.place) for item in find(["@list"], recursive=False).items] == ["a/x.pth", "c/x.pth"]
    for words, why in ((["@none"], "cannot be read as a list"), (["a/*.none"], "matches no file")):
        with pytest.raises(ConverterError, match=why):
            find(words, recursive=False)


def test_two_sources_never_have_one_result(tmp_path: Path) -> None:
    root = tree(tmp_path / "m", "x.pth", "x.onnx", "x.txt", "y.pth.tar", "x/z.pt")
    found = find([str(root)], recursive=True)
    assert {str(item.place): str(place) for item, place in zip(found.items, places(found.items, ".npz"))} == {
        "x.pth": "x.pth.npz",
        "x.onnx": "x.onnx.npz",
        "x.txt": "x.txt.npz",
        "y.pth.tar": "y.npz",
        "x/z.pt": "x/z.npz",
    }
    both = find([str(root / "x.pth"), str(tree(tmp_path / "n", "x.pth") / "x.pth")], recursive=False)
    with pytest.raises(ConverterError, match="would be made of"):
        places(both.items, ".npz")
    folders = find([str(root), str(tmp_path / "n")], recursive=True)
    assert "n/x.pth" in {str(item.place) for item in folders.items}


def test_lists_as_other_systems_write_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree(tmp_path, "a.pth", "b\x0bc.pth"))
    Path("list.txt").write_bytes("\ufeffa.pth\r\n\r\n./a.pth\nb\x0bc.pth".encode())
    assert [item.address for item in find(["@list.txt"], recursive=False).items] == ["a.pth", "b\x0bc.pth"]
    with pytest.raises(ConverterError, match="/dev/zero: cannot be read as a list"):
        find(["@/dev/zero"], recursive=False)


def test_nothing_at_all_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\n")
    for word in (f"@{tmp_path / 'list.txt'}", str(tree(tmp_path / "a", ".hidden"))):
        with pytest.raises(ConverterError, match="no files there"):
            find([word], recursive=True)


def test_names_as_long_as_names_may_be(tmp_path: Path) -> None:
    names = [f"{'x' * (255 - len(ending))}{ending}" for ending in (".pth", ".bin", ".index", ".meta", ".pdiparams")]
    found = find([str(tree(tmp_path, *names))], recursive=True)
    assert named(found, tmp_path) == sorted(names)
