"""How fast, as ratios: each pair of commands runs in turn, whole processes from cold, medians of the ratios.

    python tools/benchmark.py [--runs 7] [--json FILE]

Three questions, on a full-size densenet121 with random weights in the published files'
form (legacy names, older torch container):

* convert: ``densenet convert`` against the usual script (torch.load, rename, save_file);
* export: ``densenet export`` against ``torch.onnx.export(dynamo=True)`` of torchvision's model;
* run: our fused graph against the graph that exporter makes, in ONNX Runtime.

Needs the test extra.  Machines are noisy: only ratios of neighbours in time are reported.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCRIPT = """
import re, sys, torch
from safetensors.torch import save_file
state = torch.load(sys.argv[1], map_location="cpu", weights_only=True)
pattern = re.compile(r"^(.*denselayer\\d+\\.(?:norm|relu|conv))\\.((?:[12])\\.(?:weight|bias|running_mean|running_var))$")
renamed = {}
for key, value in state.items():
    found = pattern.match(key)
    renamed[found[1] + found[2] if found else key] = value.contiguous()
save_file(renamed, sys.argv[2])
"""

CHECKPOINT = """
import sys, torch, torchvision
from collections import OrderedDict
torch.manual_seed(0)
model = torchvision.models.densenet121(weights=None)
for module in model.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
        module.running_mean.normal_(0, 0.2)
        module.running_var.uniform_(0.5, 1.5)
state = OrderedDict()
for key, value in model.state_dict().items():
    if not key.endswith("num_batches_tracked"):
        for name in ("norm1", "norm2", "conv1", "conv2"):
            key = key.replace(f".{name}.", f".{name[:-1]}.{name[-1]}.") if "denselayer" in key else key
        state[key] = value
torch.save(state, sys.argv[1], _use_new_zipfile_serialization=False)
"""

EXPORT = """
import sys, torch, torchvision
model = torchvision.models.densenet121(weights=None).eval()
torch.onnx.export(model, (torch.randn(2, 3, 224, 224),), sys.argv[1], dynamo=True, external_data=False,
    dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},), verbose=False)
"""


def measure(command: list[str]) -> tuple[float, float]:
    """Wall time in seconds and peak memory in MB of one whole process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def pair(name: str, ours: list[str], theirs: list[str], runs: int) -> dict[str, object]:
    """Run two commands in turn and report medians of their ratios."""
    measure(ours), measure(theirs)  # the file cache warms up for both
    a, b = [], []
    for _ in range(runs):
        a.append(measure(ours))
        b.append(measure(theirs))
    return {
        "name": name,
        "ours_seconds": statistics.median(t for t, _ in a),
        "theirs_seconds": statistics.median(t for t, _ in b),
        "times_faster": statistics.median(y[0] / x[0] for x, y in zip(a, b)),
        "ours_mb": statistics.median(m for _, m in a),
        "theirs_mb": statistics.median(m for _, m in b),
        "memory_ratio": statistics.median(x[1] / y[1] for x, y in zip(a, b)),
        "runs": runs,
    }


def run_pair(name: str, ours: Path, theirs: Path, batch: int, runs: int) -> dict[str, object]:
    """Two ONNX files in one process, in turn, on the same input."""
    import numpy as np
    import onnxruntime

    x = np.random.default_rng(0).standard_normal((batch, 3, 224, 224), np.float32)
    sessions = []
    for path in (ours, theirs):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        sessions.append((session, {session.get_inputs()[0].name: x}))
    times: list[list[float]] = [[], []]
    for i in range(runs + 1):
        for (session, feed), kept in zip(sessions, times):
            start = time.perf_counter()
            session.run(None, feed)
            if i:
                kept.append(time.perf_counter() - start)
    ratios = [b / a for a, b in zip(*times)]
    return {
        "name": name,
        "ours_seconds": statistics.median(times[0]),
        "theirs_seconds": statistics.median(times[1]),
        "times_faster": statistics.median(ratios),
        "runs": runs,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7, help="pairs of runs for each question")
    parser.add_argument("--checkpoint", type=Path, help="a densenet121 .pth to use instead of a random one")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--only", default="", help="only the questions whose name has this in it")
    args = parser.parse_args()
    densenet = shutil.which("densenet", path=str(Path(sys.executable).parent)) or "densenet"
    python = sys.executable
    results = []
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        checkpoint, theirs, ours = args.checkpoint or here / "densenet121.pth", here / "theirs.onnx", here / "ours.onnx"
        if not args.checkpoint:
            # In a process of its own: a parent's memory would count as its children's (getrusage, ru_maxrss).
            subprocess.run([python, "-c", CHECKPOINT, str(checkpoint)], check=True)
        if args.only in "convert":
            command = [densenet, "convert", str(checkpoint), str(here / "a.safetensors")]
            script = [python, "-c", SCRIPT, str(checkpoint), str(here / "b.safetensors")]
            results.append(pair("convert", command, script, args.runs))
        command = [densenet, "export", str(checkpoint), str(ours)]
        script = [python, "-c", EXPORT, str(theirs)]
        if args.only in "export":
            results.append(pair("export", command, script, max(3, args.runs // 2)))
        elif args.only in "run":
            measure(command), measure(script)
        for batch in (1, 8):
            if args.only in "run":
                results.append(run_pair(f"run, batch {batch}", ours, theirs, batch, 3 * args.runs))
    print(f"{'':14}{'ours':>10}{'theirs':>10}{'faster':>9}{'memory':>9}")
    for r in results:
        memory = f"{r['memory_ratio']:.2f}x" if "memory_ratio" in r else ""
        print(
            f"{r['name']:14}{r['ours_seconds']:>9.3f}s{r['theirs_seconds']:>9.3f}s{r['times_faster']:>8.2f}x{memory:>9}"
        )
    if args.json:
        machine = {"cpus": os.cpu_count(), "python": sys.version.split()[0], "platform": sys.platform}
        args.json.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
