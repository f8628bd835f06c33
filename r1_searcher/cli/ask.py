"""`ask`: put questions of one's own to a policy that searches."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from r1_searcher.cli.policy_options import add_policy_options, opened_asker, settings_of
from r1_searcher.errors import PipelineError, command
from r1_searcher.files.stage_outputs import free_place
from r1_searcher.options import examples, whole_number
from r1_searcher.shown import json_text, show, show_lines, show_piece

if TYPE_CHECKING:
    from r1_searcher.asking.asker import Asked, Asker

_PROMPT = "question: "


@command
def main(arguments: Sequence[str] | None = None, prog: str = "r1-searcher ask") -> None:
    """Parse the command line; answer the question, or one after another."""
    options = parser(prog).parse_args(arguments)
    if options.question is not None and not options.question.strip():
        raise PipelineError("the question is empty", where="ask")
    with _opened(options) as asker:
        _Session(options, asker).run()


def parser(prog: str = "r1-searcher ask") -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Ask a policy a question: it thinks, searches and answers while you watch. Without a question: ask "
        "one after another.",
        epilog=examples(
            prog,
            '"Who directed Silent Castle?"',
            '"Who directed Silent Castle?" --no-search',
            "--policy path/to/model --index path/to/index --json",
            '"Who wrote it?" --server http://127.0.0.1:8000/v1 --model NAME --service http://127.0.0.1:8400',
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("question", nargs="?", help="the question; without it: a line of standard input each")
    add_policy_options(parser)
    parser.add_argument("--no-search", action="store_true", help="answer at once, to compare")
    parser.add_argument(
        "--sample",
        type=whole_number("--sample", least=0),
        metavar="SEED",
        help="sample with this seed instead of decoding greedily",
    )
    parser.add_argument("--documents", action="store_true", help="show the passages whole")
    parser.add_argument("--json", action="store_true", help="print one JSON object per question and nothing else")
    parser.add_argument(
        "--trace", type=free_place, metavar="FILE", help="also write the trajectories: rollouts.parquet"
    )
    return parser


@contextlib.contextmanager
def _opened(options: argparse.Namespace) -> Iterator[Asker]:
    settings = settings_of(options)
    chosen: dict[str, Any] = {
        "seed": options.sample if options.sample is not None else settings.seed,
        "greedy": options.sample is None,
        "mode": "no_search" if options.no_search else "search",
    }
    with opened_asker(options, settings, quiet=options.json, **chosen) as asker:
        yield asker


class _Session:
    """Questions one after another."""

    def __init__(self, options: argparse.Namespace, asker: Asker) -> None:
        self.options, self.asker = options, asker
        self.asked: list[Asked] = []

    def run(self) -> None:
        """Answer the question of the command line, or each line of standard input."""
        if self.options.question is not None:
            self.answer(self.options.question.strip())
            return
        if sys.stdin.isatty() and not self.options.json:
            self._greet()
        for question in self._lines():
            try:
                self.answer(question)
            except PipelineError as error:  # of this question: the next may do
                if not sys.stdin.isatty():
                    raise
                show(f"error: {error}", file=sys.stderr)

    def answer(self, question: str) -> None:
        """Answer one question and print it."""
        from r1_searcher.asking.terminal import TerminalPrinter

        if self.options.json:
            asked = self.asker.ask(question)
            show_lines(json_text(asked.as_json(), indent=None))
        else:
            printer = TerminalPrinter(whole=self.options.documents)
            asked = self.asker.ask(
                question, printer, lambda search: printer.searched([one.title for one in search.passages])
            )
            printer.end(asked)
        self.asked.append(asked)
        if self.options.trace:
            self._write_trace()

    def _lines(self) -> Iterator[str]:
        while True:
            if sys.stdin.isatty() and not self.options.json:
                show_piece(_PROMPT, style="1")
            line = sys.stdin.readline()
            if not line:
                return
            if line.strip():
                yield line.strip()

    def _greet(self) -> None:
        from r1_searcher.asking.policies import questions_to_try

        show("Ask a question per line; Ctrl-D ends.")
        tries = [] if self.options.policy or self.options.server else questions_to_try()
        if tries:
            show("This policy and its corpus know an invented world of people, films, books and cities. Try:")
            for question in tries:
                show(f"  {question}")

    def _write_trace(self) -> None:
        import pyarrow as pa

        from r1_searcher.files.artefacts import write_table

        rows = [asked.rollouts for asked in self.asked]
        ids = [f"asked-{number}" for number in range(len(rows))]
        write_table(self.options.trace, renumbered(pa.concat_tables(rows), ids))
        if not self.options.json:
            show_piece(f"trajectory → {self.options.trace}\n", style="2")


def renumbered(rollouts: Any, ids: Sequence[str]) -> Any:
    """Return ROLLOUTS with these question ids; trajectory ids are made of them."""
    import pyarrow as pa

    for name, values in (("question_id", ids), ("trajectory_id", [f"{one}#0" for one in ids])):
        place = rollouts.schema.get_field_index(name)
        rollouts = rollouts.set_column(place, rollouts.schema.field(place), pa.array(values, pa.string()))
    return rollouts
