"""How fast, beside others: whole processes from cold, in turn, and then the files they wrote.  Writes docs/benchmarks.md.

    python -m venv bench && . bench/bin/activate
    pip install '.[test]' onnxslim nncf openvino timmx
    python tools/benchmark.py --rounds 7 --page docs/benchmarks.md

From one densenet121 with random weights:

* convert: to safetensors, against the usual script (torch.load, rename, save_file);
* export: to ONNX, against ``torch.onnx.export`` (both), timm's script, timmx and onnxslim;
* int8: against ONNX Runtime's, NNCF's and OpenVINO's quantisation;
* run: all those files, on one image and on eight;
* predict: 128 JPEGs, against the engine alone, PyTorch's DataLoader with the eager network, and a command an image.

In each round everybody runs once, every other round in the opposite order; what is given is the median over the rounds with the
lowest and the highest, and the same of the ratios of neighbours in time, which a noisy machine changes less.  Who is not
installed, or fails, is left out with a line.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmark_page import Row, machine, page, spread
from contenders import CHECKPOINTS, CONTENDERS, IMAGES, PREDICTED, Contender, Files, python

SLOW = 3.0
"""Seconds; questions that somebody takes longer for are asked in half as many rounds, three at least."""
ASLEEP = 0.05
"""Seconds after which threads of ONNX Runtime, which spin behind a run, take no core from the next session's."""
HOW = (
    "Whole processes from cold, each once a round, every other round in the opposite order. Given are the median over {} rounds "
    "({} where somebody takes longer than {:g} s), the lowest and the highest; *times ours* is the ratio to ours in the same "
    "round. Network: {}, random weights. Who is not installed or fails is left out, with a line."
)


class Failed(Exception):
    """A contender ended with another status than 0."""


@dataclass(frozen=True)
class Took:
    """One whole process, with those it started: seconds by the clock and of processors, and its peak memory in MB."""

    seconds: float
    processor: float
    megabytes: float


def measure(command: Sequence[str], part: int = 1) -> Took:
    """Run a process that does one of so many parts of the work."""
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        took = time.perf_counter() - start
        process.returncode = status
        said.seek(0)
        lines = said.read().decode("utf-8", "replace").strip().splitlines()
    if status:
        raise Failed(lines[-1] if lines else f"status {os.waitstatus_to_exitcode(status)}")
    return Took(part * took, part * (usage.ru_utime + usage.ru_stime), usage.ru_maxrss / 1024)


def in_turn(keys: Sequence[str], once: Callable[[str], float], rounds: int) -> dict[str, list[float]]:
    """What each gives in every round."""
    found: dict[str, list[float]] = {key: [] for key in keys}
    for number in range(rounds):
        for key in keys if number % 2 == 0 else reversed(keys):
            found[key].append(once(key))
    return found


def processes(contenders: Sequence[Contender], files: Files, rounds: int, skipped: list[str]) -> list[Row]:
    """One question: everybody's time, memory and file."""
    taking: dict[str, Contender] = {}
    longest = 0.0
    for one in contenders:  # once in advance: the file cache warms up, and who fails is known
        if one.lacks:
            skipped.append(f"{one.title} ({one.question}): {one.lacks} not installed")
            continue
        try:
            took = measure(one.words(files, one.target(files)), one.part).seconds
        except Failed as error:
            if one.key == "ours":
                raise
            skipped.append(f"{one.title} ({one.question}): {error}")
            continue
        longest, taking[one.key] = max(longest, took), one
        print(f"{one.question}, {one.title}: {took:.2f} s at first", flush=True)
    all_of: dict[str, list[Took]] = {key: [] for key in taking}

    def once(key: str) -> float:
        one = taking[key]
        all_of[key].append(measure(one.words(files, one.target(files)), one.part))
        return all_of[key][-1].seconds

    times = in_turn([*taking], once, rounds if longest < SLOW else max(3, rounds // 2))
    return [
        Row(
            one.title,
            times[key],
            ratios(times, key),
            [each.megabytes for each in all_of[key]],
            [each.processor for each in all_of[key]],
            size(one.target(files)),
        )
        for key, one in taking.items()
    ]


def ratios(times: Mapping[str, Sequence[float]], key: str) -> list[float]:
    """How many times as long as ours, round by round."""
    return [own / base for own, base in zip(times[key], next(iter(times.values())))]


def size(path: Path) -> int:
    """Bytes of a file and of what lies beside it under its name (.data, .bin)."""
    beside = (path, Path(f"{path}.data"), path.with_suffix(".bin"))
    return sum(one.stat().st_size for one in beside if one.exists())


def runs(files: Files, batch: int, rounds: int, skipped: list[str]) -> list[Row]:
    """Every file that was written, in turn in one process on the same images."""
    import numpy as np

    from converter.engines.onnxruntime import onnx_engine
    from converter.engines.openvino import openvino_engine

    images = np.load(files.images)
    x = np.concatenate([images] * -(-batch // len(images)))[:batch]
    engines, logits, titles = {}, {}, {}
    for one in CONTENDERS:
        path = one.target(files)
        if one.question in ("convert", "predict") or not path.exists():
            continue
        try:
            run = openvino_engine(path) if path.suffix == ".xml" else onnx_engine(path)
            logits[path] = run(x)
        except Exception as error:
            skipped.append(f"{one.title} (batch {batch}): {str(error).splitlines()[0]}")
            continue
        engines[str(path)], titles[str(path)] = run, f"{one.title}{' (8 bits)' * (one.question == 'int8')}"

    def once(key: str) -> float:
        time.sleep(ASLEEP)
        start = time.perf_counter()
        engines[key](x)
        return time.perf_counter() - start

    times = in_turn([*engines], once, 3 * rounds)
    ours = logits[files.float32]
    return [
        Row(
            titles[key],
            times[key],
            ratios(times, key),
            size=size(Path(key)),
            error=float(np.abs(logits[Path(key)] - ours).max() / np.abs(ours).max()),
        )
        for key in times
    ]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--network", default="densenet121", help="another DenseNet that torchvision and timm have")
    parser.add_argument("--only", default="convert,export,int8,run,predict", help="questions, comma-separated")
    parser.add_argument("--page", type=Path, help="write the page and its plots here")
    parser.add_argument("--json", type=Path, help="write every figure here")
    given = parser.parse_args()
    wanted, rounds = given.only.split(","), given.rounds
    skipped: list[str] = []
    results: dict[str, list[Row]] = {}
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        files = Files(Path(folder), given.network)
        # In a process of its own: a parent's memory would count as its children's (getrusage, ru_maxrss).
        subprocess.run(python(CHECKPOINTS, given.network, files.plain, files.legacy, files.images), check=True)
        if "predict" in wanted:
            subprocess.run(python(IMAGES, files.folder, PREDICTED), check=True)
        if "export" not in wanted and {"int8", "run", "predict"} & {*wanted}:
            first = next(one for one in CONTENDERS if one.question == "export")
            measure(first.words(files, first.target(files)))
        for question in ("convert", "export", "int8", "predict"):
            if question in wanted:
                those = [one for one in CONTENDERS if one.question == question]
                results[question] = processes(those, files, rounds, skipped)
        for batch in (1, 8) if "run" in wanted else ():
            results[f"run, batch {batch}"] = runs(files, batch, rounds, skipped)
    for question, rows in results.items():
        print(f"\n{question}")
        for row in rows:
            print(f"  {spread(row.seconds, '.3f'):28} {statistics.median(row.ratios):6.2f} times ours  {row.title}")
    print("".join(f"\nleft out: {line}" for line in skipped))
    about = [*machine(), f"- load when it began {load:.1f}, when it ended {os.getloadavg()[0]:.1f}"]
    if given.page:
        how = HOW.format(rounds, max(3, rounds // 2), SLOW, given.network)
        given.page.write_text(page(results, skipped, about, how, given.page), "utf-8")
    if given.json:
        figures = {question: [asdict(row) for row in rows] for question, rows in results.items()}
        given.json.write_text(json.dumps({"machine": about, "results": figures, "skipped": skipped}, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
