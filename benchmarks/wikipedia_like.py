"""A corpus of any size with the statistics of English Wikipedia, for measurements without the real one.

    python benchmarks/wikipedia_like.py --passages 2000000 --out FOLDER          a corpus folder, as the pipeline's
    python benchmarks/wikipedia_like.py --check path/to/kilt_knowledgesource.json  statistics beside those of real pages

- Words are drawn by rank. The first are real function words with their own shares; then the share falls as 1/(rank + q)
  (Zipf and Mandelbrot), and from rank b on as rank^-γ. That tail is endless, so the vocabulary keeps growing as
  tokens^(1/γ) (Heaps; Gerlach and Altmann, 2013, doi 10.1103/PhysRevX.3.021006). Other words are made of syllables: no
  two ranks share one, and none has an ending that an English stemmer removes.
- A page returns to its subject: a content word is, with a fixed probability, one of a few of the page's own.
- A page has a lognormal number of words and a title, with which it begins; it is cut every 100 words.

The constants were fitted to the 99 pages of a KILT sample (a grid over b, γ and the page's own words); ``--check``
shows the quality of the fit. Passage n is the same whatever the number of passages: a smaller corpus is the beginning
of a larger one.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

WORDS_A_PASSAGE = 100
# Shares per 10,000 tokens in the sample.
HEAD = dict(
    zip(
        "the of and in to a s was is as by on that for with his from he at an it were or which this are be had their "
        "not but also have one has first other they its after who her two into more been would time such when during "
        "while all some".split(),
        "718 398 319 295 218 205 113 92 86 79 68 66 64 62 60 50 45 43 40 38 36 30 28 26 25 24 22 21 20 19 18 17 16 16 "
        "16 15 15 15 14 14 13 13 13 12 12 12 11 11 11 10 10 10 10 10".split(),
        strict=True,
    )
)
ZIPF_SCALE, MANDELBROT = 0.135, 70.0  # share = scale / (rank + q)
TAIL_RANK, TAIL_EXPONENT = 8_000, 1.77  # b, γ
OWN_WORDS, OWN_SHARE, OWN_SKEW = 40, 0.45, 2.0  # a page's own words; the share of content words that are among them
PAGE_WORDS_MEAN, PAGE_WORDS_SIGMA = 400.0, 1.1  # 29M passages of 5.9M pages
MAX_PAGE_WORDS = 30_000
SYLLABLES = "ba bi bo bra da di do dro ka ki kli ku la li lo lu ma mi mo stu".split()
TOKENS_A_BATCH = 1_500_000
CACHED_RANKS = 1 << 17


@dataclass(frozen=True)
class Page:
    """A page; ``words`` starts with the title's."""

    number: int
    title: str
    words: list[str]


class Words:
    """Draws ranks and spells them."""

    def __init__(self) -> None:
        head = np.array([float(share) for share in HEAD.values()]) / 10_000
        ranks = np.arange(len(HEAD) + 1, TAIL_RANK + 1)
        middle = ZIPF_SCALE / (ranks + MANDELBROT)
        tail = middle[-1] * TAIL_RANK / (TAIL_EXPONENT - 1)
        content = np.concatenate([middle, [tail]])
        # The head's shares are as measured; the tail gets the rest.
        content *= (1 - head.sum()) / content.sum()
        self._cumulative = np.cumsum(np.concatenate([head, content]))
        self._cumulative /= self._cumulative[-1]
        self._cache = np.array([spell(rank) for rank in range(CACHED_RANKS)], dtype=object)

    def draw(self, random: np.random.Generator, number: int, *, content: bool = False) -> np.ndarray:
        """Return ranks (number,) int64, counted from 0; with ``content`` none of the head's."""
        uniform = random.random(number)
        if content:
            uniform = self._cumulative[len(HEAD) - 1] + uniform * (1 - self._cumulative[len(HEAD) - 1])
        ranks = np.searchsorted(self._cumulative, uniform, side="right")
        tail = np.flatnonzero(ranks >= TAIL_RANK)
        far = TAIL_RANK * (1 - random.random(len(tail))) ** (-1 / (TAIL_EXPONENT - 1))
        ranks[tail] = np.minimum(far, 2.0**50).astype(np.int64)
        return ranks

    def spell(self, ranks: np.ndarray) -> list[str]:
        """Return the words of ranks (N,)."""
        found = self._cache[np.minimum(ranks, CACHED_RANKS - 1)]
        for place in np.flatnonzero(ranks >= CACHED_RANKS).tolist():
            found[place] = spell(int(ranks[place]))
        words: list[str] = found.tolist()
        return words


def spell(rank: int) -> str:
    """Return the word of a rank from 0: the head's, or three or more syllables that encode the number."""
    if rank < len(HEAD):
        return tuple(HEAD)[rank]
    word, rest = "", rank
    while rest or len(word) < 6:
        rest, digit = divmod(rest, len(SYLLABLES))
        word += SYLLABLES[digit]
    return word


def pages(seed: int = 0, mean_words: float = PAGE_WORDS_MEAN) -> Iterator[Page]:
    """Yield endless pages of ``mean_words`` words on average."""
    words, first = Words(), 0
    for batch in itertools.count():
        made = _batch(words, np.random.default_rng([seed, batch]), first, mean_words)
        first += len(made)
        yield from made


def _batch(words: Words, random: np.random.Generator, first: int, mean_words: float) -> list[Page]:
    count = int(TOKENS_A_BATCH / mean_words)
    mu = np.log(mean_words) - PAGE_WORDS_SIGMA**2 / 2
    sizes = np.clip(random.lognormal(mu, PAGE_WORDS_SIGMA, count), 10, MAX_PAGE_WORDS).astype(np.int64)
    title_sizes = np.minimum(1 + random.poisson(1.4, count), 6)
    own = words.draw(random, count * OWN_WORDS, content=True).reshape(count, OWN_WORDS)
    ranks = words.draw(random, int(sizes.sum()))
    # Content words are replaced by the page's own, the first of these more often.
    page = np.repeat(np.arange(count), sizes)
    replaced = np.flatnonzero((random.random(len(ranks)) < OWN_SHARE) & (ranks >= len(HEAD)))
    which = (OWN_WORDS * random.random(len(replaced)) ** OWN_SKEW).astype(np.int64)
    ranks[replaced] = own[page[replaced], which]
    spelled = words.spell(ranks)
    ends = np.cumsum(sizes).tolist()
    titles = [words.spell(row[:size]) for row, size in zip(own, title_sizes, strict=True)]
    return [
        Page(first + number, " ".join(title).title(), title + spelled[end - size : end])
        for number, (title, end, size) in enumerate(zip(titles, ends, sizes.tolist(), strict=True))
    ]


def passages(number: int, seed: int = 0) -> Iterator[dict[str, str]]:
    """Yield ``number`` rows of PASSAGES."""
    return itertools.islice(_all_passages(seed), number)


def _all_passages(seed: int, mean_words: float = PAGE_WORDS_MEAN) -> Iterator[dict[str, str]]:
    for page in pages(seed, mean_words):
        for place, start in enumerate(range(0, len(page.words), WORDS_A_PASSAGE)):
            text = " ".join(page.words[start : start + WORDS_A_PASSAGE])
            yield {
                "passage_id": f"{page.number}-{place}",
                "title": page.title,
                "text": text,
                "source": "wikipedia_like",
            }


def write_corpus(folder: Path, number: int, seed: int = 0, rows_a_part: int = 1_000_000) -> None:
    """Write a corpus folder as ``stages.corpus`` does, without facts; replaced whole."""
    from r1_searcher.files import artefacts
    from r1_searcher.files import passages as contract

    with artefacts.atomic(folder, folder=True) as draft:
        contract.write(draft, passages(number, seed), rows_a_part)
        report = {"source": "wikipedia_like", "passages": number, "seed": seed}
        artefacts.write_json(draft / "report.json", report)


def statistics(rows: Iterable[dict[str, str]]) -> dict[str, float]:
    """Return the statistics that matter to an index: lengths, vocabulary growth, document frequencies."""
    from r1_searcher.retrieval.tokenizer import Tokenizer

    tokenizer = Tokenizer()
    growth = {1_000: 0, 10_000: 0, 100_000: 0, 200_000: 0}
    tokens, seen = 0, set[str]()
    frequency: Counter[str] = Counter()
    full: list[tuple[int, int, int]] = []
    titles: set[str] = set()
    number = 0
    for row in rows:
        number += 1
        titles.add(row["title"])
        words = tokenizer(row["text"])
        frequency.update(set(words))
        if row["text"].count(" ") == WORDS_A_PASSAGE - 1:
            full.append((len(words), len(set(words)), len(row["text"].encode())))
        for word in words:
            tokens += 1
            seen.add(word)
            if tokens in growth:
                growth[tokens] = len(seen)
    shares = np.sort(np.array(list(frequency.values())))[::-1] / number
    means = np.mean(full, axis=0)
    return {
        "pages": len(titles),
        "passages": number,
        "tokens": tokens,
        "tokens a full passage": float(means[0]),
        "distinct tokens a full passage": float(means[1]),
        "bytes a full passage": float(means[2]),
        **{f"vocabulary at {place:,} tokens": size for place, size in growth.items()},
        "vocabulary": len(seen),
        "share of terms in one passage": float(np.mean(shares * number < 1.5)),
        **{
            f"share of passages with the term of rank {rank:,}": float(shares[rank - 1])
            for rank in (1, 10, 100, 1_000, 5_000, 10_000)
        },
    }


def check(path: Path) -> None:
    """Print the statistics of real pages beside those of as many words made here."""
    from r1_searcher.corpus.kilt import read_kilt

    real = statistics(read_kilt([path], [], WORDS_A_PASSAGE))
    # The dump's first pages are long. Statistics depend on text length, so pages of the same length are made.
    mean_words = real["tokens"] / real["pages"]
    made = statistics(_until(real["tokens"], mean_words))
    print(f"{'':<52}{path.name[:20]:>22}{'made':>14}")
    for name, value in real.items():
        print(f"{name:<52}{value:>22,.4g}{made[name]:>14,.4g}")


def _until(tokens: float, mean_words: float) -> Iterator[dict[str, str]]:
    for row in _all_passages(0, mean_words):
        if tokens <= 0:
            return
        tokens -= row["text"].count(" ") + 1
        yield row


def main() -> None:
    """Write a corpus, or check the statistics."""
    parser = argparse.ArgumentParser(description="A corpus with the statistics of English Wikipedia.")
    parser.add_argument("--passages", type=int, default=100_000, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="corpus folder that is written")
    parser.add_argument("--check", type=Path, metavar="FILE", help="KILT pages to compare with")
    options = parser.parse_args()
    if options.check:
        check(options.check)
    elif options.out:
        began = time.perf_counter()
        write_corpus(options.out, options.passages, options.seed)
        print(f"{options.passages:,} passages in {time.perf_counter() - began:.0f} s -> {options.out}")
    else:
        parser.error("--out or --check is needed")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    main()
