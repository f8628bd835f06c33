"""BM25's recall with and without accents, and per language, under each setting of ``index.folding`` and
``index.tokenizer``.

    python benchmarks/languages.py                 # data: $R1SEARCHER_DATA, or ../shared/data
    python benchmarks/languages.py --transcripts path/to/2wiki_qwen.jsonl

Accents: the corpus is all context paragraphs of HotpotQA (IRCoT's 500 questions) and MuSiQue (HippoRAG's 100). Each
paragraph whose title has an accent is asked for by its title, as it is written and as people without such a keyboard
type it. --transcripts: the same over the distinct passages in the document blocks of the paper's released transcripts.
Languages: a few sentences of each, written for this file, among which each query has one right answer. Prints
Markdown.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from r1_searcher import params
from r1_searcher.corpus.contexts import read_contexts
from r1_searcher.errors import PipelineError, command
from r1_searcher.retrieval import build_index, open_index
from r1_searcher.rewards.released import read_transcripts
from r1_searcher.transcripts.grammar import DOCUMENTS, END_DOCUMENTS
from r1_searcher.types import schemas

ROOT = Path(__file__).resolve().parents[1]
FILES = ("hotpotqa_dev500/dev_subsampled.jsonl", "hippo_train100/musique_train.json")
SETTINGS = {
    "first version: case, characters": {"folding": "case", "tokenizer": "characters"},
    "accents, bigrams": {"folding": "accents", "tokenizer": "bigrams"},
    "accents, characters_and_bigrams (shipped)": {},
}
TYPED = str.maketrans(
    {"ø": "o", "Ø": "O", "đ": "d", "Đ": "D", "ł": "l", "Ł": "L", "ı": "i", "ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe"}
)
BLOCK = re.compile(re.escape(DOCUMENTS) + "(.*?)" + re.escape(END_DOCUMENTS), re.DOTALL)
NUMBER = re.compile(r"^\(\d+\)", re.MULTILINE)

# Per language: passages, each with queries that only it answers.
SENTENCES: dict[str, list[tuple[str, list[str]]]] = {
    "Chinese": [
        ("青石桥建于明代，横跨白水河。", ["青石桥", "白水河上的桥", "明代"]),
        ("白石村位于河南的山区。", ["白石村", "山区的村"]),
        ("明河大学是南方最老的大学。", ["明河大学", "最老的大学"]),
        ("河水桥梁公司在青山设有工厂。", ["工厂在哪里", "桥梁公司"]),
    ],
    "Japanese": [
        ("霧島橋は昭和時代に完成したアーチ橋である。", ["霧島橋", "アーチ橋", "昭和時代"]),
        ("島根鉄道は霧の多い谷を走る。", ["島根鉄道", "霧の多い谷"]),
        ("カメラ博物館は駅の近くにある。", ["カメラ博物館", "駅"]),
        ("ラメ入りの布は京都で作られた。", ["ラメ入りの布", "京都"]),
    ],
    "Korean": [
        ("은빛호수는 북쪽산맥에 있는 호수이다.", ["은빛호수", "북쪽산맥 호수"]),
        ("김나루는 소설가이며 교사였다.", ["김나루", "소설가", "교사"]),
        ("바람섬에서 등대를 처음 세웠다.", ["바람섬", "등대"]),
        ("나루터에는 오래된 다리가 있다.", ["나루터", "다리"]),
    ],
    "Arabic": [
        ("كَتَبَ الشاعِرُ قَصيدةً عن البَحرِ", ["كتب", "قصيدة", "الشاعر"]),
        ("بُنِيَ الجِسرُ القديمُ فوقَ النهرِ", ["الجسر القديم", "النهر"]),
        ("أسسَ التاجرُ مدرسةً في الجبلِ", ["اسس", "مدرسة", "الجبل"]),
    ],
    "Hebrew": [
        ("הַמְשׁוֹרֵר נוֹלַד בַּכְּפָר", ["המשורר", "נולד"]),
        ("הַגֶּשֶׁר נִבְנָה מֵאֶבֶן", ["הגשר", "נבנה"]),
    ],
    "Turkish": [
        ("İncili köyü Ilıca yakınındadır.", ["incili", "INCILI", "İNCİLİ", "ılıca", "ilica"]),
        ("Şair Işıl Çınar Iğdır'da doğdu.", ["sair", "isil cinar", "IŞIL", "igdir"]),
        ("Kızılgöl barajı büyüktür.", ["kizilgol", "KIZILGÖL", "baraji"]),
    ],
    "German": [
        ("Die Mühle an der Weißen Elbe", ["muhle", "WEISSEN", "weissen"]),
        ("Der Förster aus Großdölln", ["forster", "grossdolln", "Großdölln"]),
    ],
    "French": [
        ("L’œuvre d’Hélène Béranger", ["oeuvre", "helene beranger", "HÉLÈNE"]),
        ("Le château de Châtillon-sur-Élan", ["chateau", "chatillon", "elan"]),
    ],
    "Polish, Danish, Czech": [
        ("Wójt Łucji Żak z Gdyńska", ["lucji zak", "gdynska"]),
        ("Møllen i Ærøby", ["mollen", "aeroby"]),
        ("Kovář Jiří Dvořáček", ["kovar", "jiri dvoracek"]),
    ],
    "Vietnamese": [
        ("Cầu Đá Trắng ở Huế", ["cau da trang", "hue"]),
        ("Nhà thơ Đỗ Hữu Phước", ["nha tho", "do huu phuoc"]),
    ],
    "Russian": [
        ("Актёр Фёдор Семёнов родился в Ёлкино", ["актер", "федор семенов", "елкино"]),
        ("Йодный за́вод построен", ["йодный", "завод"]),
    ],
    "Greek": [
        ("Η γέφυρα του Άργους", ["γεφυρα", "αργουσ", "ΑΡΓΟΥΣ"]),
        ("Ο ποιητής Νίκος Λάμπρου", ["ποιητης", "νικος λαμπρου"]),
    ],
}


def table(passages: Sequence[tuple[str, str]]) -> pa.Table:
    """Return (title, text) pairs as PASSAGES."""
    rows = [
        {"passage_id": str(number), "title": title, "text": text, "source": ""}
        for number, (title, text) in enumerate(passages)
    ]
    return pa.Table.from_pylist(rows, schema=schemas.PASSAGES)


def places(found: pa.Table, changes: dict[str, str], queries: Sequence[str], k: int) -> list[list[int]]:
    """Return the numbers of the first ``k`` passages per query."""
    settings = params.shipped().index.model_copy(update=changes)
    with tempfile.TemporaryDirectory() as folder:
        build_index(found, settings, Path(folder) / "index", "")
        return [
            [int(one.passage_id) for one in passages]
            for passages in open_index(Path(folder) / "index").search(queries, k)
        ]


def typed(title: str) -> str:
    """Return a title as it is typed without accents."""
    parts = unicodedata.normalize("NFD", title.translate(TYPED))
    return "".join(part for part in parts if not unicodedata.combining(part))


def share(ranked: Sequence[Sequence[int]], right: Sequence[set[int]], k: int) -> float:
    """Return the share of queries with a right passage among the first ``k``."""
    return sum(not gold.isdisjoint(ids[:k]) for ids, gold in zip(ranked, right, strict=True)) / len(right)


def paragraphs(paths: Sequence[Path]) -> list[tuple[str, str]]:
    """Return the distinct context paragraphs of benchmark files, (title, text)."""
    rows = {row["passage_id"]: row for row in read_contexts(paths, [])}
    return [(row["title"], row["text"]) for row in rows.values()]


def passages_in(transcripts: Path) -> list[tuple[str, str]]:
    """Return the distinct passages, (title, text), in the document blocks of the release's transcripts: numbered, each
    on its own line, three spaces between title and text. Raises ``PipelineError`` if there are none."""
    found: dict[tuple[str, str], None] = {}
    for row in read_transcripts(transcripts):
        for block in BLOCK.findall(row.transcript.text):
            for passage in NUMBER.split(block)[1:]:
                title, separator, text = passage.strip().partition("   ")
                if separator and text.strip():
                    found[title.strip(), text.strip()] = None
    if not found:
        raise PipelineError("no document block with titled passages", where=str(transcripts))
    return list(found)


def with_accents(passages: Sequence[tuple[str, str]]) -> None:
    """Print the table of titles with and without their accents."""
    titles = sorted({title for title, _ in passages if typed(title) != title})
    right = [{number for number, (other, _) in enumerate(passages) if other == title} for title in titles]
    corpus = table(passages)
    print(f"{len(passages):,} passages, {len(titles)} titles with accents.\n")
    print("| setting | as written: first | first 5 | without accents: first | first 5 |\n|---|---|---|---|---|")
    for name, changes in SETTINGS.items():
        figures = []
        for queries in (titles, [typed(title) for title in titles]):
            ranked = places(corpus, changes, queries, 5)
            figures += [share(ranked, right, 1), share(ranked, right, 5)]
        print(f"| {name} | " + " | ".join(f"{figure:.3f}" for figure in figures) + " |")


def per_language() -> None:
    """Print the table per language: queries whose passage is the first, in one corpus of all languages."""
    passages = [text for given in SENTENCES.values() for text, _ in given]
    asked = {
        language: [(query, passages.index(text)) for text, queries in given for query in queries]
        for language, given in SENTENCES.items()
    }
    queries = [query for pairs in asked.values() for query, _ in pairs]
    print(f"\n| language (queries) | {' | '.join(SETTINGS)} |\n|---|{'---|' * len(SETTINGS)}")
    columns = []
    for changes in SETTINGS.values():
        ranked = iter(places(table([("", text) for text in passages]), changes, queries, 1))
        columns.append(
            {
                language: share([next(ranked) for _ in pairs], [{place} for _, place in pairs], 1)
                for language, pairs in asked.items()
            }
        )
    for language, pairs in asked.items():
        print(f"| {language} ({len(pairs)}) | " + " | ".join(f"{column[language]:.2f}" for column in columns) + " |")


@command
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["accents", "languages"], help="one of the two tables")
    parser.add_argument("--transcripts", type=Path, metavar="FILE", help="passages of these instead; only that table")
    options = parser.parse_args()
    if options.transcripts:
        with_accents(passages_in(options.transcripts))
        return
    data = Path(os.environ.get("R1SEARCHER_DATA", ROOT / "../shared/data"))
    if options.only != "languages":
        if not data.is_dir():
            raise PipelineError("no data here", where=str(data), fix="set R1SEARCHER_DATA, or --only languages")
        with_accents(paragraphs([data / name for name in FILES]))
    if options.only != "accents":
        per_language()


if __name__ == "__main__":
    main()
