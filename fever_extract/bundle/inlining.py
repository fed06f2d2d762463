"""Make a module a self-contained file by inlining what it imports from the package.

So the program in a bundle and the package are the same code where they do the same: only
definitions that are used come along, as they stand in their modules.
"""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import dataclass, field
from importlib import resources
from textwrap import indent

_PACKAGE = "fever_extract"
_CHECKS = "TYPE_CHECKING"
_NOTE = """
# Written by fever-extract export --bundle, from the package's own modules: change them there.
"""
_LINE = 100


@dataclass
class _Module:
    """The top level of a source file.

    Attributes:
        name: dotted, with the package.
        docstring: or an empty text.
        definitions: text and tree of what stands there, by its name, in order.
        outside: imports of other packages, by the name that they bind: the module, and what of it
            or under which other name.
        inside: by the name that it binds, the module and its definition, or only the module.
        typing: as ``outside``, for type checkers only.
        absent: names of this package that only type checkers see.
        main: what is done when it is run as a program.
    """

    name: str
    docstring: str = ""
    definitions: dict[str, tuple[str, ast.stmt]] = field(default_factory=dict)
    outside: dict[str, tuple[str, str]] = field(default_factory=dict)
    inside: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    typing: dict[str, tuple[str, str]] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)
    main: str = ""


def inline(name: str) -> str:
    """The text of a file that needs nothing of this package.

    Args:
        name: the module whose definitions all come along, with the package.

    Raises:
        ValueError: if two definitions have one name, or something is imported where it is used or
            by way of another module: give one of them another name, or import it at the top from
            where it is defined.
    """
    modules: dict[str, _Module] = {}
    used: dict[str, set[str]] = {}
    root = _parse(name, modules)
    _follow(root, list(root.definitions), modules, used)
    order = _order(root.name, modules, used)
    owners: dict[str, str] = {}
    for module in order:
        for definition in used[module]:
            if owners.setdefault(definition, module) != module:
                raise ValueError(f"{owners[definition]} and {module} both define {definition}")
    parts = [_text(modules[module], used[module]) for module in order]
    body = "\n\n\n".join(part for part in parts if part)
    names = {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}
    outside: dict[str, tuple[str, str]] = {_CHECKS: ("typing", _CHECKS)}
    typing: dict[str, tuple[str, str]] = {}
    absent: set[str] = set()
    for module in order:
        outside |= modules[module].outside
        typing |= modules[module].typing
        absent |= names & (modules[module].absent - set(owners))
    imports = _imports({bound: outside[bound] for bound in outside if bound in {*names, _CHECKS}})
    checked = _imports({name: typing[name] for name in names & set(typing) - set(outside)})
    checked += "".join(f"\n{name} = object\n" for name in sorted(absent))
    return (
        f'"""{root.docstring}"""\n\nfrom __future__ import annotations\n\n{imports}\n'
        + f"if {_CHECKS}:\n{indent(checked, '    ')}\n{_NOTE}\n\n{body}\n\n\n{root.main}\n"
    )


def _parse(name: str, modules: dict[str, _Module]) -> _Module:
    """Read a module, once."""
    if name in modules:
        return modules[name]
    module = modules[name] = _Module(name)
    _, *folders, last = name.split(".")
    path = resources.files(_PACKAGE).joinpath("/".join([*folders, f"{last}.py"]))
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    module.docstring = ast.get_docstring(tree, clean=False) or ""
    lines = source.splitlines()
    latest = None
    for position, node in enumerate(tree.body):
        if isinstance(node, ast.If):
            text = _segment(lines, node)
            if text.startswith("if TYPE_CHECKING"):
                _read_imports(module, node.body, typing=True)
            elif "__main__" in text.splitlines()[0]:
                module.main = text
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            _read_imports(module, [node], typing=False)
            continue
        text = _segment(lines, node)
        if isinstance(node, ast.Expr):
            # What stands below a constant describes it.
            if position and latest:
                # Of `a, b = 1, 2`, all have the same text.
                for defined, (known, other) in module.definitions.items():
                    if other is module.definitions[latest][1]:
                        module.definitions[defined] = f"{known}\n{text}", other
            continue
        names = _defined(node)
        for defined in names:
            module.definitions[defined] = text, node
        latest = names[-1] if names else None
    return module


def _segment(lines: list[str], node: ast.stmt) -> str:
    """A statement as it stands, with its decorators and the comments right above it."""
    start = node.lineno
    if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.decorator_list:
        start = node.decorator_list[0].lineno
    while start > 1 and lines[start - 2].startswith("#"):
        start -= 1
    return "\n".join(lines[start - 1 : node.end_lineno])


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
    return [
        name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)
    ]


def _read_imports(module: _Module, nodes: list[ast.stmt], *, typing: bool) -> None:
    others = module.typing if typing else module.outside
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                renamed = f" as {alias.asname}" if alias.asname else ""
                others[alias.asname or alias.name.partition(".")[0]] = alias.name, renamed
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            source = str(node.module)
            for alias in node.names:
                bound = alias.asname or alias.name
                if source.partition(".")[0] != _PACKAGE:
                    renamed = f" as {alias.asname}" if alias.asname else ""
                    others[bound] = source, alias.name + renamed
                elif typing:
                    module.absent.add(bound)
                elif _is_module(f"{source}.{alias.name}"):
                    module.inside[bound] = f"{source}.{alias.name}", None
                else:
                    module.inside[bound] = source, alias.name


def _is_module(name: str) -> bool:
    *folders, last = name.split(".")[1:]
    return resources.files(_PACKAGE).joinpath("/".join([*folders, f"{last}.py"])).is_file()


def _follow(
    module: _Module,
    wanted: list[str],
    modules: dict[str, _Module],
    used: dict[str, set[str]],
) -> None:
    """Gather definitions and what they use, by their modules."""
    done = used.setdefault(module.name, set())
    ahead = [name for name in wanted if name not in done]
    elsewhere: list[tuple[str, str]] = []
    while ahead:
        name = ahead.pop()
        if name in done:
            continue
        if name not in module.definitions:
            raise ValueError(f"{module.name} does not define {name} itself, at its top level")
        done.add(name)
        for inner in ast.walk(module.definitions[name][1]):
            if isinstance(inner, ast.ImportFrom) and str(inner.module).startswith(_PACKAGE):
                raise ValueError(f"{module.name}.{name} imports where it uses")
            if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name):
                other = module.inside.get(inner.value.id)
                if other and other[1] is None:
                    elsewhere.append((other[0], inner.attr))
            if isinstance(inner, ast.Name):
                if inner.id in module.definitions:
                    ahead.append(inner.id)
                other = module.inside.get(inner.id)
                if other and other[1] is not None:
                    elsewhere.append((other[0], other[1]))
    for name, definition in elsewhere:
        _follow(_parse(name, modules), [definition], modules, used)


def _order(name: str, modules: dict[str, _Module], used: dict[str, set[str]]) -> list[str]:
    """The used modules, each after those it takes from; this one is last."""
    order: dict[str, None] = {}
    for source, definition in modules[name].inside.values():
        if source in used and (definition is None or definition in used[source]):
            order |= dict.fromkeys(_order(source, modules, used))
    return [*order, name]


def _text(module: _Module, used: set[str]) -> str:
    """The used definitions of a module in their order, under its name."""
    aliases = [bound for bound, (_, name) in module.inside.items() if name is None]
    texts: list[str] = []
    latest = None
    for name, (text, node) in module.definitions.items():
        if name not in used or node is latest:  # of `a, b = 1, 2`
            continue
        latest = node
        block = isinstance(node, ast.FunctionDef | ast.ClassDef)
        after_block = bool(texts) and texts[-1].lstrip("# @").startswith(("def", "class"))
        texts.append(("\n\n" if texts and (block or after_block) else "") + text)
    body = "\n".join(texts)
    for alias in aliases:
        body = re.sub(rf"\b{alias}\.(?=[A-Za-z_])", "", body)
    source = module.name.replace(".", "/") + ".py"
    gap = "\n\n\n" if body.startswith(("def ", "class ", "@")) else "\n\n"
    return f"# {'-' * 10} {source}{gap}{body}" if body else ""


def _imports(found: dict[str, tuple[str, str]]) -> str:
    """Import statements, in a linter's order: of the standard library first."""
    groups: dict[bool, dict[str, list[str]]] = {True: {}, False: {}}
    for module, what in found.values():
        standard = module.partition(".")[0] in sys.stdlib_module_names
        groups[standard].setdefault(module, []).append(what)
    texts = []
    for group in groups.values():
        plain, from_ = [], []
        for module, names in sorted(group.items()):
            plain += [f"import {module}{name}" for name in names if not name or name[0] == " "]
            named = sorted((name for name in names if name and name[0] != " "), key=_isort)
            if named:
                from_.append(f"from {module} import {', '.join(named)}")
        texts.append("\n".join(plain + from_))
    return "\n\n".join(text for text in texts if text) + "\n"


def _isort(name: str) -> tuple[bool, bool, str]:
    return not name.isupper(), not name[:1].isupper(), name.lower()
