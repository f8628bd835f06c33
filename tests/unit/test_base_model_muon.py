"""Muon: orthogonalised steps in batches, against torch's own, and the training step around it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from tiny_policy import params_with, tokenizer

from r1_searcher.models import pretrain
from r1_searcher.models.library import Piece
from r1_searcher.models.muon import Muon, orthogonalise


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0))


@pytest.mark.parametrize("shape", [(4, 12, 12), (3, 8, 20), (3, 20, 8), (1, 1, 5)])
def test_singular_values_are_near_one_and_directions_stay(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    u, values, vh = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    matrices = u @ torch.diag_embed(torch.linspace(1.0, 0.2, values.shape[-1]).expand_as(values)) @ vh
    found = orthogonalise(matrices)
    values = torch.linalg.svdvals(found)
    assert found.shape == shape and 0.6 < float(values.min()) and float(values.max()) < 1.25
    for one, exact in zip(found, u @ vh, strict=True):
        assert cosine(one, exact) > 0.97
    torch.testing.assert_close(orthogonalise(1000 * matrices), found, atol=1e-4, rtol=1e-3)  # the scale does not matter
    for number, matrix in enumerate(matrices):
        torch.testing.assert_close(orthogonalise(matrix[None])[0], found[number])  # nor does the batch


def test_a_zero_gradient_is_no_step() -> None:
    assert not orthogonalise(torch.zeros(2, 3, 4)).any()


@pytest.mark.parametrize("shape", [(16, 16), (24, 8), (8, 24)])
def test_steps_agree_with_torchs_muon(shape: tuple[int, int]) -> None:
    """Three steps with changing gradients; torch orthogonalises in bfloat16, hence the tolerance."""
    torch.manual_seed(1)
    start = torch.randn(shape)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    muon = Muon([ours], momentum=0.9)
    reference = torch.optim.Muon(
        [theirs], lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.0, adjust_lr_fn="original"
    )
    for _ in range(3):
        gradient = torch.randn(shape)
        before = ours.detach().clone(), theirs.detach().clone()
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        muon.step(0.1)
        reference.step()
        steps = ours.detach() - before[0], theirs.detach() - before[1]
        assert cosine(*steps) > 0.995
        assert 0.97 < float(steps[0].norm() / steps[1].norm()) < 1.03


def test_matrices_of_one_shape_are_stepped_as_if_alone() -> None:
    torch.manual_seed(2)
    matrices = [torch.nn.Parameter(torch.randn(shape)) for shape in ((6, 4), (6, 4), (4, 6))]
    alone = [torch.nn.Parameter(matrix.detach().clone()) for matrix in matrices]
    for matrix, other in zip(matrices, alone, strict=True):
        matrix.grad = torch.randn(matrix.shape)
        other.grad = matrix.grad.clone()
    Muon(matrices).step(0.2)
    for matrix, other in zip(matrices, alone, strict=True):
        Muon([other]).step(0.2)
        torch.testing.assert_close(matrix, other)


# --- texts, batches, steps

TINY = params_with(
    base_model__tiny__layers=1,
    base_model__tiny__hidden=16,
    base_model__tiny__heads=2,
    base_model__tiny__kv_heads=2,
    base_model__tiny__feed_forward=24,
    base_model__tiny__tokens_a_step=200,
).base_model.tiny


def test_pieces_are_encoded_as_the_rollout_makes_them() -> None:
    names = tokenizer(True)
    pieces = [Piece("User: Ada", given=True), Piece(" Silent"), Piece("\n\nTrabo", given=True)]
    text = pretrain.encode(pieces, names, 0.1)
    lengths = [len(names.encode(piece.text)) for piece in pieces]
    assert text.ids.tolist() == [n for piece in pieces for n in names.encode(piece.text)] + [names.eos_token_id]
    assert text.weights.tolist() == pytest.approx([0.1] * lengths[0] + [1.0] * lengths[1] + [0.1] * lengths[2] + [1.0])


def some_texts(lengths: list[int], weight: float = 1.0) -> list[pretrain.Text]:
    random = np.random.default_rng(0)
    return [pretrain.Text(random.integers(0, 300, n), np.full(n, weight, dtype=np.float32)) for n in lengths]


def test_batches_are_of_like_length_within_the_size_and_without_too_long_ones() -> None:
    lengths = np.random.default_rng(1).integers(5, 90, 800).tolist()
    cut = pretrain.batches(iter(some_texts(lengths)), 200, 70, np.random.default_rng(0))
    found = list(itertools.islice(cut, 60))
    for batch in found:
        longest = max(len(text.ids) for text in batch)
        assert len(batch) * longest <= 200 and longest <= 70
    spread = [max(map(len, ids)) - min(map(len, ids)) for ids in ([text.ids for text in batch] for batch in found)]
    assert np.mean(spread) < 10
    again = pretrain.batches(iter(some_texts(lengths)), 200, 70, np.random.default_rng(0))
    for batch, other in zip(found, again, strict=False):
        assert [text.ids.tolist() for text in batch] == [text.ids.tolist() for text in other]


def test_steps_learn_and_are_deterministic() -> None:
    names = tokenizer(True)

    def trained(steps: int) -> tuple[list[float], dict[str, torch.Tensor]]:
        model = pretrain.new_model(TINY, len(names), names.eos_token_id, 64, seed=0)
        training = pretrain.Pretraining(model, TINY, seed=0)
        batch = some_texts([9, 12, 12])
        losses = [training.step(batch, 1.0) for _ in range(steps)]
        return losses, {name: value.detach().clone() for name, value in model.named_parameters()}

    losses, weights = trained(25)
    assert losses[0] == pytest.approx(np.log(len(names)), rel=0.1) and losses[-1] < 0.6 * losses[0]
    again, same = trained(25)
    assert again == losses and all(torch.equal(same[name], value) for name, value in weights.items())


def test_the_loss_is_of_weighted_targets_only_whatever_the_padding() -> None:
    """The step's loss on a ragged batch is the mean over its texts' own targets of weight 1."""
    names = tokenizer(True)
    model = pretrain.new_model(TINY, len(names), names.eos_token_id, 64, seed=0)
    batch = some_texts([4, 11, 30])
    batch[2].weights[5:20] = 0.0
    with torch.no_grad():
        ids = [torch.from_numpy(text.ids)[None] for text in batch]
        logprobs = [model(input_ids=one).logits[0, :-1].log_softmax(-1) for one in ids]
        picked = [told.gather(-1, one[0, 1:, None])[:, 0] for told, one in zip(logprobs, ids, strict=True)]
    chosen = [told[torch.from_numpy(text.weights[1:]) > 0] for told, text in zip(picked, batch, strict=True)]
    assert sum(map(len, chosen)) == 3 + 10 + 29 - 15
    expected = -float(torch.cat(chosen).mean())
    assert pretrain.Pretraining(model, TINY, seed=0).step(batch, 0.0) == pytest.approx(expected, rel=1e-5)


def test_the_rate_is_constant_and_then_falls_to_a_tenth() -> None:
    assert [pretrain.rate_at(done) for done in (0.0, 0.49, 0.75, 1.0)] == pytest.approx([1.0, 1.0, 0.55, 0.1])
