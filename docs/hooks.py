"""Build the site from Markdown that also reads well in the repository.

Links between files of the repository stay as they are there. On the site, one that leaves docs/
leads to the repository, or to the page that is made of the file.
"""

import configparser
import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
ELSEWHERE = {
    "model-card.md": "weights/README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}
_PAGES = {source: page for page, source in ELSEWHERE.items()}
_LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Take the repository's address from setup.cfg, the only place that has it."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    config.repo_url = setup["metadata"]["url"]
    config.repo_name = setup["metadata"]["name"]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside docs/."""
    for page, source in ELSEWHERE.items():
        files.append(File.generated(config, page, abs_src_path=os.fspath(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite links that leave docs/."""
    folder = posixpath.dirname(ELSEWHERE.get(page.file.src_uri, f"docs/{page.file.src_uri}"))

    def rewrite(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[1]))
        anchor = match[2] or ""
        if target in _PAGES:
            return f"]({_PAGES[target]}{anchor})"
        if target.startswith("docs/"):
            return f"]({target.removeprefix('docs/')}{anchor})"
        view = "tree" if (ROOT / target).is_dir() else "blob"
        return f"]({config.repo_url}/{view}/main/{target}{anchor})"

    return _LINK.sub(rewrite, markdown)
