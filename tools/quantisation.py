"""What 8 bits cost and gain, by method: the table of docs/int8.md.

    python tools/quantisation.py CHECKPOINT IMAGES FOLDER [--only ours,ort-conv] [--rounds 7]

One float32 graph, ours, is quantised by each method on the same inputs: every other image and the synthetic ones that
``densenet export --calibration`` adds.  The other images judge.  FOLDER keeps the files: a method whose file is there is not
run again.  Times are those of neighbours: in each round every file runs once, when the threads of the one before sleep, and
what is given is the median over rounds of float32's time divided by the file's.

Needs the test extra; ``nncf`` needs NNCF (3.4 was measured).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from converter import load
from converter.core.checkpoint import Array
from converter.engines.onnxruntime import onnx_engine
from converter.exporters.int8 import needed, to_int8
from converter.exporters.lazy import LazyModel
from converter.exporters.moments import Seen
from converter.exporters.onnx import lazy_onnx
from converter.parity.budget import judge
from converter.use.calibrate import calibrate, calibration_inputs, images_of, seen
from densenet.topology import INPUT

LEAD = 0.1
"""Where float32's best class leads by less, in units of the logits' spread, either answer is right."""
BATCHES = (1, 8)
ASLEEP = 0.05
"""Seconds after which threads of ONNX Runtime, which spin behind a run, take no core from the next session's."""

Method = Callable[[LazyModel, Path, Sequence[Array], Path], None]


def ours(model: LazyModel, source: Path, inputs: Sequence[Array], target: Path) -> None:
    """As ``export`` does it."""
    with target.open("wb") as file:
        calibrate(model, inputs).write(file)


def nearest(model: LazyModel, source: Path, inputs: Sequence[Array], target: Path) -> None:
    """Ours without what covariances tell: each weight the nearest, biases as they are."""
    with target.open("wb") as file:
        to_int8(model, Seen(seen(model, needed(model), inputs, lambda _: None).ranges, {})).write(file)


def ort(kinds: list[str] | None, *, seven_bits: bool = False) -> Method:
    """ONNX Runtime's own tool: QDQ, scales per channel, ranges from extremes; it advises 7 bits where there is no VNNI."""

    def run(model: LazyModel, source: Path, inputs: Sequence[Array], target: Path) -> None:
        from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

        class Reader(CalibrationDataReader):  # type: ignore[misc]  # untyped there
            def __init__(self) -> None:
                self.left = iter(inputs)

            def get_next(self) -> dict[str, Array] | None:
                image = next(self.left, None)
                return None if image is None else {INPUT: image}

        types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
        quantize_static(
            source, target, Reader(), op_types_to_quantize=kinds, per_channel=True, reduce_range=seven_bits, **types
        )

    return run


def nncf(model: LazyModel, source: Path, inputs: Sequence[Array], target: Path) -> None:
    """NNCF as it comes: a scale per channel for weights, fast bias correction."""
    import nncf as library
    import onnx

    data = library.Dataset([{INPUT: image} for image in inputs])
    onnx.save(library.quantize(onnx.load(source), data, subset_size=len(inputs)), target)


METHODS: Mapping[str, tuple[str, Method]] = {
    "ours": ("`densenet export --precision int8`", ours),
    "nearest": ("the same, each weight its nearest", nearest),
    "ort-conv": ("ONNX Runtime, convolutions only", ort(["Conv"])),
    "ort-conv-7": ("the same, weights of 7 bits", ort(["Conv"], seven_bits=True)),
    "ort-all": ("ONNX Runtime, all it can", ort(None)),
    "nncf": ("NNCF", nncf),
}


def errors(path: Path, judges: Sequence[Array], truths: Array, level: str = "all") -> tuple[float, float, int, int]:
    """Logit error, that of the worst class, images whose best class changed, and of these where float32 led clearly.

    On level ``disabled`` nothing is fused and floats compute what integers would that never saturate.
    """
    run = onnx_engine(path, level=level)
    found = np.concatenate([run(image) for image in judges])
    verdict = judge([found], [truths], "int8")
    ordered = np.sort(truths, axis=1)
    led = ordered[:, -1] - ordered[:, -2] >= LEAD * truths.std(axis=1).mean()
    changed = found.argmax(axis=1) != truths.argmax(axis=1)
    return verdict.error, verdict.worst, int(changed.sum()), int((changed & led).sum())


def ratios(paths: Mapping[str, Path], judges: Sequence[Array], rounds: int) -> dict[str, list[str]]:
    """For each file and batch how many times as fast as ``fp32`` it is."""
    engines = {name: onnx_engine(path) for name, path in paths.items()}
    result: dict[str, list[str]] = {name: [] for name in paths}
    for size in BATCHES:
        batch = np.concatenate([judges[i % len(judges)] for i in range(size)])
        took: dict[str, list[float]] = {name: [] for name in paths}
        for number in range(rounds + 1):  # the first warms up
            for name, run in engines.items():
                time.sleep(ASLEEP)
                start = time.perf_counter()
                run(batch)
                if number:
                    took[name].append(time.perf_counter() - start)
        for name, times in took.items():
            each = sorted(base / own for base, own in zip(took["fp32"], times))
            result[name].append(f"{statistics.median(each):.2f} ({each[0]:.2f} to {each[-1]:.2f})")
    return result


def machine() -> str:
    """The processor, and whether it multiplies bytes in one instruction."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    said = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {key.strip(): value.strip() for key, value in said.items()}
    flags = facts.get("flags", "").split()
    vnni = "with VNNI" if {"avx512_vnni", "avx_vnni"} & set(flags) else "without VNNI"
    return f"{facts.get('model name', 'an unknown processor')}, {int(facts.get('processor', 0)) + 1} cores, {vnni}"


def main() -> None:
    """Quantise, judge, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("images", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default=",".join(METHODS), help="methods, comma-separated")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    model = load(given.checkpoint)
    images = images_of(model, given.images)
    inputs, judges = calibration_inputs(model, images[::2]), images[1::2]
    graph, float32 = lazy_onnx(model), given.folder / "fp32.onnx"
    with float32.open("wb") as file:
        graph.write(file)
    run = onnx_engine(float32)
    truths = np.concatenate([run(image) for image in judges])
    rows, paths = {}, {"fp32": float32}
    for name in given.only.split(","):
        title, method = METHODS[name]
        path = given.folder / f"{name}.onnx"
        start = time.perf_counter()
        if not path.exists():
            method(graph, float32, inputs, path)
            print(f"{title}: {time.perf_counter() - start:.0f} s", flush=True)
        error, worst, changed, clearly = errors(path, judges, truths)
        exact = errors(path, judges, truths, "disabled")[0]
        size = path.stat().st_size / float32.stat().st_size
        rows[name] = f"| {title} | {error:.1%} | {exact:.1%} | {worst:.1%} | {changed} ({clearly}) | {size:.2f} |"
        print(rows[name], flush=True)
        paths[name] = path
    fast = ratios(paths, judges, given.rounds)
    print(f"\n{machine()}; {len(inputs)} inputs calibrate, {len(judges)} images judge\n")
    print(
        "| method | logit error | exact arithmetic | worst class | top-1 changed (clearly led) | of fp32's size |",
        end="",
    )
    print(" speed, batch 1 | batch 8 |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, row in rows.items():
        print(f"{row} {' | '.join(fast[name])} |")


if __name__ == "__main__":
    main()
