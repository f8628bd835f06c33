"""Load the engine that the parameters name, with a policy's weights."""

from __future__ import annotations

from pathlib import Path

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.extensions import Extension, bind_parameters
from r1_searcher.model_folders import load_config, load_tokenizer
from r1_searcher.points import ENGINES
from r1_searcher.rollout.chat_template import try_template
from r1_searcher.rollout.prompt import prompt_of
from r1_searcher.types.model_config import check_lengths
from r1_searcher.types.protocols import Engine

_NEEDED = sorted({*Engine.__annotations__, *(name for name in vars(Engine) if not name.startswith("_"))})


def load_engine(policy: Path | str, rollout: params.Rollout, *, tensor_parallel: int = 1) -> Engine:
    """Load the engine that ``rollout.engine`` names, with the policy's weights, on ``tensor_parallel`` GPUs.

    Raises ``PipelineError`` if the engine would sample wrongly from the policy (logits that are not its head's,
    positions that depend on a sequence's length, a chat template that rejects the prompt), and if the registered engine
    lacks a part of ``Engine``.
    """
    tokenizer = load_tokenizer(policy)
    try_template(prompt_of(rollout), tokenizer)
    check_lengths(load_config(policy), rollout.max_total_tokens)
    found = ENGINES.find(rollout.engine, rollout.extensions)
    load = bind_parameters(Extension(rollout.kind.load, found.registered, found.file), None, ENGINES.noun)
    engine: Engine = load(policy, tokenizer, rollout, tensor_parallel=tensor_parallel)
    lacking = [name for name in _NEEDED if not hasattr(engine, name)]
    if lacking:
        raise PipelineError(
            f"the engine {rollout.engine!r} loads {type(engine).__name__}, which has no {', '.join(lacking)}",
            where=found.place(),
            fix="r1_searcher/types/protocols.py lists the methods of an Engine",
        )
    return engine
