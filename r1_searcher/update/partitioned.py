"""Opening a policy under ZeRO 3 without any rank ever holding the whole of it.

Each parameter is divided among the ranks as the empty model makes it, and filled from the files one by one: a rank
holds its part and, for a moment, one whole parameter. (``from_pretrained`` would read the whole model on each rank.)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from r1_searcher.update.shards import Tensors
from r1_searcher.update.tensor_check import check_tensors


def load_partitioned(policy: Path, dtype: str, attention: str, engine_config: Mapping[str, Any]) -> Any:
    """The causal language model of a Hugging Face folder, its parameters divided. All ranks must call.

    ``engine_config`` is the one that the DeepSpeed engine will have. Raises ``PipelineError`` as ``check_tensors``.
    """
    import deepspeed
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    deepspeed.comm.init_distributed(dist_init_required=False)
    config = AutoConfig.from_pretrained(policy, local_files_only=True, trust_remote_code=False)
    arguments = {"dtype": getattr(torch, dtype), "attn_implementation": attention}
    # The precision is the configuration's. (A dtype that is given would be bfloat16 wherever the device has no float16,
    # by a slip of precedence in 0.19.8.)
    with no_init_weights(), deepspeed.zero.Init(config_dict_or_path=dict(engine_config)):
        model = AutoModelForCausalLM.from_config(config, **arguments)
    # zero.Init casts every floating-point tensor that is made in it, the rotary frequencies too, and bfloat16 ones are
    # other positions: the buffers are taken from an empty model made outside.
    with no_init_weights(), init_empty_weights(include_buffers=False):
        empty = AutoModelForCausalLM.from_config(config, **arguments)
    for name, buffer in empty.named_buffers():
        place, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(place), leaf, buffer)
    model.tie_weights()  # which it does with its initialisation else
    tensors = Tensors(policy)
    check_tensors(tensors, model, where=str(policy))
    for name, parameter in model.named_parameters():
        with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
            if torch.distributed.get_rank() == 0:
                parameter.data.copy_(tensors[name])
    return model
