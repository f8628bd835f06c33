"""``base_model``: the policy before reinforcement learning."""

from __future__ import annotations

from pydantic import model_validator

from r1_searcher.params.base import Count, Section, Share


class TinyModel(Section):
    """A tiny Qwen2 model trained from scratch, and its training texts (described in docs/design.md)."""

    layers: Count
    hidden: Count
    heads: Count
    kv_heads: Count
    feed_forward: Count
    vocabulary: Count
    worlds: Count  # worlds that contradict each other, without the one that RL asks about
    tokens: Count  # training tokens
    tokens_a_step: Count
    learning_rate: float  # Muon, matrices
    learning_rate_other: float  # AdamW, embeddings and norms
    passage_weight: Share  # loss weight of inserted passages' tokens
    share_reading: Share  # of the documents: passages with plain question answering; the rest are transcripts
    share_malformed: Share  # of the transcripts
    share_without_search: Share  # of the transcripts
    share_right_chain: Share  # of the searching transcripts: both hops and the right answer
    anneal_tokens: int  # the last phase, which sets the base policy's prior; its shares:
    anneal_share_reading: Share
    anneal_share_malformed: Share
    anneal_share_without_search: Share
    anneal_share_right_chain: Share

    @model_validator(mode="after")
    def _heads_fit(self) -> TinyModel:
        for large, small in (("hidden", "heads"), ("heads", "kv_heads")):
            if getattr(self, large) % getattr(self, small):
                raise ValueError(f"{large} must be a multiple of {small}")
        return self


class BaseModelParams(Section):
    """``source``: ``tiny``, or a local folder or hub name of a causal language model."""

    source: str
    tiny: TinyModel
    measure_questions: Count  # validation questions for measuring the base policy
    measure_samples: Count  # sampled trajectories per question in that measurement
