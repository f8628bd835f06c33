"""verifiers on this project's environment: it asks a server for completions, and searches and rewards are ours.

After `make train` or `make smoke` (in .workspaces/smoke) and `make setup-doors`; here the tiny model answers in this
process, and with --server an OpenAI-compatible server does:

    python examples/with_verifiers.py --questions 4
"""

import argparse
import asyncio
from types import SimpleNamespace
from typing import Any

import torch
import verifiers
from openai import AsyncOpenAI
from openai.types import Completion

from r1_searcher import params
from r1_searcher.model_folders import load_model, load_tokenizer


class TinyServer:
    """As much of the completions API as verifiers uses, with a policy folder on this CPU."""

    def __init__(self, policy: str) -> None:
        self.model, self.tokenizer = load_model(policy, dtype="float32"), load_tokenizer(policy)
        self.completions = SimpleNamespace(create=self.create)

    async def create(self, prompt: str, stop: list[str], max_tokens: int, **_: Any) -> Completion:
        ids = self.tokenizer.encode(prompt, add_special_tokens=False, return_tensors="pt")
        room = params.load().rollout.max_total_tokens - ids.shape[1]
        done = self.model.generate(
            ids,
            max_new_tokens=max(1, min(max_tokens, room)),
            do_sample=True,
            stop_strings=stop,
            tokenizer=self.tokenizer,
        )[0, ids.shape[1] :]
        text = self.tokenizer.decode(done, skip_special_tokens=False)
        ended = done[-1] == self.tokenizer.eos_token_id
        reason = "stop" if ended or text.endswith(tuple(stop)) else "length"
        choice = {
            "index": 0,
            "finish_reason": reason,
            "text": text.removesuffix(self.tokenizer.eos_token),
            "logprobs": None,
        }
        return Completion.model_validate(
            {"id": "tiny", "created": 0, "model": "tiny", "object": "text_completion", "choices": [choice]}
        )


def main(questions: int, server: str = "", model: str = "policy", policy: str = "data/base_model") -> Any:
    """Roll out some questions; return verifiers' outputs."""
    torch.manual_seed(0)
    environment = verifiers.load_environment("r1_searcher.environments.for_verifiers")
    client = AsyncOpenAI(base_url=server) if server else TinyServer(policy)
    rows = environment.get_dataset(n=questions)
    return asyncio.run(environment.generate(rows, client, model, state_columns=["trajectory"]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--questions", type=int, default=4)
    parser.add_argument("--server", default="", help="e.g. http://127.0.0.1:8000/v1; the key is OPENAI_API_KEY")
    parser.add_argument("--model", default="policy", help="the model's name on the server")
    options = parser.parse_args()
    for output in main(options.questions, options.server, options.model)["outputs"]:
        print(f"reward {output['reward']:+.2f}  searches {output['searches']:.0f}  {output['completion'][:60]!r}")
