"""Move weights and optimiser state in and out of a DeepSpeed engine, by parameter name, as safetensors.

Nothing is pickled, and the state is independent of ranks: a parameter's moments are whole, in float32, whichever ZeRO
stage divided them. With low-rank adapters (``lora``) the exported weights are the merged ones; the adapters are what is
trained and has state.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from r1_searcher.update import lora
from r1_searcher.update.shards import TensorEntry

_MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's
ADAPTER_STATE = "adapter"
MASTER = "master"  # the float32 weights behind bfloat16 or divided ones


def is_plain(engine: Any) -> bool:
    """Return whether the optimiser is torch's own (ZeRO stage 0 in float32), not wrapped by DeepSpeed."""
    return engine.optimizer is engine.basic_optimizer


def makes_state_by_a_step(engine: Any) -> bool:
    """Return whether the optimiser has state only after a first step, as DeepSpeed's have."""
    return not is_plain(engine) and _masters(engine) is None


def _masters(engine: Any) -> dict[torch.nn.Parameter, torch.nn.Parameter] | None:
    """The float32 masters that a ``TorchEngine`` keeps for bfloat16 weights."""
    found: dict[torch.nn.Parameter, torch.nn.Parameter] | None = getattr(engine, "masters", None)
    return found


def named_parameters(engine: Any, *, duplicates: bool = False) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """Yield parameters by the policy folder's names, without adapters; ``duplicates``: a tied one twice."""
    for name, parameter in engine.module.model.named_parameters(remove_duplicate=not duplicates):
        if not lora.is_adapter(name):
            yield lora.policy_name(name), parameter


def trained_parameters(engine: Any) -> list[tuple[str, torch.nn.Parameter]]:
    """Return the parameters with optimiser state, by name: all, or the adapters."""
    return [(name, parameter) for name, parameter in engine.module.model.named_parameters() if parameter.requires_grad]


class _Lazy(Mapping[str, Tensor]):
    """Tensors that are made on access."""

    def __init__(self, read: Mapping[str, Callable[[], Tensor]]) -> None:
        self._read = read

    def __getitem__(self, name: str) -> Tensor:
        return self._read[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._read)

    def __len__(self) -> int:
        return len(self._read)


def weights(engine: Any) -> Mapping[str, Tensor]:
    """Return the policy's state dict: name -> tensor.

    No copy below ZeRO stage 3, which gathers them (all ranks must call). With adapters each tensor is merged on access.
    """
    model, adapters = engine.module.model, lora.adapted(engine.module.model)
    if engine.zero_optimization_stage() < 3 and not adapters:
        return {name: tensor.detach() for name, tensor in model.state_dict().items()}
    names = {parameter: name for name, parameter in named_parameters(engine)}  # a tied one under its first name
    entries = {entry.name: entry.read for entry in weight_entries(engine)}
    both = {name: names[parameter] for name, parameter in named_parameters(engine, duplicates=True)}
    if engine.zero_optimization_stage() < 3:
        return _Lazy({name: entries[first] for name, first in both.items()})
    gathered = {name: read() for name, read in entries.items()}
    return {name: gathered[first] for name, first in both.items()}


def weight_entries(engine: Any) -> list[TensorEntry]:
    """Return the policy folder's tensors, to be written shard by shard; tied tensors once, adapters merged."""
    adapters = lora.adapted(engine.module.model)
    return [
        TensorEntry(
            name,
            _size(parameter, parameter.dtype),
            functools.partial(_merged, adapters[name]) if name in adapters else functools.partial(_whole, parameter),
        )
        for name, parameter in named_parameters(engine)
    ]


def _merged(layer: lora.Adapted) -> Tensor:
    """Return the weight plus its adapter, summed in float32 and rounded once."""
    weight, a, b = (_whole(parameter) for parameter in (layer.weight, layer.a, layer.b))
    return (weight.float() + layer.scale * (b.float() @ a.float())).to(weight.dtype)


def base_entries(engine: Any) -> list[TensorEntry]:
    """Return the frozen weights under adapters, by the policy folder's names."""
    return [
        TensorEntry(name, _size(parameter, parameter.dtype), functools.partial(_whole, parameter))
        for name, parameter in named_parameters(engine)
    ]


def adapter_entries(engine: Any) -> list[TensorEntry]:
    """Return ``adapter/NAME`` for each adapter tensor; empty without adapters."""
    return [
        TensorEntry(f"{ADAPTER_STATE}/{name}", _size(parameter, parameter.dtype), functools.partial(_whole, parameter))
        for name, parameter in trained_parameters(engine)
        if lora.is_adapter(name)
    ]


def _size(parameter: torch.nn.Parameter, dtype: torch.dtype) -> int:
    shape = getattr(parameter, "ds_shape", parameter.shape)  # ZeRO 3 leaves an empty tensor in its place
    return torch.Size(shape).numel() * dtype.itemsize


def _whole(parameter: torch.nn.Parameter) -> Tensor:
    """Return the parameter's values: its own if whole, else a copy in main memory gathered from the ranks."""
    if not hasattr(parameter, "ds_shape"):
        return parameter.detach()
    import deepspeed

    with deepspeed.zero.GatheredParameters([parameter]):
        return parameter.detach().cpu().clone()


def set_weights(engine: Any, tensors: Mapping[str, Tensor]) -> None:
    """Load a policy folder's tensors into the model (with adapters: into the base); a tied tensor may occur twice."""
    for name, parameter in named_parameters(engine):
        _put(engine, parameter, tensors[name])


def set_adapters(engine: Any, tensors: Mapping[str, Tensor]) -> None:
    """Load ``tensors``, by the names of ``trained_parameters``, into the adapters."""
    for name, parameter in trained_parameters(engine):
        _put(engine, parameter, tensors[name])


def _put(engine: Any, parameter: torch.nn.Parameter, value: Tensor) -> None:
    if engine.zero_optimization_stage() == 3:
        import deepspeed

        with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
            parameter.data.copy_(value)
    else:
        parameter.data.copy_(value)
    if not is_plain(engine) and parameter.requires_grad:
        masters = _masters(engine)
        if masters is None:
            _set(parameter, value.float(), None)
        else:
            masters[parameter].data.copy_(value)


def moment_entries(engine: Any) -> list[TensorEntry]:
    """Return ``exp_avg/NAME``, ``exp_avg_sq/NAME`` and, where present, ``master/NAME``, to be written shard by
    shard."""
    _link(engine)
    kinds: tuple[str, ...] = _MOMENTS if is_plain(engine) else (*_MOMENTS, MASTER)
    return [
        TensorEntry(
            f"{kind}/{name}", _size(parameter, torch.float32), functools.partial(_moment, engine, parameter, kind)
        )
        for name, parameter in trained_parameters(engine)
        for kind in kinds
    ]


def _moment(engine: Any, parameter: torch.nn.Parameter, kind: str) -> Tensor:
    if is_plain(engine):
        found: Tensor = engine.optimizer.state[parameter][kind]
        return found
    masters = _masters(engine)
    if masters is not None:
        master = masters[parameter]
        kept: Tensor = master.detach() if kind == MASTER else engine.optimizer.state[master][kind]
        return kept
    return _get(parameter, None if kind == MASTER else kind)


def set_optimizer_state(
    engine: Any, moments: Mapping[str, Tensor], weights: Mapping[str, Tensor], num_steps: int
) -> None:
    """Restore what ``moment_entries`` returned, after ``num_steps`` optimiser steps.

    DeepSpeed's optimisers have state only after a step: the caller first takes one at learning rate 0. Their float32
    weights are then set from the master weights or, if the state has none (float32, stage 0), from ``weights``, by the
    names of ``trained_parameters``.
    """
    _link(engine)
    masters = _masters(engine)
    for name, parameter in trained_parameters(engine):
        kept = f"{MASTER}/{name}"
        master = (moments[kept] if kept in moments else weights[name].float()).to(parameter.device)
        if is_plain(engine) or masters is not None:
            stepped = parameter if masters is None else masters[parameter]
            stepped.data.copy_(master)
            parameter.data.copy_(master)
            engine.optimizer.state[stepped] = {
                "step": torch.tensor(float(num_steps), device=stepped.device),  # where the fused kernel reads it
                **{moment: moments[f"{moment}/{name}"].to(parameter.device).clone() for moment in _MOMENTS},
            }
            continue
        for moment in _MOMENTS:
            _set(parameter, moments[f"{moment}/{name}"].to(parameter.device), moment)
        _set(parameter, master, None)
    if makes_state_by_a_step(engine):
        for state in engine.basic_optimizer.state.values():
            if "step" in state:
                state["step"] = torch.full_like(torch.as_tensor(state["step"]), float(num_steps))


def _link(engine: Any) -> None:
    """Make DeepSpeed find the moments of all parameter groups.

    ZeRO 1 and 2 (0.19.8) link parameters to their moments after the first group's first step, when the other groups
    have none yet, and never again.
    """
    if hasattr(engine.optimizer, "_lazy_init_hp_params_optimizer_state"):
        engine.optimizer._hp_optimizer_states_linked = False
        engine.optimizer._lazy_init_hp_params_optimizer_state()


def _get(parameter: torch.nn.Parameter, moment: str | None) -> Tensor:
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    whole: Tensor | None
    whole = safe_get_full_fp32_param(parameter) if moment is None else safe_get_full_optimizer_state(parameter, moment)
    assert whole is not None, f"DeepSpeed keeps no {moment or 'float32 weights'} for a parameter"
    return whole


def _set(parameter: torch.nn.Parameter, value: Tensor, moment: str | None) -> None:
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

    if moment is None:
        safe_set_full_fp32_param(parameter, value)
    else:
        safe_set_full_optimizer_state(parameter, value, moment)
