"""The baseline `ircot`: retrieval interleaved with sentences of reasoning (IRCoT, Trivedi et al., 2023, arXiv
2212.10509, section 3).

The question is searched first. Then the policy writes one sentence of reasoning and that sentence is searched, in turn,
until the policy answers, a sentence says "answer is", or the searches are used up; in the last two cases the answer is
asked for at once. The baseline needs no training and works on the same ``Engine`` and ``Retriever`` as every other
rollout. Searched, shown and forced text is ``forced`` or ``document`` text, never the policy's.

Differences from the publication:

- No worked examples are shown; the prompt (`ircot`, `ircot_instruct`, or the one set) describes the task.
- Passages stay where they were found instead of being gathered (and shuffled) before the question, so that the policy's
  tokens keep the context in which they were sampled. A passage that is found again is shown again. The published bound
  of 15 paragraphs becomes ``max_searches`` × ``k``; the bound of 8 steps becomes ``max_searches``, which includes the
  question's own search.
- The policy that reasons also answers, in the same transcript: there is no second reader pass.
- If the policy writes a query in the grammar's tags, that is the step's query: a policy that was trained to search
  writes nothing else.
- The whole sentence is the query; question words are not removed.
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

SENTENCE_STOPS = (".", "?", "!", "\n")  # each may end a sentence; `is_sentence` decides
IRCOT_STOPS = (*grammar.STOPS, *SENTENCE_STOPS)

_END = re.compile(r"[.?!][\"'”’)\]]*\s*\Z")
_WORD = re.compile(r"[^\W\d_]{2}")  # "1." and "- " are not sentences
# Titles and initials do not end a sentence. A number does: "… in 1931."
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'.-])(?:[^\W\d_]|Mr|Mrs|Ms|Dr|Prof|Sr|Jr|St|Mt|Gen|Col|Capt|Lt|Sgt|Rev|Hon|No|Vol|vs|e\.g|i\.e)\.\s*\Z"
)
_ANSWER_IS = re.compile(r"\banswer\s+is\b", re.IGNORECASE)


def is_sentence(text: str) -> bool:
    """Return whether reasoning that stopped at one of ``SENTENCE_STOPS`` is a whole sentence.

    A line break ends a sentence like a full stop. Text with a tag is not a sentence: a query or an answer has begun.
    """
    if not _WORD.search(text) or any(tag in text for tag in grammar.TAGS):
        return False
    if text.rstrip(" \t").endswith("\n"):
        return True
    return _END.search(text) is not None and _ABBREVIATION.search(text) is None


Wanted = tuple[str, list[Segment]]  # a query to run, and the forced text that shows it before its passages


@dataclass
class _Step:
    """What a trajectory has written since the last insertion; stops may have cut it into several turns."""

    token_ids: list[int] = field(default_factory=list)
    answering: bool = False  # the answer was asked for: no more sentences or searches


class Batch:
    """A batch in this mode: a ``r1_searcher.rollout.turn_handlers.TurnHandler``.

    The engine applies the limit on a turn's tokens between stops, this class over a whole sentence, which may therefore
    exceed the limit, though never twofold.
    """

    def __init__(self, engine: Engine, batch: Sequence[Trajectory], max_searches: int, sampling: Sampling) -> None:
        self.engine, self.batch = engine, batch
        self.max_searches, self.sampling = max_searches, sampling
        self.steps = [_Step() for _ in batch]
        self.shown: dict[int, list[Segment]] = {}  # forced text that shows a query before its passages

    def take(self, turn: Turn) -> Call | None:
        """Record a turn. Return the search to make; None if the trajectory continues or has ended."""
        wanted = self._take(self.batch[turn.trajectory], self.steps[turn.trajectory], turn)
        if isinstance(wanted, tuple):
            query, self.shown[turn.trajectory] = wanted
            return Call(SEARCH, query)
        self._go_on(turn.trajectory, wanted)
        return None

    def insert(self, number: int, answered: Answered) -> None:
        """Insert the found block, after the query if the policy did not write it itself."""
        self.batch[number].turns.append(answered.record)
        if answered.block is None:
            self.batch[number].finish_reason = answered.failure
        self._go_on(number, [*self.shown.pop(number), Segment("document", answered.block or "")])

    def _take(self, trajectory: Trajectory, step: _Step, turn: Turn) -> Wanted | list[Segment]:
        """Record a turn. Return the query to run, or the text to insert now.

        If there is nothing to insert, the policy continues where it stopped, or has ended if its finish reason is set.
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
        """Insert text and continue the trajectory; release it if it has ended or no room is left."""
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
