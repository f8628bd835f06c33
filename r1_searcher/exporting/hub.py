"""Upload an exported folder to a hub that has Hugging Face's API (``HF_ENDPOINT``, ``HF_TOKEN``)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from r1_searcher.errors import PipelineError
from r1_searcher.shown import printable

RepositoryKind = Literal["model", "dataset"]


def push_folder(folder: Path, repository: str, *, kind: RepositoryKind = "model", private: bool = True) -> str:
    """Create ``repository`` (owner/name) if it is missing, and upload ``folder`` in one commit; return its address.

    The token comes from ``HF_TOKEN`` or from `hf auth login`, and is never shown. Raises ``PipelineError`` for a folder
    without a card, an offline setting, a refused token and an unreachable hub.
    """
    if not (folder / "README.md").is_file():
        raise PipelineError(
            "no README.md: only exported folders can be pushed",
            where=str(folder),
            fix="make one with r1-searcher export policy",
        )
    there: RepositoryKind = "model" if (folder / "config.json").is_file() else "dataset"
    if there != kind:
        raise PipelineError(
            f"the folder has a {there}, not a {kind}",
            where=str(folder),
            fix="add --dataset" if there == "dataset" else "leave --dataset out",
        )
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        raise PipelineError("the hub is switched off", where="HF_HUB_OFFLINE=1", fix="set HF_HUB_OFFLINE=0")
    import httpx2  # what huggingface_hub speaks by
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi()
    try:
        made = api.create_repo(repository, repo_type=kind, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=made.repo_id,
            repo_type=kind,
            folder_path=folder,
            commit_message=f"Upload {folder.name}",
            ignore_patterns=["files.sha256", "__pycache__/*"],  # ask.py may have been imported
        )
    except HFValidationError as error:
        raise PipelineError(_first(error), where=repository, fix="name it OWNER/NAME") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        fix = "set HF_TOKEN to a token with write access" if status in (401, 403) else None
        raise PipelineError(f"the hub answered {status}: {_first(error)}", where=api.endpoint, fix=fix) from None
    except httpx2.HTTPError as error:
        raise PipelineError(
            f"the hub cannot be reached: {_first(error)}", where=api.endpoint, fix="check the network and HF_ENDPOINT"
        ) from None
    return str(made)


def _first(error: Exception) -> str:
    return printable((str(error).strip().splitlines() or [type(error).__name__])[0])[:300]
