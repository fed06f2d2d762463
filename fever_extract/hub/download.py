"""Finding, downloading and publishing weights.

Everything that speaks to the Hugging Face Hub goes through huggingface_hub: its cache, its
token, its offline mode, its resumed downloads.
"""

from __future__ import annotations

import errno
import hashlib
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

EMBEDDED = "embedded"
"""What the weights inside the package are called where a source is shown."""

_FILES = [checkpoint.CONFIG, checkpoint.MODEL, checkpoint.CARD]
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
    """How to speak to the Hub; each None leaves it to huggingface_hub and its environment.

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
        return checkpoint.read(folder, name)


@dataclass(frozen=True)
class Portable:
    """Weights on their way to another process: the embedded ones by name, others whole.

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
        """Make them ready to be pickled."""
        content = weights.config.to_json(), weights.data
        return cls(
            _identity(weights),
            weights.source,
            None if weights.source == EMBEDDED else content,
            version("fever-extract"),
        )

    def unpack(self) -> checkpoint.Checkpoint:
        """Read them where they have arrived.

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
    return weights.sha256, hashlib.sha256(weights.config.to_json().encode()).hexdigest()


def download(name: str, options: HubOptions) -> Path:
    """The folder in huggingface_hub's cache that holds a repository's weights.

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
        with _bars_on_a_terminal_only():
            folder = snapshot_download(
                repo_id,
                revision=revision,
                cache_dir=None if options.cache_dir is None else Path(options.cache_dir),
                token=options.token,
                local_files_only=options.local_files_only,
                allow_patterns=_FILES,
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
            f"({_reason(error.__cause__ or error)}); download it once where there is network: "
            f"fever-extract download {name}"
        ) from None
    except errors.HfHubHTTPError as error:
        if error.response.status_code not in (401, 403):
            raise WeightsError(_could_not(name, error)) from error
        raise WeightsError(
            f"the Hub refuses {name!r} ({_reason(error)}): run `hf auth login` or give token="
        ) from None
    except errors.HFValidationError as error:
        raise WeightsError(f"{name!r} is no name of a Hub repository: {_reason(error)}") from None
    except Exception as error:
        # The HTTP client's errors have no common base that outlives its versions.
        raise WeightsError(_could_not(name, error)) from error
    return Path(folder)


def publish(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    revision: str | None = None,
    private: bool | None = None,
    create_pr: bool = False,
    token: str | bool | None = None,
) -> str:
    """Upload a folder of weights; repository and branch are made if they don't exist.

    Args:
        folder: what `fever_extract.models.checkpoint.save` wrote, and a model card.
        repo_id: ``org/name``.
        revision: branch to commit to; ``main`` if left out.
        private: whether a new repository is private; the account's default if left out.
        create_pr: open a pull request rather than commit.
        token: as in `HubOptions`.

    Returns:
        The address of the commit or the pull request.

    Raises:
        WeightsError: in one line, with what to do next.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token, library_name="fever-extract")
    try:
        if not create_pr:
            api.create_repo(repo_id, private=private, exist_ok=True)
            if revision:
                api.create_branch(repo_id, branch=revision, exist_ok=True)
        with _bars_on_a_terminal_only():
            commit = api.upload_folder(
                repo_id=repo_id,
                folder_path=Path(folder),
                revision=revision,
                create_pr=create_pr,
                allow_patterns=_FILES,
                commit_message="Upload weights with fever-extract",
            )
    except Exception as error:
        raise WeightsError(
            f"could not publish to {repo_id}: {_reason(error)}. A token with the right to write "
            "is needed: `hf auth login`, or token="
        ) from error
    return str(commit.pr_url or commit.commit_url)


@contextmanager
def _bars_on_a_terminal_only() -> Iterator[None]:
    """huggingface_hub draws its progress bars into logs as well; ours are never there."""
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
    """The folder with the two files, and what to call it."""
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
    """One line on a download that failed."""
    cause: BaseException | None = error
    while cause is not None:
        number = getattr(cause, "errno", None)
        if number in _NO_ROOM:
            return (
                f"{name} could not be downloaded: {_NO_ROOM[number]}; give another place "
                "with cache_dir= or HF_HOME"
            )
        cause = cause.__cause__ or cause.__context__
    return f"{name} could not be downloaded: {_reason(error)}; check the connection and try again"


def _reason(error: BaseException) -> str:
    """The first line of an error's message, or its kind."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".:") if lines else type(error).__name__
