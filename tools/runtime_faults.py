"""Break files of other runtimes, in their own bytes, and see what ``densenet verify`` says.

    python tools/runtime_faults.py [--network NAME]... [--runtime KEY]... [--json FILE]

Each network of ``NETWORKS`` is exported for each runtime that is installed, in each precision it has.  The good file
must pass in its own engine; then one weight is changed in it, one bias, two channels of a kernel change places, and one
ReLU is taken out where the format can be edited so.  Prints one row a file, as docs/runtimes.md has them.  In half
precision and 8 bits a fault can be smaller than what the budget allows.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from fault_injection import Subject, network

from converter.core.errors import ConverterError, Unavailable
from converter.core.model import Model
from converter.engines.runtime import Runtime
from converter.engines.runtimes import RUNTIMES
from converter.formats import open_checkpoint
from converter.formats.safetensors import write_safetensors
from converter.parity.verify import verify
from converter.reading.load import load
from converter.use.export_runtime import export_runtime
from densenet.config import DenseNetConfig

TINY = DenseNetConfig(growth_rate=4, block_config=(2, 1, 2, 1), init_features=6, bn_size=2, num_classes=5)
LABELS = replace(TINY, num_classes=7, global_pool="catavgmax", hidden_activation="relu", head=("linear:6", "relu"))
NETWORKS = {
    "torchvision-like": Subject(TINY, 64),
    "CIFAR": Subject(DenseNetConfig.cifar(22, 6), 32),
    "multi-label": Subject(LABELS, 64),
    "3-D": Subject(replace(TINY, spatial_dims=3, in_channels=1), 32),
}
DEMO = Path(__file__).parent.parent / "converter/data/digits-densenet.pth"
Parts = dict[str, bytes]
"""A file, or the files and members it consists of, by name."""


class NotHere(Exception):
    """A fault that cannot be put into such a file."""


# -- files as parts ------------------------------------------------------------------------------


def parts_of(path: Path) -> Parts:
    """The bytes of a file of a runtime: of a zip by its members, of others by what lies beside them."""
    if path.suffix in (".pt", ".pt2"):
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    if path.is_dir():
        return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}
    files = [path, *([path.with_suffix(".bin")] if path.suffix == ".xml" else [])]
    return {file.suffix: file.read_bytes() for file in files}


def write(parts: Parts, path: Path) -> Path:
    """The inverse."""
    if path.suffix in (".pt", ".pt2"):
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in parts.items():
                archive.writestr(name, data)
        return path
    for name, data in parts.items():
        file = path / name if path.suffix == ".mlpackage" else path.with_suffix(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return path


# -- faults --------------------------------------------------------------------------------------


def changed(parts: Parts, arrays: Iterator[np.ndarray], change: Callable[[np.ndarray], None]) -> Parts:
    """The parts with the first of these arrays that is among their bytes, once, changed.

    Raises:
        NotHere: none is.
    """
    for array in arrays:
        old, new = array.tobytes(), np.ascontiguousarray(array).copy()
        change(new)
        homes = [name for name, data in parts.items() if data.count(old) == 1]
        if len(homes) == 1 and new.tobytes() != old:
            return {**parts, homes[0]: parts[homes[0]].replace(old, new.tobytes())}
    raise NotHere


def kernels(model: Model, path: Path) -> Iterator[np.ndarray]:
    """Kernels as such a file may have them: a network's own, in its types and orders of axes, or the file's in 8 bits."""
    names = [name for name in model.tensors if name.startswith("blocks.1") and ".conv" in name]
    for name in reversed(names):
        whole = model.tensors[name].read()
        for dtype in (np.float32, np.float16):
            for array in (whole, np.moveaxis(whole, 1, -1)):
                yield np.ascontiguousarray(array, dtype)
    if path.suffix == ".xml":
        small = [t for t in open_checkpoint(path).tree.values() if t.dtype == np.int8 and len(t.shape) > 2]
        yield from (tensor.read() for tensor in small[len(small) // 2 :])


def biases(model: Model) -> Iterator[np.ndarray]:
    """The classifier's."""
    for dtype in (np.float32, np.float16):
        yield model.tensors["classifier.bias"].read().astype(dtype)


def one_weight(array: np.ndarray) -> None:
    """The middle one of a kernel moves by twice the largest, in 8 bits by half of it."""
    at = array.size // 2
    step = np.abs(array.astype(np.float64)).max() * (0.5 if array.dtype == np.int8 else 2)
    array.flat[at] += array.dtype.type(step if array.flat[at] <= 0 else -step)


def one_bias(array: np.ndarray) -> None:
    """The second moves by a tenth of the largest."""
    array.flat[1] += np.abs(array).max() / 10


def two_channels(array: np.ndarray) -> None:
    """The first two maps that a kernel makes change places."""
    array[[0, 1]] = array[[1, 0]]


def without_relu(parts: Parts, path: Path) -> Parts:
    """One ReLU left out, of those in the middle.

    Raises:
        NotHere: the format has no editor here.
    """
    editors = {".xml": _ir, ".pt2": _exported, ".pt": _script, ".tflite": _lite, ".mlpackage": _coreml}
    if path.suffix not in editors:
        raise NotHere
    return editors[path.suffix](dict(parts))


def _ir(parts: Parts) -> Parts:
    text = parts[".xml"].decode()
    kinds = dict(re.findall(r'<layer id="(\d+)" name="[^"]*" type="([^"]*)"', text))
    takers = re.findall(r'from-layer="(\d+)" from-port="\d+" to-layer="(\d+)"', text)
    # What is quantised next is cut off at zero there, too: without that ReLU the network is the same.
    found = list(dict.fromkeys(a for a, b in takers if kinds[a] == "ReLU" and kinds[b] != "FakeQuantize"))
    relu = found[len(found) // 2]
    taken = re.search(rf'from-layer="(\d+)" from-port="(\d+)" to-layer="{relu}" to-port="0"', text)
    assert taken is not None
    text = re.sub(rf'from-layer="{relu}" from-port="\d+"', f'from-layer="{taken[1]}" from-port="{taken[2]}"', text)
    return {**parts, ".xml": text.encode()}


def _exported(parts: Parts) -> Parts:
    name = next(name for name in parts if name.endswith("models/model.json"))
    program = json.loads(parts[name])
    nodes = program["graph_module"]["graph"]["nodes"]
    relus = [node for node in nodes if "relu" in node["target"]]
    relu = relus[len(relus) // 2]
    before = relu["inputs"][0]["arg"]["as_tensor"]["name"]
    after = relu["outputs"][0]["as_tensor"]["name"]
    for node in nodes:
        text = json.dumps(node["inputs"]).replace(f'{{"name": "{after}"}}', f'{{"name": "{before}"}}')
        node["inputs"] = json.loads(text)
    return {**parts, name: json.dumps(program).encode()}


def _script(parts: Parts) -> Parts:
    for name, data in parts.items():
        text = data.decode() if name.endswith(".py") else ""
        found = re.search(r"\(act\)\.forward\((\w+), \)", text)
        if found:
            return {**parts, name: text.replace(found[0], found[1], 1).encode()}
    raise NotHere


def _lite(parts: Parts) -> Parts:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(parts[".tflite"], 0)
    graph = model.subgraphs[0]
    fused = [op for op in graph.operators if getattr(op.builtinOptions, "fusedActivationFunction", 0) == 1]
    alone = [op for op in graph.operators if model.operatorCodes[op.opcodeIndex].builtinCode == 19]
    if fused:
        fused[len(fused) // 2].builtinOptions.fusedActivationFunction = 0
    elif alone:
        relu = alone[len(alone) // 2]
        for op in graph.operators:
            op.inputs = [relu.inputs[0] if i == relu.outputs[0] else i for i in op.inputs]
    else:
        raise NotHere
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return {".tflite": bytes(builder.Output())}


def _coreml(parts: Parts) -> Parts:
    from coremltools.proto import Model_pb2

    name = next(name for name in parts if name.endswith(".mlmodel"))
    model = Model_pb2.Model.FromString(parts[name])
    function = model.mlProgram.functions["main"]
    operations = function.block_specializations[function.opset].operations
    relus = [op for op in operations if op.type == "relu"]
    relu = relus[len(relus) // 2]
    before, after = relu.inputs["x"].arguments[0].name, relu.outputs[0].name
    for op in operations:
        for argument in (each for given in op.inputs.values() for each in given.arguments):
            if argument.name == after:
                argument.name = before
    return {**parts, name: model.SerializeToString(deterministic=True)}


FAULTS: dict[str, Callable[[Parts, Model, Path], Parts]] = {
    "weight": lambda parts, model, path: changed(parts, kernels(model, path), one_weight),
    "bias": lambda parts, model, path: changed(parts, biases(model), one_bias),
    "channels": lambda parts, model, path: changed(parts, kernels(model, path), two_channels),
    "ReLU": lambda parts, model, path: without_relu(parts, path),
}


# -- judging -------------------------------------------------------------------------------------


@dataclass
class Row:
    """One file.

    Attributes:
        network, file: what it holds, and for which runtime in which precision.
        refused: why there is none.
        good: what verification says of it: the largest error, of that allowed, or what fails.
        faults: by kind what it says of the broken ones; None where such a fault cannot be put into the file.
    """

    network: str
    file: str
    refused: str = ""
    good: str = ""
    faults: dict[str, str | None] = field(default_factory=dict)


def verdicts(reference: Path, files: list[Path]) -> list[tuple[bool, str]]:
    """Whether each passes, and by what."""
    try:
        verdict = verify(reference, *files, engines=("torch",))
    except ConverterError as error:  # one of them cannot even be read
        if len(files) == 1:
            return [(False, str(error))]
        return [verdicts(reference, [file])[0] for file in files]
    result = []
    for file in files:
        results = [c for key, found in verdict.results.items() if key.endswith(f", {file.name}") for c in found]
        budgets = [j for key, j in verdict.budgets.items() if key.endswith(f", {file.name}")]
        failed = [f"{c.batch}: {c.problem}" for c in results if c.problem and not budgets]
        failed += [p for judged in budgets for p in judged.problems]
        failed += [f"{c.name}: {c.detail}" for c in verdict.checks[file.name] if c.ok is False]
        worst = max((c.error for c in results), default=0.0)
        result.append((not failed, failed[0] if failed else f"{worst:.1e}"))
    return result


def judged(name: str, model: Model, reference: Path, runtime: Runtime, precision: str) -> Row:
    """One good file, and every fault in it."""
    row, here = Row(name, f"{runtime.name} {precision}"), reference.parent
    good = here / f"good-{runtime.key}-{precision}{runtime.suffix}"
    try:
        export_runtime(reference, good, precision=precision)
    except Unavailable:
        row.refused = "not installed"
        return row
    except ConverterError as error:
        row.refused = str(error).removeprefix(f"{good}: ")
        return row
    files, kinds, parts = [good], [""], parts_of(good)
    for kind, fault in FAULTS.items():
        try:
            made = fault(parts, model, good)
        except NotHere:
            row.faults[kind] = None
            continue
        files.append(write(made, here / f"{kind}-{good.name}"))
        kinds.append(kind)
    for kind, (passed, why) in zip(kinds, verdicts(reference, files)):
        if kind:
            row.faults[kind] = f"passes, {why}" if passed else why
        else:
            row.good = why if passed else f"FAILS: {why}"
    return row


def run(names: list[str], runtimes: list[str]) -> list[Row]:
    """Every network in every file."""
    import torch

    torch.set_num_threads(1)
    rows = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            reference = Path(folder) / "reference.safetensors"
            model = load(DEMO) if name == "demo" else network(NETWORKS[name], 0)
            if name == "multi-label":
                model = replace(model, images=replace(model.images, activation="sigmoid"))
            write_safetensors(reference, model.tensors, {**model.metadata(), "densenet.layout": "library"})
            for runtime in (runtime for runtime in RUNTIMES if runtime.key in runtimes):
                for precision in runtime.precisions:
                    if precision == "int8" and name != "demo":
                        continue  # 8 bits are for trained weights
                    start = time.perf_counter()
                    rows.append(judged(name, model, reference, runtime, precision))
                    print(said(rows[-1]), f"({time.perf_counter() - start:.0f} s)", file=sys.stderr, flush=True)
    return rows


def said(row: Row) -> str:
    """One row of the table."""
    if row.refused:
        return f"| {row.network} | {row.file} | {row.refused} | |"
    missed = [f"{kind} ({why})" for kind, why in row.faults.items() if why and why.startswith("passes")]
    found = [kind for kind, why in row.faults.items() if why and not why.startswith("passes")]
    what = "MISSED" if row.file.endswith("fp32") else "within its budget"
    text = ", ".join(found) + (f"; {what}: {', '.join(missed)}" if missed else "")
    return f"| {row.network} | {row.file} | {row.good} | {text} |"


def main() -> None:
    """Break, judge and print; exit status 1 if a good file fails or a fault is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", choices=["demo", *NETWORKS])
    parser.add_argument("--runtime", action="append", choices=[runtime.key for runtime in RUNTIMES])
    parser.add_argument("--json", type=Path, help="also write the rows here, with what found each")
    args = parser.parse_args()
    rows = run(args.network or ["demo", *NETWORKS], args.runtime or [runtime.key for runtime in RUNTIMES])
    print("| network | file | its own error | faults found |\n|---|---|---|---|")
    for row in rows:
        print(said(row))
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")
    sys.exit(1 if any("MISSED" in said(row) or row.good.startswith("FAILS") for row in rows) else 0)


if __name__ == "__main__":
    main()
