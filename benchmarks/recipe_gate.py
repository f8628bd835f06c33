"""How often the recipe gate says "worse": false alarms and detected losses, estimated from the committed runs.

    python benchmarks/recipe_gate.py [--repeats 2000]     one core, minutes; the tables of docs/benchmarks.md

Runs are simulated from the committed ones: each is one of them, drawn with replacement, plus a little normal noise with
their covariance (a smoothed bootstrap that keeps their variance). A reference distribution of the committed size is
drawn this way, then a gate's runs. A loss subtracts some standard deviations from one figure, or from all.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from r1_searcher.files.artefacts import read_json
from r1_searcher.regression.figures import FIGURES
from r1_searcher.regression.recipe import baseline_file
from r1_searcher.regression.seeds import ERROR, seed_verdicts
from stages.regression.present import RECIPE_PROFILE

NOISE = 0.3  # in standard deviations
DRAWS = 1999  # groups per test; the gate itself draws more
SEEDS = (3, 4, 6, 8, 12)  # of a gate's run
LOSSES = (1.0, 1.5, 2.0, 3.0)  # standard deviations
GATES = 40  # per drawn distribution, for the rate of one committed file
Floats = NDArray[np.float64]


def world(runs: Floats) -> Callable[[np.random.Generator, int], Floats]:
    """Draws runs (n, M) from the smoothed distribution of ``runs`` (N, M)."""
    mean, spread = runs.mean(axis=0), np.cov(runs.T)
    root = np.linalg.cholesky(spread + 1e-12 * np.eye(len(mean)))

    def draw(generator: np.random.Generator, number: int) -> Floats:
        picked = runs[generator.integers(len(runs), size=number)] - mean
        noise = generator.standard_normal((number, len(mean))) @ root.T
        found: Floats = mean + (picked + NOISE * noise) / np.sqrt(1 + NOISE**2)
        return found

    return draw


def shares(
    draw: Callable[[np.random.Generator, int], Floats], committed: int, seeds: int, loss: Floats, repeats: int
) -> tuple[float, float, float]:
    """Return the shares of gates that say worse, and better; and of those whose intervals all contain the truth."""
    generator = np.random.default_rng(1)
    worse = better = held = 0
    for _ in range(repeats):
        found = seed_verdicts([*FIGURES], draw(generator, committed), draw(generator, seeds) - loss, draws=DRAWS)
        said = {change.verdict for change in found}
        worse += "worse" in said
        better += "better" in said and "worse" not in said
        held += all(change.low <= -lost <= change.high for change, lost in zip(found, loss, strict=True))
    return worse / repeats, better / repeats, held / repeats


def by_distribution(
    draw: Callable[[np.random.Generator, int], Floats], committed: int, seeds: int, repeats: int
) -> Iterator[float]:
    """Return the false-alarm rate of each of several drawn distributions."""
    generator = np.random.default_rng(2)
    for _ in range(max(1, repeats // GATES)):
        reference = draw(generator, committed)
        gates = (seed_verdicts([*FIGURES], reference, draw(generator, seeds), draws=DRAWS) for _ in range(GATES))
        yield sum(any(change.verdict == "worse" for change in found) for found in gates) / GATES


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2000, help="of each scenario (2000)")
    options = parser.parse_args()
    committed = read_json(baseline_file(RECIPE_PROFILE))["runs"]
    runs = np.array([[figures[name] for name in FIGURES] for figures in committed.values()])
    draw, spread = world(runs), runs.std(axis=0, ddof=1)
    none = np.zeros(len(spread))

    print(f"{len(runs)} committed runs; worse is to be said in at most {100 * ERROR:g} %\n")
    print("| figure | mean | standard deviation over seeds |\n|---|---:|---:|")
    for name, mean, deviation in zip(FIGURES, runs.mean(axis=0), spread, strict=True):
        print(f"| {name} | {mean:.3f} | {deviation:.3f} |")
    print(
        "\n| seeds | false alarms | better | all intervals hold | "
        + " | ".join(f"{loss:g} sd" for loss in LOSSES)
        + " |"
    )
    print("|---:|---:|---:|---:|" + "---:|" * len(LOSSES))
    for seeds in SEEDS:
        worse, better, held = shares(draw, len(runs), seeds, none, options.repeats)
        found = []
        for loss in LOSSES:
            one = np.where(np.arange(len(spread)) == 1, loss * spread, 0.0)  # stage 1's mean reward alone
            found.append(f"{100 * shares(draw, len(runs), seeds, one, options.repeats)[0]:.1f}")
        print(
            f"| {seeds} | {100 * worse:.1f} | {100 * better:.1f} | {100 * held:.1f} | {' | '.join(found)} |", flush=True
        )
    rates = np.array(list(by_distribution(draw, len(runs), 6, options.repeats)))
    print(
        f"\nFalse alarms by drawn distribution, 6 seeds: mean {100 * rates.mean():.1f} %, "
        f"nine of ten below {100 * np.quantile(rates, 0.9):.1f} %"
    )


if __name__ == "__main__":
    main()
