"""Rules that the release's reward servers share.

They count strings over the whole transcript, including documents. This known weakness is kept so that their figures can
be reproduced.
"""

from __future__ import annotations

from collections.abc import Sequence

from r1_searcher.transcripts import grammar
from r1_searcher.transcripts.grammar import Tags, Transcript
from r1_searcher.transcripts.scripts import script_violations

# The release appends its tokenizer's end token before it scores. It matters only if the last <answer> is not closed:
# the token is then part of the answer. Ours is that of Qwen-2.5's base models.
APPENDED_END = "<|endoftext|>"


def released_text(transcript: Transcript) -> str:
    """Return the text that is scored."""
    return grammar.strip_end_of_text(transcript.text) + APPENDED_END


def after_last_answer(text: str) -> str:
    """Return the text from the last ``<answer>`` to the next ``</answer>``, or to the end if there is none."""
    return text.rpartition(grammar.ANSWER)[2].partition(grammar.END_ANSWER)[0].strip()


def released_prediction(text: str) -> str | None:
    """Return the answer if both tags occur, in any order; else None."""
    return after_last_answer(text) if grammar.ANSWER in text and grammar.END_ANSWER in text else None


def count_violations(text: str, tools: Sequence[Tags] = ()) -> list[str]:
    """Return a violation unless seven tag strings occur equally often; calls of ``tools`` count as queries."""
    return ["tag_counts_differ"] if grammar.tag_counts_differ(text, tools) else []


def other_scripts(text: str, transcript: Transcript) -> list[str]:
    """Return a violation for scripts outside documents that ``transcript`` may not be written in (the release: Chinese
    characters); ``text`` is what is scored of it."""
    written = Transcript(text).policy_text
    return script_violations(written, transcript.scripts, tags=grammar.all_tags(transcript.tools))
