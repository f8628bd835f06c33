"""`ask`: ask a policy that searches a question of your own."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from r1_searcher.cli.policy_options import add_policy_options, opened_asker, settings_of
from r1_searcher.errors import PipelineError, command
from r1_searcher.files.stage_outputs import free_place
from r1_searcher.options import HelpFormatter, examples, whole_number
from r1_searcher.shown import json_text, show, show_lines, show_piece
from r1_searcher.transcripts.grammar import LOST_FINISHES

if TYPE_CHECKING:
    from r1_searcher.asking.asker import Asker

_PROMPT = "question: "
_INTERRUPTED = 130  # what a shell shows for a process ended by Ctrl-C


@command
def main(arguments: Sequence[str] | None = None, prog: str = "r1-searcher ask") -> int:
    """Parse the command line; answer the question, or one after another. 2: some had no room, or a search failed."""
    options = parser(prog).parse_intermixed_args(arguments)  # options may stand before, behind and between the words
    question = " ".join(options.question).strip() if options.question else None
    if question == "":
        raise PipelineError("the question is empty", where="ask")
    if options.trace:
        from r1_searcher.asking.traces import check_trace

        check_trace(options.trace)
    try:
        with _opened(options) as asker:
            session = _Session(options, asker)
            session.run(question)
    except KeyboardInterrupt:
        show_piece("\nstopped\n" if sys.stderr.isatty() else "stopped\n", file=sys.stderr)
        return _INTERRUPTED
    return PipelineError.status if session.failed else 0


def parser(prog: str = "r1-searcher ask") -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Ask a policy a question, and watch it think, search and answer. Without a question on the command "
        "line, ask one after another.",
        epilog=examples(
            prog,
            '"Who directed Silent Castle?"',
            '"Who directed Silent Castle?" --no-search',
            "--policy path/to/model --index path/to/index --json",
            '"Who wrote it?" --server http://127.0.0.1:8000/v1 --model NAME --service http://127.0.0.1:8400',
        ),
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "question", nargs="*", help="the question; if it is left out, each line of standard input is one"
    )
    add_policy_options(parser)
    parser.add_argument("--no-search", action="store_true", help="answer without searching, for comparison")
    parser.add_argument(
        "--sample",
        type=whole_number("--sample", least=0),
        metavar="SEED",
        help="sample with this seed instead of decoding greedily",
    )
    parser.add_argument("--documents", action="store_true", help="print whole passages instead of their titles")
    parser.add_argument("--json", action="store_true", help="print one JSON object per question and nothing else")
    parser.add_argument(
        "--trace", type=free_place, metavar="FILE", help="also add the trajectories to this rollouts file (Parquet)"
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
    """Questions one after another. ``failed``: one had no room, or a search of it failed."""

    def __init__(self, options: argparse.Namespace, asker: Asker) -> None:
        self.options, self.asker, self.failed = options, asker, False
        self._talks = sys.stdin.isatty() and not options.json

    def run(self, question: str | None) -> None:
        """Answer the question, or each line of standard input."""
        if question is not None:
            self.answer(question)
        elif self._talks:
            self._greet()
            for line in _typed():
                try:
                    self._try(line)
                except KeyboardInterrupt:  # of this answer
                    show_piece("\nstopped\n")
        else:
            for number, line in enumerate(filter(None, map(str.strip, sys.stdin))):
                if not self.options.json:
                    show_lines(f"{chr(10) * bool(number)}{_PROMPT}{line}")
                self._try(line)

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
        self.failed |= asked.finish_reason in LOST_FINISHES
        if self.options.trace:
            from r1_searcher.asking.traces import add_to_trace

            number = add_to_trace(self.options.trace, asked)
            if not self.options.json:
                show_piece(f"trajectory {number} → {self.options.trace}\n", style="2")

    def _try(self, question: str) -> None:
        from r1_searcher.asking.asker import QuestionTooLong

        try:
            self.answer(question)
        except PipelineError as error:  # the next question may be answered
            if not (self._talks or isinstance(error, QuestionTooLong)):
                raise
            show(f"error: {error}", file=sys.stderr)
            if self.options.json:
                show_lines(json_text({"question": question, "error": str(error)}, indent=None))
            self.failed = not self._talks

    def _greet(self) -> None:
        from r1_searcher.asking.policies import questions_to_try

        show("Ask a question per line; Ctrl-C stops an answer, Ctrl-D ends.")
        tries = [] if self.options.policy or self.options.server else questions_to_try()
        if tries:
            show("This policy and its corpus know an invented world of people, films, books and cities. Try:")
            for question in tries:
                show(f"  {question}")


def _typed() -> Iterator[str]:
    """Yield the lines that are typed at a prompt, with the shell's keys for editing and repeating them."""
    with contextlib.suppress(ImportError):  # not in every Python
        import readline  # noqa: F401  # ``input`` uses it
    while True:
        try:
            line = input(_PROMPT).strip()
        except EOFError:
            show("")
            return
        if line:
            yield line
