"""The package's order: imports run downward, in no circle, and past no underscore.

Imports for type checkers count: who reads a module must know what these lead to.
"""

import ast
import configparser
import importlib
from pathlib import Path

PACKAGE = "fever_extract"
ROOT = Path(__file__).parents[1]

# Lowest first. A module belongs to the longest name here that it begins with, and imports only
# from its own line and those above.
LAYERS = [
    line.split()
    for line in """
    _utils kernels
    options quality records
    models
    _pillow
    alignment detection folders images
    hub pipeline
    bundle
    tables video
    jobs
    extractor _cache estimator
    interop
    report
    serve
    live
    cli
    training.recipes
    training.data
    training.evaluation
    training.trainer
    training.general
    training
    """.strip().splitlines()
]


def read() -> dict[str, set[str]]:
    """Each module of the package, by its name within it, and those that it imports."""
    files = {}
    for path in (ROOT / PACKAGE).rglob("*.py"):
        parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
        files[".".join(parts).removesuffix("__init__").removesuffix(".")] = path
    return {name: imported(path, name, set(files)) for name, path in files.items()}


def imported(path: Path, name: str, modules: set[str]) -> set[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    inside = [
        dotted.partition(".")[2] for dotted in found if f"{dotted}.".startswith(f"{PACKAGE}.")
    ]
    # What is no module is a name in one.
    named = {dotted if dotted in modules else dotted.rpartition(".")[0] for dotted in inside}
    return named - {name}


MODULES = read()
IMPORTS = {(module, other) for module, others in MODULES.items() for other in others}


def layer(module: str) -> int:
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        for number, names in enumerate(LAYERS):
            if ".".join(parts[:length]) in names:
                return number
    raise AssertionError(f"{module} has no layer: give it one in LAYERS")


def reached(module: str) -> set[str]:
    """Every module that the import of this one leads to."""
    found: set[str] = set()
    ahead = [module]
    while ahead:
        new = MODULES[ahead.pop()] - found
        found |= new
        ahead += new
    return found


def test_no_module_leads_back_to_itself():
    assert {module for module in MODULES if module in reached(module)} == set()


def test_imports_run_downward():
    inside = {(module, other) for module, other in IMPORTS if module}  # all but __init__
    assert {(a, b) for a, b in inside if not b or layer(a) < layer(b)} == set()


def test_private_modules_stay_in_their_folder():
    def private(module: str, other: str) -> bool:
        for place, part in enumerate(parts := other.split(".")):
            if part.startswith("_"):
                return module.split(".")[:place] != parts[:place]
        return False

    assert {(a, b) for a, b in IMPORTS if private(a, b)} == set()


def test_the_front_door_is_small():
    at_the_door = {module for module in MODULES if module} & {
        path.stem for path in (ROOT / PACKAGE).glob("*.py")
    }
    assert len(at_the_door) <= 12, sorted(at_the_door)


def test_every_folder_says_what_lives_there():
    for folder in {path.parent for path in (ROOT / PACKAGE).rglob("*.py")}:
        tree = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), folder


def test_every_folder_is_installed():
    """An editable installation has them all, whatever is listed."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = set(parser["options"]["packages"].split())
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / PACKAGE).rglob("__init__.py")}
    assert {".".join(folder.parts) for folder in folders} <= listed


def test_what_benchmarks_and_examples_import_is_there():
    """Most of them take too long to run here, and would break unseen when a name moves."""
    scripts = [
        path
        for folder in ("benchmarks", "examples", ".ci")
        for path in (ROOT / folder).rglob("*.py")
        if "node_modules" not in path.parts
    ]
    missing = []
    for path in scripts:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith(PACKAGE):
                module = importlib.import_module(str(node.module))
                missing += [
                    f"{path.name}: {node.module}.{alias.name}"
                    for alias in node.names
                    if not hasattr(module, alias.name)
                    and f"{node.module}.{alias.name}".removeprefix(f"{PACKAGE}.") not in MODULES
                ]
    assert len(scripts) > 10
    assert missing == []
