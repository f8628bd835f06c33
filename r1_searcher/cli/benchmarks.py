"""`benchmarks`: fetch released benchmarks and make their questions and corpora."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r1_searcher import params, tables
from r1_searcher.benchmarks.fetch import fetch
from r1_searcher.benchmarks.releases import known, release_of
from r1_searcher.errors import PipelineError, command
from r1_searcher.files.artefacts import atomic
from r1_searcher.files.stage_outputs import free_place
from r1_searcher.files.store import Store
from r1_searcher.options import HelpFormatter, examples
from r1_searcher.shown import show

_FOLDER = Path("data/benchmarks")


def _list(options: argparse.Namespace) -> None:
    extensions = params.load(options.params).extensions if options.params.exists() else []
    releases = [release_of(name, extensions) for name in known(extensions)]
    rows = [
        [
            one.name,
            f"{one.num_questions} questions",
            "with a corpus" if one.contexts else "",
            f"{one.about} ({one.licence})",
        ]
        for one in releases
    ]
    for release, line in zip(releases, tables.text(rows, left=(0, 2, 3)).split("\n"), strict=True):
        show(line)
        show(f"    {release.address}/{release.file}")


def _fetch(options: argparse.Namespace) -> None:
    settings = params.load_or_shipped(options.params)
    mirrors, extensions = options.mirror or settings.benchmarks.mirrors, settings.extensions
    for release in [release_of(name, extensions) for name in options.names or known(extensions)]:
        path = fetch(release, mirrors, Store())
        if options.out is not None:
            with atomic(options.out / release.file) as draft:
                shutil.copyfile(path, draft)
            path = options.out / release.file
        show(f"{release.name}: {path}")


def _questions(options: argparse.Namespace) -> None:
    from r1_searcher.benchmarks.make import make_own_questions, make_questions

    loaded = params.load_or_shipped(options.params)
    settings, name = loaded.benchmarks, options.name
    chosen = settings.sets.get(name)
    folder = options.out / name
    if chosen is not None and not chosen.chooses:
        number = make_own_questions(name, chosen, settings.questions, folder)
    else:
        release = release_of(name, loaded.extensions)
        if chosen is None:
            raise PipelineError(
                f"the benchmark {name} is not selected for evaluation",
                where="params.yaml, benchmarks.sets",
                fix=f"add it there: {name}: {{index: folder}}",
            )
        source = fetch(release, settings.mirrors, Store())
        number = make_questions(release, source, chosen.index, settings.questions, folder)
    show(f"benchmark {name}: {number:,} questions, searched in {chosen.index} -> {folder}")


def _corpus(options: argparse.Namespace) -> None:
    from r1_searcher.benchmarks.make import _CORPUS, _INDEX, make_corpus
    from r1_searcher.retrieval.dense.retriever import add_dense

    settings = params.load_or_shipped(options.params)
    release = release_of(options.name, settings.extensions)
    source = fetch(release, settings.benchmarks.mirrors, Store())
    folder = options.out / release.name
    meta = make_corpus(release, source, settings.index, folder)
    show(f"benchmark {release.name}: {meta['num_passages']:,} passages, indexed -> {folder}")
    add_dense(folder / _CORPUS, settings, folder / _INDEX)


def parser(prog: str = "r1-searcher benchmarks") -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="List and download released benchmarks, and make their questions and corpora.",
        epilog=examples(
            prog,
            "list",
            "fetch hotpotqa bamboogle --out inputs/benchmarks",
            "corpus hotpotqa_contexts",
            "questions hotpotqa_contexts",
        ),
        formatter_class=HelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = _add(commands, "list", "list the known benchmarks with their download addresses", "")
    listing.add_argument("--params", type=Path, default=params.PARAMS_FILE, help="parameters (default: %(default)s)")
    listing.set_defaults(run=_list)

    getting = _add(
        commands,
        "fetch",
        "download released files and check their checksums",
        "hotpotqa bamboogle --out inputs/benchmarks",
    )
    getting.add_argument("names", nargs="*", metavar="NAME", help="benchmarks (default: all)")
    getting.add_argument("--mirror", action="append", help="folder or address; overrides benchmarks.mirrors")
    getting.add_argument("--out", type=free_place, help="folder for copies (default: store only)")
    getting.add_argument("--params", type=Path, default=params.PARAMS_FILE, help="parameters (default: %(default)s)")
    getting.set_defaults(run=_fetch)

    for word, run, said in (
        ("questions", _questions, "write a benchmark's questions and the index that they use"),
        ("corpus", _corpus, "write a benchmark's own paragraphs as a corpus, with an index"),
    ):
        making = _add(commands, word, said, "hotpotqa_contexts")
        making.add_argument("name", metavar="NAME", help="a name in benchmarks.sets or benchmarks.corpora")
        making.add_argument(
            "--out",
            type=free_place,
            default=_FOLDER,
            help="output folder; one subfolder per benchmark (default: %(default)s)",
        )
        making.add_argument("--params", type=Path, default=params.PARAMS_FILE, help="parameters (default: %(default)s)")
        making.set_defaults(run=run)
    return parser


def _add(commands: Any, name: str, about: str, example: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=about, description=about, formatter_class=HelpFormatter
    )
    parser.epilog = examples(parser.prog, example)
    return parser


@command
def main(arguments: Sequence[str] | None = None, prog: str = "r1-searcher benchmarks") -> None:
    """Read the command line and do what it says."""
    options = parser(prog).parse_args(arguments)
    options.run(options)
