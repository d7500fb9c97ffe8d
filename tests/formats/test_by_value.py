"""What cloudpickle and dill put beside data, and checkpoints that stand as bytes in a pickle."""

from __future__ import annotations

import io
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from helpers.networks import SMALL, random_tensors
from helpers.paddle import named

from converter import inspect, load
from converter.core.errors import UnsafeFile
from converter.formats.torch.bare_pickle import read_bare_pickle
from converter.formats.torch.pickle import Pickle
from converter.layouts.torchvision import TORCHVISION


def state() -> dict[str, np.ndarray]:
    return named(TORCHVISION, SMALL)[1]


def same(path: Path) -> None:
    tensors = load(path).tensors
    assert all(np.array_equal(tensors[name].read(), array) for name, array in random_tensors(SMALL).items())


class Estimator:
    """Keeps what is on a device as bytes, as skorch's nets do (skorch/net.py, ``__getstate__``)."""

    def __init__(self, module: Any, how: str) -> None:
        self.module_, self.how, self.history = module, how, [{"epoch": 1}]

    def __getstate__(self) -> dict[str, Any]:
        kept = {"module_": self.module_, "optimizer_": {"state": {0: {"exp_avg": np.zeros(9)}}}}
        if self.how == "pickle":
            data = pickle.dumps(kept)
        else:
            torch, file = pytest.importorskip("torch"), io.BytesIO()
            torch.save(kept, file, _use_new_zipfile_serialization=self.how == "zip")
            data = file.getvalue()
        return {"history": self.history, "__cuda_dependent_attributes__": data}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("how", ["pickle", "zip", "legacy"])
def test_a_checkpoint_as_bytes(how: str, protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "net.pkl"
    path.write_bytes(pickle.dumps(Estimator(state(), how), protocol))
    same(path)
    assert inspect(path).model.origin.inside == "__cuda_dependent_attributes__.module_"


@pytest.mark.parametrize("new", [False, True], ids=["legacy", "zip"])
def test_such_an_object_in_a_torch_file(new: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"net": Estimator(state(), "zip")}, tmp_path / "net.pt", _use_new_zipfile_serialization=new)
    same(tmp_path / "net.pt")


class Call:
    def __reduce__(self) -> Any:
        return eval, ("1 + 1",)


def test_code_in_such_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pkl"
    path.write_bytes(pickle.dumps({"net": pickle.dumps({"x": Call(), "y": bytes(300)})}))
    with pytest.raises(UnsafeFile, match="eval"):
        load(path)


def test_bytes_that_only_begin_like_a_checkpoint_stay_bytes() -> None:
    for head in (b"PK\x03\x04", b"\x80\x04", b"\x80\x02"):
        data = head + b"\xff" * 5000
        assert Pickle(pickle.dumps({"a": data}), "x").load() == {"a": data}


def test_pickles_within_each_other_have_a_limit() -> None:
    data = pickle.dumps({"x": bytes(400)})
    for _ in range(6):
        data = pickle.dumps({"x": data})
    node, depth = Pickle(data, "x").load(), 0
    while isinstance(node, dict):
        node, depth = node["x"], depth + 1
    assert depth == 4  # itself and three inside each other
    assert isinstance(node, bytes)


def by_value(value: Any, protocol: int = 4) -> bytes:
    cloudpickle = pytest.importorskip("cloudpickle")
    data: bytes = cloudpickle.dumps(value, protocol)
    return data


def noted() -> tuple[Any, type]:
    """A function and a class that no module has, as those of a notebook."""
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec("import os\ndef label(name): return os.path.basename(name)\nclass Net:\n    weights = 3", scope)
    return scope["label"], scope["Net"]


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_functions_by_value_are_no_code_to_run(protocol: int, tmp_path: Path) -> None:
    label, _ = noted()
    path = tmp_path / "learner.pkl"
    path.write_bytes(by_value({"model": state(), "labels": label, "method": [].append, "cls": type(None)}, protocol))
    same(path)
    assert any("_make_function" in name for name in inspect(path).checkpoint.inert)


def test_a_class_by_value_is_refused_by_its_reason(tmp_path: Path) -> None:
    _, net = noted()
    path = tmp_path / "model.pkl"
    path.write_bytes(by_value({"net": net(), "model": state()}))
    with pytest.raises(UnsafeFile, match=r"class of its own.*state_dict"):
        load(path)


def call(function: bytes, *args: bytes) -> bytes:
    """A pickle that calls what another gives, with these constants."""
    return b"\x80\x02" + function + b"(" + b"".join(args) + b"tR."


def helper(module: str, name: str, *args: bytes) -> bytes:
    return f"c{module}\n{name}\n".encode() + b"(" + b"".join(args) + b"tR"


IMPORT = helper("cloudpickle.cloudpickle", "subimport", b"U\x02os")


@pytest.mark.parametrize(
    "data",
    [
        call(helper("cloudpickle.cloudpickle", "_make_function", b"K\x01"), b"K\x02"),
        call(helper("dill._dill", "_create_function", b"K\x01"), b"K\x02"),
        call(b"c__builtin__\ngetattr\n(" + IMPORT + b"U\x06systemtR", b"U\x04true"),
        call(helper("dill._dill", "_get_attr", helper("dill._dill", "_import_module", b"U\x02os"), b"U\x06system")),
        b"\x80\x02cdill._dill\n_eval_repr\n(U\x051 + 1tR.",
        b"\x80\x02cdill._dill\n_create_filehandle\n(U\x01xtR.",
    ],
    ids=["function", "dill-function", "getattr", "dill-getattr", "eval", "file"],
)
def test_calls_of_what_is_made_or_looked_up_are_refused(data: bytes) -> None:
    with pytest.raises(UnsafeFile, match="refused, the pickle"):
        Pickle(data, "x").load()


@pytest.mark.parametrize("what", ["module", "state", "arrays"])
@pytest.mark.parametrize("container", ["pickle", "torch"])
def test_dill(what: str, container: str, tmp_path: Path) -> None:
    dill, torch = pytest.importorskip("dill"), pytest.importorskip("torch")
    models = pytest.importorskip("torchvision").models
    module = models.DenseNet(4, (2, 1, 2, 1), 6, bn_size=2, num_classes=5)
    module.load_state_dict({name: torch.from_numpy(array) for name, array in state().items()}, strict=False)
    value = {"module": module, "state": module.state_dict(), "arrays": state()}[what]
    if container == "torch":
        torch.save(value, tmp_path / "x", pickle_module=dill)
    else:
        (tmp_path / "x").write_bytes(dill.dumps(value))
    same(tmp_path / "x")


class Reduced:
    """Pickles as a call."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", range(2, 6))
def test_the_calls_that_dill_writes(protocol: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """``_create_array`` is given what numpy reduces an array to, ``_load_type`` a type's name (dill/_dill.py)."""
    home = ModuleType("dill._dill")
    for name in ("_create_array", "_load_type"):
        exec(f"def {name}(*args): ...", home.__dict__)
    monkeypatch.setitem(sys.modules, "dill", ModuleType("dill"))
    monkeypatch.setitem(sys.modules, "dill._dill", home)
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    value = {"a": Reduced(home._create_array, *array.__reduce__()), "b": Reduced(home._load_type, "SetType")}
    tree, _ = read_bare_pickle(pickle.dumps(value, protocol), "x")
    assert np.array_equal(tree["a"].read(), array)
    made = call(helper("dill._dill", "_load_type", b"U\x07SetType"), b"]")
    assert read_bare_pickle(made, "x")[0] == []
