"""A table becomes a page; a real browser opens it, clicks and reads."""

import base64
import csv
import io
import itertools
import json
import os
from math import dist

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from browser import addresses_asked_for, open_page
from helpers import in_process
from PIL import Image, ImageFilter
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from fever_extract._utils.names import to_text
from fever_extract.records import Face, Frame, Status
from fever_extract.report import page as report
from fever_extract.report import thumbnails
from fever_extract.report.page import write_report
from fever_extract.report.projection import nearest
from fever_extract.report.thumbnails import cut
from fever_extract.tables.reading import read_table
from fever_extract.tables.schema import Columns, Widths
from fever_extract.tables.writing import open_table

EVIL = "<img src=x onerror=alert(1)>.png"
POSITION = """
const {left, top} = document.getElementById("map").getBoundingClientRect();
return [left + view.x(data.x[arguments[0]]), top + view.y(data.y[arguments[0]])];
"""


@pytest.fixture(scope="module")
def photos_folder(tmp_path_factory, astronaut):
    """Twelve faces, in two folders, and a file whose name is HTML."""
    root = tmp_path_factory.mktemp("photos")
    for index in range(12):
        picture = astronaut.rotate(5 * index - 28)
        if index % 2:
            picture = picture.filter(ImageFilter.GaussianBlur(index / 6))
        folder = root / ("blurred" if index % 2 else "sharp")
        folder.mkdir(exist_ok=True)
        picture.save(folder / f"{index:02}.jpg")
    (root / EVIL).write_bytes(b"no picture")
    return root


@pytest.fixture(scope="module")
def tables(extractor, photos_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    for ending in ("parquet", "npz", "csv"):
        extractor.extract_folder(photos_folder, folder / f"features.{ending}")
    return folder


def texts(browser, selector) -> list[str]:
    return [found.text for found in browser.find_elements(By.CSS_SELECTOR, selector)]


def point_at(browser, face):
    """The pointer on a face of the map."""
    browser.execute_script("document.getElementById('map').scrollIntoView({block: 'center'})")
    x, y = browser.execute_script(POSITION, face)
    actions = ActionChains(browser)
    actions.w3c_actions.pointer_action.move_to_location(round(x), round(y))
    actions.perform()


def drawn(browser, selector) -> np.ndarray:
    """What a canvas shows, once it shows something."""
    read = "return document.querySelector(arguments[0]).toDataURL('image/png')"

    def pixels(_):
        data = browser.execute_script(read, selector).split(",")[1]
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
        return [picture] if picture.any() else None

    return WebDriverWait(browser, 10).until(pixels)[0]


def test_a_page_to_click_and_read(tables, photos_folder, tmp_path, browser):
    done = write_report(tables / "features.parquet", tmp_path / "a.html", photos=photos_folder)
    assert (done.faces, done.shown, done.pictures) == (12, 12, 12)
    rows = pq.read_table(tables / "features.parquet").to_pylist()
    open_page(browser, tmp_path / "a.html")
    assert browser.find_element(By.ID, "summary").text == "12 faces in 13 images"
    assert browser.find_element(By.ID, "notes").text == ""
    assert "t-SNE" in browser.find_element(By.ID, "map-hint").text
    assert browser.execute_script("return pictureSide") > 0  # so few are pictures, no dots

    # The face that is farthest from its neighbour: no other's picture lies over its own.
    found = (n for n, row in enumerate(rows) if row["status"] == "ok")
    places = {n: browser.execute_script(POSITION, n) for n in found}
    places = {n: place for n, place in places.items() if place}
    face = max(places, key=lambda n: min(dist(places[n], places[m]) for m in places if m != n))
    assert rows[face]["status"] == "ok"
    point_at(browser, face)
    tip = browser.find_element(By.ID, "tip")
    WebDriverWait(browser, 5).until(lambda _: rows[face]["path"] in tip.text)
    assert rows[face]["expression"] in tip.text
    ActionChains(browser).click().perform()
    panel = browser.find_element(By.ID, "panel")
    WebDriverWait(browser, 5).until(lambda _: rows[face]["path"] in panel.text)

    # Neighbours by plain arithmetic.
    vectors = np.array([row["embedding"] for row in rows])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = np.nan_to_num(vectors @ vectors[face], nan=-1)
    nearest = [other for other in np.argsort(-cosines) if other != face][:10]
    shown = panel.find_elements(By.CSS_SELECTOR, "#neighbours button")
    expected = [int(button.get_attribute("data-row")) for button in shown]
    assert len(set(expected)) == len(expected) == len(nearest)
    # In float32, of two that are equally near either may come first.
    np.testing.assert_allclose(cosines[expected], cosines[nearest], atol=1e-5)

    # The picture is the face, cut from its photograph.
    with Image.open(photos_folder / rows[face]["path"]) as photograph:
        pixels = np.asarray(photograph)
    picture = drawn(browser, "#panel > canvas")
    face_in_photograph = cut(pixels, np.array(rows[face]["box"]), len(picture))
    assert np.abs(picture.astype(float) - face_in_photograph).mean() < 12

    shown[0].click()
    WebDriverWait(browser, 5).until(lambda _: rows[expected[0]]["path"] in panel.text)
    asked = addresses_asked_for(browser)
    assert (tmp_path / "a.html").as_uri() in asked
    # A slow browser may still be at its own chrome:// page.
    assert not [address for address in asked if address.startswith(("http", "ws"))]


def test_colours_are_any_column(tables, photos_folder, tmp_path, browser):
    table = pq.read_table(tables / "features.parquet")
    table = table.append_column("person", pa.array([f"p{i % 3}" for i in range(len(table))]))
    table = table.append_column("file_size", pa.array([i % 4 for i in range(len(table))]))
    pq.write_table(table, tmp_path / "labelled.parquet")
    write_report(tmp_path / "labelled.parquet", tmp_path / "a.html", color="person")
    open_page(browser, tmp_path / "a.html")
    assert "--photos" in browser.find_element(By.ID, "notes").text
    legend = "#map-legend span"
    assert {"p0 (4)", "p1 (4)", "p2 (4)"} == set(texts(browser, legend))
    choice = Select(browser.find_element(By.ID, "color"))
    offered = {option.text for option in choice.options}
    assert {"person", "expression", "probability", "face_size", "folder"} <= offered
    assert "file_size" not in offered
    choice.select_by_visible_text("folder")
    assert {"blurred (6)", "sharp (6)"} == set(texts(browser, legend))
    choice.select_by_visible_text("probability")
    scale = [float(text) for text in texts(browser, legend)]
    probabilities = [row["probability"] for row in table.to_pylist() if row["status"] == "ok"]
    assert scale == sorted(scale)
    assert (scale[0], scale[-1]) == pytest.approx(
        (min(probabilities), max(probabilities)), rel=0.01
    )
    with pytest.raises(ValueError, match=r"no column colour .*expression"):
        write_report(tmp_path / "labelled.parquet", tmp_path / "b.html", color="colour")
    assert not (tmp_path / "b.html").exists()


def test_names_are_text_and_never_html(tables, tmp_path, browser):
    write_report(tables / "features.parquet", tmp_path / "a.html", color="path")
    open_page(browser, tmp_path / "a.html")
    assert browser.find_element(By.ID, "failures").text.startswith(f"{EVIL} decode_error")
    assert browser.find_elements(By.CSS_SELECTOR, "img[src=x]") == []
    assert EVIL not in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_labels_that_mean_something_to_javascript(tmp_path, browser):
    labels = ["__proto__", "constructor", "toString", "happiness"]
    rows = []
    for index in range(12):
        face = Face(
            np.zeros(4, np.float32),
            1.0,
            np.zeros((5, 2), np.float32),
            np.eye(12, dtype=np.float32)[index],
            dict.fromkeys(labels, 0.1) | {labels[index % 4]: 0.7},
            track=0,
        )
        rows.append(("clip.mp4", Frame(Status.OK, faces=(face,), time=index / 10)))
    with open_table(tmp_path / "f.parquet", {"expressions": labels}) as table:
        table.write(Columns.of(rows, Widths(12, 4)))
    write_report(tmp_path / "f.parquet", tmp_path / "a.html")
    open_page(browser, tmp_path / "a.html")
    assert {f"{label} (3)" for label in labels} == set(texts(browser, "#map-legend span"))
    assert texts(browser, "#course-legend span") == labels
    counts = texts(browser, "#expressions span")
    assert dict(zip(counts[::2], counts[1::2])) == dict.fromkeys(labels, "3")
    colors = browser.execute_script("return [...new Set(paints)]")
    assert len(colors) == 4
    assert all(isinstance(color, str) for color in colors)


def test_names_that_are_not_utf8(tables, tmp_path):
    odd = os.fsdecode(b"caf\xe9")
    table = read_table(tables / "features.parquet")
    rows = pq.read_table(tables / "features.parquet")
    metadata = json.dumps({**table.metadata, "weights_source": odd})
    path = tmp_path / f"{odd}.parquet"
    with open(path, "wb") as file:  # pyarrow opens no such name
        pq.write_table(rows.replace_schema_metadata({"fever_extract": metadata}), file)
    write_report(path, tmp_path / "a.html")
    page = (tmp_path / "a.html").read_bytes().decode("utf-8")
    assert "caf\\xe9.parquet" in page
    assert "caf\\udce9" in page


def test_the_formats_read_back_the_same(tables, extractor):
    parquet, npz, csv_ = (
        read_table(tables / f"features.{ending}") for ending in ("parquet", "npz", "csv")
    )
    assert parquet.metadata == npz.metadata == csv_.metadata
    assert parquet.metadata["embedding_dim"] == extractor.embedding_dim
    for name, values in parquet.columns.items():
        for other in (npz, csv_):
            if isinstance(values, list):
                assert other.columns[name] == values
            else:
                np.testing.assert_allclose(other.numbers(name), values, rtol=1e-5, err_msg=name)


def test_a_photograph_whose_name_is_no_text(astronaut, tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    astronaut.save(tmp_path / name)
    box = np.array([[170, 50, 280, 180]], np.float32)
    done = thumbnails.make(tmp_path, [to_text(name)], np.full(1, np.nan), box, False)
    assert done.slots.tolist() == [0]


def test_a_table_without_faces_and_one_without_metadata(extractor, tmp_path, browser):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"broken")
    extractor.extract_folder(tmp_path / "photos", tmp_path / "f.csv")
    (tmp_path / "f.csv.json").unlink()
    done = write_report(tmp_path / "f.csv", tmp_path / "a.html", photos=tmp_path / "photos")
    assert done.faces == 0
    open_page(browser, tmp_path / "a.html")
    assert browser.find_element(By.ID, "summary").text == "0 faces in 1 image"
    assert "no face" in browser.find_element(By.ID, "map-hint").text
    assert "not recorded" in browser.find_element(By.ID, "settings").text


def test_ten_thousand_faces(tmp_path, browser):
    """The page of 10,000 random vectors: each is a dot."""
    random = np.random.default_rng(0)
    count = 10_000
    columns = Columns(
        {
            "path": [f"{index}.jpg" for index in range(count)],
            "status": ["ok"] * count,
            "expression": random.choice(["anger", "happiness"], count).tolist(),
            "embedding": random.normal(size=(count, 32)).astype(np.float32),
        }
    )
    with open_table(tmp_path / "f.parquet", {}) as table:
        table.write(columns)
    write_report(tmp_path / "f.parquet", tmp_path / "a.html")
    open_page(browser, tmp_path / "a.html")
    assert "10,000 faces" in browser.find_element(By.ID, "summary").text
    places = browser.execute_script(
        "return faces.map((row) => [view.x(data.x[row]), view.y(data.y[row])])"
    )
    data = browser.execute_script(
        "return document.getElementById('map').toDataURL('image/png').split(',')[1]"
    )
    alpha = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))[..., 3]
    assert len(places) == count
    x, y = np.rint(places).astype(int).T
    assert (alpha[y, x] == 255).all()
    browser.execute_script("select(1234)")
    assert "1234.jpg" in browser.find_element(By.ID, "panel").text


def test_of_too_many_rows_a_sample_is_shown(tables, tmp_path, monkeypatch, browser):
    monkeypatch.setattr(report, "MAX_ROWS", 5)
    done = write_report(tables / "features.npz", tmp_path / "a.html")
    assert done.faces == 12
    assert done.shown in (4, 5)
    open_page(browser, tmp_path / "a.html")
    assert "sample of 5 of the table's 13 rows" in browser.find_element(By.ID, "notes").text


def test_of_too_many_pictures_the_strangest_are_there(
    tables, photos_folder, tmp_path, monkeypatch, browser
):
    monkeypatch.setattr(report, "MAX_PICTURES", 5)
    monkeypatch.setattr(report, "_STRANGEST", 3)
    done = write_report(tables / "features.npz", tmp_path / "a.html", photos=photos_folder)
    assert (done.shown, done.pictures) == (12, 5)
    open_page(browser, tmp_path / "a.html")
    assert browser.execute_script("return strangest.slice(0, 3).every(hasPicture)")
    assert "7 faces have no picture" in browser.find_element(By.ID, "notes").text


def test_a_table_without_embeddings(tables, tmp_path, browser):
    table = pq.read_table(tables / "features.parquet").drop_columns("embedding")
    pq.write_table(table, tmp_path / "f.parquet")
    done = write_report(tmp_path / "f.parquet", tmp_path / "a.html")
    assert (done.faces, done.shown) == (12, 12)
    open_page(browser, tmp_path / "a.html")
    assert "without embeddings" in browser.find_element(By.ID, "map-hint").text
    assert sum(map(int, texts(browser, "#expressions span")[1::2])) == 12


@pytest.fixture(scope="module")
def clip(extractor, astronaut, tmp_path_factory):
    """Two seconds of a face that is away for one of them, and its table with times and tracks."""
    folder = tmp_path_factory.mktemp("clip")
    pictures, times = [], np.arange(30) / 10
    with av.open(str(folder / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 256
        for index in range(30):
            small = astronaut.resize((256, 256)).rotate(index / 3)
            away = 10 <= index < 20
            pictures.append(np.full((256, 256, 3), 90, np.uint8) if away else np.asarray(small))
            frame = av.VideoFrame.from_ndarray(pictures[-1], format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    records = extractor.extract_records(pictures)
    columns = Columns.of([("clip.mp4", record) for record in records], Widths.of(extractor.config))
    columns.values["time"] = times
    columns.values["track"] = np.where(columns.values["face_index"] < 0, -1, 0)
    names = list(extractor.config.expressions)
    with open_table(folder / "f.parquet", {"expressions": names}) as table:
        table.write(columns)
    return folder


def test_the_course_of_a_clip(clip, tmp_path, browser):
    done = write_report(clip / "f.parquet", tmp_path / "a.html", photos=clip)
    assert (done.faces, done.pictures) == (20, 20)
    open_page(browser, tmp_path / "a.html")
    assert browser.find_element(By.ID, "summary").text == "20 faces in 30 frames"
    choice = Select(browser.find_element(By.ID, "course-choice"))
    assert [option.text for option in choice.options] == ["clip.mp4, face 0"]
    # Curves before the face went and after it came back, none in between.
    parts = browser.execute_script(
        "return stretches().map((part) => part.map((row) => data.time[row]))"
    )
    assert parts == [pytest.approx(np.arange(10) / 10), pytest.approx(np.arange(20, 30) / 10)]
    colours = browser.execute_script(
        "const canvas = document.getElementById('course'); return [0.5, 1.5, 2.5].map((time) => "
        "[...canvas.getContext('2d').getImageData(course.x(time), course.y(0.5), 1, 1).data])"
    )
    assert [colour[3] for colour in colours] == [255, 0, 255]
    # Below it each face stands at its time, and over no other.
    middles = browser.execute_script(
        "const {left} = document.getElementById('course').getBoundingClientRect(); "
        "return [...document.querySelectorAll('#course-faces button')].map((button) => "
        "[button.getBoundingClientRect(), left + course.x(data.time[button.dataset.row])]).map("
        "([box, x]) => [box.left, box.right, x])"
    )
    assert len(middles) >= 8
    for left, right, x in middles:
        assert (left + right) / 2 == pytest.approx(x, abs=1)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(middles))
    assert drawn(browser, "#course-faces canvas").std() > 20
    strip = browser.find_elements(By.CSS_SELECTOR, "#course-faces button")
    time = strip[-1].text.splitlines()[-1]
    strip[-1].click()
    assert f"clip.mp4 at {time}" in browser.find_element(By.ID, "panel").text


def test_the_course_as_csv(clip, tmp_path, browser):
    write_report(clip / "f.parquet", tmp_path / "a.html")
    open_page(browser, tmp_path / "a.html")
    browser.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    browser.find_element(By.ID, "course-csv").click()
    WebDriverWait(browser, 10).until(lambda _: (tmp_path / "course.csv").exists())
    with open(tmp_path / "course.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    table = read_table(clip / "f.parquet")
    rows = np.flatnonzero(np.isfinite(table.X).all(axis=1))
    assert [line["path"] for line in lines] == ["clip.mp4"] * len(rows)
    assert [line["expression"] for line in lines] == [table.texts("expression")[i] for i in rows]
    times = [float(line["time"]) for line in lines]
    np.testing.assert_allclose(times, table.numbers("time")[rows], atol=1e-6)
    names = [f"p_{name}" for name in table.metadata["expressions"]]
    shares = [[float(line[name]) for name in names] for line in lines]
    np.testing.assert_allclose(shares, table.numbers("expressions")[rows], rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.parquet", "-o", "a.html"], "nowhere.parquet does not exist"),
        (["damaged.parquet", "-o", "a.html"], "damaged.parquet can't be read"),
        (["foreign.csv", "-o", "a.html"], "has no column path"),
        (["foreign.csv", "-o", "a.pdf"], "must end in .html"),
        (["list.csv", "-o", "a.html"], "its metadata is no JSON object, but [1, 2]"),
        (["options.csv", "-o", "a.html"], "its metadata has no usable 'options': 7"),
        (["classes.csv", "-o", "a.html"], "its metadata has no usable 'expressions': 'all'"),
        (["nested.csv", "-o", "a.html"], "table nested.csv can't be read"),
        (["foreign.csv", "-o", "missing/a.html"], "the folder missing does not exist"),
        (["foreign.csv", "-o", "a.html", "--photos", "missing"], "missing is no folder"),
    ],
)
def test_wrong_usage(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1 cut short")
    with open(tmp_path / "foreign.csv", "w", newline="") as file:
        csv.writer(file).writerows([["name", "label"], ["a", 1]])
    metadata = {
        "list": "[1, 2]",
        "options": '{"options": 7}',
        "classes": '{"expressions": "all"}',
        "nested": "[" * 100_000,
    }
    for name, text in metadata.items():
        (tmp_path / f"{name}.csv").write_text("path,status,embedding_0\na.jpg,ok,1\n")
        (tmp_path / f"{name}.csv.json").write_text(text)
    code, _, stderr = in_process(capsys, "report", *arguments)
    assert code == 2
    assert message in stderr
    assert stderr.count("\n") == 1
    assert not (tmp_path / "a.html").exists()


def test_the_command(tables, photos_folder, tmp_path, capsys):
    page = tmp_path / "a.html"
    arguments = [tables / "features.parquet", "-o", page, "--photos", photos_folder]
    code, stdout, _ = in_process(capsys, "report", *arguments, "--color", "folder")
    assert code == 0
    assert stdout == f"{page}: 12 of 12 faces, 12 with a picture\n"
    data = page.read_text().split('type="application/json">')[1].split("</script>")[0]
    assert json.loads(data)["color"] == "folder"


def test_neighbours_of_few_vectors():
    rows, distances = nearest(np.ones((1, 4), np.float32), 10)
    assert rows.shape == distances.shape == (1, 0)
    rows, distances = nearest(np.eye(3, dtype=np.float32), 10)
    assert rows.shape == (3, 2)
    np.testing.assert_allclose(distances, 1)
