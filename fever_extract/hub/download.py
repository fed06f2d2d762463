"""Find and download weights.

Everything that speaks to the Hugging Face Hub goes through huggingface_hub: its cache, its
token, its offline mode, its resumed downloads.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version
from pathlib import Path

from fever_extract.models import checkpoint
from fever_extract.models.config import WeightsError

_logger = logging.getLogger(__name__)

EMBEDDED = "embedded"
"""What the weights inside the package are called where a source is shown."""

FILES = [checkpoint.CONFIG, checkpoint.MODEL, checkpoint.CARD]
"""What is downloaded of a repository."""
_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_NO_ROOM = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the cache can't be written to",
    errno.EACCES: "the cache can't be written to",
    errno.EPERM: "the cache can't be written to",
}


@dataclass(frozen=True)
class HubOptions:
    """Hub settings; None leaves each to huggingface_hub and its environment variables.

    Attributes:
        revision: branch, tag or commit; ``main`` if neither this nor ``org/name@revision``
            says so.
        cache_dir: in place of ``HF_HOME``'s cache.
        token: access token, in place of ``HF_TOKEN`` or the one that was logged in with.
        local_files_only: use what is cached and no network, as ``HF_HUB_OFFLINE=1`` does.
    """

    revision: str | None = None
    cache_dir: str | os.PathLike[str] | None = None
    token: str | bool | None = None
    local_files_only: bool = False


def load(
    source: str | os.PathLike[str] | None = None, options: HubOptions | None = None
) -> checkpoint.Checkpoint:
    """Find and read weights.

    Looked for in this order: nothing given, the embedded default; a folder that exists;
    a Hugging Face Hub repository ``org/name`` or ``org/name@revision``.

    Args:
        source: see above.
        options: for the Hub.

    Raises:
        WeightsError: if nothing is found there, or what is there can't be used.
    """
    with _locate(source, options or HubOptions()) as (folder, name):
        weights = checkpoint.read(folder, name)
    _logger.info("weights %s from %s, SHA-256 %s", weights.config.name, name, weights.sha256)
    return weights


@dataclass(frozen=True)
class Portable:
    """Picklable weights: the embedded ones by their SHA-256, others whole.

    Attributes:
        sha256: of ``model.safetensors`` and of the config, in hexadecimal.
        source: as of `Checkpoint`.
        content: the config as JSON and the bytes of ``model.safetensors``; None for the embedded
            weights, which every process has.
        version: of this package, where the weights came from.
    """

    sha256: tuple[str, str]
    source: str
    content: tuple[str, bytes] | None
    version: str

    @classmethod
    def of(cls, weights: checkpoint.Checkpoint) -> Portable:
        """Prepare weights for pickling."""
        content = weights.config.to_json(), weights.data
        return cls(
            _identity(weights),
            weights.source,
            None if weights.source == EMBEDDED else content,
            version("fever-extract"),
        )

    def unpack(self) -> checkpoint.Checkpoint:
        """Restore the weights after unpickling.

        Raises:
            WeightsError: if the embedded weights are others here.
        """
        if self.content is not None:
            return checkpoint.parse(*self.content, self.source)
        weights = load()
        if _identity(weights) != self.sha256:
            raise WeightsError(
                f"this was made with the weights inside fever-extract {self.version} (SHA-256 "
                f"{self.sha256[0][:12]}...), and those inside {version('fever-extract')} here are "
                f"others ({weights.sha256[:12]}...): use one version on both sides"
            )
        return weights


def _identity(weights: checkpoint.Checkpoint) -> tuple[str, str]:
    return weights.sha256, weights.config.sha256


def download(name: str, options: HubOptions) -> Path:
    """Download a repository's weights; return their folder in huggingface_hub's cache.

    Args:
        name: ``org/name`` or ``org/name@revision``.
        options: for the Hub.

    Raises:
        WeightsError: in one line, with what to do next.
    """
    from huggingface_hub import errors, snapshot_download

    repo_id, _, tagged = name.partition("@")
    if tagged and options.revision and tagged != options.revision:
        raise WeightsError(f"{name!r} and revision={options.revision!r} name two revisions")
    revision = options.revision or tagged or None
    if not _NAME.fullmatch(repo_id):
        raise WeightsError(
            f"{name!r} is neither a folder that exists nor the name of a Hub repository, org/name"
        )
    try:
        with bars_on_a_terminal_only():
            folder = snapshot_download(
                repo_id,
                revision=revision,
                cache_dir=None if options.cache_dir is None else Path(options.cache_dir),
                token=options.token,
                local_files_only=options.local_files_only,
                allow_patterns=FILES,
                library_name="fever-extract",
                library_version=version("fever-extract"),
            )
    except errors.GatedRepoError:
        raise WeightsError(
            f"{repo_id} is gated: ask for access on its page on the Hub, then run "
            "`hf auth login` or give token="
        ) from None
    except errors.RepositoryNotFoundError:
        raise WeightsError(
            f"{name!r} is no folder here, and the Hub shows no such repository; if it is "
            "private, run `hf auth login` or give token="
        ) from None
    except errors.RevisionNotFoundError:
        raise WeightsError(f"{repo_id} has no revision {revision!r} on the Hub") from None
    except errors.LocalEntryNotFoundError as error:
        raise WeightsError(
            f"{name!r} is not in the cache, and the Hub can't be asked "
            f"({reason(error.__cause__ or error)}); download it once where there is network: "
            f"fever-extract download {name}"
        ) from None
    except errors.HfHubHTTPError as error:
        if error.response.status_code not in (401, 403):
            raise WeightsError(_could_not(name, error)) from error
        raise WeightsError(
            f"the Hub refuses {name!r} ({reason(error)}): run `hf auth login` or give token="
        ) from None
    except errors.HFValidationError as error:
        raise WeightsError(f"{name!r} is no name of a Hub repository: {reason(error)}") from None
    except Exception as error:
        # The HTTP client's errors have no common base that outlives its versions.
        raise WeightsError(_could_not(name, error)) from error
    return Path(folder)


@contextmanager
def bars_on_a_terminal_only() -> Iterator[None]:
    """Keep huggingface_hub's progress bars out of logs."""
    from huggingface_hub import utils

    terminal = sys.stderr is not None and sys.stderr.isatty()
    quiet = not terminal and not utils.are_progress_bars_disabled()  # type: ignore[attr-defined]
    if quiet:
        utils.disable_progress_bars()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        if quiet:
            utils.enable_progress_bars()  # type: ignore[attr-defined]


@contextmanager
def _locate(
    source: str | os.PathLike[str] | None, options: HubOptions
) -> Iterator[tuple[Path, str]]:
    """Locate the folder with the two files, and name it."""
    if source is None:
        if options.revision is not None:
            raise WeightsError("revision= names a version on the Hub; give org/name with it")
        with _embedded() as folder:
            yield folder, EMBEDDED
        return
    folder = Path(source)
    if folder.is_dir():
        if options.revision is not None:
            raise WeightsError(f"{folder} is a folder, which has no revisions; leave it out")
        name = str(folder)
        yield folder, f"{os.curdir}{os.sep}{name}" if name == EMBEDDED else name
        return
    if folder.is_file():
        raise WeightsError(
            f"{folder} is a file; give the folder that holds it and its {checkpoint.CONFIG}"
        )
    yield download(str(source), options), str(source)


def _embedded() -> AbstractContextManager[Path]:
    try:
        return resources.as_file(resources.files("fever_extract.weights"))
    except ModuleNotFoundError:
        # Python was started in a checkout, whose package hides the installed one.
        return nullcontext(Path(__file__).parents[2] / "weights")


def _could_not(name: str, error: Exception) -> str:
    """Explain a failed download in one line."""
    cause: BaseException | None = error
    while cause is not None:
        number = getattr(cause, "errno", None)
        if number in _NO_ROOM:
            return (
                f"{name} could not be downloaded: {_NO_ROOM[number]}; give another place "
                "with cache_dir= or HF_HOME"
            )
        cause = cause.__cause__ or cause.__context__
    return f"{name} could not be downloaded: {reason(error)}; check the connection and try again"


def reason(error: BaseException) -> str:
    """Take the first line of an error's message, or its type."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".:") if lines else type(error).__name__
