"""The same on a Ray cluster of two nodes, one of which is lost.  Ray is large: pip install 'ray[data]' to run this."""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from helpers.cases import LEGACY
from helpers.command import refused, run
from PIL import Image

from converter.demo.demo import CHECKPOINT
from converter.fleet.cluster_images import Cluster
from converter.use.predict import predictor
from converter.use.rows import Rows, session
from converter.use.sets.find import image_set


def test_without_ray_a_line_says_what_to_install(tmp_path: Path) -> None:
    with mock.patch.dict(sys.modules, {"ray": None}):
        line = refused(2, "convert", CHECKPOINT, tmp_path / "out", "--ray")
    assert "pip install 'densenet-converter[ray]'" in line


def test_what_ray_does_not_do_is_refused(tmp_path: Path) -> None:
    assert "verify" in refused(2, "verify", CHECKPOINT, "--ray")
    assert "leave out --ray" in refused(2, "inspect", CHECKPOINT, "--ray", "auto", "--jobs", 2)
    assert "leave out --ray" in refused(2, "inspect", CHECKPOINT, "--plan", "--ray", "head:6379")


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    """Two nodes on this machine, one processor each."""
    pytest.importorskip("ray", reason="needs Ray: pip install 'ray[data]'")
    import ray
    from ray.cluster_utils import Cluster as Nodes

    node = {"num_cpus": 1, "object_store_memory": 100 << 20}
    nodes = Nodes(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    nodes.add_node(**node)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def test_many_files_are_as_here(cluster: object, tmp_path: Path) -> None:
    address = cluster.address  # type: ignore[attr-defined]
    models = tmp_path / "models"
    (models / "a").mkdir(parents=True)
    shutil.copy(CHECKPOINT, models / "a" / "digits.pth")
    shutil.copy(LEGACY, models / "old.pth")
    (models / "cut.pth").write_bytes(CHECKPOINT.read_bytes()[:5000])
    here, there = (
        run("convert", models, tmp_path / name, "--recursive", "--json", *more)
        for name, more in (("here", ()), ("there", ("--ray", address)))
    )
    assert (there.returncode, there.stdout.replace("/there/", "/here/")) == (here.returncode, here.stdout)
    for path in (tmp_path / "here").rglob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / "there" / path.relative_to(tmp_path / "here")).read_bytes()
    slow = run("inspect", models, "--recursive", "--json", "--ray", address, "--time-limit", "0.001")
    assert {json.loads(line)["error"] for line in slow.stdout.splitlines()} == {"took longer than 0.001 s"}


def test_who_is_interrupted_hears_nothing_of_ray(cluster: object, tmp_path: Path) -> None:
    for number in range(60):
        (tmp_path / "models").mkdir(exist_ok=True)
        shutil.copy(CHECKPOINT, tmp_path / "models" / f"{number}.pth")
    words = ["convert", tmp_path / "models", tmp_path / "out", "--recursive", "--json", "--ray", cluster.address]  # type: ignore[attr-defined]
    command = [sys.executable, "-c", "from converter.cli import main; main()", *map(str, words)]
    for _ in range(3):
        before = len(list((tmp_path / "out").glob("*.safetensors")))
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and len(list((tmp_path / "out").glob("*.safetensors"))) < before + 3:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
        assert (process.returncode, said) == (130, "densenet: interrupted\n")


def test_rows_are_as_here_though_a_node_is_lost(cluster: object, tmp_path: Path) -> None:
    table, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    random = np.random.default_rng(0)
    for shard in range(4):
        images = [_png(random.integers(0, 255, (28, 28, 3), np.uint8)) for _ in range(100)]
        images[7] = b"no image"
        rows = [{"image": {"bytes": image, "path": None}, "label": 1} for image in images]
        parquet.write_table(table.Table.from_pylist(rows), tmp_path / f"s-{shard}.parquet")
    model, found = predictor(CHECKPOINT), image_set([str(tmp_path)])
    one = session(model)
    blocks = list(found.blocks(one.block))
    here = list(one.rows(blocks))
    there = []
    for rows in Cluster(cluster.address, CHECKPOINT)(model).rows(blocks):  # type: ignore[attr-defined]
        if not there:
            cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)  # type: ignore[attr-defined]
        there.append(rows)
    assert list(map(_bits, there)) == list(map(_bits, here))
    assert sum(len(rows.failed) for rows in there) == 4


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _bits(rows: Rows) -> tuple[object, ...]:
    return rows.block, rows.names, rows.places, [array.tobytes() for array in rows.outputs], rows.failed, rows.said
