"""The settings that make words of texts and queries: as parameters, in an index' meta.json, and in its names.

An index is searched with the settings that it was built with; parameters that have changed since are refused.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts
from r1_searcher.retrieval import stopwords
from r1_searcher.retrieval.model_tokenizer import TOKENIZER_FILE, locate
from r1_searcher.retrieval.tokenizer import BOTH, CHARACTERS, CJK_KINDS, Tokenizer

REBUILD = "run `dvc repro index`, or `python -m stages.index`"
# Version of the code that makes words: raise it if the same settings give other words for any text. A test compares
# them with recorded ones.
WORDS_FORM = 2
# The first version was named by hashes. Its indexes have no folding and tokenizer; both are what they are below.
FIRST_FORMS = (
    "752badf82c14a0c99720e1478cfa6e08f4445834c90ca918f9a543de1ede5ddd",
    "866679e426b0800d24b7a34d2a7a8c8c5b4d7c5abb2337ae6176d34619758cd7",
)
_FIRST = {"folding": "case", "tokenizer": CHARACTERS}
# These add nothing to an index' names, so that an index of ASCII text, whose words they do not change, is named as in
# the first version.
_DEFAULTS = {"folding": "accents", "tokenizer": BOTH}
_NO_MATTER = {"memory_gb", "dense"}  # parameters that affect no file of the index
_SHA = "sha256:"


def chosen_tokenizer(index: params.Index) -> Tokenizer:
    """Return the tokenizer that the parameters choose. Raises ``PipelineError`` as ``Tokenizer``."""
    kind = index.tokenizer if index.tokenizer in CJK_KINDS else str(_located(index.tokenizer))
    return Tokenizer(index.stemmer, index.stopwords, folding=index.folding, kind=kind)


def _located(tokenizer: str) -> Path:
    if "/" not in tokenizer and not Path(tokenizer).exists():
        raise PipelineError(
            f"no tokenizer {tokenizer!r}",
            where="params.yaml, index.tokenizer",
            fix=f"known: {', '.join(CJK_KINDS)}; or a folder with a {TOKENIZER_FILE}",
        )
    return locate(tokenizer)


def recorded(index: params.Index) -> dict[str, Any]:
    """Return the settings for meta.json. The user's own stop words stand there themselves, and a tokenizer.json by its
    sha256: what the parameters name may change."""
    settings = index.model_dump(exclude=_NO_MATTER)
    settings["stopwords"] = stopwords.recorded(index.stopwords)
    if index.tokenizer not in CJK_KINDS:
        settings["tokenizer"] = _SHA + artefacts.sha256_file(_located(index.tokenizer))
    return settings


def copy_tokenizer(index: params.Index, folder: Path) -> None:
    """Copy the tokenizer.json that the parameters choose, if any, into the index folder."""
    if index.tokenizer not in CJK_KINDS:
        shutil.copyfile(_located(index.tokenizer), folder / TOKENIZER_FILE)


def index_tokenizer(settings: Mapping[str, Any], folder: Path) -> Tokenizer:
    """Return the tokenizer of an index folder with these recorded settings."""
    settings = {**_FIRST, **settings}
    kind = settings["tokenizer"]
    if kind.startswith(_SHA):
        file = folder / TOKENIZER_FILE
        if not file.is_file() or artefacts.sha256_file(file) != kind.removeprefix(_SHA):
            raise PipelineError(
                f"a broken index: {TOKENIZER_FILE} is missing or changed", where=str(folder), fix=REBUILD
            )
        kind = str(file)
    return Tokenizer(settings["stemmer"], settings["stopwords"], folding=settings["folding"], kind=kind)


def check_form(meta: Mapping[str, Any], folder: Path) -> None:
    """Raise ``PipelineError`` for an index whose words were made by another version of this code."""
    if meta["tokenizer"] not in (WORDS_FORM, *FIRST_FORMS):
        raise PipelineError("the index was made with another tokenizer", where=str(folder), fix=REBUILD)


def of_queries(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what makes words of a query, for the fingerprint of a search."""
    return {name: value for name, value in _named(settings).items() if name in ("stemmer", "stopwords", *_DEFAULTS)}


def shown(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return recorded settings for people and for protocol cards."""
    return {name: _shown(value) for name, value in _named(settings).items()}


def _named(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**_FIRST, **settings}.items() if _DEFAULTS.get(name) != value}


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"of {len(value)} words ({artefacts.fingerprint(value)[:12]})"
    return f"{TOKENIZER_FILE} {value.removeprefix(_SHA)[:12]}" if str(value).startswith(_SHA) else str(value)


def check_unchanged(settings: Mapping[str, Any], index: params.Index, folder: Path) -> None:
    """Raise ``PipelineError`` if an index was built with other settings than the parameters now say.

    Settings that an index does not record, because it is older than they are, are not compared.
    """
    asked = recorded(index)
    changed = [name for name in asked if name in settings and settings[name] != asked[name]]
    if changed:
        built = ", ".join(f"index.{name} {_shown(settings[name])} (now {_shown(asked[name])})" for name in changed)
        raise PipelineError(f"the index was built with {built}", where=str(folder), fix=f"{REBUILD}, or set it back")
