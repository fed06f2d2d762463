"""Checks in environments of their own, each of about 5 GB; ``nox -l`` lists them.

    nox -s lint                     one of them
    nox -s tests-3.12 -- -k tables  with arguments for pytest
    nox -s oldest                   the tests at the floor of every dependency

What lands a change is ``.ci/run``, which needs no nox.
"""

import configparser
import json
import re
import shutil
from pathlib import Path

import nox

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
SETUP = configparser.ConfigParser()
SETUP.read(Path(__file__).with_name("setup.cfg"))

nox.needs_version = ">=2024.4"
nox.options.sessions = ["lint", "docs", "tests-" + PYTHONS[-1]]


def requirements(*extras: str) -> list[str]:
    """What setup.cfg asks for in some extras, without the package itself."""
    lines = "\n".join(SETUP["options.extras_require"][extra] for extra in extras).splitlines()
    return [line for line in map(str.strip, lines) if line and not line.startswith("#")]


def floors() -> list[str]:
    """Return every ``>=`` of setup.cfg as ``==``, so that a floor that no longer holds shows."""
    texts = [SETUP["options"]["install_requires"], *SETUP["options.extras_require"].values()]
    lines = "\n".join(texts).splitlines()
    matches = (re.match(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", line.strip()) for line in lines)
    return [f"{match[1]}=={match[2]}.*" for match in matches if match]


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the README's tests."""
    session.install("-e", ".[dev]")
    session.run("pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Run ruff and mypy."""
    session.install("-e", ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site into site/; the package is read, not imported, so torch is not needed."""
    session.install(*requirements("docs"))
    session.run("mkdocs", "build", "--strict", *session.posargs)


@nox.session(python=PYTHONS[0])
def oldest(session: nox.Session) -> None:
    """Run the tests at the floor of every dependency."""
    constraints = Path(session.create_tmp()) / "floors.txt"
    constraints.write_text("\n".join(floors()) + "\n")
    session.log(", ".join(floors()))
    session.install("--constraint", str(constraints), "-e", ".[dev]")
    session.run("pytest", *session.posargs)


@nox.session(python=PYTHONS[-1])
def newest(session: nox.Session) -> None:
    """Run the tests with the newest release of every dependency."""
    session.install("--upgrade", "--upgrade-strategy", "eager", "-e", ".[dev]")
    session.run("pytest", *session.posargs)


@nox.session(python=PYTHONS)
def resolve(session: nox.Session) -> None:
    """See whether pip finds versions for "fever-extract[all]"; nothing is installed."""
    report = Path(session.create_tmp()) / "report.json"
    session.run("pip", "install", "-q", "--dry-run", "--report", str(report), ".[all]")
    packages = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    versions = {package["name"]: package["version"] for package in packages}
    shown = ", ".join(f"{name} {versions[name]}" for name in ("torch", "torchvision", "numpy"))
    session.log(f"{len(packages)} packages; {shown}")


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel, by way of the sdist, and use it where there is nothing else, offline.

    An argument names the folder to build to, which must not exist: ``nox -s wheel -- dist``.
    """
    folder = Path(session.create_tmp()).resolve()
    target = Path(*session.posargs or [folder / "dist"]).resolve()
    if not session.posargs:
        shutil.rmtree(target, ignore_errors=True)
    session.install("build")
    session.run("python", "-m", "build", "--outdir", str(target), ".")
    (built,) = target.glob("*.whl")
    session.install(f"fever-extract[parquet] @ {built.as_uri()}")
    script = Path(".ci/try_wheel.py").resolve()
    session.chdir(folder)
    session.run("python", str(script), env={"HF_HUB_OFFLINE": "1"})
