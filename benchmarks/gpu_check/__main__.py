"""Check what is true of this project on this machine's GPU, part by part, and write results.json and page.html.

python -m benchmarks.gpu_check --out DIR                 within 8 minutes; without a GPU the rehearsal
python -m benchmarks.gpu_check --out DIR --rehearse      all parts on the CPU with tiny sizes
python -m benchmarks.gpu_check --out DIR --only device contract
python -m benchmarks.gpu_check --out DIR --model FOLDER  the last part trains this model (or GGUF file)
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

from . import bare

STOOD_IN = bare.prepare()

from . import claims, probe, runner  # noqa: E402
from .figures import Machine, Report, read_results, write_json, write_text  # noqa: E402
from .page import page  # noqa: E402
from .parts import PARTS  # noqa: E402

from r1_searcher.errors import PipelineError, command  # noqa: E402  isort: skip
from r1_searcher.model_folders import check_place, check_tokenizer  # noqa: E402  isort: skip
from r1_searcher.shown import show  # noqa: E402  isort: skip


@command
def main() -> int:
    options = _parser().parse_args()
    if options.part:
        return _one_part(options)
    if not 0 < options.minutes < 24 * 60:
        raise PipelineError(f"{options.minutes} minutes are too few or too many", where="--minutes", fix="8 are usual")
    model = _checked_model(options.model) if options.model else ""
    notes = list(STOOD_IN)
    rehearsal = options.rehearse
    if not rehearsal:
        found = probe.ask()
        if not found.gpu:
            notes.append(f"no GPU that torch can use ({found.why}): the rehearsal on the CPU runs instead")
            rehearsal = True
    if rehearsal:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if rehearsal:
        notes.append("a rehearsal on the CPU with tiny sizes: its figures say nothing about a GPU")
    for note in notes:
        show(note)
    machine = Machine("cpu" if rehearsal else "cuda", rehearsal, options.out.resolve(), model)
    chosen = [part for part in PARTS if not options.only or part.name in options.only]

    reports = read_results(machine)  # parts of an earlier run with this folder stay, until they run again

    def told(report: Report) -> None:
        show(f"{report.part:<16} {report.state:<12} {report.seconds:6.1f} s  {report.why}".rstrip())
        reports[report.part] = report
        write_results(machine, notes, reports)

    began = time.monotonic()
    write_results(machine, notes, reports)
    runner.run_parts(machine, chosen, 60 * options.minutes, told)
    show(f"{machine.out / 'page.html'} and results.json beside it, after {time.monotonic() - began:.0f} s")
    failed = [part.name for part in chosen if reports[part.name].state in ("failed", "ended")]
    if failed:
        show(f"failed: {', '.join(failed)}; the page has the end of their output", file=sys.stderr)
    return 1 if failed else 0


def _checked_model(given: str) -> str:
    """Return the model's whole path. Raises ``PipelineError`` for what the last part would find only after minutes."""
    path = Path(given).resolve()
    if path.is_dir():
        check_place(path)
        check_tokenizer(path)
    elif not path.is_file():
        raise PipelineError("no such folder or file", where=f"--model {given}")
    elif importlib.util.find_spec("gguf") is None:
        raise PipelineError("a GGUF file needs the package gguf", where=f"--model {given}", fix="give a model folder")
    return str(path)


def write_results(machine: Machine, notes: list[str], known: dict[str, Report]) -> None:
    """Write results.json and page.html."""
    reports = [known.get(part.name) or Report(part.name, part.title) for part in PARTS]
    verdicts = claims.judge([] if machine.rehearsal else reports)
    names = [str(one.value) for one in reports[0].figures if one.name == "device"]
    title = f"GPU kit: {'rehearsal' if machine.rehearsal else ''.join(names[:1]) or 'a GPU'}"
    results = {"title": title, "rehearsal": machine.rehearsal, "notes": notes, "claims": claims.as_rows(verdicts)}
    write_json(machine.results, {**results, "parts": [asdict(one) for one in reports]})
    write_text(machine.out / "page.html", page(title, notes, verdicts, reports))


def _one_part(options: argparse.Namespace) -> int:
    """Run one part in this process: how the runner starts those that it cannot fork."""
    device = "cpu" if options.rehearse else "cuda"
    machine = Machine(device, options.rehearse, options.out.resolve(), options.model)
    return runner.child(machine, runner.part_named(options.part), options.seconds)


def _parser() -> argparse.ArgumentParser:
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_check",
        description="Check what is true of this project on this machine's GPU; write results.json and page.html.",
        epilog=f"parts: {', '.join(names)}",
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder of everything that is written")
    add("--minutes", type=float, default=8.0, help="for all parts together (default: %(default)s)")
    add("--rehearse", action="store_true", help="run on the CPU with tiny sizes, even if there is a GPU")
    add("--only", nargs="+", choices=names, metavar="PART", help="run these parts alone")
    add("--model", default="", metavar="PATH", help="model folder or GGUF file for the last part")
    add("--part", choices=names, help=argparse.SUPPRESS)
    add("--seconds", type=float, default=60.0, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
