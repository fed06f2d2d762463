"""Photographs in class folders as a page: filters, the confusion table, a narrow window."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from browser import open_page
from faces_maker import drawn_face
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from fever_extract.models.config import EXPRESSIONS
from fever_extract.report.page import write_report
from fever_extract.report.projection import near_duplicates, nearest
from fever_extract.tables.reading import read_table
from fever_extract.tables.schema import Columns
from fever_extract.tables.writing import open_table

FOLDERS = {"train/1_Happy": "happiness", "test/happy": "happiness", "Sad": "sadness", "zoo": ""}
OVERLAPS = """
const boxes = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const parent = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || parent.closest("script, option, .wide")) continue;
  const range = document.createRange();
  range.selectNodeContents(walker.currentNode);
  for (const box of range.getClientRects()) boxes.push([walker.currentNode.data.trim(), box]);
}
for (const field of document.querySelectorAll("input, select")) {
  boxes.push([field.id, field.getBoundingClientRect()]);
}
const there = boxes.filter(([, box]) => box.width > 0);
const beyond = there.filter(([, box]) => box.left < 0 || box.right > innerWidth);
const found = beyond.map(([text]) => text);
there.forEach(([a, one], index) => there.slice(index + 1).forEach(([b, two]) => {
  if (Math.min(one.right, two.right) - Math.max(one.left, two.left) > 1
    && Math.min(one.bottom, two.bottom) - Math.max(one.top, two.top) > 2) found.push(`${a} | ${b}`);
}));
return [there.length, found, document.documentElement.scrollWidth];
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """80 drawn faces in class folders with quality of all grades, 4 failures, and their page."""
    root = tmp_path_factory.mktemp("groups")
    random = np.random.default_rng(0)
    folders = list(FOLDERS)
    paths = [f"{folders[index % 4]}/{index:02}.png" for index in range(84)]
    for folder in folders:
        (root / folder).mkdir(parents=True)
    for path in paths[:80]:
        (root / path).write_bytes(drawn_face(bool(random.integers(2)), 64, random))
    fine = np.arange(84) < 80

    def known(values):
        return np.where(fine, values, np.nan).astype(np.float32)

    expressions = random.choice(["happiness", "sadness", "fear"], 84)
    embedding = random.normal(size=(84, 16)).astype(np.float32)
    embedding[:3] = 5 * np.eye(16)[0] + 0.001 * embedding[:3]  # the strangest, and nearly one
    embedding[~fine] = np.nan
    columns = {
        "path": paths,
        "status": ["ok"] * 80 + ["no_face"] * 4,
        "error": [""] * 80 + ["nobody there"] * 4,
        "face_index": np.where(fine, 0, -1).astype(np.int32),
        "box": np.where(fine[:, None], [4, 4, 60, 60], np.nan).astype(np.float32),
        "score": known(random.uniform(0.9, 1, 84)),
        "face_size": known(random.uniform(40, 300, 84)),
        "yaw": known(random.uniform(-60, 60, 84)),
        "pitch": known(random.uniform(-30, 30, 84)),
        "sharpness": known(random.uniform(5, 500, 84)),
        "expression": [name if there else "" for name, there in zip(expressions, fine)],
        "probability": known(random.uniform(0.3, 1, 84)),
        "embedding": embedding,
    }
    with open_table(root / "f.parquet", {"expressions": list(EXPRESSIONS)}) as table:
        table.write(Columns(columns))
    write_report(root / "f.parquet", root / "a.html", photos=root)
    return SimpleNamespace(table=read_table(root / "f.parquet"), page=root / "a.html")


def confusion(browser) -> dict[str, dict[str, str]]:
    head, *lines = browser.execute_script(
        "return [...document.querySelectorAll('#confusion tr')].map((line) => "
        "[...line.cells].map((cell) => cell.textContent))"
    )
    return {line[0]: dict(zip(head[1:], line[1:])) for line in lines}


def expected(table) -> dict[str, dict[str, int]]:
    folders = np.array([FOLDERS[str(Path(path).parent)] for path in table.texts("path")])
    expressions = np.array(table.texts("expression"))
    return {
        folder: {
            name: int(((folders == folder) & (expressions == name)).sum()) for name in EXPRESSIONS
        }
        for folder in ("happiness", "sadness")
    }


def enter(browser, name: str, value: object) -> None:
    field = browser.find_element(By.ID, name)
    field.clear()
    field.send_keys(str(value))


def check_confusion(browser, table) -> None:
    shown = confusion(browser)
    counts = expected(table)
    assert list(shown) == ["happiness", "sadness"]
    recalls = {}
    for folder, numbers in counts.items():
        assert {name: int(shown[folder][name] or 0) for name in EXPRESSIONS} == numbers
        recalls[folder] = numbers[folder] / sum(numbers.values())
        assert shown[folder]["recall"] == f"{100 * recalls[folder]:.1f}%"
    hint = browser.find_element(By.ID, "confusion-hint").text
    assert f"Mean recall {100 * np.mean(list(recalls.values())):.1f}%" in hint


def test_the_confusion_table_is_what_numpy_counts(made, browser):
    open_page(browser, made.page)
    check_confusion(browser, made.table)
    diagonal = browser.find_elements(By.CSS_SELECTOR, "#confusion .diagonal")
    numbers = expected(made.table)
    assert [int(cell.text) for cell in diagonal] == [numbers[name][name] for name in numbers]
    hint = browser.find_element(By.ID, "confusion-hint").text
    assert "Left out: 20 faces whose folder names no expression" in hint


def test_filters_act_on_everything(made, browser):
    open_page(browser, made.page)
    bounds = {
        "max_yaw": 40,
        "max_pitch": 25,
        "min_sharpness": 60,
        "min_face_size": 70,
        "min_score": 0.91,
    }
    before = 84
    for index, (name, value) in enumerate(bounds.items()):
        enter(browser, name, value)
        table = made.table.where(**dict(list(bounds.items())[: index + 1]))
        assert len(table) < before
        before = len(table)
        summary = browser.find_element(By.ID, "summary").text
        assert summary == f"{len(table)} faces in {len(table)} images"
    check_confusion(browser, table)
    where = browser.find_element(By.ID, "passing").text.partition("in Python: ")[2]
    assert len(eval(where, {"table": made.table})) == len(table)
    kept = set(table.texts("path"))
    expressions = table.texts("expression")
    counts = {name: expressions.count(name) for name in set(expressions)}
    bars = [e.text for e in browser.find_elements(By.CSS_SELECTOR, "#expressions span")]
    assert {name: int(number) for name, number in zip(bars[::2], bars[1::2])} == counts
    legend = [e.text for e in browser.find_elements(By.CSS_SELECTOR, "#map-legend span")]
    assert set(legend) == {f"{name} ({number})" for name, number in counts.items()}
    strangest = browser.find_elements(By.CSS_SELECTOR, "#strangest button")
    assert strangest
    assert {button.get_attribute("title") for button in strangest} <= kept
    strangest[0].click()
    near = browser.find_elements(By.CSS_SELECTOR, "#neighbours button")
    assert {button.get_attribute("title") for button in near} <= kept
    assert len(near) < 10
    hint = browser.find_element(By.CSS_SELECTOR, "#panel .hint").text
    assert f"{10 - len(near)} more are filtered out" in hint
    assert not browser.find_element(By.ID, "failures-section").is_displayed()

    browser.find_element(By.CSS_SELECTOR, "#filters [type=reset]").click()
    summary = browser.find_element(By.ID, "summary")
    assert browser.execute_async_script("setTimeout(arguments[0], 50)") is None
    assert summary.text == "80 faces in 84 images"
    folder = Select(browser.find_element(By.ID, "folder"))
    assert [option.text for option in folder.options[1:]] == [
        "Sad", "test", "test/happy", "train", "train/1_Happy", "zoo"
    ]  # fmt: skip
    folder.select_by_visible_text("train")
    assert summary.text == "20 faces in 21 images"
    failures = browser.find_elements(By.CSS_SELECTOR, "#failures tr")
    assert [line.text for line in failures] == ["train/1_Happy/80.png no_face nobody there"]
    Select(browser.find_element(By.ID, "status")).select_by_visible_text("no_face")
    assert summary.text == "0 faces in 1 image"


def test_folders_that_name_no_expression_are_counted_too(made, tmp_path, browser):
    table = made.table
    group = np.arange(len(table)) % 3
    columns = dict(table.columns) | {
        "path": [f"person{number}/{row}.png" for row, number in enumerate(group)],
        "label": [["joy", "sad", "joy"][number] for number in group],
        "embedding": table.X,
    }
    with open_table(tmp_path / "f.parquet", dict(table.metadata)) as written:
        written.write(Columns(columns))
    write_report(tmp_path / "f.parquet", tmp_path / "a.html")
    open_page(browser, tmp_path / "a.html")
    shown = confusion(browser)
    assert set(shown) == {"person0", "person1", "person2"}
    expressions = np.array(table.texts("expression"))
    for number in range(3):
        counts = shown[f"person{number}"]
        assert "recall" not in counts
        for name in EXPRESSIONS:
            count = ((group == number) & (expressions == name)).sum()
            assert int(counts[name] or 0) == count
    # A column of the user's own can be the rows, too.
    Select(browser.find_element(By.ID, "confusion-rows")).select_by_visible_text("label")
    assert {name: int(row["faces"]) for name, row in confusion(browser).items()} == {
        "happiness": ((group != 1) & (expressions != "")).sum(),
        "sadness": ((group == 1) & (expressions != "")).sum(),
    }


def test_the_strangest_has_no_near_duplicates(made, browser):
    open_page(browser, made.page)
    shown = [
        button.get_attribute("title")
        for button in browser.find_elements(By.CSS_SELECTOR, "#strangest button")
    ]
    assert len(shown) == 24
    assert len(set(shown) & set(made.table.texts("path")[:3])) <= 1
    rows, distances = nearest(made.table.X[:80], 10)
    groups = near_duplicates(rows, distances)
    assert groups[0] == groups[1] == groups[2]
    assert len(set(groups.tolist())) == 78


@pytest.mark.parametrize("width", [420, 1360])
def test_nothing_overlaps(made, browser, width):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        open_page(browser, made.page)
        browser.execute_script("select(5)")
        texts, overlaps, across = browser.execute_script(OVERLAPS)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert texts > 100
    assert overlaps == []
    assert across <= width


def test_in_the_dark(made, browser):
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    try:
        open_page(browser, made.page)
        style = "return ['color', 'backgroundColor'].map((k) => getComputedStyle(document.body)[k])"
        ink, paper = (
            [int(part) for part in color.strip("rgb()").split(",")]
            for color in browser.execute_script(style)
        )
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert min(ink) - max(paper) > 150
