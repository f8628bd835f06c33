"""The transcript's grammar (paper section 3.1): tags, documents, stops, finish reasons.

A transcript is what follows the prompt's ``<think>``. The policy writes thoughts, queries and the answer; the system
inserts document blocks. Each token's provenance (``PROMPT``, ``POLICY``, ``DOCUMENT``) is recorded when it is made and
never inferred from tags.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from r1_searcher.transcripts.scripts import PAPER, Scripts, script_violations

THINK, END_THINK = "<think>", "</think>"
QUERY, END_QUERY = "<|begin_of_query|>", "<|end_of_query|>"
DOCUMENTS, END_DOCUMENTS = "<|begin_of_documents|>", "<|end_of_documents|>"
ANSWER, END_ANSWER = "<answer>", "</answer>"
TAGS = (THINK, END_THINK, QUERY, END_QUERY, DOCUMENTS, END_DOCUMENTS, ANSWER, END_ANSWER)

# How a policy's transcripts are made: as it was trained, or as one of the baselines (rollout/loop.py, ircot.py).
Mode = Literal["search", "no_search", "plain_rag", "ircot"]
MODES: tuple[Mode, ...] = get_args(Mode)

# token_source: provenance of a token. Only POLICY tokens have gradient, KL and advantage. FORCED is text that a
# baseline (no search, plain RAG) puts at the beginning of the transcript.
PROMPT, POLICY, DOCUMENT, FORCED = 0, 1, 2, 3

STOPS = (END_QUERY, END_ANSWER)  # at which the policy's turn ends
FORCED_ANSWER = f"{END_THINK}\n\n{ANSWER}"  # makes a baseline answer at once

# How a trajectory ends.
FINISH_ANSWER = "answer"  # </answer> was written
FINISH_END_OF_TEXT = "end_of_text"  # the model's end token
FINISH_EMPTY_QUERY = "empty_query"  # a call of any tool without a request
FINISH_SEARCH_LIMIT = "search_limit"  # a query after the last allowed search
FINISH_CALL_LIMIT = "call_limit"  # the same for another tool
FINISH_TURN_LIMIT = "turn_limit"  # too many new tokens in one turn
FINISH_LENGTH_LIMIT = "length_limit"  # too many tokens in all
FINISH_RETRIEVER_ERROR = "retriever_error"
FINISH_TOOL_ERROR = "tool_error"  # the same for another tool
LOST_FINISHES = (
    FINISH_RETRIEVER_ERROR,
    FINISH_TOOL_ERROR,
)  # neither right nor wrong: left out of training and measurement
FINISH_REASONS = (
    FINISH_ANSWER,
    FINISH_END_OF_TEXT,
    FINISH_EMPTY_QUERY,
    FINISH_SEARCH_LIMIT,
    FINISH_CALL_LIMIT,
    FINISH_TURN_LIMIT,
    FINISH_LENGTH_LIMIT,
    FINISH_RETRIEVER_ERROR,
    FINISH_TOOL_ERROR,
)

# What tokenizers write at the end of a text: Qwen's, Llama's, SentencePiece's.
END_OF_TEXT_TOKENS = ("<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "</s>")

_ENDS = f"(?:{'|'.join(map(re.escape, END_OF_TEXT_TOKENS))})"
_OUTER_ENDS = re.compile(rf"\A{_ENDS}+|{_ENDS}+$")
_DOCUMENT_BLOCK = re.compile(f"{re.escape(DOCUMENTS)}.*?{re.escape(END_DOCUMENTS)}", re.DOTALL)
_SEARCH = re.compile(rf"{re.escape(END_QUERY)}\s*{_DOCUMENT_BLOCK.pattern}", re.DOTALL)


@dataclass(frozen=True)
class Tags:
    """The pair of tags with which the policy calls a tool beside search, and the tool's name."""

    name: str
    begin: str
    end: str


@dataclass(frozen=True)
class Segment:
    """A run of the transcript from one source: "policy", "document", or "forced" (a baseline's)."""

    source: str
    text: str


@dataclass(frozen=True)
class Transcript:
    """What follows the prompt's ``<think>``, with provenance if known.

    ``segments`` is None for a bare transcript read from a file, of which only the tags are known. ``tools``: those
    beside search that the policy could call; the tags of any other tool are text. ``scripts``: those that it may be
    written in outside its documents (``reward.scripts``).
    """

    text: str
    segments: tuple[Segment, ...] | None = None
    tools: tuple[Tags, ...] = ()
    scripts: Scripts = PAPER

    @classmethod
    def of(cls, segments: Iterable[Segment], tools: Iterable[Tags] = (), scripts: Scripts = PAPER) -> Transcript:
        """Return a transcript with provenance."""
        parts = tuple(segments)
        return cls("".join(part.text for part in parts), parts, tuple(tools), scripts)

    @property
    def policy_text(self) -> str:
        """The transcript without its document blocks (by provenance, else by their tags)."""
        if self.segments is not None:
            return "".join(part.text for part in self.segments if part.source != "document")
        return _DOCUMENT_BLOCK.sub("", self.text)


def extract_query(turn_text: str) -> str:
    """Return the query of a turn that ended in ``<|end_of_query|>``, by the release's rule: from the last begin tag,
    without quotes, white space folded; empty if there is none."""
    _, found, rest = turn_text.rpartition(QUERY)
    if not found:
        return ""
    query = rest.split(END_QUERY, 1)[0]
    return " ".join(query.replace('"', " ").split()).strip("'` ")


def between(turn_text: str, begin: str, end: str) -> str:
    """Return the text after the last ``begin`` and before the next ``end``, white space folded; empty without
    ``begin``."""
    _, _, rest = turn_text.rpartition(begin) if begin in turn_text else ("", "", "")
    return " ".join(rest.split(end, 1)[0].split())


def extract_answer(text: str) -> str | None:
    """Return the text after the last ``<answer>`` and before the next ``</answer>``, stripped; None if either is
    missing."""
    _, found, rest = text.rpartition(ANSWER)
    if not found or END_ANSWER not in rest:
        return None
    return rest.split(END_ANSWER, 1)[0].strip()


def render_documents(passages: Sequence[str]) -> str:
    """Return the block that the system inserts after a query; ``passages`` are neutralised texts (documents.py)."""
    lines = "".join(f"({number}) {text}\n" for number, text in enumerate(passages, 1))
    return f"\n\n{DOCUMENTS}\n{lines}{END_DOCUMENTS}\n\n"


def strip_end_of_text(text: str) -> str:
    """Remove end-of-text tokens at both ends (a last line break may follow); white space stays."""
    return _OUTER_ENDS.sub("", text)


def written_searches(text: str) -> int:
    """Count the searches of a bare transcript: closed queries followed by a closed document block."""
    return len(_SEARCH.findall(text))


def tag_count_violations(text: str) -> list[str]:
    """Return the names of broken rules on the number of think and answer tags: no ``<think>``, which is in the prompt,
    and exactly one each of ``</think>``, ``<answer>`` and ``</answer>``."""
    broken = [] if THINK not in text else ["think_tag_written"]
    once = {"end_think_count": END_THINK, "begin_answer_count": ANSWER, "end_answer_count": END_ANSWER}
    return broken + [name for name, tag in once.items() if text.count(tag) != 1]


def format_violations(transcript: Transcript) -> tuple[str, ...]:
    """Return the names of the format rules (the ``paper`` set's) that a transcript breaks; empty: right.

    With provenance, tags are counted in what the policy wrote. A bare transcript is checked by the same rules outside
    its document blocks, and its seven tag counts must be equal (zero allowed). End-of-text tokens after the answer do
    not count as text.
    The calls of the transcript's tools are held to the rules of queries.
    """
    text = transcript.policy_text
    broken = tag_count_violations(text)
    if all(text.count(tag) == 1 for tag in (END_THINK, ANSWER, END_ANSWER)):
        if not text.index(END_THINK) < text.index(ANSWER) < text.index(END_ANSWER):
            broken.append("tag_order")
        if re.sub(_ENDS, "", text.split(END_ANSWER)[1]).strip():
            broken.append("text_after_answer")
    broken += [f"{name}_not_closed" for name in _not_closed(text, transcript.tools)]
    if transcript.segments is None:
        if tag_counts_differ(transcript.text, transcript.tools):
            broken.append("tag_counts_differ")
    elif DOCUMENTS in text or END_DOCUMENTS in text:
        broken.append("document_tag_written")
    answer = extract_answer(text)
    if answer is not None and any(tag in answer for tag in (*TAGS, *tags_of(transcript.tools))):
        broken.append("tag_in_answer")
    broken += script_violations(text, transcript.scripts, tags=all_tags(transcript.tools))
    return tuple(broken)


def tags_of(tools: Iterable[Tags]) -> tuple[str, ...]:
    """Return the tags of tools, begin and end of each."""
    return tuple(tag for tool in tools for tag in (tool.begin, tool.end))


def all_tags(tools: Iterable[Tags] = ()) -> tuple[str, ...]:
    """Return the tags of the grammar and of tools, and the end-of-text tokens: everything that is not text."""
    return (*TAGS, *tags_of(tools), *END_OF_TEXT_TOKENS)


def _not_closed(text: str, tools: Sequence[Tags]) -> list[str]:
    """Return the calls (query, and tools by name) with a begin that its end does not follow, or an end that its begin
    does not precede; no tag of another call may stand between the two."""
    calls = (Tags("query", QUERY, END_QUERY), *tools)
    tags = re.findall("|".join(map(re.escape, tags_of(calls))), text)
    return [
        call.name
        for call in calls
        if any(
            (tag == call.begin and after != call.end) or (after == call.end and tag != call.begin)
            for tag, after in itertools.pairwise(["", *tags, ""])
        )
    ]


def seven_counts(text: str, tools: Sequence[Tags] = ()) -> tuple[int, ...]:
    """Return the release's seven tag counts over the whole transcript, including documents.

    A tool's call counts as a query, because documents follow it too.
    """
    needles = (
        (f"{DOCUMENTS}\n",),
        (f"{END_DOCUMENTS}\n\n",),
        (QUERY, *(tool.begin for tool in tools)),
        (END_QUERY, *(tool.end for tool in tools)),
        (DOCUMENTS,),
        (END_DOCUMENTS,),
        (f"{DOCUMENTS}\n(1)",),
    )
    return tuple(sum(map(text.count, alike)) for alike in needles)


def tag_counts_differ(text: str, tools: Sequence[Tags] = ()) -> bool:
    """Return whether the seven counts are not all equal, or the two tags of a tool do not occur equally often."""
    uneven = any(text.count(tool.begin) != text.count(tool.end) for tool in tools)
    return uneven or len(set(seven_counts(text, tools))) != 1
