"""README and docs/ say what is so: their commands and code run, their links lead somewhere."""

import re

import pytest
from doc_pages import ROOT, run_page
from PIL import Image

import fever_extract

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN_BY_TEST_PAGES = ("course.md", "live.md", "scikit-learn.md", "service.md", "video.md")
OTHERS = [ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]


@pytest.fixture
def workplace(tmp_path, astronaut, monkeypatch):
    """Where a reader is: photographs in photos/, aligned faces in crops/."""
    for folder in ("photos/sub", "crops"):
        (tmp_path / folder).mkdir(parents=True)
    astronaut.save(tmp_path / "photos" / "a.jpg")
    astronaut.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "photos" / "b.jpg")
    astronaut.rotate(10).save(tmp_path / "photos" / "sub" / "c.png")
    astronaut.crop((170, 50, 276, 180)).save(tmp_path / "crops" / "a.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in RUN_BY_TEST_PAGES], ids=lambda p: p.name
)
def test_commands_and_code_run_in_order(page, workplace, capsys):
    run_page(page, capsys)


@pytest.mark.parametrize("page", PAGES + OTHERS, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if not link.startswith(("http:", "https:")):
            assert (page.parent / link).exists(), link


def test_every_page_and_example_is_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "index.md" or f"]({page.name})" in index, page.name
    examples = {path.relative_to(ROOT) for path in (ROOT / "examples").rglob("*.py")}
    for example in examples:
        assert f"](../{example.as_posix()})" in index, example


def test_every_page_is_on_the_site():
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[1].split("\nmark")[0]
    for page in (ROOT / "docs").glob("*.md"):
        assert re.search(rf"[ :-] {re.escape(page.name)}$", nav, re.M), page.name


def test_the_reference_has_every_public_name():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^::: fever_extract\.(\w+)$", page, re.M))
    public = {name for name in fever_extract.__all__ if not name.startswith("__")}
    assert public | {"FeverTransformer"} <= documented


def test_the_changelog_has_this_version():
    setup = (ROOT / "setup.cfg").read_text()
    (version,) = re.findall(r"^version = (.*)$", setup, re.M)
    log = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[{re.escape(version)}\]", log, re.M)
    assert "## [Unreleased]" in log


def test_the_version_stands_in_one_place():
    (version,) = re.findall(r"^version = (.*)$", (ROOT / "setup.cfg").read_text(), re.M)
    code = [*(ROOT / "fever_extract").rglob("*.py"), ROOT / "pyproject.toml", ROOT / "README.md"]
    assert [file.name for file in code if f'"{version}"' in file.read_text(encoding="utf-8")] == []
