"""Warnings from the measurement of a base policy (metrics/base_model.json) against training it."""

from __future__ import annotations

from collections.abc import Mapping

CONSIDERABLE = 0.05  # of the questions whose answers searches find


def against_training(measured: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return all warnings: ``nothing_to_reward`` and ``answers_cut_off``."""
    return [*nothing_to_reward(measured), *answers_cut_off(measured)]


def answers_cut_off(measured: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return a warning if many training questions lose an answer that searches find because passages are cut."""
    cut = measured.get("cut_answers", {})
    found, lost = int(cut.get("num_found", 0)), int(cut.get("num_lost", 0))
    if not lost or lost < CONSIDERABLE * found:
        return []
    return [
        f"of {found:,} training questions whose answer is in a passage that search finds, {lost:,} "
        f"({lost / found:.0%}) lose it to truncation: raise rollout.max_passage_tokens (or "
        "rollout.max_documents_tokens), or cut the corpus into shorter passages"
    ]


def nothing_to_reward(measured: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return warnings about a policy that gives reinforcement learning nothing to reward."""
    lines = []
    sampled = measured["sampled"]
    number = int(sampled["n"])
    if sampled["search_rate"] == 0:
        lines.append(
            f"the base policy searched in 0 of {number:,} samples, so there is no search to reward: "
            "add examples to the prompt, or start from a policy that has seen transcripts"
        )
    if sampled["format_rate"] == 0:
        lines.append(
            f"the base policy kept the format in 0 of {number:,} samples, so there is no correct format to reward: "
            "add examples to the prompt, or start from a policy that has seen transcripts"
        )
    return lines
