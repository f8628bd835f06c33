"""Low-rank adapters (LoRA, arXiv 2106.09685) by peft: a linear layer's weight W becomes W + s · B A; only A and B
learn.

peft adds the adapters to the model in place, so that it keeps its class; names gain ``.base_layer`` and
``.lora_A.default``, which is undone here. A policy folder never contains adapters: what is written, and what an engine
gets, is W + s · B A, summed in float32. There is no dropout: the policy trained is the policy that sampled.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from r1_searcher.errors import PipelineError
from r1_searcher.params import Lora

_ADAPTER = "default"  # peft's name for the only adapter


@dataclass(frozen=True)
class Adapted:
    """A linear layer with an adapter: ``weight`` (O, I), ``b`` (O, r), ``a`` (r, I); ``scale`` is s."""

    weight: nn.Parameter
    a: nn.Parameter
    b: nn.Parameter
    scale: float


def add(model: Any, settings: Lora, seed: int) -> None:
    """Add adapters to a transformers model and freeze the rest.

    B is 0, so that nothing changes yet; A is drawn from ``seed``, equally on every rank. Raises ``PipelineError`` for
    targets that are not linear layers of the model.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise PipelineError(
            "LoRA needs the package peft, which is not installed",
            where="update.lora",
            fix=".venv/bin/pip install --no-deps -r requirements.lock, or set update.lora.rank to 0",
        ) from None
    targets = settings.targets if isinstance(settings.targets, str) else _checked_targets(model, settings.targets)
    config = LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=targets, lora_dropout=0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model, adapter_name=_ADAPTER)


def _checked_targets(model: Any, targets: list[str]) -> list[str]:
    """Return ``targets`` if all are linear layers of the model; the output head, which may be the embedding, is
    excluded."""
    head = model.get_output_embeddings()
    linear = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if type(module) is nn.Linear and module is not head
    }
    unknown = sorted(set(targets) - linear)
    if unknown:
        raise PipelineError(
            f"the model has no linear layers called {unknown[0]!r}",
            where="update.lora.targets",
            fix=f"all-linear, or some of {', '.join(sorted(linear))}",
        )
    return targets


def check_same(kept: dict[str, Any] | None, own: Lora, folder: Path) -> None:
    """Raise ``PipelineError`` if a trainer state's adapters (None: it has none) are not those of the parameters."""
    wanted = own.model_dump() if own.rank else None
    if kept == wanted:
        return
    said = [
        "trains all weights" if one is None else f"has rank {one['rank']}, alpha {one['alpha']:g}, {one['targets']}"
        for one in (kept, wanted)
    ]
    raise PipelineError(
        f"the trainer state {said[0]}, and update.lora {said[1]}",
        where=str(folder),
        fix="restore update.lora, or begin from the policy folder only: its weights are merged",
    )


def is_adapter(name: str) -> bool:
    """Return whether a parameter belongs to an adapter."""
    return ".lora_" in name


def policy_name(name: str) -> str:
    """Return the policy folder's name for a parameter of the model."""
    return name.replace(".base_layer.", ".")


def adapted(model: nn.Module) -> dict[str, Adapted]:
    """Return the layers with adapters, by the policy folder's name of their weight."""
    return {
        f"{name}.weight": Adapted(
            module.base_layer.weight,
            module.lora_A[_ADAPTER].weight,
            module.lora_B[_ADAPTER].weight,
            module.scaling[_ADAPTER],
        )
        for name, module in _layers(model)
    }


@contextlib.contextmanager
def disabled(model: nn.Module) -> Iterator[None]:
    """Switch the adapters off within the context: the model is the base."""
    layers = [module for _, module in _layers(model)]
    for layer in layers:
        layer.set_scale(_ADAPTER, 0.0)
    try:
        yield
    finally:
        for layer in layers:
            layer.set_scale(_ADAPTER, 1.0)


def _layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    return ((name, module) for name, module in model.named_modules() if hasattr(module, "lora_A"))
