"""What --ray costs beside Ray Data's own way of batch inference: the same images, network and cluster of one node, in turn.

    pip install 'densenet-converter[ray,parquet,onnx]' psutil
    python tools/ray_example.py densenet121.safetensors --images 960 --rounds 3

The other way is a pipeline as Ray Data is used for offline batch inference (docs.ray.io, "End-to-end: Offline Batch Inference"),
written here:
``read_parquet``, ``map_batches`` with a function that decodes and prepares, ``map_batches`` with a class that holds a session of
ONNX Runtime, as many as the node has processors, on one thread each; ``write_parquet``.  Both run the ONNX file that ``densenet
export`` writes, on JPEGs of 256 pixels made here, and prepare them alike: the middle 224 x 224, ImageNet's mean and deviation.

Measured of each, from cold: seconds by the clock, and processor seconds of all processes that worked meanwhile, Ray's own
included.  Then scores are compared, image by image.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow
from PIL import Image
from pyarrow import parquet

MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
SHARDS, BATCH, EVERY, LONGEST = 4, 64, 0.05, 900
HALF = 0.5
"""Of a processor, that an actor of the example books: with whole ones none is left for the tasks that read, and all stand still."""
DENSENET = "import sys; from converter.cli import main; sys.argv[0] = 'densenet'; main()"


def made(folder: Path, count: int) -> Path:
    """Shards of generated images: soft colours with some noise."""
    random = np.random.default_rng(0)
    folder.mkdir()
    for shard in range(SHARDS):
        rows = []
        for number in range(shard, count, SHARDS):
            soft = Image.fromarray(random.integers(0, 255, (8, 8, 3), np.uint8)).resize(
                (256, 256), Image.Resampling.BICUBIC
            )
            noisy = np.clip(np.asarray(soft) + random.normal(0, 8, (256, 256, 3)), 0, 255).astype(np.uint8)
            file = io.BytesIO()
            Image.fromarray(noisy).save(file, "JPEG", quality=85)
            rows.append({"image": {"bytes": file.getvalue(), "path": f"{number:06d}.jpg"}})
        parquet.write_table(pyarrow.Table.from_pylist(rows), folder / f"val-{shard:04d}.parquet")
    return folder


# -- Ray's own way ------------------------------------------------------------------------------------


def prepared(batch: dict[str, Any]) -> dict[str, Any]:
    """Decode, cut and normalise."""
    pixels = [np.asarray(Image.open(io.BytesIO(image["bytes"])).convert("RGB"), np.float32) for image in batch["image"]]
    cut = np.stack(pixels)[:, 16:240, 16:240] / np.float32(255)
    return {"name": [image["path"] for image in batch["image"]], "pixels": ((cut - MEAN) / STD).transpose(0, 3, 1, 2)}


class Network:
    """A session of ONNX Runtime."""

    def __init__(self, model: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The scores of a batch."""
        logits = self.session.run(None, {self.input: np.ascontiguousarray(batch["pixels"])})[0]
        raised = np.exp(logits - logits.max(1, keepdims=True))
        return {"name": batch["name"], "scores": raised / raised.sum(1, keepdims=True)}


def example(address: str, model: str, images: str, target: str) -> None:
    """The pipeline, whole."""
    import ray

    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    read = ray.data.read_parquet(images)
    ready = read.map_batches(prepared, batch_size=BATCH, num_cpus=HALF)
    processors = int(ray.cluster_resources()["CPU"])
    said = ready.map_batches(
        Network, fn_constructor_args=(model,), batch_size=BATCH, concurrency=processors, num_cpus=HALF
    )
    said.write_parquet(target)


# -- what is measured ---------------------------------------------------------------------------------


class Meter(threading.Thread):
    """Processor seconds of all processes below this one, ended ones included."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.spent: dict[tuple[int, float], float] = {}
        self.stopped = threading.Event()

    def look(self) -> None:
        """Note what every process has used."""
        for process in psutil.Process().children(recursive=True):
            try:
                with process.oneshot():
                    used = process.cpu_times()
                    self.spent[process.pid, process.create_time()] = used.user + used.system
            except psutil.Error:
                continue

    def run(self) -> None:
        """Look again and again."""
        while not self.stopped.wait(EVERY):
            self.look()

    def total(self) -> float:
        """Until now."""
        self.look()
        return sum(self.spent.values())


def ran(command: Sequence[str], meter: Meter) -> tuple[float, float]:
    """Seconds by the clock, and of processors."""
    before, start = meter.total(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=LONGEST)
    return time.perf_counter() - start, meter.total() - before


def compared(ours: Path, theirs: Path) -> str:
    """How far scores are apart."""
    with ours.open() as file:
        head, *rows = csv.reader(file)
    at = head.index("score") + 1
    mine = {row[0].rpartition(":")[2]: np.float32(row[at:]) for row in rows}
    table = parquet.read_table(theirs)
    other = dict(zip(table["name"].to_pylist(), map(np.float32, table["scores"].to_pylist())))
    assert mine.keys() == other.keys(), "other images"
    apart = max(float(np.abs(mine[name] - other[name]).max()) for name in mine)
    same = sum(int(mine[name].argmax() == other[name].argmax()) for name in mine)
    return f"scores at most {apart:.1e} apart; the best class is the same of {same} of {len(mine)}"


def main() -> None:
    """Run both, and print a table."""
    if sys.argv[1:2] == ["--example"]:
        example(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a checkpoint of three channels")
    parser.add_argument("--images", type=int, default=960)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processors", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images, model = made(folder / "images", asked.images), folder / "model.onnx"
        subprocess.run([sys.executable, "-c", DENSENET, "export", asked.model, model], check=True)
        ours, theirs = folder / "ours.csv", folder / "theirs"
        node = {"num_cpus": asked.processors, "object_store_memory": 500 << 20, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=node)
        told: dict[str, list[tuple[float, float]]] = {"densenet predict --ray": [], "Ray Data's example": []}
        meter = Meter()
        meter.start()
        try:
            for number in range(asked.rounds):
                predict = [
                    sys.executable,
                    "-c",
                    DENSENET,
                    "predict",
                    model,
                    images,
                    "-o",
                    ours,
                    "--ray",
                    cluster.address,
                    "--force",
                ]
                pipeline = [sys.executable, __file__, "--example", cluster.address, model, images, theirs]
                both = list(zip(told, (predict, pipeline)))
                for who, command in both if number % 2 == 0 else reversed(both):
                    subprocess.run(["rm", "-rf", theirs if who != "densenet predict --ray" else ours], check=True)
                    load = os.getloadavg()[0]
                    told[who].append(ran(list(map(str, command)), meter))
                    wall, used = told[who][-1]
                    print(
                        f"round {number + 1}, load {load:.1f}: {who}: {wall:.1f} s, {used:.1f} processor s", flush=True
                    )
                print(compared(ours, theirs), flush=True)
        finally:
            meter.stopped.set()
            cluster.shutdown()
    for who, figures in told.items():
        wall, used = (statistics.median(column) for column in zip(*figures))
        print(
            f"| {who} | {asked.images / wall:.1f} images/s | {1000 * used / asked.images:.1f} ms of processor an image |"
        )
    for what, column in (("by the clock", 0), ("of processors", 1)):
        pairs = zip(*([run[column] for run in figures] for figures in told.values()))
        print(f"theirs to ours, {what}: {statistics.median(other / mine for mine, other in pairs):.2f}")


if __name__ == "__main__":
    main()
