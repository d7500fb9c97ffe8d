"""The page that tools/benchmark.py writes: tables, and a plot for each as SVG."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = "densenet-converter torch torchvision timm timmx onnx onnxscript onnxruntime onnxslim nncf openvino numpy"
WIDTH, LEFT, RIGHT, ROW, TOP = 780, 350, 80, 30, 34
SETUP = """```sh
python -m venv bench && . bench/bin/activate
pip install '.[test]' onnxslim nncf openvino timmx
python tools/benchmark.py --rounds 7 --page docs/benchmarks.md
```"""
QUESTIONS = {
    "convert": (
        "From the published form to safetensors",
        "Legacy names and the old container of PyTorch, as the published files have them.",
    ),
    "export": ("To ONNX", "The same weights; each writes one file that takes any number of images."),
    "int8": (
        "To 8 bits",
        "Ours starts from the checkpoint, the others from our float32 ONNX file; all calibrate with the same images. "
        "How exact each is on trained weights: [int8.md](int8.md).",
    ),
    "predict": (
        "Predicting 128 images",
        "JPEGs of 500 x 375, resized and cropped to 224 x 224, whole processes: from files to a table of answers. The engine "
        "alone is given the numbers, and does no more than compute.",
    ),
    "run, batch 1": ("Running the files, one image", "In ONNX Runtime, an `.xml` in OpenVINO."),
    "run, batch 8": ("Running the files, eight images", "The same."),
}


@dataclass(frozen=True)
class Row:
    """One contender's figures of one question, a number a round.

    Attributes:
        title: who.
        seconds: wall time.
        ratios: of the first contender's time in the same round: how many times as long this one took.
        megabytes: the process' peak memory; none where several share one.
        processor: seconds of processors, of a process and all that it started.
        size: of what it wrote, in bytes.
        error: how far its logits are from the first one's, relative to the largest; None where none were computed.
    """

    title: str
    seconds: Sequence[float]
    ratios: Sequence[float]
    megabytes: Sequence[float] = ()
    processor: Sequence[float] = ()
    size: int = 0
    error: float | None = None


def spread(values: Sequence[float], form: str) -> str:
    """Median, and lowest and highest."""
    middle, low, high = (format(v, form) for v in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})"


def table(rows: Sequence[Row]) -> list[str]:
    """A question's rows in Markdown."""
    with_memory, with_error = any(row.megabytes for row in rows), any(row.error is not None for row in rows)
    head = ["", "seconds", "times ours"] + ["of processors", "peak MB"] * with_memory
    head += ["file, MB"] + ["logits differ"] * with_error
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    for row in rows:
        cells = [row.title, spread(row.seconds, ".3f"), spread(row.ratios, ".2f") if row is not rows[0] else "1"]
        if with_memory:
            cells += [f"{statistics.median(row.processor):.3f}", f"{statistics.median(row.megabytes):.0f}"]
        cells += [f"{row.size / 1e6:.1f}" if row.size else ""]
        cells += [f"{row.error:.1e}" if row.error is not None else ""] * with_error
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def plot(title: str, rows: Sequence[Row]) -> str:
    """Median times as bars with the range over them, on a scale from nothing, as an SVG of its own."""
    height = TOP + ROW * len(rows) + 10
    scale = (WIDTH - LEFT - RIGHT) / max(max(row.seconds) for row in rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="13">',
        f"<title>{escape(title)}, seconds: median, lowest and highest</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="10" y="20" font-weight="600">{escape(title)}, seconds</text>',
    ]
    for number, row in enumerate(rows):
        y = TOP + ROW * number
        middle, low, high = (
            LEFT + scale * v for v in (statistics.median(row.seconds), min(row.seconds), max(row.seconds))
        )
        name = row.title.replace("`", "").partition(":")[0].partition(", which")[0]
        parts += [
            f'<text x="{LEFT - 8}" y="{y + 17}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{LEFT}" y="{y + 5}" width="{middle - LEFT:.1f}" height="16" fill="{"#2a6f97" if not number else "#a9b8c4"}"/>',
            f'<path d="M{low:.1f} {y + 13}H{high:.1f}M{low:.1f} {y + 9}v8M{high:.1f} {y + 9}v8" stroke="#222" fill="none"/>',
            f'<text x="{high + 6:.1f}" y="{y + 17}">{statistics.median(row.seconds):.3g}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def machine() -> list[str]:
    """Processor, memory, system, versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    vnni = {"avx512_vnni", "avx_vnni"} & set(facts.get("flags", "").split())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    found = []
    for name in PACKAGES.split():
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return [
        f"- {facts.get('model name') or platform.processor() or 'unknown processor'}, {os.cpu_count()} cores, "
        f"{'with' if vnni else 'without'} VNNI, {memory:.0f} GB",
        f"- {platform.system()} {platform.release()}, CPython {platform.python_version()}",
        f"- {', '.join(found)}",
    ]


def page(
    results: Mapping[str, Sequence[Row]],
    skipped: Sequence[str],
    about: Sequence[str],
    how: str,
    place: Path,
) -> str:
    """The page in Markdown; writes its plots into a folder beside it that is called as it is."""
    folder = place.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["# Benchmarks", "", how, "", SETUP, "", *about, ""]
    for question, rows in results.items():
        title, text = QUESTIONS[question]
        name = f"{question.replace(', ', '-').replace(' ', '-')}.svg"
        (folder / name).write_text(plot(title, rows), "utf-8")
        lines += [f"## {title}", "", text, "", f"![{title}: median times]({folder.name}/{name})", "", *table(rows), ""]
    if skipped:
        lines += ["## Left out", "", *(f"- {line}" for line in skipped), ""]
    return "\n".join(lines)
