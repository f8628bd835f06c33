"""How often the verdict of ``python -m stages.evaluate compare`` is right: a simulation with a known truth.

    python benchmarks/verdict.py [--repeats 4000]     one core; the tables of docs/benchmarks.md

Two policies answer N questions. DISCORDANT of them are answered rightly by only one of the two, more of them by the
first, by the size of the loss. F1 is 1 for a right answer, else 0, 0.4, 0.5 or 0.67 at random; Cover-EM is right for
these too, and in a tenth of the other cases; the format is right in 97 %. Random parts are drawn independently for each
policy: two real evaluations have more in common, which makes the verdict more powerful.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from r1_searcher.types.arrays import Floats

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from r1_searcher.statistics.verdict import Change, Rule, overall, verdicts

RULE = Rule(margin=0.02, confidence=0.95, worse_share=0.8)  # the defaults of params.yaml
DISCORDANT = 0.15
PARTIAL = np.array([0.0, 0.4, 0.5, 0.67])
COVERED = 0.1
FORMAT = 0.97
WEIGHTS = [1.0, 1.0, 1.0, 0.25]
METRICS = len(WEIGHTS)


def sampled(generator: np.random.Generator, n: int, *, loss: float = 0.0, discordant: float = DISCORDANT) -> Floats:
    """Return differences (n, METRICS) of EM, F1, Cover-EM and format."""
    draw = generator.random(n)
    lost, won = (discordant + loss) / 2, (discordant - loss) / 2
    first = np.where(draw < lost + won, draw < lost, draw < lost + won + (1 - lost - won) * 0.6)
    second = np.where(draw < lost + won, draw >= lost, first)
    found: Floats = metrics(generator, second) - metrics(generator, first)
    return found


def metrics(generator: np.random.Generator, right: NDArray[np.bool_]) -> Floats:
    """Return values (n, METRICS) of answers; ``right`` (n,): whether each is right."""
    partial = generator.choice(PARTIAL, right.shape[0])
    covered = generator.random(right.shape[0]) < COVERED
    formed = generator.random(right.shape[0]) < FORMAT
    return np.stack([right, np.where(right, 1, partial), right | covered, formed], axis=1).astype(float)


def truth(loss: float) -> Floats:
    """Return mean differences of the four metrics (METRICS,)."""
    return -loss * np.array([1.0, 1.0 - PARTIAL.mean(), 1.0 - COVERED, 0.0])


def said(changes: Iterable[Iterable[Change]]) -> str:
    return overall([change.verdict for part in changes for change in part])


def rates(counts: Counter[str], repeats: int) -> str:
    return "".join(f"{100 * counts[name] / repeats:>13.1f}" for name in ("worse", "better", "same", "cannot tell"))


HEAD = f"{'':<44}{'n':>7}{'repeats':>9}" + "".join(f"{name:>13}" for name in ("worse", "better", "same", "cannot tell"))


def scenario(name: str, n: int, repeats: int, *, loss: float, discordant: float = DISCORDANT, **shape: int) -> None:
    """Print the shares of the four verdicts. ``columns``: the number of metrics, from the first; ``benchmarks``: their
    number, with n questions each, of which ``losing`` have the loss."""
    columns, parts = shape.get("columns", METRICS), shape.get("benchmarks", 1)
    losing = shape.get("losing", parts)
    generator = np.random.default_rng([n, repeats, columns, parts, losing, int(1000 * loss), int(1000 * discordant)])
    counts: Counter[str] = Counter()
    for _ in range(repeats):
        family = [
            sampled(generator, n, loss=loss if part < losing else 0.0, discordant=discordant)[:, :columns]
            for part in range(parts)
        ]
        counts[said(verdicts(family, RULE, weights=[WEIGHTS[:columns]] * parts))] += 1
    print(f"{name:<44}{n:>7,}{repeats:>9,}{rates(counts, repeats)}", flush=True)


def coverage(n: int, repeats: int, loss: float) -> None:
    """Print how often all four intervals contain the truth at once."""
    generator = np.random.default_rng([n, repeats])
    expected = truth(loss)
    held = 0
    for _ in range(repeats):
        (changes,) = verdicts([sampled(generator, n, loss=loss)], RULE, weights=[WEIGHTS])
        held += all(change.low <= mean <= change.high for change, mean in zip(changes, expected, strict=True))
    name = f"all intervals hold the truth, loss {100 * loss:g}"
    print(f"{name:<44}{n:>7,}{repeats:>9,}{100 * held / repeats:>13.1f}")


def told(n: int, repeats: int) -> None:
    """Print the number of questions that would suffice, and how often it does."""
    generator = np.random.default_rng([n, 5])
    needed = []
    for _ in range(100):
        (changes,) = verdicts([sampled(generator, n)], RULE, weights=[WEIGHTS])
        needed.append(max(change.enough or 0 for change in changes))
    enough = int(np.median([number for number in needed if number]))
    print(f"Asked with {n} questions, 'cannot tell' says that about {enough:,} would (median of 100). With so many:")
    scenario("  nothing changed", enough, repeats, loss=0.0)
    scenario("  a loss of the margin", enough, repeats, loss=RULE.margin)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=1000, help="of each scenario with few questions")
    many = parser.parse_args().repeats
    few = min(many, 1000)
    began = time.process_time()

    print(
        f"margin {RULE.margin:g}, confidence {RULE.confidence:g}, worse_share {RULE.worse_share:g}; percent of repeats"
    )
    print(f"\nTwo samplings of one policy\n{HEAD}")
    for n in (20, 100, 500):
        scenario("four metrics", n, many, loss=0.0)
    scenario("four metrics", 2000, few, loss=0.0)
    scenario("EM alone", 500, many, loss=0.0, columns=1)
    scenario("four metrics, three benchmarks of n", 300, few, loss=0.0, benchmarks=3)
    scenario("four metrics, 2 % discordant", 500, many, loss=0.0, discordant=0.02)

    print(f"\nA loss of 5 points\n{HEAD}")
    for n in (100, 200, 500, 1000):
        scenario("EM alone", n, many, loss=0.05, columns=1)
    for n in (100, 200, 500, 1000):
        scenario("four metrics", n, many, loss=0.05)
    scenario("four metrics, one of three benchmarks of n", 500, few, loss=0.05, benchmarks=3, losing=1)
    scenario("four metrics, all three benchmarks of n", 500, few, loss=0.05, benchmarks=3)

    print(f"\nWhen it says that nothing changed\n{HEAD}")
    for discordant, n in ((0.05, 2000), (0.15, 2000), (0.15, 5000)):
        scenario(f"nothing changed, {100 * discordant:g} % discordant", n, few, loss=0.0, discordant=discordant)
        scenario("  a loss of the margin", n, few, loss=RULE.margin, discordant=discordant)
    print()
    told(500, few)

    print()
    coverage(500, many, 0.0)
    coverage(500, many, 0.05)
    print(f"\n{time.process_time() - began:.0f} s of CPU")


if __name__ == "__main__":
    main()
