"""Optional dependencies: check for them, and say how to install them."""

from __future__ import annotations

from importlib.util import find_spec


def install(extra: str) -> str:
    """Give the command that installs an extra."""
    return f"pip install 'fever-extract[{extra}]'"


def require(*packages: str, extra: str, needed_by: str, otherwise: str = "") -> None:
    """Refuse to begin without some packages.

    Args:
        packages: their import names.
        extra: of this package, that installs them.
        needed_by: what needs them, for the message.
        otherwise: what else the user may do.

    Raises:
        ImportError: if one of them is missing.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        hint = f"{needed_by} needs {', '.join(missing)}: {install(extra)}"
        raise ImportError(f"{hint}, {otherwise}" if otherwise else hint)
