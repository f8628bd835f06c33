"""Which policy answers if none is named, and what it may be asked."""

from __future__ import annotations

from pathlib import Path

from r1_searcher.errors import PipelineError
from r1_searcher.params import Params

_BASE = Path("data/base_model")
_FACTS, _HELD_OUT = Path("data/corpus/facts.parquet"), Path("data/questions/held_out.parquet")
_NUMBER = 3


def last_policy(params: Params, root: Path = Path(), *, options: str = "--policy") -> Path:
    """Return the last policy that training made in a checkout: of the last segment that has one, else the base model.

    Raises ``PipelineError`` if there is none. ``options``: what the command has to name another one.
    """
    made = [root / "data/train" / name / "policy" for name in params.train.segments]
    for folder in (*reversed(made), root / _BASE):
        if (folder / "config.json").is_file():
            return folder
    fix = f"run `make train`, or name one with {options}"
    raise PipelineError("there is no policy yet", where=str(root / _BASE), fix=fix)


def questions_to_try(root: Path = Path()) -> list[str]:
    """Return some questions about the synthetic world of a checkout; empty if its corpus is no world.

    Whoever reads them has seen neither the world nor its questions.
    """
    if not (root / _FACTS).is_file() or not (root / _HELD_OUT).is_file():
        return []
    import pyarrow.parquet as pq

    if pq.read_metadata(root / _FACTS).num_rows == 0:
        return []
    texts: list[str] = pq.read_table(root / _HELD_OUT, columns=["question"])["question"].to_pylist()
    step = max(1, len(texts) // _NUMBER)
    return texts[::step][:_NUMBER]
