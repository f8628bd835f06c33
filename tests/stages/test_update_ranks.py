"""Two ranks learn what one learns, whatever is sharded, and resume from each other's checkpoints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import ranks_update as ranks
from fixtures_update import make_policy

from r1_searcher.files import artefacts
from r1_searcher.update.shards import Tensors

pytestmark = pytest.mark.slow

# The allowed distance between two runs, relative to how far the weights moved. Float32: sums over ranks in another
# order (measured 2e-6). bfloat16: gradients are rounded to 8 bits before they are summed (measured 0.07).
FLOAT32, BFLOAT16 = 1e-4, 0.15
EXTREMES = ("ratio_max", "ratio_min", "ratio_p99", "logprob_gap_max", "importance_ratio_max", "gradient_norm_max")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of two ranks, beside those of one (``one``, ``one-bfloat16``)."""
    out = tmp_path_factory.mktemp("ranks")
    policy = make_policy(out / "start")
    metrics = {
        "one": ranks.run_case(policy, out / "one-whole", {}),
        "one-bfloat16": ranks.run_case(policy, out / "one-bfloat16", {"dtype": "bfloat16", "zero_stage": 2}),
        "one-lora": ranks.run_case(policy, out / "one-lora", {"lora": ranks.LORA}),
    }
    (out / "one").mkdir()
    for part in ("policy", "trainer_state"):
        (out / "one-whole" / "half" / part).rename(out / "one" / part)
    artefacts.write_json(out / "one.json", metrics)
    tests = Path(ranks.__file__).parent
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launcher, ranks.__file__, str(policy), str(out)],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)])},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def compare(found: Path, expected: Path, start: Path, tolerance: float) -> None:
    one, other, began = Tensors(found), Tensors(expected), Tensors(start)
    assert set(one) == set(other) == set(began)
    apart = sum(float((one[name].float() - other[name].float()).square().sum()) for name in one)
    way = sum(float((other[name].float() - began[name]).square().sum()) for name in one)
    assert apart**0.5 <= tolerance * way**0.5


@pytest.mark.parametrize("case", ranks.CASES)
def test_two_ranks_learn_what_one_learns(made: Path, case: str) -> None:
    """The loss and the other figures of each of the five updates, and the weights after them."""
    half = case.startswith("bfloat16")
    metrics = artefacts.read_json(made / "metrics.json")[case]
    kind = case.partition("-")[0]
    alone = {"bfloat16": "one-bfloat16", "lora": "one-lora"}.get(kind, "one")
    expected = artefacts.read_json(made / "one.json")[alone]
    assert len(metrics) == len(expected) == ranks.UPDATES and "loss" in expected[0]
    for number, (found, wanted) in enumerate(zip(metrics, expected, strict=True)):
        rel, most = (5e-2, 2e-2) if half else (1e-3, 1e-5)
        # Rounded gradients move single tokens' ratios further than the means.
        names = [name for name in wanted if not (half and name in EXTREMES)]
        assert [found[name] for name in names] == pytest.approx([wanted[name] for name in names], rel=rel, abs=most), (
            number
        )
    compare(
        made / case / "policy",
        made / ("one-whole" if alone == "one" else alone) / "policy",
        made / "start",
        BFLOAT16 if half else FLOAT32,
    )


@pytest.mark.parametrize("case", ["one-to-two", "zero2-to-zero3"])
def test_another_number_of_ranks_goes_on(made: Path, case: str) -> None:
    """From one rank's checkpoint with two, and from ZeRO 2's in ZeRO 3."""
    compare(made / case / "policy", made / "one-whole" / "policy", made / "start", FLOAT32)


@pytest.mark.parametrize("case", ["zero0", "zero3", "bfloat16-zero2"])
def test_one_rank_goes_on_from_two(made: Path, case: str, tmp_path: Path) -> None:
    settings = {"dtype": "bfloat16", "zero_stage": 3} if case.startswith("bfloat16") else {}
    ranks.go_on(made / "start", made / case / "half" / "policy", tmp_path, settings)
    compare(tmp_path / "policy", made / case / "policy", made / "start", BFLOAT16 if settings else FLOAT32)
