"""Check once, when a model becomes the base model, that engine, trainer and a plain forward agree.

transformers has hundreds of kinds of models, and what engine and trainer do with them (a cache of rows of different
lengths, their own masks, packed rows, a separate head) is right only for those with certain habits, which no list of
names gives. So the engine samples a few tokens after short prompts of different lengths, and the trainer and the
model's own code, with its own attention, score them. Windows are shortened meanwhile, so that the prompts reach beyond
them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.model_folders import load_model, load_tokenizer
from r1_searcher.rollout.engine import TransformersEngine
from r1_searcher.rollout.prompt import prompt_of
from r1_searcher.rollout.sync import Gap, tolerance
from r1_searcher.shown import Log
from r1_searcher.transcripts import grammar
from r1_searcher.types.protocols import Sampling
from r1_searcher.update import attention
from r1_searcher.update.packing import lay_out, token_offsets
from r1_searcher.update.policy import TokenPolicy, run_pass

KNOWN_GOOD = {  # model_type of transformers -> its name; each is a test
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "llama": "Llama",
    "mistral": "Mistral",
    "gemma": "Gemma 1",
    "gemma2": "Gemma 2",
    "gemma3_text": "Gemma 3",
    "phi3": "Phi-3",
    "olmo2": "OLMo 2",
    "smollm3": "SmolLM3",
    "glm4": "GLM-4",
    "gpt_neox": "GPT-NeoX",
}
LENGTHS = (9, 40, 75, 110)  # tokens of the prompts: of different lengths, above the window and above PREFILL_ALONE
INSERTED = (12, 70, 12, 70)  # tokens inserted after a first turn
_TURN = 6  # tokens sampled at a time
WINDOW = 48
QUESTION = "Who wrote the novel from which the film of 1931 was made?"


@dataclass
class _Sampled:
    """A trajectory: its tokens (T,), whether the engine sampled each (T,), and the log-probabilities of those (P,)."""

    ids: list[int]
    mask: list[bool]
    logprobs: list[float] = field(default_factory=list)

    def add(self, ids: Sequence[int], *, sampled: bool) -> None:
        self.ids += ids
        self.mask += [sampled] * len(ids)


def check_agreement(folder: Path, settings: params.Params, log: Log, *, where: str) -> None:
    """Compare engine and trainer with a plain forward of the model in ``folder``; changes nothing in it.

    Raises ``PipelineError`` with the gap if one of them differs by more than rounding. If the engine takes weights from
    folders, such as vLLM, only the trainer is checked: the engine is compared with the trainer when it gets weights
    (``rollout.sync``).
    """
    rollout = settings.rollout
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_model(folder, dtype=rollout.dtype).to(device)
    allowed = tolerance(rollout.dtype, 1.0)
    found: dict[str, Gap] = {}
    with torch.inference_mode(), _short_window(model.config, model):
        engine = TransformersEngine(model, load_tokenizer(folder))
        if rollout.kind.in_memory:
            engine.check_head(where)
        sampled = _sample(engine, rollout)
        expected = _plain_logprobs(model, sampled)
        if rollout.kind.in_memory:
            found["engine"] = _gap([row.logprobs for row in sampled], expected)
        for layout in ("padded", "packed"):
            update = settings.update.model_copy(update={"layout": layout, "dtype": rollout.dtype})
            try:
                gap = _gap(_trainer_logprobs(model, update, sampled, device), expected)
            except PipelineError as error:
                if layout == settings.update.layout:
                    raise
                log(f"update.layout: {layout} is not for this model: {error.what}")
                continue
            found["trainer" if layout == "padded" else "packed trainer"] = gap
    for name, gap in found.items():
        if not gap.within(allowed):
            if name == "packed trainer" and settings.update.layout == "padded":
                log(f"update.layout: packed is not for this model: its log-probabilities are {gap.mean:.2g} off")
                continue
            raise PipelineError(
                f"the {name}'s log-probabilities are {gap.mean:.2g} on average and {gap.largest:.2g} at most from "
                f"those of a plain forward, where {allowed.mean:.2g} and {allowed.largest:.2g} are allowed",
                where=where,
                fix=f"choose a model of a supported kind: {', '.join(KNOWN_GOOD.values())}",
            )
    number = sum(len(row.logprobs) for row in sampled)
    told = ", ".join(f"{name} {gap.mean:.1g}" for name, gap in found.items())
    kind = model.config.model_type
    known = f"{KNOWN_GOOD[kind]} is known good" if kind in KNOWN_GOOD else f"{kind} is not among the kinds we test"
    log(f"compared with a plain forward pass, over {number} tokens, {rollout.dtype}: {told} off on average; {known}")


def _sample(engine: TransformersEngine, rollout: params.Rollout) -> list[_Sampled]:
    """Sample two turns of each trajectory in one batch, with tokens inserted between them."""
    config = engine._model.config
    has = getattr(config, "max_position_embeddings", None) or rollout.max_total_tokens
    room = min(rollout.max_total_tokens, has, LENGTHS[-1] + INSERTED[-1] + 2 * _TURN)
    if room < 4 * _TURN:
        raise PipelineError(
            f"{room} tokens per trajectory are too few", where="rollout.max_total_tokens", fix="raise it"
        )
    text = engine.encode(prompt_of(rollout).render(QUESTION, engine.tokenizer))
    text *= 1 + LENGTHS[-1] // len(text)
    share = room / (LENGTHS[-1] + INSERTED[-1] + 2 * _TURN)
    engine.start(Sampling(temperature=1.0, top_p=1.0, max_turn_tokens=_TURN, max_total_tokens=room), grammar.STOPS)
    rows = []
    for number, length in enumerate(LENGTHS):
        prompt = text[: max(1, int(length * share) - _TURN)] if share < 1 else text[:length]
        rows.append(_Sampled([], []))
        rows[-1].add(prompt, sampled=False)
        engine.add(number, prompt, seed=number)
    turns = [0] * len(rows)
    while ended := engine.step():
        for turn in ended:
            number, row = turn.trajectory, rows[turn.trajectory]
            row.add(turn.token_ids, sampled=True)
            row.logprobs += turn.logprobs
            turns[number] += 1
            inserted = text[-max(1, int(INSERTED[number] * min(share, 1))) :]
            if turns[number] == 1 and len(row.ids) + len(inserted) < room:
                row.add(inserted, sampled=False)
                engine.extend(number, inserted)
            else:
                engine.release(number)
    return rows


def _plain_logprobs(model: Any, sampled: Sequence[_Sampled]) -> list[list[float]]:
    """Return log-probabilities (P,) of each trajectory's sampled tokens by the model's own code, one at a time."""
    model.set_attn_implementation("eager")
    found = []
    for row in sampled:
        ids = torch.tensor(row.ids, device=model.device)
        logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1].float()
        logprobs = logits.log_softmax(-1).gather(-1, ids[1:, None])[:, 0].tolist()
        found.append([value for value, counts in zip(logprobs, row.mask[1:], strict=True) if counts])
    return found


def _trainer_logprobs(
    model: Any, update: params.Update, sampled: Sequence[_Sampled], device: torch.device
) -> list[list[float]]:
    """Return the same by the trainer's passes."""
    try:
        model.set_attn_implementation(attention.implementation(update, model.config))
    except ValueError as error:
        told = " ".join(str(error).split())[:200]
        raise PipelineError(f"its attention does not suit the trainer: {told}", where="config.json") from error
    policy = TokenPolicy(model, 1.0)
    ids, masks = [row.ids for row in sampled], [row.mask for row in sampled]
    offsets = token_offsets(masks)
    flat = np.zeros(int(offsets[-1]), dtype=np.float32)
    for piece in lay_out(ids, masks, range(len(ids)), max_tokens=sum(map(len, ids)) // 2, layout=update.layout):
        logprobs, _ = run_pass(policy, piece, device)
        flat[piece.slots] = logprobs.cpu().numpy()
    return [flat[offsets[b] : offsets[b + 1]].tolist() for b in range(len(ids))]


def _gap(found: Sequence[Sequence[float]], expected: Sequence[Sequence[float]]) -> Gap:
    apart = [
        abs(one - other)
        for row, wanted in zip(found, expected, strict=True)
        for one, other in zip(row, wanted, strict=True)
    ]
    return Gap(float(np.mean(apart)), float(np.max(apart)))


@contextlib.contextmanager
def _short_window(config: Any, model: Any) -> Iterator[None]:
    """Shorten the window of a model's layers within the context, in its configuration and in its layers."""
    places = [(one, getattr(one, "sliding_window", None)) for one in (config, *model.modules())]
    changed = [(one, width) for one, width in places if isinstance(width, int) and width > WINDOW]
    for one, _ in changed:
        one.sliding_window = WINDOW
    try:
        yield
    finally:
        for one, width in changed:
            one.sliding_window = width
