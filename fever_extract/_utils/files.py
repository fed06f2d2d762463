"""Atomic file replacement, locks, and clean-up of files left behind by killed runs."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_OURS = re.compile(r"\.fever-extract-[0-9a-f]{32}\.(?:tmp|lock)")
_NO_ROOM = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", None))
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def check_output(
    output: str | os.PathLike[str], extensions: Collection[str], noun: str = "output"
) -> Path:
    """Refuse an output that can't be written, before any work is done; return its path.

    Raises:
        ValueError: if its name ends in none of the extensions.
        FileNotFoundError: if its folder does not exist.
    """
    path = Path(output)
    if path.suffix.lower() not in extensions:
        raise ValueError(f"{noun} {path}: the name must end in {' or '.join(extensions)}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{noun} {path}: the folder {path.parent} does not exist")
    return path


@contextmanager
def replace_atomically(path: Path, *, inside: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; at the end it is synced and takes its place.

    If the block raises, the temporary file is removed and ``path`` stays as it was. Its name is
    random, and its writer holds a lock on it for as long as it lives: what a killed run left in
    that folder is known by both, and removed.

    Args:
        path: if it is a symbolic link, what it leads to is replaced, as ``>`` in a shell would.
        inside: the folder is the job's own and the name is not the user's choice: a link there
            is replaced itself, and `remove_dead` is called elsewhere.

    Raises:
        OSError: at once, if no such file can be written.
    """
    before = None
    if not inside:
        with suppress(FileNotFoundError):
            before = os.stat(path)  # fails for too long a name, or a link not to be followed
        if before is not None and not stat.S_ISREG(before.st_mode):
            raise OSError(f"{path} is no regular file; give another name")
        path = Path(os.path.realpath(path))
        remove_dead(path.parent)
    temporary = path.parent / f".fever-extract-{secrets.token_hex(16)}.tmp"
    descriptor = None
    try:  # from here on, as an interrupt may come the moment that the file is there
        descriptor = _create(temporary)
        if before is not None:
            with suppress(OSError):
                os.chmod(temporary, stat.S_IMODE(before.st_mode))  # a private file stays private
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        if error.errno in _NO_ROOM and error.filename is None:
            error.filename = os.fspath(path)  # the system does not say what had no room
        raise
    finally:
        with suppress(OSError):  # it is in its place, or was never made
            temporary.unlink()
        if descriptor is not None:
            os.close(descriptor)


def remove_dead(folder: Path) -> None:
    """Remove this package's temporary and lock files in a folder if their processes are dead."""
    if fcntl is None:
        return  # no locks there that tell which processes live
    with suppress(OSError), os.scandir(folder) as entries:
        ours = [entry.path for entry in entries if _OURS.fullmatch(entry.name)]
        for path in ours:
            with suppress(OSError):  # someone else's, or gone
                descriptor = os.open(path, os.O_RDWR | _NO_LINKS)
                try:
                    if os.fstat(descriptor).st_uid == os.geteuid():
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        os.unlink(path)
                finally:
                    os.close(descriptor)


@contextmanager
def exclusive(output: Path, lock: Path | None = None) -> Iterator[None]:
    """Keep other runs away from an output; the lock goes with the process, however that ends.

    Args:
        output: a file or a folder.
        lock: a file of this package's own, which stays; by default one beside the output, which
            is removed in the end.

    Raises:
        OSError: if another run holds it, or it can't be created.
    """
    # Imported here to keep the package's import quick.
    from filelock import FileLock, Timeout

    remove = lock is None
    if lock is None:
        real = os.path.realpath(output)
        digest = hashlib.sha256(os.fsencode(real)).hexdigest()[:32]
        lock = Path(real).with_name(f".fever-extract-{digest}.lock")
    held = FileLock(lock, timeout=0)
    try:
        try:
            held.acquire()
        except NotImplementedError:
            message = f"output {output}: this file system has no locks; give another"
            raise OSError(message) from None
        except Timeout:
            message = f"another run is at work on {output}; wait for it or stop it"
            raise OSError(message) from None
        except KeyboardInterrupt:
            if remove and not held.is_locked:  # the file may be there all the same
                remove_dead(lock.parent)
            raise
        yield
    finally:
        if held.is_locked:
            if remove and os.name != "nt":  # Windows can't remove an open file
                lock.unlink(missing_ok=True)
            held.release()


def _create(path: Path) -> int | None:
    """Create an empty, locked file; return the descriptor that holds the lock."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if fcntl is None:
            os.close(descriptor)  # Windows can't rename an open file
            return None
        with suppress(OSError):  # some network file systems have no locks: nothing counts as dead
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # removed as dead before it was locked


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that renames in it survive a power cut."""
    if os.name == "nt":
        return  # folders can't be opened there
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
