"""The page of a package, in a real browser: the answers of densenet predict, from nothing but its own files."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from helpers.browser import CHROMIUM, Tab, browser, served
from helpers.command import run
from helpers.networks import SMALL, TIMM, random_model, save
from helpers.packages import LABELS, save_described, small_images
from PIL import Image

from converter.core.errors import ConverterError
from converter.core.hashing import sha256_of
from converter.core.model import Images
from converter.demo.demo import CHECKPOINT, IMAGES, record
from converter.publish.ort_web import FILES, PLACE, RUNTIME
from converter.publish.package import package
from converter.publish.recipe import Recipe
from converter.publish.repository import verify_repository
from converter.use.cam import class_activation
from converter.use.predict import Predictor, predictor
from densenet.images import decode, load
from densenet.preprocess import CIFAR10, Preprocess, family

needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
STATUS = "document.getElementById('status').textContent"
ANSWER = """window.answer && {logits: answer.logits, scores: answer.scores, order: answer.order,
    cam: Array.from(answer.maps?.values ?? []), shape: [answer.maps?.height, answer.maps?.width]}"""


@pytest.fixture(scope="module", autouse=True)
def without_torch() -> Iterator[None]:
    """Proofs of packages are not what is tested here: those of ONNX Runtime take a tenth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        for room in ("package", "proof", "repository"):
            patch.setattr(f"converter.publish.{room}.has_torch", lambda: False)
        yield


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two files of ONNX Runtime Web, from its npm package."""
    npm, folder = shutil.which("npm"), tmp_path_factory.mktemp("npm")
    if not npm or not CHROMIUM:
        pytest.skip("needs npm and Chromium")
    command = [npm, "pack", "--silent", f"onnxruntime-web@{RUNTIME}"]
    if subprocess.run(command, cwd=folder, capture_output=True, timeout=300).returncode:
        pytest.skip("npm does not reach its registry")
    wanted = {f"package/dist/{name}" for name, _ in FILES}
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        for member in archive:
            if member.name in wanted and (found := archive.extractfile(member)):
                (folder / Path(member.name).name).write_bytes(found.read())
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's package with a page."""
    folder, trained = tmp_path_factory.mktemp("page"), record()
    for name in ("preprocessing", "class_names"):
        (folder / f"{name}.json").write_text(json.dumps(trained[name]))
    said = ["--preprocess", folder / "preprocessing.json", "--labels", folder / "class_names.json"]
    done = run("package", CHECKPOINT, folder / "out", "--onnx", "fp32", "--page", "--ort-web", "ort", *said)
    assert done.returncode == 0, done.stderr
    return folder / "out"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("browser") / "profile") as opened:
        yield opened


def opened(tab: Tab, address: str) -> None:
    tab.console.clear()
    tab.asked.clear()
    tab.open(address)
    assert tab.until(f"{STATUS}.startsWith('Loading') ? null : {STATUS}") == "Ready: the image stays on this computer."


def given(tab: Tab, image: Path) -> Any:
    tab.run("delete window.answer")
    tab.give("#file", image)
    return tab.until(ANSWER)


def logits_and_map(model: Predictor, image: Path) -> tuple[np.ndarray, np.ndarray]:
    """What densenet predict says, and its map of the best class."""
    (answer,) = model.answers([image], ("maps",))
    logits, maps = answer.outputs
    return logits, class_activation(model.network)(maps, int(logits.argmax()))


@needs_chromium
def test_the_page_gives_the_answers_and_maps_of_predict(runtime: Path, digits: Path, tab: Tab, tmp_path: Path) -> None:
    shutil.copytree(digits, tmp_path / "site")
    (tmp_path / "site" / "ort").symlink_to(runtime)
    model = predictor(digits / "onnx" / "model.onnx")
    photo = tmp_path / "photo.jpg"
    smooth = Image.fromarray(np.random.default_rng(3).integers(0, 256, (7, 9, 3), np.uint8))
    smooth.resize((213, 160), Image.Resampling.BICUBIC).save(photo, exif=turned())
    with served(tmp_path / "site") as address:
        opened(tab, address)
        for image in (*sorted(IMAGES.glob("[37]/*.png"))[:2], photo):
            found = given(tab, image)
            logits, activation = logits_and_map(model, image)
            assert np.abs(np.array(found["logits"]) - logits).max() < 1e-5 * np.abs(logits).max()
            assert np.abs(np.array(found["scores"]) - model.scores(logits)).max() < 1e-6
            maps = np.array(found["cam"]).reshape(10, *found["shape"])
            assert np.abs(maps[logits.argmax()] - activation).max() < 1e-5 * np.abs(activation).max()
        rows = tab.run(
            "[...document.querySelectorAll('#classes tr')].map(row => row.innerText.split(/\\s+/).slice(0, 2))"
        )
        best = (-logits).argsort(kind="stable")[:5]
        assert rows == [[str(i), f"{model.scores(logits)[i]:.4f}"] for i in best]
        tab.run("document.querySelectorAll('#classes button')[1].click()")
        assert tab.run("document.getElementById('caption').textContent").startswith(f"What speaks for {best[1]}. ")
        for width in (390, 1200):
            tab.width(width)
            assert tab.run("document.documentElement.scrollWidth <= innerWidth")
        assert tab.console == []
        files = [*(f"ort/{name}" for name, _ in FILES), "onnx/model.onnx"]
        assert {one for one in tab.asked if not one.startswith("blob:")} == {address, *(address + f for f in files)}


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@needs_chromium
def test_the_page_says_which_of_several_labels_are_there(runtime: Path, tab: Tab, tmp_path: Path) -> None:
    names = ("<b>bold</b></script>", *LABELS[1:])
    config = replace(TIMM, in_channels=1)
    said = Images(small_images(config), names, "sigmoid", (0.0, None, 1.0, 0.0, 1.0))
    source = save(replace(random_model(config, scaled=True), images=said), tmp_path / "a.safetensors")
    package(source, tmp_path / "out", onnx=["fp32"], page=True, runtime="ort")
    (tmp_path / "out" / "ort").symlink_to(runtime)
    (expected,) = predictor(source).results([next(IMAGES.glob("*/*.png"))])
    with served(tmp_path / "out") as address:
        opened(tab, address)
        found = given(tab, next(IMAGES.glob("*/*.png")))
        assert np.abs(np.array(found["scores"]) - expected["pred_scores"]).max() < 1e-6
        cells = "[...document.querySelectorAll('#classes tr')].map(row => [0, 3].map(i => row.cells[i].textContent))"
        there = ("yes, ≥ 0", "", "no, ≥ 1", "yes, ≥ 0", "no, ≥ 1")
        assert dict(tab.run(cells)) == dict(zip(names, there))
        assert tab.console == []
        # Another model than the page was made for is not computed with.
        changed = tmp_path / "out" / "onnx" / "model.onnx"
        changed.write_bytes(changed.read_bytes() + b"\0")
        later = changed.stat().st_mtime + 60  # in the same second browsers are told that nothing has changed
        os.utime(changed, (later, later))
        tab.open(address)
        assert "is another than this page was made for" in tab.until("document.querySelector('.bad')?.textContent")


STEPS = {
    "usual": Preprocess(resize=40, crop=(32, 32)),
    "both edges, nearest": Preprocess(resize=(30, 40), crop=(28, 32), interpolation="nearest"),
    "bicubic, larger": Preprocess(resize=71, crop=(24, 83), interpolation="bicubic"),
    "like OpenCV": Preprocess(resize=40, crop=(32, 32), antialias=False),
    "like OpenCV, larger": Preprocess(resize=70, crop=(65, 66), antialias=False),
    "BGR": replace(family("keras-caffe"), resize=36, crop=(35, 35)),
    "grey": replace(family("torchxrayvision"), resize=32, crop=(32, 32)),
    "padded": Preprocess(resize=None, crop=(90, 101), **CIFAR10),
}


@needs_chromium
def test_a_browser_prepares_images_to_the_bit(digits: Path, tab: Tab, tmp_path: Path) -> None:
    """Files of every kind that both read; and what they go through, of every kind."""
    random = np.random.default_rng(3)
    image = Image.fromarray(random.integers(0, 256, (7, 9, 3), np.uint8)).resize((83, 60), Image.Resampling.BICUBIC)
    image = Image.fromarray(np.asarray(image) // 2 + random.integers(0, 128, (60, 83, 3), np.uint8))
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "420.jpg", quality=85, exif=turned())
    image.save(tmp_path / "444.jpg", subsampling=0, progressive=True)
    image.convert("L").save(tmp_path / "grey.jpg")
    image.convert("P").save(tmp_path / "palette.gif")
    image.save(tmp_path / "a.webp")
    image.save(tmp_path / "a.bmp")
    with served(digits) as address:
        tab.open(address)
        for file in sorted(tmp_path.iterdir()):
            found = tab.run(
                f"decoded(new Blob([fromBase64('{text_of(file.read_bytes())}')]))"
                ".then(({ height, width, rgba }) => [height, width, ...rgba])"
            )
            pixels = np.array(found[2:], np.uint8).reshape(*found[:2], 4)
            assert np.array_equal(pixels[..., :3], np.asarray(decode(file))), file.name
        rgba = text_of(np.asarray(image.convert("RGBA")).tobytes())
        for name, steps in STEPS.items():
            facts = json.dumps(steps.to_dict() | {"order": steps.order})
            values = tab.run(f"Array.from(prepared(fromBase64('{rgba}'), 60, 83, {facts}))")
            assert np.array_equal(np.array(values, np.float32), load(np.asarray(image), steps).ravel()), name


def text_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


@needs_chromium
def test_a_browser_refuses_what_it_would_answer_otherwise(digits: Path, tab: Tab, tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 40), 1000, np.uint16)).save(tmp_path / "deep.png")
    Image.new("CMYK", (40, 40)).save(tmp_path / "cmyk.jpg")
    (tmp_path / "text.png").write_text("no image")
    said = {"deep.png": "16 bits", "cmyk.jpg": "CMYK", "text.png": "no image that this browser reads"}
    with served(digits) as address:
        tab.open(address)  # ONNX Runtime Web is not there
        assert "ONNX Runtime Web cannot be loaded" in tab.until("document.querySelector('.bad')?.textContent")
        for name, why in said.items():
            tab.give("#file", tmp_path / name)
            assert why in tab.until(f"{STATUS}.startsWith('{name}: ') && {STATUS}")


def test_the_maps_written_behind_a_file_are_those_of_predict(digits: Path) -> None:
    facts = facts_of(digits)
    graph = (digits / "onnx" / "model.onnx").read_bytes() + base64.b64decode(facts["map"])
    model, image = predictor(digits / "onnx" / "model.onnx"), next(IMAGES.glob("*/*.png"))
    names = ["logits", "cam", "cam.shape"]
    logits, maps, shape = onnxruntime.InferenceSession(graph).run(names, {"pixel_values": model.prepare(image)})
    expected, activation = logits_and_map(model, image)
    np.testing.assert_allclose(logits[0], expected, rtol=1e-6)
    np.testing.assert_allclose(maps[expected.argmax()].reshape(shape[2:]), activation, rtol=1e-4, atol=1e-5)


def facts_of(folder: Path) -> Any:
    page = (folder / "index.html").read_text("utf-8")
    return json.loads(page.partition('id="facts">')[2].partition("</script>")[0])


def test_a_page_says_what_is_assumed_and_why_there_is_no_map(tmp_path: Path) -> None:
    source = save(replace(TIMM, global_pool="max", num_classes=1), tmp_path / "a.safetensors")
    package(source, tmp_path / "out", onnx=["fp32"], page=True)
    facts, page = facts_of(tmp_path / "out"), (tmp_path / "out" / "index.html").read_text("utf-8")
    assert (facts["model"]["path"], facts["map"]) == ("onnx/model.onnx", "")
    assert facts["noMap"].startswith("No class activation map: the network pools by max")
    assert facts["runtime"]["place"] == PLACE
    assert "are assumed" in page
    assert "its sigmoid as a probability" in page
    assert f"connect-src &#39;self&#39; {PLACE.partition('/npm')[0]};" in page
    assert "`index.html` beside these files" in (tmp_path / "out" / "README.md").read_text()


def test_what_has_no_page_is_refused_before_the_work(tmp_path: Path) -> None:
    for changes, why in (({"num_classes": 0}, "0 classes"), ({"spatial_dims": 3}, "3 dimensions")):
        source = save(replace(SMALL, **changes), tmp_path / f"{why}.safetensors")
        with pytest.raises(ConverterError, match=why):
            package(source, tmp_path / "out", page=True)
    source = save_described(TIMM, tmp_path / "a.safetensors")
    with pytest.raises(ConverterError, match="none is wanted"):
        package(source, tmp_path / "out", onnx=[], page=True)
    done = run("package", source, tmp_path / "out", "--ort-web", "ort")
    assert (done.returncode, "--ort-web is for --page" in done.stderr) == (2, True)
    for place in ("javascript:alert(1)", "https://a.example/; script-src *", "//a.example", ""):
        with pytest.raises(ConverterError, match="ONNX Runtime Web"):
            Recipe(page=True, runtime=place)


def test_a_page_of_another_script_fails_the_proof(digits: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(digits, copy)
    assert verify_repository(copy).passed
    page = copy / "index.html"
    page.write_text(page.read_text("utf-8").replace("function scoresOf", "fetch('x');\nfunction scoresOf"), "utf-8")
    values = json.loads((copy / "provenance.json").read_text())
    values["files"]["index.html"] = {"sha256": sha256_of((page,)), "size": page.stat().st_size}
    (copy / "provenance.json").write_text(json.dumps(values))
    (wrong,) = (check for check in verify_repository(copy).checks["index.html"] if check.ok is False)
    assert "not the page that this version" in wrong.detail
