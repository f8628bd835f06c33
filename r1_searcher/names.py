"""Names and paths from parameters that reach a shell, a DVC stage or a file's path.

DVC inserts such values unchanged into the commands and outputs of dvc.yaml, and removes an output before it runs its
stage. So a name is letters, digits, _ and -, and a path has no character that is special in a shell.
"""

from __future__ import annotations

import posixpath
import re
from typing import Annotated

from pydantic import AfterValidator

from r1_searcher.errors import PipelineError

_MOST = 50  # characters of a name: with a suffix and in any alphabet still a valid file name
_NAME = re.compile(r"\w[\w-]*")
_PROFILE = re.compile(r"\w[\w.-]*")
_PATH = re.compile(r"[\w./][\w./@+=,-]*")
_SHOWN = 60


def name(text: str) -> str:
    """Return ``text`` if it is a name; else raise ``ValueError``."""
    if not _NAME.fullmatch(text) or len(text) > _MOST:
        raise ValueError(f"{_shown(text)} is not a valid name: use letters, digits, _ and -, at most {_MOST} of them")
    return text


def profile_name(text: str) -> str:
    """Return ``text`` if it may name a profile, its workspace and its files; else raise ``ValueError``."""
    if not _PROFILE.fullmatch(text) or len(text) > _MOST:
        raise ValueError(
            f"{_shown(text)} is not a valid profile name: use letters, digits, _, - and dots, at most {_MOST} of them"
        )
    return text


def path_text(text: str) -> str:
    """Return ``text`` if it is a path within the project or an absolute one, in plain characters; else raise
    ``ValueError``."""
    if not _PATH.fullmatch(text):
        raise ValueError(
            f"{_shown(text)} is not a path that is safe in commands: use only letters, digits and _ . / @ + = , -"
        )
    if posixpath.normpath(text).split("/")[0] == "..":
        raise ValueError(f"{_shown(text)} leads out of the project; an absolute path may")
    return text


def checked_profile(text: str, *, where: str = "profile") -> str:
    """As ``profile_name``, for command lines and flows: raises ``PipelineError``."""
    try:
        return profile_name(text)
    except ValueError as error:
        raise PipelineError(str(error), where=where) from None


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")


Name = Annotated[str, AfterValidator(name)]
ProfileName = Annotated[str, AfterValidator(profile_name)]
PathText = Annotated[str, AfterValidator(path_text)]
