"""Open a policy under ZeRO 3 without any rank ever holding the whole model.

Each parameter is divided among the ranks when the empty model creates it, and filled from the files one by one: a rank
holds its part and, for a moment, one whole parameter. (``from_pretrained`` would read the whole model on each rank.)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from r1_searcher.model_folders import load_config
from r1_searcher.update.shards import Tensors
from r1_searcher.update.tensor_check import check_tensors


def load_partitioned(policy: Path, dtype: str, attention: str, engine_config: Mapping[str, Any]) -> Any:
    """Load the causal language model of a Hugging Face folder with divided parameters. All ranks must call.

    ``engine_config`` is the one that the DeepSpeed engine will use. Raises ``PipelineError`` as ``check_tensors``.
    """
    import deepspeed
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    deepspeed.comm.init_distributed(dist_init_required=False)
    config = load_config(policy)
    arguments = {"dtype": getattr(torch, dtype), "attn_implementation": attention}
    # The configuration sets the precision. (If given, a dtype would be bfloat16 wherever the device lacks float16,
    # because of a precedence bug in 0.19.8.)
    with no_init_weights(), deepspeed.zero.Init(config_dict_or_path=dict(engine_config)):
        model = AutoModelForCausalLM.from_config(config, **arguments)
    # zero.Init casts every floating-point tensor created in it, including rotary frequencies, which in bfloat16 are
    # other positions. So the buffers come from an empty model made outside it.
    with no_init_weights(), init_empty_weights(include_buffers=False):
        empty = AutoModelForCausalLM.from_config(config, **arguments)
    for name, buffer in empty.named_buffers():
        place, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(place), leaf, buffer)
    model.tie_weights()  # else done with the initialisation
    tensors = Tensors(policy)
    check_tensors(tensors, model, where=str(policy))
    for name, parameter in model.named_parameters():
        with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
            if torch.distributed.get_rank() == 0:
                parameter.data.copy_(tensors[name])
    return model
