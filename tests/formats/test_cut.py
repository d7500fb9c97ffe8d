"""Files cut off between being opened and being parsed: one line, where a look at the mapping would be SIGBUS."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.cases import file_of
from helpers.command import python

CASES = (
    *(
        "coreml-network",
        "coreml-program",
        "flax-msgpack",
        "kerashub-preset",
        "mlx",
        "ncnn",
        "tfjs-graph",
        "tfjs-layers",
    ),
    *("caffe-cifar-L13-k8", "keras2-checkpoint", "keras2-frozen", "keras3-savedmodel", "mxnet-symbol-miraclewkf"),
    *(
        "openvino10-mo",
        "ort-fixed",
        "tflite-f16",
        "onnx-dynamo",
        "onnx-zoo-small-external",
        "paddle-jit2",
        "paddle-jit3",
        "tf1-frozen",
    ),
    *("t7-a-cifar10-bc22-purenn-official", "t7-l-cifar10-bc22-convbias-cudnn-float"),
)
CUT = """
import os, shutil, sys
from pathlib import Path
import converter.core.mapping as mapping
from converter import load
from converter.core.errors import ConverterError

real = mapping.opened

def cut(path):
    global mappings
    found, mappings = real(path), mappings + 1
    if mappings == at:
        os.truncate(path, 0)
    return found

mapping.opened = cut
for source in map(Path, sys.argv[2:]):
    at = mappings = 0
    while at <= mappings:
        at, mappings, copy = at + 1, 0, Path(sys.argv[1])
        shutil.copytree(source.parent, copy)
        try:
            load(copy / source.name)
        except ConverterError as error:
            print("changed" if "changed while it was read" in str(error) else error)
        shutil.rmtree(copy)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be cut there")
def test_structure_is_not_looked_at_in_a_mapping(tmp_path: Path) -> None:
    arrays = {f"layer{i}.weight": np.ones((i + 1) * 3000, np.float32) for i in range(8)}
    for protocol in (0, 2, 4):
        folder = tmp_path / f"pickle{protocol}"
        folder.mkdir()
        (folder / "m.pkl").write_bytes(pickle.dumps(arrays, protocol))
    pickles = sorted(tmp_path.glob("*/m.pkl"))
    done = python(CUT, tmp_path / "copy", *map(file_of, CASES), *pickles)
    assert (done.returncode, done.stderr) == (0, "")  # no signal
    assert done.stdout.splitlines().count("changed") >= len(CASES) + len(pickles)
