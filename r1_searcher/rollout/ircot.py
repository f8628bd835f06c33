"""The baseline `ircot`: retrieval interleaved with sentences of reasoning, after IRCoT (Trivedi et al., 2023,
arXiv 2212.10509, section 3).

The question is searched first. Then, in turn, the policy writes one sentence of reasoning and that sentence is
searched, until the policy answers, a sentence says "answer is", or the searches are used up; in the last two
cases the answer is asked for at once. It needs no training and no training set, and works on the same ``Engine``
and ``Retriever`` as every other rollout. What is searched, shown and asked for is ``forced`` or ``document`` text,
never the policy's.

Where it departs from what was published:

- No worked examples are shown; the prompt (`ircot`, `ircot_instruct`, or whichever is set) says it in words.
- Passages stand where they were found instead of being gathered (and shuffled) before the question, so that the
  policy's tokens are never read in another context than the one they were written in. A passage that is found
  again is shown again. The published bound of 15 paragraphs becomes ``max_searches`` × ``k``; of 8 steps,
  ``max_searches``, which counts the question's search too.
- The policy that reasoned also answers, in the same transcript: there is no second reader pass.
- A query that the policy writes itself, in the grammar's tags, is that step's query: a policy that was trained to
  search writes nothing else.
- The sentence is the query as it stands; question words are not taken out of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from r1_searcher.rollout.trajectory import Trajectory
from r1_searcher.rollout.turn_handlers import Answered
from r1_searcher.tools.protocol import SEARCH, Call
from r1_searcher.transcripts import grammar
from r1_searcher.transcripts.documents import neutralise
from r1_searcher.transcripts.grammar import Segment
from r1_searcher.types.protocols import Engine, Sampling, Turn

SENTENCE_STOPS = (".", "?", "!", "\n")  # each may end a sentence; whether it does, `is_sentence` says
STOPS = (*grammar.STOPS, *SENTENCE_STOPS)

_END = re.compile(r"[.?!][\"'”’)\]]*\s*\Z")
_WORD = re.compile(r"[^\W\d_]{2}")  # "1." and "- " are no sentences
# Titles and initials, after which a sentence goes on. A number does end one: "… in 1931."
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'.-])(?:[^\W\d_]|Mr|Mrs|Ms|Dr|Prof|Sr|Jr|St|Mt|Gen|Col|Capt|Lt|Sgt|Rev|Hon|No|Vol|vs|e\.g|i\.e)\.\s*\Z"
)
_ANSWER_IS = re.compile(r"\banswer\s+is\b", re.IGNORECASE)


def is_sentence(text: str) -> bool:
    """Whether reasoning that was stopped at one of ``SENTENCE_STOPS`` is a whole sentence.

    A line break ends one like a full stop does. Text with a tag is none: a query or an answer has begun.
    """
    if not _WORD.search(text) or any(tag in text for tag in grammar.TAGS):
        return False
    if text.rstrip(" \t").endswith("\n"):
        return True
    return _END.search(text) is not None and _ABBREVIATION.search(text) is None


Wanted = tuple[str, list[Segment]]  # a query to run, and the forced text that shows it before its passages


@dataclass
class _Step:
    """What a trajectory has written since the last insertion, which stops may have cut into several turns."""

    token_ids: list[int] = field(default_factory=list)
    answering: bool = False  # the answer was asked for: no more sentences, no more searches


class Batch:
    """A batch in this mode: ``r1_searcher.rollout.turn_handlers.TurnHandler``.

    The limit on a turn's tokens is held by the engine from stop to stop, and here over a whole sentence: that may
    exceed it by less than the limit once more.
    """

    def __init__(self, engine: Engine, batch: Sequence[Trajectory], max_searches: int, sampling: Sampling) -> None:
        self.engine, self.batch = engine, batch
        self.max_searches, self.sampling = max_searches, sampling
        self.steps = [_Step() for _ in batch]
        self.shown: dict[int, list[Segment]] = {}  # forced text that shows a query, before its passages

    def take(self, turn: Turn) -> Call | None:
        """Book a turn. Returns the search to make; None where the policy was let go on, or has ended."""
        wanted = self._take(self.batch[turn.trajectory], self.steps[turn.trajectory], turn)
        if isinstance(wanted, tuple):
            query, self.shown[turn.trajectory] = wanted
            return Call(SEARCH, query)
        self._go_on(turn.trajectory, wanted)
        return None

    def insert(self, number: int, answered: Answered) -> None:
        """Insert what was found, behind the query where the policy has not written it."""
        self.batch[number].turns.append(answered.record)
        if answered.block is None:
            self.batch[number].finish_reason = answered.failure
        self._go_on(number, [*self.shown.pop(number), Segment("document", answered.block or "")])

    def _take(self, trajectory: Trajectory, step: _Step, turn: Turn) -> Wanted | list[Segment]:
        """Book a turn. Returns the query to run, or else what is to be inserted now.

        Nothing to insert: the policy goes on where it stopped, or, where its finish reason is set, has ended.
        """
        trajectory.append(turn.token_ids, grammar.POLICY)
        trajectory.logprobs += turn.logprobs
        step.token_ids += turn.token_ids
        ended = turn.stop == grammar.FINISH_END_OF_TEXT
        text = self.engine.decode(step.token_ids[:-1] if ended else step.token_ids)
        spent = step.answering or len(trajectory.turns) >= self.max_searches
        wanted: Wanted | list[Segment] = []
        if turn.stop == grammar.END_QUERY:
            query = grammar.extract_query(text)
            if query and not spent:
                wanted = (query, [])
            else:
                trajectory.finish_reason = grammar.FINISH_SEARCH_LIMIT if query else grammar.FINISH_EMPTY_QUERY
        elif turn.stop not in SENTENCE_STOPS:
            trajectory.finish_reason = grammar.FINISH_ANSWER if turn.stop == grammar.END_ANSWER else turn.stop
        elif step.answering or not is_sentence(text):
            if len(trajectory.token_ids) >= self.sampling.max_total_tokens:
                trajectory.finish_reason = grammar.FINISH_LENGTH_LIMIT
            elif len(step.token_ids) >= self.sampling.max_turn_tokens:
                trajectory.finish_reason = grammar.FINISH_TURN_LIMIT
        elif spent or _ANSWER_IS.search(text):
            step.answering = True
            wanted = [Segment("forced", grammar.FORCED_ANSWER)]
        else:
            query = neutralise(text)
            wanted = (query, [Segment("forced", f"{grammar.QUERY} {query}{grammar.END_QUERY}")])
        if wanted or trajectory.finish_reason:
            trajectory.segments.append(Segment("policy", text))
            step.token_ids = []
        return wanted

    def _go_on(self, number: int, inserted: Sequence[Segment]) -> None:
        """Insert text and let the trajectory write on; or release it, where it has ended or no room is left."""
        trajectory = self.batch[number]
        if not trajectory.finish_reason:
            encoded = [self.engine.encode(part.text) for part in inserted]
            if len(trajectory.token_ids) + sum(map(len, encoded)) < self.sampling.max_total_tokens:
                for part, ids in zip(inserted, encoded, strict=True):
                    trajectory.append(ids, grammar.DOCUMENT if part.source == "document" else grammar.FORCED)
                    trajectory.segments.append(part)
                self.engine.extend(number, [token for ids in encoded for token in ids])
                return
            trajectory.finish_reason = grammar.FINISH_LENGTH_LIMIT
        self.engine.release(number)
