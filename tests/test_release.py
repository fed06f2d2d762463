"""What is only run where a release is made is tried here: its conditions, and who is asked."""

import configparser
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


def steps(workflow: str, job: str) -> list[dict]:
    text = (ROOT / ".github" / "workflows" / workflow).read_text(encoding="utf-8")
    return yaml.safe_load(text)["jobs"][job]["steps"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="the step is written for bash")
@pytest.mark.parametrize(
    ("tag", "version", "changes", "complaint"),
    [
        ("v1.2.3", "1.2.3", "## [1.2.3]", ""),
        ("v1.2.4", "1.2.3", "## [1.2.3]", "the tag is v1.2.4, but setup.cfg has version 1.2.3"),
        ("1.2.3", "1.2.3", "## [1.2.3]", "the tag is 1.2.3, but setup.cfg has version 1.2.3"),
        ("v1.2.3", "1.2.3", "## [1.2.30]", "CHANGELOG.md has no section [1.2.3]"),
    ],
)
def test_a_tag_that_is_not_the_version_is_refused(tmp_path, tag, version, changes, complaint):
    setup = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    parsed = configparser.ConfigParser()
    parsed.read_string(setup)
    line = f"version = {parsed['metadata']['version']}\n"
    assert setup.count(line) == 1
    (tmp_path / "setup.cfg").write_text(setup.replace(line, f"version = {version}\n"))
    (tmp_path / "CHANGELOG.md").write_text(f"{changes}\n")
    (script,) = (step["run"] for step in steps("release.yml", "build") if "Refuse" in str(step))
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        env={**os.environ, "GITHUB_REF_NAME": tag},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == bool(complaint)
    assert complaint in done.stdout


def test_only_the_step_that_publishes_may_ask_for_a_token_and_only_after_the_check():
    text = (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    asking = [name for name, job in workflow["jobs"].items() if "permissions" in job]
    assert asking == ["publish"]
    assert workflow["jobs"]["publish"]["needs"] == "build"


def test_issues_ask_for_the_output_of_info():
    for form in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"):
        fields = yaml.safe_load(form.read_text(encoding="utf-8"))["body"]
        assert any("fever-extract info" in str(field) for field in fields), form.name
