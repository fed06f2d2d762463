"""fever.js and the page: the package's embeddings in Node and in headless Chromium."""

import io
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from browser import addresses_asked_for, chromium
from helpers import cosine
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from static_server import serve

from fever_extract import images
from fever_extract.bundle import conformance

PAGE = Path(__file__).parents[2] / "examples" / "browser"
MODULES = PAGE / "node_modules"


@pytest.fixture(scope="module")
def modules() -> Path:
    if not (MODULES / "onnxruntime-web").is_dir():
        pytest.skip("needs npm install in examples/browser")
    return MODULES


def expected(bundle) -> dict[str, dict]:
    rows = json.loads((bundle / "conformance" / "expected.json").read_text())["pictures"]
    return {row["file"]: row for row in rows}


def run(*command, cwd=None) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, cwd=cwd, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_in_node_pixel_for_pixel(modules, bundle, tmp_path):
    """From the same pixels, the same faces: what differs in a browser is decoding."""
    rows = {name: row for name, row in expected(bundle).items() if row["status"] != "decode_error"}
    for name in rows:
        pixels = images.read(bundle / "conformance" / name)
        height, width = pixels.shape[:2]
        (tmp_path / f"{name}.{width}x{height}").write_bytes(pixels.tobytes())
    script = Path(__file__).with_name("conform.mjs")
    web = modules / "onnxruntime-web" / "dist" / "ort.node.min.mjs"
    answers = json.loads(run("node", script, web, bundle, tmp_path, "float32"))
    assert set(answers) == set(rows)
    for name, row in rows.items():
        record = answers[name]
        assert (record["status"], len(record["faces"])) == (row["status"], len(row["faces"])), name
        for mine, theirs in zip(record["faces"], row["faces"]):
            assert cosine(*map(np.array, (mine["embedding"], theirs["embedding"]))) > 0.9999, name
            np.testing.assert_allclose(
                mine["box"], theirs["box"], atol=conformance.PIXELS, err_msg=name
            )
            np.testing.assert_allclose(
                mine["landmarks"], theirs["landmarks"], atol=conformance.PIXELS
            )
            assert mine["expressions"] == pytest.approx(theirs["expressions"], abs=0.01)


def test_bad_bundles_in_node(modules, bundle, tmp_path):
    script = Path(__file__).with_name("refusals.mjs")
    web = modules / "onnxruntime-web" / "dist" / "ort.node.min.mjs"
    said = json.loads(run("node", script, web, bundle))
    assert "onet.onnx is not the file" in said["changed"]
    assert "can't be read" in said["missing"]
    assert "version 2, and this program reads version 1" in said["version"]
    assert "bundle.json is damaged" in said["damaged"]
    assert "no weights in int4, but in float32, float16, int8" in said["precision"]
    assert "ONNX Runtime 1.17.0 is too old, 1.18 is needed" in said["runtime"]
    assert "no WebAssembly SIMD" in said["simd"]
    assert "no option minFace; there are select" in said["option"]
    assert "expected 3 or 4 numbers" in said["pixels"]
    assert all("\n" not in text for text in said.values())


def test_types_and_size(modules, bundle, tmp_path):
    """What is committed is made of the readable source, and what a page loads is under 15 kB."""
    page, made = tmp_path / "examples" / "browser", tmp_path / "fever_extract" / "bundle"
    page.mkdir(parents=True)
    made.mkdir(parents=True)
    shutil.copy(PAGE / "package.json", page)
    (page / "node_modules").symlink_to(modules)
    shutil.copy(bundle / "fever.source.js", made)
    run("npm", "run", "build", cwd=page)  # the compiler checks the types
    for name in ("fever.js", "fever.d.ts"):
        assert (made / name).read_text() == (bundle / name).read_text(), name
    assert (bundle / "fever.js").stat().st_size < 15_000


@pytest.fixture(scope="module")
def site(modules, bundle, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    for name in ("index.html", "page.js", "page.css", "conform.js"):
        shutil.copy(PAGE / name, folder)
    (folder / "node_modules").symlink_to(modules)
    (folder / "bundle").symlink_to(bundle)
    damaged = shutil.copytree(bundle, folder / "damaged")
    (damaged / "pnet.onnx").write_bytes(b"")
    later = folder / "later"
    later.mkdir()
    shutil.copy(bundle / "fever.js", later)
    manifest = json.loads((bundle / "bundle.json").read_text())
    (later / "bundle.json").write_text(json.dumps({**manifest, "bundle_version": 2}))
    return folder


def stream(path: Path, picture: Image.Image) -> None:
    """A camera's frames, as Chromium's stand-in for one reads them."""
    file = io.BytesIO()
    picture.save(file, "JPEG")
    path.write_bytes(file.getvalue() * 3)


@pytest.fixture(scope="module")
def page(site, astronaut_path, tmp_path_factory):
    """A browser, and the page's address."""
    folder = tmp_path_factory.mktemp("browser")
    stream(folder / "camera.mjpeg", Image.open(astronaut_path))
    camera = (
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={folder / 'camera.mjpeg'}",
    )
    with serve(site) as address, chromium(folder / "profile", *camera) as browser:
        yield browser, address


def status(browser) -> str:
    return browser.find_element(By.ID, "status").text


def wait(browser, condition, seconds=120):
    return WebDriverWait(browser, seconds, poll_frequency=0.1).until(condition)


def load(browser, address) -> None:
    browser.get_log("performance")
    browser.get(address)
    wait(browser, lambda _: browser.execute_script("return document.body.dataset.ready"))


def photograph(browser, path):
    """Give the page a photograph; what it shows of it."""
    browser.find_element(By.ID, "files").send_keys(str(path))
    shown = f'.photograph[data-name="{path.name}"]'
    return wait(browser, lambda _: browser.find_elements(By.CSS_SELECTOR, shown))[0]


def test_in_the_browser_from_the_encoded_photograph(page, bundle):
    browser, address = page
    load(browser, address)
    assert status(browser).startswith("Ready")
    browser.find_element(By.ID, "check").click()
    wait(browser, lambda _: "package's embeddings" in status(browser))
    rows = json.loads(browser.find_element(By.ID, "conformance").get_attribute("data-rows"))
    problems = [row for row in rows if row["problem"]]
    assert {row["file"] for row in problems} <= set(conformance.DECODERS_VARY), problems
    assert len(rows) == len(expected(bundle))
    assert status(browser) == "This browser gives the package's embeddings."


def test_the_page_shows_faces_and_sends_nothing(page, bundle):
    browser, address = page
    load(browser, address)
    pictures = bundle / "conformance"
    group = photograph(browser, pictures / "group.jpg")
    wait(browser, lambda _: group.get_attribute("data-faces"))
    faces = json.loads(group.get_attribute("data-faces"))
    for mine, theirs in zip(faces, expected(bundle)["group.jpg"]["faces"], strict=True):
        assert cosine(*map(np.array, (mine["embedding"], theirs["embedding"]))) > conformance.COSINE
    assert "happiness" in group.text
    assert len(group.find_elements(By.CSS_SELECTOR, ".similar canvas")) == 12
    photograph(browser, pictures / "no_face.jpg")
    addresses = addresses_asked_for(browser)
    assert any("embedder_float16.onnx" in one for one in addresses)
    elsewhere = [one for one in addresses if not one.startswith((address, "blob:", "data:"))]
    assert elsewhere == []
    # Even if it wanted to: the browser keeps it from that.
    refused = browser.execute_async_script(
        "fetch('http://127.0.0.1:9/').then(() => arguments[0]('sent'), e => arguments[0](e.name))"
    )
    assert refused == "TypeError"


def test_pictures_that_a_browser_can_not_use(page, tmp_path):
    browser, address = page
    load(browser, address)
    Image.new("1", (10_000, 10_001)).save(tmp_path / "huge.png")
    Image.new("L", (9_500, 9_500)).save(tmp_path / "huge.jpg")
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    (tmp_path / "text.jpg").write_bytes(b"no picture")
    for name, said in (
        ("huge.png", "10000x10001 pixels are over the limit"),
        ("huge.jpg", "9500x9500 pixels are over the limit"),
        ("phone.heic", "no decoder for HEIC"),
        ("text.jpg", "not an image in a format that this browser knows"),
    ):
        shown = photograph(browser, tmp_path / name)
        assert said in shown.text
        assert "\n" not in shown.text
        assert shown.get_attribute("data-status") == "decode_error"


def test_a_browser_without_simd(page):
    browser, address = page
    script = {"source": "WebAssembly.validate = () => false"}
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", script)
    load(browser, address)
    browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    assert status(browser).startswith("This browser has no WebAssembly SIMD: use Chrome 91")
    assert not browser.find_element(By.ID, "camera").is_enabled()


def test_a_changed_bundle(page):
    browser, address = page
    load(browser, f"{address}?bundle=damaged/")
    assert "pnet.onnx is not the file" in status(browser)
    load(browser, f"{address}?bundle=later/")
    assert "a bundle of version 2, and this program reads version 1" in status(browser)
    load(browser, f"{address}?bundle=nowhere/")
    assert "is no bundle: fever-extract export --bundle" in status(browser)


@pytest.mark.parametrize("answer", ["denied", "granted"])
def test_the_camera(page, answer):
    browser, address = page
    permission = {"name": "camera"}
    browser.execute_cdp_cmd(
        "Browser.setPermission", {"permission": permission, "setting": answer, "origin": address}
    )
    load(browser, address)
    browser.find_element(By.ID, "camera").click()
    if answer == "denied":
        wait(browser, lambda _: "the camera was refused: allow it" in status(browser))
        return
    live = browser.find_element(By.ID, "live")
    wait(browser, lambda _: live.get_attribute("data-faces") == "1")
    assert "1 face," in live.text
    browser.find_element(By.ID, "camera").click()
    assert not live.is_displayed()
