"""A passage is found by the words that a speaker would type, in each language; the settings that do it are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts
from r1_searcher.files.sums import renew
from r1_searcher.retrieval import open_index, open_retriever, word_settings
from r1_searcher.retrieval.build import build_index
from r1_searcher.retrieval.identity import search_fingerprint
from r1_searcher.retrieval.tokenizer import CJK_KINDS, Tokenizer
from r1_searcher.types import schemas

SETTINGS = params.shipped().index
FIELD_CASES = Path(__file__).resolve().parents[3] / "shared/field_cases/corpus"

# A passage of each language, and queries that a speaker would type for it.
PASSAGES = {
    "Chinese": ("玉河", "玉河发源于北部高原，流入东湖。", ["玉河", "高原", "东湖在哪里", "湖"]),
    "Japanese": (
        "",
        "白鳥橋は大正時代に建てられたコンクリートの橋である。",
        ["白鳥橋", "コンクリート", "大正時代", "橋"],
    ),
    "Korean": ("", "한라봉은 제주도에서 자라는 과일이다.", ["한라봉", "제주도", "과일"]),
    "Thai": ("", "สะพานนี้สร้างด้วยไม้สัก", ["สะพาน", "ไม้สัก"]),
    "Arabic": ("", "قَرَأَ المُعَلِّمُ أخبارَ المدينةِ", ["قرأ", "المعلم", "اخبار", "المدينة", "قَرَأَ"]),
    "Hebrew": ("", "הַסֵּפֶר נִכְתַּב בגליל", ["הספר", "נכתב", "הַסֵּפֶר"]),
    "Turkish": (
        "",
        "İznik gölü ve Isparta kırlığı",
        ["iznik", "IZNIK", "İZNİK", "ısparta", "isparta", "golu", "kirligi"],
    ),
    "German": ("", "Die Weiße Mühle an der Grünstraße", ["WEISSE", "muhle", "grunstrasse", "Grünstraße"]),
    "French": ("", "L’œuvre d’Éloïse Çadran", ["oeuvre", "eloise", "cadran", "ÉLOÏSE"]),
    "Polish": ("", "Józef Łąka, malarz z Żnina", ["jozef laka", "znina"]),
    "Danish": ("", "Søren Kjærholm bor på Ærø", ["soren kjaerholm", "aero"]),
    "Russian": ("", "Алёна Берёзкина живёт в го́роде Йодино", ["алена березкина", "городе", "йодино"]),
    "Greek": ("", "Η Ελένη Σταύρου γεννήθηκε στην Πάτρα", ["ελενη", "ΣΤΑΥΡΟΥ", "πατρα"]),
    "Vietnamese": ("", "Đặng Thị Hường sống ở Huế", ["dang thi huong", "hue"]),
    "Hindi": ("", "मीरा गाँव की शिक्षिका है।", ["मीरा", "शिक्षिका"]),
    "full width": ("", "ＲＡＤＩＯ ７７", ["radio 77"]),
}


def built(folder: Path, passages: list[tuple[str, str]], **changes: object) -> dict[str, Any]:
    rows = [
        {"passage_id": f"p{number}", "title": title, "text": text, "source": "test"}
        for number, (title, text) in enumerate(passages)
    ]
    table = pa.Table.from_pylist(rows, schema=schemas.PASSAGES)
    return build_index(table, SETTINGS.model_copy(update=changes), folder / "index", "c")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("languages")
    built(folder, [(title, text) for title, text, _ in PASSAGES.values()])
    return folder / "index"


@pytest.mark.parametrize("language", list(PASSAGES))
def test_each_language_is_found_by_the_shipped_settings(world: Path, language: str) -> None:
    queries = PASSAGES[language][2]
    wanted = f"p{list(PASSAGES).index(language)}"
    found = open_index(world).search(queries, 1)
    assert [[one.passage_id for one in passages] for passages in found] == [[wanted]] * len(queries)


ASKED = {  # ids of the shared files → what a speaker would type
    **{
        "zh1": "黄山",
        "zh2": "陕西",
        "zh3": "山东",
        "ja1": "東京タワー 電波塔",
        "ko1": "대한민국 수도",
        "ko2": "부산 도시",
    },
    **{"ar1": "عاصمة مصر", "ar2": "كتب الطالب", "he1": "ירושלים", "th1": "เมืองหลวง", "hi1": "भारत राजधानी"},
    **{"tr1": "istanbul", "de1": "strasse fluss", "fr1": "elysee", "ru1": "елка", "vi1": "thu do ha noi"},
    **{"el1": "αθηνα πρωτευουσα", "en1": "state of the art", "fw1": "full", "em1": "football", "my1": "မြန်မာ"},
}


@pytest.mark.skipif(not FIELD_CASES.is_dir(), reason="../shared/field_cases is absent")
def test_the_shared_passages_are_found() -> None:
    import tempfile

    rows = [json.loads(line) for line in (FIELD_CASES / "languages.jsonl").read_text(encoding="utf-8").splitlines()]
    with tempfile.TemporaryDirectory() as folder:
        built(Path(folder), [(row["title"], row["text"]) for row in rows])
        found = open_index(Path(folder) / "index").search(list(ASKED.values()), 1)
    places = {row["id"]: f"p{number}" for number, row in enumerate(rows)}
    known = {name: [one.passage_id for one in passages] for name, passages in zip(ASKED, found, strict=True)}
    assert known == {name: [places[name]] for name in ASKED}


SPARSE = st.lists(
    st.one_of(st.text(st.characters(max_codepoint=127), max_size=30), st.sampled_from("éÉİΣ\u0301\u3000北한ﬁ")),
    max_size=20,
).map("".join)


@settings(max_examples=300)
@given(
    text=st.one_of(st.text(st.characters(max_codepoint=127)), SPARSE, st.text()),
    stemmer=st.sampled_from(["none", "english", "turkish"]),
    stopwords=st.sampled_from(["none", "english"]),
    folding=st.sampled_from(["accents", "case", "turkish"]),
    kind=st.sampled_from(CJK_KINDS),
)
def test_the_short_way_for_ascii_letters_gives_the_same_words(
    text: str, *, stemmer: str, stopwords: str, folding: Any, kind: str
) -> None:
    tokenizer = Tokenizer(stemmer, stopwords, folding=folding, kind=kind)
    assert tokenizer.split(text) == tokenizer.split_unicode(text)
    terms = [tokenizer.term(word) for word in tokenizer.split_unicode(text)]
    assert tokenizer(text) == [term for term in terms if term is not None]


@given(text=st.text(st.characters(max_codepoint=127)))
def test_no_setting_changes_the_words_of_ascii_text_except_turkish_case(text: str) -> None:
    plain = Tokenizer(folding="case", kind="characters")(text)
    assert all(
        Tokenizer(folding=folding, kind=kind)(text) == plain for folding in ("accents", "case") for kind in CJK_KINDS
    )


def test_bigrams_are_those_of_lucene() -> None:
    text = "東京タワーは高い Tokyo塔 あ"
    pairs = ["東京", "京タ", "タワ", "ワー", "ーは", "は高", "高い", "tokyo", "塔", "あ"]
    assert Tokenizer(kind="bigrams")(text) == pairs
    both = Tokenizer(kind="characters_and_bigrams")("高い塔")
    assert both == ["高", "い", "塔", "高い", "い塔"]


def test_accents_and_turkish_letters_can_count() -> None:
    assert Tokenizer(folding="case")("Élan élan ELAN") == ["élan", "élan", "elan"]
    assert Tokenizer(folding="turkish")("Isparta ISPARTA İZMİR I\u0307zmir") == ["ısparta", "ısparta", "izmir", "izmir"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stopwords": ["the", "new york", "don't", "…"]}, r"3 of 4 stop words can never match.*'new york', \"don't\""),
        ({"stopwords": []}, "no stop words here"),
        ({"stopwords": "./missing.txt"}, r"missing\.txt: cannot read the stop words"),
        ({"stopwords": "chinese", "tokenizer": "characters"}, r"667 of 841 stop words can never match"),
        ({"tokenizer": "words"}, r"index\.tokenizer: no tokenizer 'words' \(known: characters_and_bigrams, bigrams"),
        ({"tokenizer": "./nowhere"}, r"nowhere: no tokenizer\.json here"),
    ],
)
def test_choices_that_cannot_work_stop_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError, match=message):
        built(tmp_path, [("", "the")], **changes)


def test_own_stop_words_are_folded_as_the_text_is(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("# mine\nÉtait\n\nder\n我们\n", encoding="utf-8")
    for chosen in (str(file), ["Était", "der", "我们"]):
        assert Tokenizer(stopwords=chosen, kind="bigrams")("Der Mann etait ETAIT 我们去") == ["mann", "们去"]


def wordpiece(folder: Path) -> Path:
    import tokenizers

    words = ["[UNK]", "北京", "大学", "学", "习", "cafe", "##s", "in"]
    made = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]")
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Whitespace(),
            tokenizers.pre_tokenizers.Split(tokenizers.Regex("北京|大学"), "isolated"),
        ]
    )
    folder.mkdir()
    made.save(str(folder / "tokenizer.json"))
    return folder


def test_a_hugging_face_tokenizer_makes_the_words_and_goes_with_the_index(tmp_path: Path) -> None:
    given = wordpiece(tmp_path / "mine")
    meta = built(tmp_path, [("", "北京大学"), ("", "Cafés in")], tokenizer=str(given))
    (given / "tokenizer.json").rename(given / "moved.json")
    opened = open_index(tmp_path / "index")
    found = opened.search(["大学", "CAFES", "京大"], 2)
    assert [[one.passage_id for one in passages] for passages in found] == [["p0"], ["p1"], []]
    assert meta["settings"]["tokenizer"].startswith("sha256:")
    (tmp_path / "index/tokenizer.json").unlink()
    renew(tmp_path / "index")
    with pytest.raises(PipelineError, match=r"tokenizer\.json is missing or changed"):
        open_index(tmp_path / "index")
    (given / "moved.json").rename(given / "tokenizer.json")
    with pytest.raises(PipelineError, match=r"index\.stemmer: a tokenizer\.json makes tokens"):
        built(tmp_path, [("", "x")], tokenizer=str(given), stemmer="english")
    (given / "tokenizer.json").write_text("{}")
    with pytest.raises(PipelineError, match="not a tokenizer"):
        built(tmp_path, [("", "x")], tokenizer=str(given))


CHOICES: list[dict[str, object]] = [
    {},
    {"stemmer": "english"},
    {"stopwords": "english"},
    {"stopwords": ["of"]},
    {"stopwords": ["of", "in"]},
    {"folding": "case"},
    {"folding": "turkish"},
    {"tokenizer": "bigrams"},
    {"tokenizer": "characters"},
]


def test_every_choice_is_in_the_name_of_a_search_even_if_the_index_is_equal(tmp_path: Path) -> None:
    made = [built(tmp_path, [("", "plain words")], **choice) for choice in CHOICES]
    assert len({one["content"] for one in made[5:]}) == 1
    assert len({search_fingerprint(one) for one in made}) == len(CHOICES)


@pytest.mark.parametrize("choice", [{"k1": 1.2}, {"title_weight": 2}, *CHOICES[1:]])
def test_a_choice_that_was_changed_after_the_build_is_refused(tmp_path: Path, choice: dict[str, object]) -> None:
    built(tmp_path, [("", "plain words")])
    given = params.shipped()
    open_retriever(given, index=tmp_path / "index")
    changed = given.model_copy(update={"index": given.index.model_copy(update=choice)})
    [name] = choice
    message = rf"index: the index was built with index\.{name} \S+ \(now .*\) \(run `dvc repro index`"
    with pytest.raises(PipelineError, match=message):
        open_retriever(changed, index=tmp_path / "index")


def test_an_index_of_the_first_version_opens_and_finds_what_it_found(tmp_path: Path) -> None:
    meta = built(tmp_path, [("", "Ernő met 北京"), ("", "Erno")], folding="case", tokenizer="characters")
    former = {name: value for name, value in meta["settings"].items() if name not in ("folding", "tokenizer")}
    old = meta | {"settings": former, "tokenizer": word_settings.FIRST_FORMS[1]}
    artefacts.write_json(tmp_path / "index/meta.json", old)
    renew(tmp_path / "index")
    opened = open_retriever(params.shipped(), index=tmp_path / "index")
    found = [[one.passage_id for one in passages] for passages in opened.search(["ernő", "北", "erno"], 2)]
    assert found == [["p0"], ["p0"], ["p1"]]
    assert opened.fingerprint == search_fingerprint(meta)


RECORDED = "0db1ea84572a2520"


def test_the_form_of_words_stands_for_these() -> None:
    """If the same settings give other words, raise WORDS_FORM and record the new ones here."""
    texts = [text for _, text, _ in PASSAGES.values()]
    foldings: list[Any] = ["accents", "case", "turkish"]
    words = [
        [Tokenizer(folding=folding, kind=kind)(text) for text in texts] for folding in foldings for kind in CJK_KINDS
    ]
    assert (word_settings.WORDS_FORM, artefacts.fingerprint(words)[:16]) == (2, RECORDED)
