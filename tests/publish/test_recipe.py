"""What a package holds, and how it is committed: records that refuse what makes no sense where they are made."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.networks import TIMM
from helpers.packages import save_described

from converter import ConverterError, Recipe, package
from converter.publish.push import Commit


def test_precisions_come_once_and_in_one_order() -> None:
    assert Recipe().onnx == ("fp32", "fp16", "int8")
    assert Recipe(onnx=iter(["int8", "fp32", "int8"])).onnx == ("fp32", "int8")
    assert Recipe(onnx=()).onnx == ()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"onnx": ["fp8", "fp32"]}, "no precision is called fp8; there are fp32, fp16, int8"),
        ({"repo": "name"}, "name"),
        ({"repo": "owner/na me"}, "na me"),
        ({"license_id": "MIT | <b>"}, "not an identifier of a licence"),
        ({"license_id": ""}, "not an identifier of a licence"),
    ],
)
def test_recipes_that_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConverterError, match=message):
        Recipe(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"create_pr": True, "branch": "x"}, "a pull request goes to main"),
        ({"create_pr": True, "tag": "v1"}, "a pull request goes to main"),
        ({"branch": "a..b"}, r"--branch 'a\.\.b': not a name"),
        ({"branch": "a b"}, "--branch 'a b': not a name"),
        ({"tag": "v1.lock"}, r"--tag 'v1\.lock': not a name"),
        ({"tag": ""}, "--tag '': not a name"),
        ({"tag": "-x"}, "--tag '-x': not a name"),
    ],
)
def test_commits_that_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConverterError, match=message):
        Commit(**fields)


def test_commits_that_are_not() -> None:
    assert Commit() == Commit(False, False, None, None, None)
    assert Commit(branch="feature/x.1", tag="v1.0").tag == "v1.0"


def test_a_recipe_and_its_keywords_package_alike(tmp_path: Any) -> None:
    source = save_described(TIMM, tmp_path / "a.safetensors")
    package(source, tmp_path / "a", recipe=Recipe(onnx=[], license_id="mit"), repo="owner/name")
    package(source, tmp_path / "b", onnx=[], license_id="mit", repo="owner/name")
    # a keyword beats the recipe's field
    recipe = Recipe(onnx=["fp32"], license_id="mit", repo="me/it")
    package(source, tmp_path / "c", recipe=recipe, onnx=[], repo="owner/name")
    whole = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "a", tmp_path / "b", tmp_path / "c")
    ]
    assert whole[0] == whole[1] == whole[2]
