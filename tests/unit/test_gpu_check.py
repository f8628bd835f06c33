"""benchmarks/gpu_check, the kit for the first minutes on a GPU, on machines without one."""

from __future__ import annotations

import ast
import functools
import json
import re
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bare_machine
import engine_jobs
import gpu_check_faults as faults
import numpy as np
import pytest
import torch
from gpu_check import claims, contract, figures, kernels, page, probe, rl, runner, sizes, tiny
from gpu_check.__main__ import _checked_model
from gpu_check.parts import PARTS
from living import all_end
from pretended_gpu import pretended_gpu

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.rollout import load_engine
from r1_searcher.update.trainers import TorchTrainer

ROOT = Path(__file__).resolve().parents[2]

KIT = sorted((ROOT / "benchmarks/gpu_check").glob("*.py"))


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Torch, transformers and what these require; Arrow and peft for two parts."""
    return bare_machine.make(tmp_path_factory.mktemp("bare") / "packages", "pyarrow", "peft")


@pytest.fixture(scope="module")
def rehearsed(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Any, Any]]:
    """The folder, the process and results.json of a rehearsal on a bare machine, with three faulty parts."""
    out = tmp_path_factory.mktemp("kit")
    only = ["hang", "crash", "out_of_memory", "device", *faults.WITHOUT_ARROW, "zero", "rl"]
    root = bare_machine.carried(tmp_path_factory.mktemp("carried"), "tests/gpu_check_faults.py")
    options = ["--out", str(out), "--minutes", "4", "--only", *only]
    run = bare_machine.run(packages, "-m", "tests.gpu_check_faults", *options, timeout=240, root=root)
    yield out, run, json.loads((out / "results.json").read_text())


def states(results: Any) -> dict[str, tuple[str, str]]:
    return {one["part"]: (one["state"], one["why"]) for one in results["parts"]}


@pytest.mark.slow
def test_torch_and_transformers_are_enough(rehearsed: tuple[Path, Any, Any]) -> None:
    """Without pydantic, httpx and much more; Arrow is there for the last part, and these fail if they load it."""
    _, run, results = rehearsed
    found = states(results)
    for part in ("device", *faults.WITHOUT_ARROW):
        assert found[part] == ("done", ""), (part, found[part], run.stderr)
    versions = {one["name"]: one["value"] for one in results["parts"][0]["figures"]}
    assert versions["pydantic"] == versions["deepspeed"] == "not installed" != versions["torch"]
    assert any("pydantic is missing" in note for note in results["notes"])


@pytest.mark.slow
def test_without_a_gpu_it_says_so_and_rehearses(rehearsed: tuple[Path, Any, Any]) -> None:
    _, run, results = rehearsed
    assert "no GPU that torch can use (" in run.stdout and "the rehearsal on the CPU runs instead" in run.stdout
    assert results["rehearsal"] and {one["verdict"] for one in results["claims"]} == {claims.UNKNOWN}


@pytest.mark.slow
def test_parts_are_skipped_by_the_name_of_what_is_missing(rehearsed: tuple[Path, Any, Any]) -> None:
    found = states(rehearsed[2])
    assert found["zero"] == ("skipped", "not installed: deepspeed") and found["vllm"] == ("not started", "")


@pytest.mark.slow
def test_a_part_that_hangs_or_crashes_ends_only_itself(rehearsed: tuple[Path, Any, Any]) -> None:
    """With its processes; what it had found is kept, and the others have run."""
    out, run, results = rehearsed
    found = states(results)
    assert found["hang"] == ("ended", "ended at its limit of 6 s")
    assert found["crash"] == ("failed", "crashed: signal SIGABRT")
    assert found["out_of_memory"] == ("failed", "OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB.")
    kept = {one["part"]: [figure["name"] for figure in one["figures"]] for one in results["parts"]}
    assert kept["hang"] == ["before it hung"] and kept["crash"] == ["before it crashed"]
    assert all_end([int((out / faults.CHILD).read_text())])
    assert run.returncode == 1 and "failed: hang, crash, out_of_memory" in run.stderr


@pytest.mark.slow
def test_the_page_stands_alone(rehearsed: tuple[Path, Any, Any]) -> None:
    text = (rehearsed[0] / "page.html").read_text()
    assert "http" not in text and "<script" not in text and "src=" not in text
    assert "matrix product, bf16" in text and "gap of samples to the trainer, qwen2, float32, padded" in text
    assert "in out_of_memory" in text, "the end of a failed part's output"
    written = {path.name for path in rehearsed[0].rglob("*") if path.is_file()}
    assert written == {"page.html", "results.json", faults.CHILD}


@pytest.mark.slow
def test_rl_and_adapters_need_no_more_than_arrow_and_peft(rehearsed: tuple[Path, Any, Any]) -> None:
    """And neither pydantic, DeepSpeed nor a BM25 library."""
    out, _, results = rehearsed
    found = states(results)
    assert found["lora"] == found["rl"] == ("done", "")
    curves = next(one for one in results["parts"] if one["part"] == "rl")["curves"]
    assert [row["stage"] for row in curves] == [1, 2] and all(row["gap"] < 1e-3 for row in curves)
    assert "<polyline" in (out / "page.html").read_text()


@pytest.mark.slow
def test_parameters_are_the_same_without_pydantic(packages: Path) -> None:
    code = (
        "from benchmarks.gpu_check import bare; assert bare.prepare(); import json; from r1_searcher import params;"
        "print(json.dumps(params.shipped().model_dump(), sort_keys=True))"
    )
    run = bare_machine.run(packages, "-c", code, timeout=60)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == json.loads(json.dumps(params.shipped().model_dump()))


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (RuntimeError("The NVIDIA driver on your system is too old\n(found version 11040)."), "driver on your system"),
        (AssertionError("Torch not compiled with CUDA enabled"), "Torch not compiled with CUDA enabled"),
        (None, "torch.cuda.is_available() is false"),
    ],
)
def test_what_torch_says_of_a_driver_is_one_line(raised: Exception | None, said: str) -> None:
    def init() -> None:
        if raised:
            raise raised

    found = probe.look(SimpleNamespace(is_available=lambda: False, init=init))
    assert not found.gpu and said in found.why and "\n" not in found.why


def test_a_driver_that_fails_only_when_it_is_used_is_no_gpu() -> None:
    def fails() -> None:
        raise RuntimeError("CUDA error: no kernel image is available")

    found = probe.look(SimpleNamespace(is_available=lambda: True, init=lambda: None, mem_get_info=fails))
    assert found == probe.Found(False, "CUDA error: no kernel image is available")


def recorder(folder: Path) -> figures.Figures:
    machine = figures.Machine("cpu", True, folder)
    return figures.Figures(machine, figures.Report("test", "test"), 60)


def test_a_smaller_size_if_the_plan_or_the_device_says_no(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first by the plan's figure, the second by torch's error; the third works."""
    monkeypatch.setattr("gpu_check.timing.free", lambda device: 10.0)
    notes, tried = recorder(tmp_path), []

    def run(size: Any) -> None:
        tried.append(size.name)
        if len(tried) == 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    needed = iter([11.0, 9.0, 1.0])
    sizes.largest_that_works(notes, sizes.LARGE, lambda size: next(needed), run)
    assert tried == [f"{name}, rehearsed" for name in sizes.LARGE[1:]]
    found = {one.name: one.value for one in notes.report.figures}
    assert found[f"{sizes.LARGE[0]} fits"] is found[f"{sizes.LARGE[1]} fits"] is False
    with pytest.raises(RuntimeError, match="no size fits"):
        sizes.largest_that_works(notes, sizes.SMALL, lambda size: 11.0, run)


def test_if_cuda_does_not_start_in_a_forked_process_all_are_started_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, forked = figures.Machine("cuda", False, tmp_path), []

    def run(machine: figures.Machine, part: Any, limit: float, *, fork: bool) -> int:
        forked.append((part.name, fork))
        figures.Figures(machine, figures.Report(part.name, part.title), limit).end("done")
        machine.log(part.name).touch()
        return runner._CANNOT_FORK if fork else 0

    monkeypatch.setattr(runner, "_run", run)
    told: list[figures.Report] = []
    runner.run_parts(machine, PARTS[:2], 100, told.append)
    first, second = PARTS[0].name, PARTS[1].name
    assert forked == [(first, True), (first, False), (second, False)]
    assert [one.state for one in told] == ["done", "done"]


def test_a_model_that_the_last_part_could_not_open_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    file = tmp_path / "model.gguf"
    file.touch()
    for given, said in (
        (file, "needs the package gguf"),
        (tmp_path, "no config.json"),
        (tmp_path / "none", "no such folder or file"),
    ):
        with pytest.raises(PipelineError, match=said):
            _checked_model(str(given))


@pytest.mark.slow
def test_weights_that_do_not_arrive_are_a_figure_and_not_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, notes = tiny.write_policy(tmp_path / "policy", "qwen2"), recorder(tmp_path)
    chosen = contract.settings("float32", layout="packed")
    engine: Any = load_engine(policy, chosen.rollout)
    made = engine_jobs.run(engine, engine_jobs.jobs(2))
    monkeypatch.setattr(engine, "load_state", lambda weights: None)
    contract._beside_trainer(notes, policy, engine, made, what="float32, packed", params=chosen)
    found = {one.name: one.value for one in notes.report.figures if isinstance(one.value, float)}
    assert found["gap of samples to the trainer, float32, packed"] < 1e-4
    assert found["gap after an update, float32, packed"] > 1e-4


def test_a_stage_without_time_for_an_iteration_says_so(tmp_path: Path) -> None:
    notes = recorder(tmp_path)
    notes.curve(stage=1, reward=0.25, f1=0.5)
    rl._summary(notes)
    found = {one.name: (one.value, one.about) for one in notes.report.figures}
    assert found["f1 of stage 1"] == (0.5, "first 0.500, 1 iterations")
    assert found["reward of stage 2"] == (None, "no time left for an iteration")


@pytest.mark.slow
def test_the_branches_for_a_gpu_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU that is taken for an H100, by the library too: whatever lies on the wrong device is refused."""
    machine, reports = figures.Machine("cuda", True, tmp_path), []
    alive: weakref.WeakSet[Any] = weakref.WeakSet()

    class Counted(TorchTrainer):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            assert not alive, "the trainer before this one still has its memory"
            super().__init__(*arguments, **named)
            alive.add(self)

    monkeypatch.setattr("gpu_check.sizes.TorchTrainer", Counted)
    with pretended_gpu():
        for part in PARTS:
            if part.name in ("device", "sampling-small", "update-small", "update-large", "turns"):
                reports.append(figures.Report(part.name, part.title))
                part.function()(figures.Figures(machine, reports[-1], 600))
    found = {(one.part, figure.name): figure for one in reports for figure in one.figures}
    assert found["device", "matrix product, bf16"].planned == 989
    assert found["update-large", "share of the peak, packed, checkpointing"].planned == pytest.approx(0.35 * 3 / 4)
    assert "_flash_attention_forward" in found["update-large", "update, torch varlen, checkpointing"].about
    verdicts = {one.name: one.measured for one in claims.judge(reports)}
    assert verdicts["engine and trainer keep no memory from turn to turn"] == 0.0
    assert verdicts["the trainer's memory is enough, 3B"] is not None


def rows_of(heads: int, groups: int, lengths: tuple[int, ...]) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(1, number, sum(lengths), 16) for number in (heads, groups, groups)]


def attended(name: str, rows: list[torch.Tensor], lengths: tuple[int, ...]) -> torch.Tensor:
    module: Any = torch.nn.Module()
    module.num_key_value_groups, module.is_causal = rows[0].shape[1] // rows[1].shape[1], True
    found: torch.Tensor = kernels.KERNELS[name](module, *rows, None, block_lengths=lengths, scaling=0.25)[0]
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_is_that_of_a_trajectory_at_a_time() -> None:
    rows, lengths = rows_of(4, 2, (3, 9, 1)), (3, 9, 1)
    expected = attended("a trajectory at a time", rows, lengths)
    torch.testing.assert_close(attended("torch flex", rows, lengths), expected)


@pytest.mark.parametrize("windowed", [True, False], ids=["window_size", "is_causal"])
def test_varlen_attention_gets_boundaries_and_whole_heads(windowed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's kernel needs a GPU; in its place one by its documentation, with the arguments of two versions."""

    def documented(*arguments: Any, causal: bool) -> Any:
        q, k, v, begins, others, longest, same = arguments
        assert causal and q.shape == k.shape and torch.equal(begins, others) and longest == same == 9
        parts = []
        for start, end in zip(begins[:-1].tolist(), begins[1:].tolist(), strict=True):
            query, key, value = (one[start:end].transpose(0, 1) for one in (q, k, v))
            found = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
            parts.append(found.transpose(0, 1))
        return torch.cat(parts)

    def newer(*arguments: Any, window_size: tuple[int, int] = (-1, -1), scale: float | None = None) -> Any:
        assert scale == 0.25
        return documented(*arguments, causal=window_size == (-1, 0))

    def older(*arguments: Any, is_causal: bool = False) -> Any:
        return documented(*arguments, causal=is_causal)

    monkeypatch.setattr(kernels, "_varlen", lambda: newer if windowed else older)
    rows, lengths = rows_of(4, 2, (3, 9, 1)), (3, 9, 1)
    expected = attended("a trajectory at a time", rows, lengths)
    torch.testing.assert_close(attended("torch varlen", rows, lengths), expected)


def calls(tree: ast.AST) -> Iterator[str]:
    """Yield every dotted name that begins with ``torch.``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.fullmatch(r"torch(\.\w+)+", name := ast.unparse(node)):
            yield name


@pytest.mark.parametrize("file", KIT, ids=lambda file: file.stem)
def test_no_name_of_torch_is_misspelt(file: Path) -> None:
    """What only a GPU would run is at least there."""
    for name in sorted(set(calls(ast.parse(file.read_text(encoding="utf-8"))))):
        if not name.startswith("torch.version.cuda"):
            functools.reduce(getattr, name.split(".")[1:], torch)


def test_every_figure_of_a_claim_is_one_that_a_part_notes() -> None:
    """A claim whose figure is misspelt would be `not measured` for ever."""
    text = "".join(file.read_text(encoding="utf-8") for file in KIT if file.stem not in ("claims", "__main__"))
    asked: list[tuple[str, str]] = []

    class Asking(dict[tuple[str, str], float]):
        def __missing__(self, key: tuple[str, str]) -> float:
            asked.append(key)
            return 1.0

    for claim in claims.CLAIMS:
        try:
            claim.measure(Asking())
        except KeyError as error:  # the beginning of a name
            assert f'"{error.args[0]}' in text, claim.name
    names = {part.name for part in PARTS}
    begun = {name.removesuffix(claims.PLANNED).partition(",")[0] for _, name in asked}
    assert {part for part, _ in asked} <= names and all(f'"{name}' in text for name in begun), begun


def test_verdicts() -> None:
    report = figures.Report("device", "device")
    report.figures = [
        figures.Figure("matrix product, bf16", 800.0, planned=989.0),
        figures.Figure("copy on the device", 1.0, planned=4.8),
    ]
    found = {one.name: one.verdict for one in claims.judge([report])}
    assert found.pop("matrix products reach the data sheet's peak") == claims.HOLDS
    assert found.pop("copies reach the data sheet's bandwidth") == claims.FAILS
    assert set(found.values()) == {claims.UNKNOWN}


def test_text_from_a_machine_is_escaped_on_the_page() -> None:
    report = figures.Report("device", "<b>", "failed", why="<script>")
    report.figures = [figures.Figure("<i>", "<u>", planned=None, about="<a href>")]
    text = page.page("<h>", ["<n>"], claims.judge([]), [report])
    assert not any(tag in text for tag in ("<b>", "<script>", "<i>", "<u>", "<a href>", "<h>", "<n>"))


def test_docs_list_every_claim() -> None:
    text = (ROOT / "docs/gpu.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    for claim in claims.CLAIMS:
        assert any(line.startswith(f"| {claim.name} |") for line in rows), claim.name


def test_batches_have_the_plans_share_of_policy_tokens() -> None:
    size = sizes.shape("qwen2.5-0.5b", rehearsal=True)
    batch = sizes.batch(size, 20_000, length=1000.0)
    share = np.concatenate([np.asarray(mask) for mask in batch.policy_mask]).mean()
    assert 0.2 < share < 0.28 and sum(map(len, batch.token_ids)) == pytest.approx(20_000, rel=0.25)
