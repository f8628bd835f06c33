"""Check that a folder's tensors are those of the model that is to load them."""

from __future__ import annotations

import types
from typing import Any

import torch

from r1_searcher.files.weights import check_fit, check_tied
from r1_searcher.update import lora
from r1_searcher.update.shards import Tensors


def check_tensors(tensors: Tensors, model: Any, **told: str) -> None:
    """Raise ``PipelineError`` if ``tensors`` are not exactly those of a transformers model without its adapters.

    A tied tensor may occur twice (only then are tensors read, else headers suffice); tensors that transformers ignores
    may occur too. ``told``: as for ``check_fit``.
    """
    own = {
        lora.policy_name(name): parameter
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if not lora.is_adapter(name)
    }
    first: dict[torch.nn.Parameter, str] = {}  # by the name that a policy folder uses
    for name, parameter in own.items():
        first.setdefault(parameter, name)
    shapes = {name: tuple(getattr(parameter, "ds_shape", parameter.shape)) for name, parameter in own.items()}
    buffers = {name for name, _ in model.named_buffers()}
    rest = types.SimpleNamespace(missing_keys=set(), unexpected_keys=tensors.keys() - own.keys() - buffers)
    model._adjust_missing_and_unexpected_keys(rest)
    check_fit(
        [name for name in first.values() if name not in tensors],
        [
            (name, tensors.shape(name), shape)
            for name, shape in shapes.items()
            if name in tensors and tensors.shape(name) != shape
        ],
        rest.unexpected_keys,
        **told,
    )
    again = [(name, first[parameter]) for name, parameter in own.items() if name != first[parameter]]
    differ = [(name, one) for name, one in again if name in tensors and not torch.equal(tensors[name], tensors[one])]
    check_tied(differ, where=told["where"])
