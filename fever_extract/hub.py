"""Finding, reading, saving and publishing weights: ``config.json`` beside ``model.safetensors``.

Everything that speaks to the Hugging Face Hub goes through huggingface_hub: its cache, its
token, its offline mode, its resumed downloads. Only JSON and safetensors are ever read.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from fever_extract.config import Config, ConfigError, WeightsError
from fever_extract.files import replace_atomically

if TYPE_CHECKING:
    import torch

CONFIG = "config.json"
MODEL = "model.safetensors"
CARD = "README.md"
EMBEDDED = "embedded"
"""What the weights inside the package are called where a source is shown."""

# One entry only: safetensors writes several in random order, and the bytes are an identity.
_METADATA = {"format": "pt"}
_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_NO_ROOM = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the cache can't be written to",
    errno.EACCES: "the cache can't be written to",
    errno.EPERM: "the cache can't be written to",
}


@dataclass(frozen=True)
class Checkpoint:
    """Weights that were read.

    Attributes:
        config: its ``config.json``.
        state_dict: its tensors, in the dtypes of the file (float16 in ours).
        sha256: of ``model.safetensors``, in hexadecimal: the identity of the vectors.
        source: where it came from, in words.
        data: the bytes of ``model.safetensors``, to be saved and published as they are.
    """

    config: Config
    state_dict: dict[str, torch.Tensor]
    sha256: str
    source: str
    data: bytes = field(repr=False)


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
) -> Checkpoint:
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
        return _read(folder, name)


def save(
    folder: str | os.PathLike[str],
    config: Config,
    weights: Mapping[str, torch.Tensor] | bytes,
) -> None:
    """Write weights as a folder that `load` (and the Hub) takes.

    Args:
        folder: made if it does not exist.
        config: of the weights.
        weights: tensors, stored in their dtypes; or the bytes of a safetensors file.

    Raises:
        WeightsError: if a tensor has values that are not finite.
    """
    folder = Path(folder)
    data = weights if isinstance(weights, bytes) else _to_bytes(weights)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in ((MODEL, data), (CONFIG, config.to_json().encode())):
        with replace_atomically(folder / name) as temporary:
            temporary.write_bytes(content)


def _to_bytes(state_dict: Mapping[str, torch.Tensor]) -> bytes:
    import torch
    from safetensors.torch import save as serialize

    tensors = {name: tensor.cpu().contiguous() for name, tensor in state_dict.items()}
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise WeightsError(f"the weights have values that are not finite, in {name!r}")
    data: bytes = serialize(tensors, metadata=_METADATA)
    return data


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
        folder = snapshot_download(
            repo_id,
            revision=revision,
            cache_dir=None if options.cache_dir is None else Path(options.cache_dir),
            token=options.token,
            local_files_only=options.local_files_only,
            allow_patterns=[CONFIG, MODEL, CARD],
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
        folder: what `save` wrote, and a model card.
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
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=Path(folder),
            revision=revision,
            create_pr=create_pr,
            allow_patterns=[CONFIG, MODEL, CARD],
            commit_message="Upload weights with fever-extract",
        )
    except Exception as error:
        raise WeightsError(
            f"could not publish to {repo_id}: {_reason(error)}. A token with the right to write "
            "is needed: `hf auth login`, or token="
        ) from error
    return str(commit.pr_url or commit.commit_url)


@contextmanager
def _locate(
    source: str | os.PathLike[str] | None, options: HubOptions
) -> Iterator[tuple[Path, str]]:
    """The folder with the two files, and what to call it."""
    if source is None:
        if options.revision is not None:
            raise WeightsError("revision= names a version on the Hub; give org/name with it")
        with resources.as_file(resources.files("fever_extract.weights")) as folder:
            yield folder, EMBEDDED
        return
    folder = Path(source)
    if folder.is_dir():
        if options.revision is not None:
            raise WeightsError(f"{folder} is a folder, which has no revisions; leave it out")
        yield folder, str(folder)
        return
    if folder.is_file():
        raise WeightsError(f"{folder} is a file; give the folder that holds it and its {CONFIG}")
    yield download(str(source), options), str(source)


def _read(folder: Path, name: str) -> Checkpoint:
    from safetensors import SafetensorError
    from safetensors.torch import load as from_bytes

    for file in (CONFIG, MODEL):
        if not (folder / file).is_file():
            raise WeightsError(
                f"{name} has no {file}: weights are a {CONFIG} beside a {MODEL}; pickled files "
                "(.bin, .pt, .pth) are never read"
            )
    text, data = (_read_whole(folder / file, name) for file in (CONFIG, MODEL))
    try:
        config = Config.from_json(text)
    except ConfigError as error:
        raise ConfigError(f"{name}: {CONFIG}: {error}") from None
    try:
        tensors = from_bytes(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise WeightsError(f"{name}: {MODEL} is not a whole safetensors file: {error}") from None
    return Checkpoint(config, tensors, hashlib.sha256(data).hexdigest(), name, data)


def _read_whole(path: Path, name: str) -> bytes:
    """A file's content; in the Hub's cache, only if it is what its name there says.

    The cache calls a file by its SHA-256 (large files) or its git blob id, but the client
    compares no more than sizes. A damaged file is removed, so that the next try loads it anew.
    """
    data = path.read_bytes()
    blob = path.resolve()
    if not path.is_symlink() or blob.parent.name != "blobs":
        return data
    digests = {
        64: lambda: hashlib.sha256(data),
        40: lambda: hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False),
    }
    digest = digests.get(len(blob.name))
    if digest is not None and digest().hexdigest() != blob.name:
        for damaged in (path, blob):
            damaged.unlink(missing_ok=True)
        raise WeightsError(
            f"{name}: {path.name} is damaged (its hash is not the one that the Hub gave); it was "
            "removed from the cache: try again"
        )
    return data


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
