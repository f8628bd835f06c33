"""Weights and optimiser state in and out of a DeepSpeed engine, by parameter name, as safetensors.

Nothing is pickled, and the state knows nothing of ranks: the moments of a parameter are whole, in
float32, whichever ZeRO stage kept them in pieces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

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
    import deepspeed

    gathered: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        with deepspeed.zero.GatheredParameters([parameter]):
            gathered[name] = parameter.detach().cpu().clone()
    return gathered


def set_weights(engine: Any, tensors: Mapping[str, Tensor]) -> None:
    """Put a policy folder's tensors into the model; a tied tensor may be there once or twice."""
    import deepspeed

    for name, parameter in named_parameters(engine):
        if engine.zero_optimization_stage() == 3:
            with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
                parameter.data.copy_(tensors[name])
        else:
            parameter.data.copy_(tensors[name])
        if not is_plain(engine):
            _set(parameter, tensors[name].float(), None)


def optimizer_state(engine: Any) -> dict[str, Tensor]:
    """``exp_avg/NAME``, ``exp_avg_sq/NAME`` and, where there is one, ``master/NAME``. All ranks must call."""
    tensors: dict[str, Tensor] = {}
    _link(engine)
    for name, parameter in named_parameters(engine):
        for moment in MOMENTS:
            whole = engine.optimizer.state[parameter][moment] if is_plain(engine) else _get(parameter, moment)
            tensors[f"{moment}/{name}"] = whole.detach().cpu().contiguous()
        if not is_plain(engine):
            tensors[f"{MASTER}/{name}"] = _get(parameter, None).detach().cpu().contiguous()
    return tensors


def set_optimizer_state(engine: Any, tensors: Mapping[str, Tensor], num_steps: int) -> None:
    """Put back what ``optimizer_state`` gave, after ``num_steps`` optimiser steps.

    DeepSpeed's optimisers hold a state only once they have stepped: the caller takes a step at learning
    rate 0 first. Their weights are then set from the master weights.
    """
    _link(engine)
    for name, parameter in named_parameters(engine):
        if is_plain(engine):
            engine.optimizer.state[parameter] = {
                "step": torch.tensor(float(num_steps)),
                **{moment: tensors[f"{moment}/{name}"].to(parameter.device).clone() for moment in MOMENTS},
            }
            continue
        for moment in MOMENTS:
            _set(parameter, tensors[f"{moment}/{name}"].to(parameter.device), moment)
        _set(parameter, tensors[f"{MASTER}/{name}"].to(parameter.device), None)
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
