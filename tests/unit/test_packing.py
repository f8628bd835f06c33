"""Passes: every policy token once, within the budget, and no other token in the loss."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fixtures_update import VOCABULARY, make_policy, update_params
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Gemma2Config, Qwen2Config

from r1_searcher.update import attention
from r1_searcher.update.model import load_model
from r1_searcher.update.packing import Layout, Pass, lay_out
from r1_searcher.update.policy import TokenPolicy, run_pass

CPU = torch.device("cpu")


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[list[int]], list[list[bool]]]:
    """Draw one to five trajectories of 2 to 12 tokens, the first never the policy's, at least one the policy's."""
    token_ids, masks = [], []
    for _ in range(draw(st.integers(1, 5))):
        mask = [False, *draw(st.lists(st.booleans(), min_size=1, max_size=11).filter(any))]
        masks.append(mask)
        token_ids.append(draw(st.lists(st.integers(0, VOCABULARY - 1), min_size=len(mask), max_size=len(mask))))
    return token_ids, masks


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> TokenPolicy:
    model = load_model(make_policy(tmp_path_factory.mktemp("policy")), update_params(), trained=True)
    return TokenPolicy(model, temperature=1.0)


@pytest.fixture(scope="module")
def by_blocks(tmp_path_factory: pytest.TempPathFactory) -> TokenPolicy:
    """Return the same weights, loaded for packed passes."""
    folder = make_policy(tmp_path_factory.mktemp("by-blocks"))
    model = load_model(folder, update_params(layout="packed"), trained=True)
    assert model.config._attn_implementation == attention.BLOCKS
    return TokenPolicy(model, temperature=1.0)


def passes(batch: tuple[list[list[int]], list[list[bool]]], layout: Layout, max_tokens: int = 24) -> list[Pass]:
    return lay_out(*batch, range(len(batch[0])), max_tokens=max_tokens, layout=layout)


def gradients(model: torch.nn.Module) -> list[torch.Tensor]:
    """Those of all parameters; each has one."""
    found = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert len(found) == len(list(model.parameters()))
    return found


def logprobs(policy: TokenPolicy, pieces: list[Pass]) -> torch.Tensor:
    """Return log-probabilities (P,) by slot."""
    flat = torch.full((sum(len(piece.slots) for piece in pieces),), torch.nan)
    for piece in pieces:
        flat[torch.from_numpy(piece.slots)] = run_pass(policy, piece, CPU)[0]
    return flat


@given(batches(), st.sampled_from(["padded", "packed"]), st.integers(1, 40))
def test_every_policy_token_is_predicted_once_from_the_token_before_it(
    batch: tuple[list[list[int]], list[list[bool]]], layout: Layout, max_tokens: int
) -> None:
    token_ids, masks = batch
    found = {}
    for piece in passes(batch, layout, max_tokens):
        longest = max(len(ids) for ids in token_ids)
        assert piece.num_tokens <= max(max_tokens, longest)
        before = piece.input_ids.reshape(-1)[piece.predict]
        for slot, previous, target in zip(piece.slots, before, piece.targets, strict=True):
            assert slot not in found
            found[int(slot)] = (int(previous), int(target))
    expected = [
        (ids[t - 1], ids[t]) for ids, mask in zip(token_ids, masks, strict=True) for t in range(len(ids)) if mask[t]
    ]
    assert [found[slot] for slot in range(len(expected))] == expected


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(batches())
def test_packed_padded_and_single_trajectories_agree(
    policy: TokenPolicy, batch: tuple[list[list[int]], list[list[bool]]]
) -> None:
    padded, packed = logprobs(policy, passes(batch, "padded")), logprobs(policy, passes(batch, "packed"))
    alone = []
    for ids, mask in zip(*batch, strict=True):  # transformers' own logits, one trajectory at a time
        logits = policy.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        alone += [logits[t - 1, ids[t]] for t in range(len(ids)) if mask[t]]
    torch.testing.assert_close(padded, torch.stack(alone), atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(packed, torch.stack(alone), atol=2e-5, rtol=1e-5)


@settings(max_examples=15, deadline=None)
@given(batches(), st.sampled_from(["padded", "packed"]))
def test_no_prompt_or_document_token_is_trained_on(
    policy: TokenPolicy, batch: tuple[list[list[int]], list[list[bool]]], layout: Layout
) -> None:
    """The gradient at the output head's input is exactly 0 at every position that does not predict a policy token, so
    no other token's logits are trained; and what follows the last policy token changes nothing."""
    token_ids, masks = batch
    seen: list[torch.Tensor] = []

    def keep(_: object, __: object, output: Any) -> None:
        output.last_hidden_state.retain_grad()
        seen.append(output.last_hidden_state)

    hook = policy.model.get_decoder().register_forward_hook(keep)
    pieces = passes(batch, layout)
    logprobs(policy, pieces).sum().backward()
    hook.remove()
    for piece, hidden in zip(pieces, seen, strict=True):
        assert hidden.grad is not None
        gradient = hidden.grad.reshape(piece.num_tokens, -1)  # (R * T, D) where the head would make logits
        predicting = np.zeros(piece.num_tokens, dtype=bool)
        predicting[piece.predict] = True
        assert (gradient[~torch.from_numpy(predicting)] == 0).all()
        assert (gradient[torch.from_numpy(predicting)] != 0).any(dim=1).all()
    trailing = [ids + [VOCABULARY - 1] * 3 for ids in token_ids]  # documents after the last policy token
    longer = [mask + [False] * 3 for mask in masks]
    with torch.no_grad():
        assert torch.equal(logprobs(policy, pieces), logprobs(policy, passes((trailing, longer), layout)))


def test_gradient_and_entropy_are_those_of_the_plain_formula(policy: TokenPolicy) -> None:
    token_ids, masks = [[1, 2, 3, 4, 5, 6]], [[False, True, True, False, True, True]]
    piece = passes((token_ids, masks), "padded")[0]
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0])
    values, entropy = run_pass(policy, piece, CPU)
    policy.zero_grad()
    (values * weights).sum().backward()
    ours = [gradient.clone() for gradient in gradients(policy)]
    log_all = policy.model(torch.tensor(token_ids)).logits[0].log_softmax(-1)
    chosen = log_all[[0, 1, 3, 4], [2, 3, 5, 6]]
    policy.zero_grad()
    (chosen * weights).sum().backward()
    for mine, parameter in zip(ours, policy.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(entropy, -(log_all.exp() * log_all).sum(-1)[[0, 1, 3, 4]].detach())
    assert not entropy.requires_grad


def test_temperature_divides_the_logits(policy: TokenPolicy) -> None:
    piece = passes(([[1, 2, 3]], [[False, True, True]]), "padded")[0]
    warm = TokenPolicy(policy.model, temperature=2.0)
    expected = (policy.model(torch.tensor([[1, 2, 3]])).logits[0] / 2.0).log_softmax(-1)[[0, 1], [2, 3]]
    torch.testing.assert_close(run_pass(warm, piece, CPU)[0], expected)


def test_a_trajectory_without_policy_tokens_is_refused() -> None:
    for mask in ([False, False], [True, True]):
        with pytest.raises(ValueError, match="trajectory 0"):
            lay_out([[1, 2]], [mask], [0], max_tokens=8, layout="padded")


def test_load_model_refuses_a_folder_without_tokenizer(tmp_path: Path) -> None:
    from r1_searcher.errors import PipelineError

    folder = make_policy(tmp_path / "policy")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(PipelineError, match="the model folder has no tokenizer"):
        load_model(folder, update_params(), trained=True)


@settings(max_examples=15, deadline=None)
@given(batches())
def test_attention_by_blocks_is_transformers_own_mask(
    policy: TokenPolicy, by_blocks: TokenPolicy, batch: tuple[list[list[int]], list[list[bool]]]
) -> None:
    """Return values, and the gradients of all weights."""
    pieces = passes(batch, "packed")
    found = []
    for model in (policy, by_blocks):
        model.zero_grad()
        values = logprobs(model, pieces)
        values.sum().backward()
        found.append([values, *(gradient.clone() for gradient in gradients(model))])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


def test_a_sliding_window_holds_within_blocks() -> None:
    heads, length, width = 2, 9, 4
    query, key, value = torch.randn(3, 1, heads, length, width, generator=torch.Generator().manual_seed(0))
    module = torch.nn.Module()
    found, _ = attention.by_blocks(module, query, key, value, None, block_lengths=(2, 7), sliding_window=3)
    place = torch.arange(length)
    back = place[:, None] - place[None, :]
    same = (place[:, None] < 2) == (place[None, :] < 2)
    mask = (back >= 0) & (back < 3) & same
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    torch.testing.assert_close(found, expected.transpose(1, 2))


@pytest.mark.parametrize(
    ("cuda", "package", "dtype", "expected"),
    [
        (True, True, "bfloat16", attention.FLASH),
        (True, True, "float32", attention.BLOCKS),
        (True, False, "bfloat16", attention.BLOCKS),
        (False, True, "bfloat16", attention.BLOCKS),
    ],
)
def test_flash_attention_where_it_can_be(
    cuda: bool, package: bool, dtype: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr("transformers.utils.is_flash_attn_2_available", lambda: package)
    assert attention.implementation(update_params(layout="packed", dtype=dtype), Qwen2Config()) == expected
    assert attention.implementation(update_params(dtype=dtype), Qwen2Config()) == attention.PADDED
    assert attention.implementation(update_params(dtype=dtype), Gemma2Config()) == attention.EAGER  # capped scores


def test_flash_attention_gets_the_boundaries(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers' own path to the kernel, which is replaced by its definition, because there is no GPU here."""
    from transformers import modeling_flash_attention_utils as flash
    from transformers.integrations.flash_attention import flash_attention_forward

    query, key, value = torch.randn(3, 1, 2, 9, 4, generator=torch.Generator().manual_seed(0))
    lengths = (2, 7)
    told = attention.arguments(lengths, attention.FLASH, CPU)

    def kernel(q: Any, k: Any, v: Any, *, cu_seqlens_q: Any, cu_seqlens_k: Any, **options: Any) -> torch.Tensor:
        assert cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32 and options["max_seqlen_q"] == 7
        parts = [tensor.tensor_split(cu_seqlens_q[1:-1].long()) for tensor in (q, k, v)]
        return torch.cat(
            [
                torch.nn.functional.scaled_dot_product_attention(
                    queries.transpose(0, 1), keys.transpose(0, 1), values.transpose(0, 1), is_causal=options["causal"]
                ).transpose(0, 1)
                for queries, keys, values in zip(*parts, strict=True)
            ]
        )

    def arguments(**given: Any) -> dict[str, Any]:
        return {"causal": given["is_causal"], **{name: given[name] for name in ("max_seqlen_q", "max_seqlen_k")}}

    functions = ((None, kernel, None, None, None), (arguments, None))
    monkeypatch.setattr(flash, "lazy_import_flash_attention", lambda *_: functions)
    module: Any = torch.nn.Linear(1, 1)  # transformers takes the dtype of its weights
    module.config, module.is_causal = SimpleNamespace(_attn_implementation=attention.FLASH), True
    found, _ = flash_attention_forward(module, query, key, value, None, **told)
    expected, _ = attention.by_blocks(torch.nn.Module(), query, key, value, None, block_lengths=lengths)
    torch.testing.assert_close(found, expected)
