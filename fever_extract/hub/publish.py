"""Publish weights on the Hugging Face Hub."""

from __future__ import annotations

import os
from pathlib import Path

from fever_extract.hub.download import FILES, bars_on_a_terminal_only, reason
from fever_extract.models import checkpoint
from fever_extract.models.config import WeightsError


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
        with bars_on_a_terminal_only():
            commit = api.upload_folder(
                repo_id=repo_id,
                folder_path=Path(folder),
                revision=revision,
                create_pr=create_pr,
                allow_patterns=[*FILES, checkpoint.PROCESSOR, f"{checkpoint.BUNDLE}/**"],
                commit_message="Upload weights with fever-extract",
            )
    except Exception as error:
        raise WeightsError(
            f"could not publish to {repo_id}: {reason(error)}. A token with the right to write "
            "is needed: `hf auth login`, or token="
        ) from error
    return str(commit.pr_url or commit.commit_url)
