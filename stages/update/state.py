"""Weights and optimiser state in and out of a DeepSpeed engine, by parameter name, as safetensors.

Nothing is pickled, and the state knows nothing of ranks: the moments of a parameter are whole, in
float32, whichever ZeRO stage kept them in pieces.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from stages.update.shards import Entry

MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's
MASTER = "master"  # the float32 weights behind bfloat16 or partitioned ones


def is_plain(engine: Any) -> bool:
    """Whether the optimiser is torch's own (ZeRO stage 0 in float32), not one of DeepSpeed's around it."""
    return engine.optimizer is engine.basic_optimizer


def named_parameters(engine: Any) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """Parameters under the names that the policy folder uses."""
    return engine.module.model.named_parameters()


def weights(engine: Any) -> dict[str, Tensor]:
    """The model's state dict: name -> tensor. No copy below ZeRO stage 3, which gathers them (all ranks must call)."""
    model = engine.module.model
    if engine.zero_optimization_stage() < 3:
        return {name: tensor.detach() for name, tensor in model.state_dict().items()}
    names = {parameter: name for name, parameter in model.named_parameters()}  # a tied one under its first name
    gathered = {entry.name: entry.read() for entry in weight_entries(engine)}
    return {name: gathered[names[parameter]] for name, parameter in model.named_parameters(remove_duplicate=False)}


def weight_entries(engine: Any) -> list[Entry]:
    """The policy folder's tensors, to be written one by one; a tied tensor once."""
    return [
        Entry(name, _shape(parameter), parameter.dtype, functools.partial(_whole, parameter))
        for name, parameter in named_parameters(engine)
    ]


def _shape(parameter: torch.nn.Parameter) -> tuple[int, ...]:
    return tuple(getattr(parameter, "ds_shape", parameter.shape))  # ZeRO 3 keeps an empty tensor in its place


def _whole(parameter: torch.nn.Parameter) -> Tensor:
    """The parameter's values: its own where it is whole, a copy in main memory where ranks hold parts."""
    if not hasattr(parameter, "ds_shape"):
        return parameter.detach()
    import deepspeed

    with deepspeed.zero.GatheredParameters([parameter]):
        return parameter.detach().cpu().clone()


def set_weights(engine: Any, tensors: Mapping[str, Tensor]) -> None:
    """Put a policy folder's tensors into the model; a tied tensor may be there once or twice."""
    import deepspeed

    for name, parameter in named_parameters(engine):
        value = tensors[name]
        if engine.zero_optimization_stage() == 3:
            with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
                parameter.data.copy_(value)
        else:
            parameter.data.copy_(value)
        if not is_plain(engine):
            _set(parameter, value.float(), None)


def moment_entries(engine: Any) -> list[Entry]:
    """``exp_avg/NAME``, ``exp_avg_sq/NAME`` and, where there is one, ``master/NAME``, to be written one by one."""
    _link(engine)
    kinds: tuple[str, ...] = MOMENTS if is_plain(engine) else (*MOMENTS, MASTER)
    return [
        Entry(f"{kind}/{name}", _shape(parameter), torch.float32, functools.partial(_kept, engine, parameter, kind))
        for name, parameter in named_parameters(engine)
        for kind in kinds
    ]


def _kept(engine: Any, parameter: torch.nn.Parameter, kind: str) -> Tensor:
    if is_plain(engine):
        found: Tensor = engine.optimizer.state[parameter][kind]
        return found
    return _get(parameter, None if kind == MASTER else kind)


def set_optimizer_state(
    engine: Any, moments: Mapping[str, Tensor], weights: Mapping[str, Tensor], num_steps: int
) -> None:
    """Put back what ``moment_entries`` gave, after ``num_steps`` optimiser steps.

    DeepSpeed's optimisers hold a state only once they have stepped: the caller takes a step at learning
    rate 0 first. Their float32 weights are then set from the master weights, or where the state was made
    without any (float32, stage 0), from the policy's own ``weights``.
    """
    _link(engine)
    for name, parameter in named_parameters(engine):
        kept = f"{MASTER}/{name}"
        master = (moments[kept] if kept in moments else weights[name].float()).to(parameter.device)
        if is_plain(engine):
            parameter.data.copy_(master)
            engine.optimizer.state[parameter] = {
                "step": torch.tensor(float(num_steps)),
                **{moment: moments[f"{moment}/{name}"].to(parameter.device).clone() for moment in MOMENTS},
            }
            continue
        for moment in MOMENTS:
            _set(parameter, moments[f"{moment}/{name}"].to(parameter.device), moment)
        _set(parameter, master, None)
    if not is_plain(engine):
        for state in engine.basic_optimizer.state.values():
            if "step" in state:
                state["step"] = torch.full_like(torch.as_tensor(state["step"]), float(num_steps))


def _link(engine: Any) -> None:
    """Let DeepSpeed find the moments of all parameter groups.

    ZeRO 1 and 2 (0.19.8) link parameters to their moments after the first group's first step, when the
    other groups have none yet, and never again.
    """
    if hasattr(engine.optimizer, "_lazy_init_hp_params_optimizer_state"):
        engine.optimizer._hp_optimizer_states_linked = False
        engine.optimizer._lazy_init_hp_params_optimizer_state()


def _get(parameter: torch.nn.Parameter, moment: str | None) -> Tensor:
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    whole = safe_get_full_fp32_param(parameter) if moment is None else safe_get_full_optimizer_state(parameter, moment)
    assert whole is not None, f"DeepSpeed keeps no {moment or 'float32 weights'} for a parameter"
    return whole


def _set(parameter: torch.nn.Parameter, value: Tensor, moment: str | None) -> None:
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

    if moment is None:
        safe_set_full_fp32_param(parameter, value)
    else:
        safe_set_full_optimizer_state(parameter, value, moment)
