"""A clip in real time by the way that a camera takes: as lines of JSON, and as a page."""

import errno
import io
import json
import os
import re
import shlex
import signal
import time
from pathlib import Path
from urllib.parse import urlsplit

import av
import httpx
import numpy as np
import pytest
from browser import addresses_asked_for, forget_logs
from clip_maker import scene, write_clip, write_sound
from helpers import in_process, iou
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from service import running

from fever_extract.live.analysis import Analysis
from fever_extract.live.reader import Reader
from fever_extract.live.session import Session
from fever_extract.live.sources import Source

ROOT = Path(__file__).parents[2]
PIXEL = """
const canvas = document.getElementById("picture");
const [x, y] = [...arguments].map((share) => Math.round(share * canvas.width));
return [...canvas.getContext("2d").getImageData(x, y, 1, 1).data];
"""
OVERFLOW = """
const wide = document.documentElement.scrollWidth - window.innerWidth;
return wide + [...document.querySelectorAll("body *")].filter(
  (each) => each.scrollWidth > each.clientWidth + 1 && each.clientWidth).length;
"""


@pytest.fixture(scope="module")
def face(astronaut) -> Image.Image:
    return astronaut.crop((150, 20, 300, 200)).resize((200, 240))


@pytest.fixture(scope="module")
def clip(face, tmp_path_factory) -> Path:
    """Two faces, of which one moves, at 5 frames/s for two minutes: nobody waits for the end."""
    path = tmp_path_factory.mktemp("clip") / "two <b>faces.mp4"
    small = face.resize((120, 144))
    pictures = [scene(small, (12 + 2 * i, 70), (240, 80), size=(400, 300)) for i in range(9)]
    write_clip(path, (pictures * 67)[:600], range(0, 120_000, 200))
    return path


@pytest.fixture(scope="module")
def short(face, tmp_path_factory) -> Path:
    """A second and a half of a face."""
    path = tmp_path_factory.mktemp("clip") / "short.mp4"
    write_clip(path, [scene(face, (20 + 2 * i, 0), size=(320, 240)) for i in range(15)])
    return path


@pytest.fixture(scope="module")
def page(clip):
    with running("live", clip) as process:
        yield process


def look(browser, page, frames=5):
    """Open the page and wait until it has drawn some frames."""
    browser.get(page.url)
    WebDriverWait(browser, 60).until(lambda _: drawn(browser) >= frames)


def drawn(browser) -> int:
    return browser.execute_script("return Number(document.body.dataset.frames ?? 0)")


def is_open(process, path: Path) -> bool:
    """Whether a process has a file open."""
    folder = Path(f"/proc/{process.pid}/fd")
    if not folder.is_dir():
        pytest.skip("needs /proc")
    for link in folder.iterdir():
        try:
            if os.readlink(link) == str(path):
                return True
        except OSError:
            continue
    return False


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_lines_of_json_say_what_extract_video_says(capsys, extractor, short):
    code, out, err = in_process(capsys, "live", short, "--json", "--device", "cpu")
    assert (code, err) == (0, "")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["frame"] for line in lines] == list(range(len(lines)))
    by_time = {frame.time: frame for frame in extractor.extract_video(short, detect_size=640)}
    assert len(lines) >= 2, "the first and the last are never dropped"
    for line in lines:
        (face,) = line["faces"]
        (expected,) = by_time[line["time"]].faces
        np.testing.assert_allclose(face["box"], expected.box, atol=0.1)
        assert face["expressions"] == pytest.approx(expected.expressions, abs=1e-3)
        assert face["track"] == 0
        assert "embedding" not in face
        assert (line["width"], line["height"]) == (320, 240)
        assert line["latency"] > 0


def test_the_page_s_commands_work(capsys, short, tmp_path, monkeypatch):
    text = (ROOT / "docs" / "live.md").read_text(encoding="utf-8")
    commands = "".join(re.findall(r"```bash\n(.*?)```", text, re.S)).splitlines()
    assert len(commands) == 5
    (tmp_path / "clip.mp4").symlink_to(short)
    monkeypatch.chdir(tmp_path)
    for _, *arguments in map(shlex.split, commands):
        code, _, err = in_process(capsys, *arguments, "--detect-every", 0)
        assert (code, err) == (2, "fever-extract: --detect-every must be at least 1\n")
    code, _, err = in_process(capsys, *arguments, "--detect-every", 2, "--any-orientation")
    assert (code, err.split(":")[1]) == (2, " any_orientation is for detect_every=1")
    code, out, _ = in_process(capsys, *arguments)  # the last is the clip as lines of JSON
    assert code == 0
    assert json.loads(out.splitlines()[0])["faces"][0]["track"] == 0


def test_faces_that_are_followed_are_where_they_are_detected(extractor, short):
    results = []
    analysis = Analysis(extractor, Source(str(short)), results.append, detect_every=4)
    assert analysis.wait(60)
    by_time = {frame.time: frame for frame in extractor.extract_video(short)}
    for result in results:
        (face,) = result.record.faces
        (expected,) = by_time[result.time].faces
        assert iou(face.box, expected.box) > 0.6
        assert np.abs(face.landmarks - expected.landmarks).max() < 4
        assert face.track == 0
    assert len(results) >= 2


def test_only_the_newest_frame_waits(short):
    reader = Reader(Source(str(short)))
    first = reader.take()
    until(lambda: reader.ended is not None)
    last = reader.take()
    assert first.time < last.time == 1.4
    assert reader.take() is None
    assert reader.dropped == 13
    assert (reader.ended, reader.failed) == ("the clip has ended", False)


def test_a_session_ends_with_its_clip_and_begins_again(extractor, short):
    results = []
    session = Session(extractor, Source(str(short)), results.append)
    assert session.watch(True) is None
    until(lambda: session.watch(False) == "the clip has ended")
    before = len(results)
    assert session.watch(True) is None
    until(lambda: len(results) > before)
    session.stop()
    numbers = [result.number for result in results]
    assert numbers == list(range(len(results))), "a page takes no frame for one that it has seen"
    missing = Session(extractor, Source("none.mp4"), results.append)
    assert missing.watch(True) == "none.mp4 does not exist"


def test_a_reader_of_results_that_fails_ends_the_analysis(extractor, short):
    def publish(result):
        raise BrokenPipeError("nobody reads")

    ends = []
    analysis = Analysis(extractor, Source(str(short)), publish, lambda *end: ends.append(end))
    assert analysis.wait(60)
    assert ends == [("BrokenPipeError: nobody reads", True)]


@pytest.mark.parametrize("arguments", [("--json",), ()])
def test_what_can_t_be_opened_is_one_line(capsys, tmp_path, arguments):
    sound, text = tmp_path / "sound.m4a", tmp_path / "clip.mp4"
    write_sound(sound)
    text.write_text("no clip")
    for source, expected in (
        ("97", "camera /dev/video97 does not exist"),
        ("/dev/video98", "camera /dev/video98 does not exist"),
        ("/dev/null", "camera /dev/null is no camera"),
        (tmp_path / "none.mp4", "none.mp4 does not exist"),
        (tmp_path, "is no regular file"),
        (sound, "no video in it (audio only)"),
        (text, "could not be opened: Invalid data"),
        ("http://127.0.0.1:9/clip.mp4?token=secret", "token=*** could not be opened"),
    ):
        code, out, err = in_process(capsys, "live", source, *arguments)
        assert (out, err.count("\n")) == ("", 1), err
        assert code in (1, 2)
        assert expected in err


def test_a_busy_camera_is_told_of():
    busy = av.error.OSError(errno.EBUSY, "Device or resource busy")
    assert Source("0").explain("/dev/video0", busy) == (
        "camera /dev/video0 is busy: another program has it; close that first"
    )


def test_boxes_ids_and_numbers_are_shown(browser, page, clip, extractor, tmp_path):
    forget_logs(browser)
    look(browser, page)
    assert browser.find_element(By.TAG_NAME, "h1").text == clip.name
    cards = browser.find_elements(By.CLASS_NAME, "face")
    assert [card.get_attribute("data-track") for card in cards] == ["0", "1"]
    frame = next(extractor.extract_video(clip))
    for card, face in zip(cards, frame.faces):
        assert face.expression in card.find_element(By.TAG_NAME, "h2").text
        labels = [label.text for label in card.find_elements(By.TAG_NAME, "label")]
        assert labels == list(extractor.config.expressions)
        values = [float(one.text) for one in card.find_elements(By.TAG_NAME, "output")]
        assert values == pytest.approx(list(face.expressions.values()), abs=0.3)
    # The face that stands still: the left edge of its box has its colour.
    still = max(frame.faces, key=lambda face: face.box[0])
    x1, y1, _, y2 = map(float, still.box)
    red, green, blue, _ = browser.execute_script(PIXEL, x1 / 400, (y1 + y2) / 2 / 400)
    assert max(red, green, blue) - min(red, green, blue) > 60, "the picture is grey there"
    assert float(browser.find_element(By.ID, "rate").text) > 0
    assert browser.find_element(By.ID, "latency").text.endswith(" ms")
    assert browser.find_element(By.ID, "state").text == "live"
    asked = addresses_asked_for(browser)
    own = urlsplit(page.url).netloc
    assert {urlsplit(address).netloc for address in asked if address.startswith("http")} == {own}
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []


@pytest.mark.parametrize("width", [1360, 420])
def test_nothing_is_cut_off(browser, page, width):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False},
    )
    look(browser, page, 15)
    assert browser.execute_script(OVERFLOW) == 0
    folder = os.environ.get("FEVER_SCREENSHOTS")
    if folder:
        browser.save_screenshot(f"{folder}/live_{width}.png")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_nobody_else_is_let_in(page):
    parts = urlsplit(page.url)
    root = f"http://{parts.netloc}"
    for path in ("/", "/frame", "/?token=", "/frame?token=wrong", "/openapi.json"):
        assert httpx.get(root + path).status_code == 403, path
    # A page of another name that was made to lead here (DNS rebinding).
    for path in (f"/?{parts.query}", f"/frame?{parts.query}"):
        answer = httpx.get(root + path, headers={"Host": f"evil.example:{parts.port}"})
        assert answer.status_code == 403
    answer = httpx.get(page.url)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert "<b>" not in answer.text.partition("<title>")[2].partition("</title>")[0]


def test_a_frame_is_json_and_a_jpeg(page):
    parts = urlsplit(page.url)
    with httpx.Client(timeout=60) as client:
        while (
            answer := client.get(f"http://{parts.netloc}/frame?{parts.query}")
        ).status_code == 204:
            pass
    length = int.from_bytes(answer.content[:4], "big")
    result = json.loads(answer.content[4 : 4 + length])
    picture = Image.open(io.BytesIO(answer.content[4 + length :]))
    assert picture.size == (result["width"], result["height"]) == (400, 300)
    assert len(result["faces"]) == 2
    assert float(answer.headers["x-age"]) > 0


def test_the_source_is_free_when_nobody_looks(browser, page, clip):
    look(browser, page)
    assert is_open(page.process, clip)
    browser.get("about:blank")
    until(lambda: not is_open(page.process, clip))
    look(browser, page)
    assert is_open(page.process, clip)


def test_ctrl_c_ends_it(browser, page):
    look(browser, page)
    assert page.end(signal.SIGINT) == 0
    WebDriverWait(browser, 60).until(
        lambda _: "has ended" in browser.find_element(By.ID, "state").text
    )
    assert browser.find_element(By.ID, "again").is_displayed()
