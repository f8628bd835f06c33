"""Search servers of other projects, against stand-ins written from their sources, and against this project's own."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import odd_servers
import other_servers
import pytest
import yaml
from other_servers import BROKEN, DOCUMENTS, LINES, TOKEN
from pydantic import ValidationError
from search_servers import in_thread, settings_for
from tiny_policy import params_with

from r1_searcher.errors import PipelineError
from r1_searcher.files.store import ROOT_VARIABLE
from r1_searcher.params import SHIPPED, Params
from r1_searcher.retrieval import identify, open_retriever
from r1_searcher.retrieval.remote import client
from r1_searcher.retrieval.remote.client import ServiceRetriever
from r1_searcher.retrieval.remote.forms import SERVICE_FORMS
from r1_searcher.retrieval.remote.other_projects import OtherServiceRetriever
from r1_searcher.types.protocols import Passage, RetrieverError, search_each
from stages.index.__main__ import main

PATHS = {"search-r1": "search-r1", "r1-searcher": "r1-searcher", "flashrag": "research", "flashrag-search": "research"}
CASTLE = "Silent Castle is a film. It was directed by Ada Penn."
BATCHES = [name for name, form in SERVICE_FORMS.items() if form.batch]


@pytest.fixture(scope="module")
def running() -> Iterator[other_servers.State]:
    with other_servers.serve() as state:
        yield state


@pytest.fixture
def servers(running: other_servers.State) -> other_servers.State:
    running.asked.clear()
    running.headers.clear()
    running.most = 100
    return running


def opened(servers: other_servers.State, form: str, path: str = "", **changes: object) -> OtherServiceRetriever:
    settings = {"wait": 0.3, "name": "films", "form": form, **changes}
    return OtherServiceRetriever(settings_for(f"{servers.base}/{path or PATHS[form]}", **settings))


@pytest.mark.parametrize("form", SERVICE_FORMS)
def test_a_server_that_runs_already_is_searched(servers: other_servers.State, form: str) -> None:
    retriever = opened(servers, form)
    castle, nothing, both, again = retriever.search(["castle", "zebra", "ada", "castle"], 2)
    assert [(one.title, " ".join(one.text.split())) for one in castle] == [("Silent Castle", CASTLE)]
    assert (nothing, again) == ([], castle)
    assert [one.title for one in both] == ["Silent Castle", "Ada Penn"]
    if form != "r1-searcher":
        assert [one.passage_id for one in both] == ["7", "9"] and castle[0].text.count("\n") == 1
    scores = {"search-r1": [0.9, 0.8], "r1-searcher": [1.0, 0.5]}
    assert [one.score for one in both] == scores.get(form, [0.5, 0.5])
    assert {path.rsplit("/", 1)[1] for path, _ in servers.asked} == {SERVICE_FORMS[form].path[1:]}
    assert retriever.search([], 3) == []


@pytest.mark.parametrize("form", SERVICE_FORMS)
def test_one_query_that_fails_costs_itself_alone(servers: other_servers.State, form: str) -> None:
    found = search_each(opened(servers, form), ["castle", BROKEN, "ada", "trabo"], 1)
    assert [isinstance(entry, RetrieverError) for entry in found] == [False, True, False, False]
    assert str(found[1]) == "the service: HTTP 500: Internal Server Error"


def test_the_other_servers_of_search_r1(servers: other_servers.State) -> None:
    [serp] = opened(servers, "search-r1", "serp").search(["castle"], 2)  # answers three, whatever is asked for
    assert [(one.title, one.score) for one in serp] == [("Silent Castle", 1.0), ("Ada Penn", 0.5)]
    assert len({one.passage_id for one in serp}) == 2
    [[rerank]] = opened(servers, "search-r1", "rerank").search(["castle"], 3)
    assert (rerank.title, rerank.score, rerank.passage_id) == ("Silent Castle", 1.5, serp[0].passage_id)


def test_a_document_with_a_title_of_its_own() -> None:
    documents = [
        {"id": "1", "contents": '"A ""B"" C"\nIts text.'},
        {"id": "1", "title": "Ada", "contents": "No title here."},
        {"id": "1", "title": "Ada", "contents": "No title here,\nbut two lines."},
        {"id": "1", "title": '"Ada"', "contents": '"Ada"\nShe sang.'},
        {"id": "1", "title": None, "contents": "Ada\nShe sang."},
    ]
    [found] = SERVICE_FORMS["search-r1"].read({"result": [documents]}, 1)
    assert [(one.title, one.text) for one in found] == [
        ('A "B" C', "Its text."),
        ("Ada", "No title here."),
        ("Ada", "No title here,\nbut two lines."),
        ("Ada", "She sang."),
        ("Ada", "She sang."),
    ]


def test_lines_of_r1_searchers_two_passage_files() -> None:
    lines = [
        LINES[0],
        '1\t"Title: League ""A"" Text:  League (a ""league"")  of clubs."',
        "2\tTitle: The No No's Text:  A band.",
        "3\tno title",
    ]
    [found] = SERVICE_FORMS["r1-searcher"].read({"queries": ["q"], "answers": [lines]}, 1)
    assert [(one.title, one.text) for one in found] == [
        ("Silent Castle", CASTLE),
        ('League "A"', 'League (a "league")  of clubs.'),
        ("The No No's", "A band."),
        ("", "no title"),
    ]


@pytest.mark.parametrize("form", SERVICE_FORMS)
def test_this_projects_server_speaks_every_form(form: str) -> None:
    with in_thread(Films()) as (url, _):
        settings = settings_for(url, form=form, name="films")
        [found, nothing] = OtherServiceRetriever(settings).search(["castle", "zebra"], 2)
        # An address that already ends in the form's path, as the other projects' users have it.
        written_out = settings.model_copy(update={"url": url + SERVICE_FORMS[form].path})
        assert OtherServiceRetriever(written_out).search(["castle"], 2) == [found]
    assert [(one.title, one.text) for one in found] == [("Castle", "castle"), ("Castle", "castle again")]
    assert nothing == []
    if form != "r1-searcher":
        assert [(one.passage_id, one.score) for one in found] == [("c", 0.75), ("d", 0.25)]


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        ("/search", {"query": "castle"}, [["c", '"Castle"\ncastle'], ["d", '"Castle"\ncastle again']]),
        ("/search", {"query": "zebra", "return_score": True}, [[], []]),
        ("/batch_search", {"query": ["zebra", "castle"], "top_n": 1}, [[], [["c", '"Castle"\ncastle']]]),
        ("/batch_search", {"query": [], "return_score": True}, [[], []]),
    ],
)
def test_researchs_client_is_understood(path: str, body: dict[str, object], answer: object) -> None:
    def plain(value: object) -> object:
        if isinstance(value, dict):
            return list(value.values())
        return [plain(one) for one in value] if isinstance(value, list) else value

    with in_thread(Films()) as (url, _):
        assert plain(httpx.post(url + path, json=body).json()) == answer
        refused = httpx.post(url + path, json={"query": 3})
        assert (refused.status_code, refused.json()["detail"][:11]) == (422, "body.query:")


class Films:
    """Two passages for any query about a castle."""

    fingerprint = "f" * 64

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        films = [Passage("c", "Castle", "castle", 0.75), Passage("d", "Castle", "castle again", 0.25)]
        return [films[:k] if "castle" in query else [] for query in queries]


# --- faults -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "path", "said"),
    [
        (
            "r1-searcher",
            "search-r1",
            r"not answer in the form r1-searcher \(POST /queries\): what came is HTTP 404: Not Found "
            r"\(it answers in the form search-r1: set retriever\.service\.form\)",
        ),
        ("search-r1", "research", r"HTTP 404: .*answers in the form flashrag and flashrag-search"),
        ("search-r1", "odd/html", r"what came is no JSON but '<html><title>Sign in.*none of the known forms: own, "),
        ("search-r1", "odd/nothing", "what came is nothing"),
        ("search-r1", "odd/number", "what came is 3 "),
        ("search-r1", "odd/empty", "what came is an empty object"),
        ("search-r1", "odd/answers", r"an object with 'queries', 'answers', as of the form r1-searcher"),
        ("r1-searcher", "odd/mixed", r"an object with 'result', as of the form search-r1"),
        ("flashrag", "odd/short", r"what came is an object with 'result', as of the form search-r1"),
        ("search-r1", "odd/mixed", "an object with 'result', as of the form search-r1: 3 "),
        ("search-r1", "odd/wordless", "a document without 'contents'"),
        ("search-r1", "odd/score", "a score that is no number: nan"),
        ("search-r1", "odd/short", r"answers 2 queries with 1 results"),
        ("search-r1", "odd/long", r"answers 2 queries with 3 results"),
        ("search-r1", "odd/moved", r"url: .*redirects to http://search\.example/retrieve \(HTTP 307\)"),
        ("search-r1", "odd/denied", r"key_variable: .*refuses requests without a token: HTTP 401: who are you\?"),
        ("search-r1", "odd/busy", r"no server answers at .*: HTTP 503: warming up"),
        ("search-r1", "odd/limited", r"no server answers at .*: HTTP 429: slower"),
    ],
)
def test_another_form_is_said_in_one_line_when_it_is_opened(
    servers: other_servers.State, form: str, path: str, said: str
) -> None:
    with pytest.raises(PipelineError, match=said) as error:
        opened(servers, form, path)
    assert str(error.value).isprintable() and len(str(error.value)) < 400


def test_this_projects_form_says_which_one_another_server_speaks(servers: other_servers.State) -> None:
    for path, spoken in (("search-r1", "search-r1"), ("research", "flashrag and flashrag-search")):
        with pytest.raises(PipelineError, match=rf"not a retrieval service of this project.*in the form {spoken}: set"):
            ServiceRetriever(settings_for(f"{servers.base}/{path}", wait=0.0))


def test_a_token_comes_from_the_environment_and_is_never_shown(
    servers: other_servers.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PipelineError, match="environment variable SEARCH_API_KEY is not set"):
        opened(servers, "search-r1", key_variable="SEARCH_API_KEY")
    monkeypatch.setenv("SEARCH_API_KEY", TOKEN)
    assert opened(servers, "search-r1", key_variable="SEARCH_API_KEY").search(["castle"], 1)
    assert {headers["authorization"] for headers in servers.headers} == {f"Bearer {TOKEN}"}
    with pytest.raises(PipelineError, match=r"refuses the token in \$SEARCH_API_KEY: HTTP 403: not you: …") as error:
        opened(servers, "search-r1", "odd/forbidden", key_variable="SEARCH_API_KEY")
    assert TOKEN not in str(error.value)
    for reply in ("odd/echo", "odd/echo-json"):  # a reply of another form that repeats the token
        with pytest.raises(PipelineError, match=r"does not answer in the form .*…") as error:
            opened(servers, "search-r1", reply, key_variable="SEARCH_API_KEY")
        assert TOKEN not in str(error.value)
    with pytest.raises(PipelineError, match="would be sent as clear text"):
        settings = settings_for("http://search.example", form="search-r1", name="x", key_variable="SEARCH_API_KEY")
        OtherServiceRetriever(settings)


@pytest.mark.parametrize("form", BATCHES)
def test_a_batch_that_is_too_large_is_sent_in_parts(servers: other_servers.State, form: str) -> None:
    servers.most = 3
    found = opened(servers, form).search(["castle", *(f"zebra {number}" for number in range(9))], 1)
    assert [len(entry) for entry in found] == [1] + [0] * 9
    assert max(len(next(v for v in body.values() if isinstance(v, list))) for _, body in servers.asked) == 10


def test_replies_that_are_too_large_or_too_slow(servers: other_servers.State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_ANSWER_BYTES", 10_000)
    with pytest.raises(PipelineError, match="what came is the reply has more than 10,000 bytes"):
        opened(servers, "search-r1", "odd/huge")
    with odd_servers.serve(odd_servers.drips(b"HTTP/1.1 200 OK\r\n", b"X")) as url:
        settings = settings_for(url, form="search-r1", name="slow", timeout=0.2, wait=0.1)
        with pytest.raises(PipelineError, match=r"no server answers at .*did not answer within 0\.2 s"):
            OtherServiceRetriever(settings)


def test_what_a_server_says_later_counts_for_its_query_and_a_wrong_number_ends_the_run() -> None:
    good, one = b'{"result": [[], []]}', b'{"result": [[]]}'
    says = odd_servers.says
    replies = [says(body, "Connection: close") for body in (good, b"<html>", b"<html>", one, good, one)]
    with odd_servers.serve(odd_servers.in_turn(*replies)) as url:
        retriever = OtherServiceRetriever(settings_for(url, form="search-r1", name="x", wait=0.1))
        found = search_each(retriever, ["a", "b"], 1)
        assert (str(found[0]), found[1]) == ("the service: no JSON but '<html>'", [])
        assert retriever.search(["a", "b"], 1) == [[], []]
        with pytest.raises(PipelineError, match="answers 2 queries with 1 results"):
            retriever.search(["a", "b"], 1)


# --- as part of a run -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"form": "search-r1"}, "name is missing: a server of the form search-r1 does not say what it searches"),
        ({"form": "search-r1", "name": "two words"}, "not a valid name"),
        ({"form": "search-r1", "name": "x", "fingerprint": "f" * 64}, "fingerprint cannot be checked"),
        ({"name": "x"}, "name is for servers of another form"),
        ({"form": "colbert"}, "'own', 'search-r1', 'r1-searcher', 'flashrag' or 'flashrag-search'"),
    ],
)
def test_parameters_that_contradict_each_other_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        settings_for("http://127.0.0.1:1", **changes)


def test_its_name_is_its_fingerprint_and_its_searches_are_recorded_and_replayed(
    servers: other_servers.State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "store"))

    def settings(name: str, mode: str = "auto", url: str = f"{servers.base}/search-r1") -> Params:
        service = settings_for(url, form="search-r1", name=name, wait=0.0).model_dump()
        return params_with(retriever__kind="service", retriever__service=service, retriever__searches__mode=mode)

    found = identify(settings("films"), index=tmp_path)
    assert (found.corpus, found.description) == ("films", "the server films, asked in the form search-r1")
    assert found != identify(settings("films-2"), index=tmp_path)
    assert found == identify(settings("films", url="http://moved.example"), index=tmp_path)
    assert servers.asked == []  # nothing is asked before a search is needed
    first = open_retriever(settings("films"), index=tmp_path, fingerprint=found.fingerprint).search(["ada"], 2)
    number = len(servers.asked)
    second = open_retriever(settings("films"), index=tmp_path).search(["ada"], 2)
    assert second == first and len(servers.asked) == number + 1  # the check of the form alone
    replayed = open_retriever(settings("films", "replay", "http://127.0.0.1:1"), index=tmp_path)
    assert replayed.search(["ada"], 2) == first and replayed.fingerprint == found.fingerprint
    with pytest.raises(PipelineError, match="contains no searches of this retriever"):
        identify(settings("films-2", "replay"), index=tmp_path)
    assert json.dumps(DOCUMENTS[0]["contents"])[3:9] in first[0][0].title


PAGE = Path(__file__).resolve().parents[2] / "docs/search-service.md"
EXAMPLES = [
    block for block in PAGE.read_text().split("\n\n") if "form: " in block and block.startswith("    retriever:")
]


@pytest.mark.parametrize(
    "example", EXAMPLES, ids=lambda example: str(yaml.safe_load(example)["retriever"]["service"]["name"])
)
def test_the_pages_examples_search(
    servers: other_servers.State,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    example: str,
) -> None:
    """As a user has it: the parameters of the page, at another address, and the page's command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "store"))
    monkeypatch.setenv("SEARCH_API_KEY", TOKEN)
    given = yaml.safe_load(example)["retriever"]
    given["service"]["url"] = f"{servers.base}/{PATHS[given['service']['form']]}"
    raw = yaml.safe_load(SHIPPED.read_text())
    raw["retriever"] |= {**given, "service": {**raw["retriever"]["service"], **given["service"]}}
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    command = next(
        line for line in PAGE.read_text().splitlines() if " search " in line and line.startswith("    python")
    )
    assert main(shlex.split(command)[3:]) == 0
    assert "Silent Castle: " in capsys.readouterr().out
    assert len(EXAMPLES) == len(SERVICE_FORMS)
