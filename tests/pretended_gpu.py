"""A GPU that is the CPU: tensors that say they are on `cuda` and compute here, with CUDA's rules about devices.

A tensor on the pretended GPU wraps one of the CPU. Operations unwrap, compute, and wrap again; what CUDA refuses is
refused: tensors of both devices in one operation, indices elsewhere, ``numpy``. torch.cuda answers as an H100. Kernels,
streams and memory are not pretended.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as tree

MEMORY = 80 * 2**30
GPU = torch.device("cuda", 0)
ANSWERS = {
    "is_available": True,
    "device_count": 1,
    "current_device": 0,
    "set_device": None,
    "is_current_stream_capturing": False,
    "synchronize": None,
    "empty_cache": None,
    "reset_peak_memory_stats": None,
    "max_memory_allocated": 3 * 2**20,
    "memory_allocated": 2**20,
    "mem_get_info": (MEMORY - 2**30, MEMORY),
    "get_device_name": "NVIDIA H100 80GB HBM3",
    "get_device_capability": (9, 0),
    "get_device_properties": SimpleNamespace(
        name="NVIDIA H100 80GB HBM3", total_memory=MEMORY, major=9, minor=0, multi_processor_count=132, uuid="GPU-0"
    ),
}
_aten = torch.ops.aten
_ACROSS = {_aten.copy_.default, _aten._to_copy.default}  # may have tensors of both devices
_NUMBERS = {_aten.fill_.Tensor}  # take a number in a tensor of the CPU
_INDEXING = {_aten.index.Tensor: 1, _aten.index_put.default: 1, _aten.index_put_.default: 1}  # the indices' place


class OnGpu(torch.Tensor):
    """A tensor on the pretended GPU. To torch's own C++ it is on the CPU: autograd has no thread for a missing GPU."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> OnGpu:
        made: OnGpu = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device("cpu"),
        )
        made.held = inner
        return made

    device = property(lambda self: GPU)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None  # so that modules swap their parameters, as on a GPU they set their data

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, torch.Tensor], *_: Any) -> OnGpu:
        return OnGpu(inner["held"])

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"OnGpu({self.held!r})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        _check(function, args, kwargs)
        if "device" in kwargs:
            kwargs["device"] = torch.device("cpu")
        args_inside, kwargs_inside = tree.tree_map_only(OnGpu, lambda one: one.held, (args, kwargs))
        found = function(*args_inside, **kwargs_inside)
        if found is None:
            return found
        if function is _aten.copy_.default and not isinstance(args[0], OnGpu):
            return args[0]
        known = {id(one.held): one for one in tree.tree_leaves((args, kwargs)) if isinstance(one, OnGpu)}
        return tree.tree_map_only(torch.Tensor, lambda one: known[id(one)] if id(one) in known else OnGpu(one), found)


def _is_gpu(device: Any) -> bool:
    return isinstance(device, str | torch.device) and str(device).startswith("cuda")


def _check(function: Any, args: Any, kwargs: Any) -> None:
    """Raise ``RuntimeError`` as CUDA does for tensors of both devices."""
    if function in _ACROSS:
        return
    if function in _INDEXING:
        place = _INDEXING[function]
        assert isinstance(args[0], OnGpu), f"{function}: a CPU tensor is indexed by one of the GPU"
        args = (*args[:place], *args[place + 1 :])  # indices may be on the CPU
    values = tree.tree_leaves((args, kwargs))
    elsewhere = [one for one in values if isinstance(one, torch.Tensor) and not isinstance(one, OnGpu)]
    pointwise = torch.Tag.pointwise in function.tags or function in _INDEXING or function in _NUMBERS
    if pointwise:  # a number in a tensor is welcome
        elsewhere = [one for one in elsewhere if one.ndim]
    if elsewhere:
        raise RuntimeError(f"{function}: expected all tensors to be on the same device, but found cuda:0 and cpu")


def _here(value: Any) -> Any:
    return torch.device("cpu") if _is_gpu(value) else value


class _Gpu(TorchFunctionMode):
    """What Python asks of the device `cuda` is done here, and wrapped."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        instead = _OF_ANY.get(name) or (_OF_OURS.get(name) if args and isinstance(args[0], OnGpu) else None)
        if instead is not None and not isinstance(function, type):
            return instead(*args, **kwargs)
        asked = any(map(_is_gpu, (*args, *kwargs.values())))
        if not asked or name == "_parse_to" or isinstance(function, type):
            return function(*args, **kwargs)
        found = function(*map(_here, args), **{key: _here(value) for key, value in kwargs.items()})
        return tree.tree_map_only(torch.Tensor, _as_made, found)


def _no_numpy(tensor: OnGpu, **_: Any) -> None:
    raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")


def _moved(tensor: torch.Tensor, *values: Any, **named: Any) -> torch.Tensor:
    """``Tensor.to``: of devices, types, or a tensor that has both."""
    asked = [*values, *named.values()]
    others = [one for one in asked if isinstance(one, torch.Tensor)]
    types = [one for one in asked if isinstance(one, torch.dtype)] + [one.dtype for one in others]
    devices = [one for one in asked if isinstance(one, str | torch.device)] + [one.device for one in others]
    if types:
        tensor = tensor.to(types[0])
    if devices and _is_gpu(devices[0]):
        return tensor if isinstance(tensor, OnGpu) else _Up.apply(tensor)  # type: ignore[no-untyped-call]
    return _down(tensor) if devices and isinstance(tensor, OnGpu) else tensor


def _as_made(tensor: torch.Tensor) -> torch.Tensor:
    return OnGpu(tensor.detach()).requires_grad_(tensor.requires_grad)


class _Up(torch.autograd.Function):
    """A copy on the GPU."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        return OnGpu(tensor.detach().clone())

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> torch.Tensor:
        found: torch.Tensor = gradient.held
        return found


class _Down(torch.autograd.Function):
    """A copy on the CPU."""

    @staticmethod
    def forward(ctx: Any, tensor: Any) -> torch.Tensor:
        found: torch.Tensor = tensor.held.clone()
        return found

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return OnGpu(gradient)


def _down(tensor: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = _Down.apply(tensor)  # type: ignore[no-untyped-call]
    return found


_OF_ANY: dict[str, Callable[..., Any]] = {  # methods that are done otherwise
    "to": _moved,
    "cuda": lambda tensor, *_, **__: _moved(tensor, GPU),
    "pin_memory": lambda tensor, *_, **__: tensor,
}
_OF_OURS: dict[str, Callable[..., Any]] = {
    "cpu": lambda tensor, **_: _down(tensor),
    "numpy": _no_numpy,
    "tolist": lambda tensor: tensor.detach().held.tolist(),
    # its C++ makes tensors, for which ours are on the CPU
    "quantile": lambda tensor, *args, **named: OnGpu(torch.quantile(tensor.held, *args, **named)),
}


@contextlib.contextmanager
def pretended_gpu() -> Iterator[None]:
    """Pretend within the block: the library, transformers and the kit use the GPU."""
    with contextlib.ExitStack() as stack:
        for name, answer in ANSWERS.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, lambda *_, answer=answer, **__: answer))
        # DeepSpeed's ZeRO 3 replaces it for the whole process, with one that inference mode refuses here
        stack.enter_context(mock.patch.object(torch.nn.functional, "linear", torch._C._nn.linear))
        stack.enter_context(_Gpu())
        yield
