"""The judge as a real language model behind a real OpenAI-compatible server: `transformers serve`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from chat_servers import settings
from tiny_policy import ROOT, tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from r1_searcher.chat.chat_server import ChatServer
from stages.evaluate.__main__ import main

TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant:"
HAND_MADE = ROOT / "tests" / "data" / "hand_made_transcripts.jsonl"


@pytest.fixture(scope="module")
def judge_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a Llama whose layers add nothing and whose head determines the reply: after the prompt "True", then the
    end."""
    folder = tmp_path_factory.mktemp("judge_model")
    names = tokenizer(True)
    names = type(names).from_pretrained(_saved(names, folder))
    names.add_tokens(["True"])
    names.chat_template = TEMPLATE
    last, true = names.encode("assistant:", add_special_tokens=False)[-1], names.encode("True")[0]
    config = LlamaConfig(
        vocab_size=len(names), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=4096, tie_word_embeddings=False, bos_token_id=None,
        eos_token_id=names.eos_token_id, pad_token_id=names.eos_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for weight in (model.model.layers[0].self_attn.o_proj.weight, model.model.layers[0].mlp.down_proj.weight):
            weight.zero_()
        embedding, head = model.model.embed_tokens.weight, model.lm_head.weight
        for axis, (token, following) in enumerate(((last, true), (true, names.eos_token_id))):
            embedding[token] = torch.eye(16)[axis]
            head[following] = 9 * torch.eye(16)[axis]
    model.save_pretrained(folder)
    names.save_pretrained(folder)
    return folder


def _saved(names: object, folder: Path) -> Path:
    names.save_pretrained(folder)  # type: ignore[attr-defined]
    return folder


@pytest.fixture(scope="module")
def address(judge_model: Path) -> Iterator[str]:
    from transformers.cli.serve import Serve
    from transformers.cli.serving.model_manager import ModelManager

    def load(_manager: ModelManager, name: str, **_: object) -> LlamaForCausalLM:
        # transformers' own loading needs accelerate, to place it
        return LlamaForCausalLM.from_pretrained(name.partition("@")[0])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ModelManager, "_load_model", load)
        server = Serve(str(judge_model), device="cpu", host="127.0.0.1", port=0, non_blocking=True)
    try:
        deadline = time.monotonic() + 60
        while not server.server.started:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield f"http://127.0.0.1:{server.server.servers[0].sockets[0].getsockname()[1]}/v1"
    finally:
        server.kill_server()


def test_a_model_writes_and_its_tokens_are_counted(address: str, judge_model: Path) -> None:
    with ChatServer(settings(address, model=str(judge_model), timeout_seconds=60), where="judge") as server:
        reply = server.complete([{"role": "user", "content": "Is it right?"}], max_tokens=8)
        assert reply.text == "True" and reply.finish_reason == "stop"
        assert server.usage.prompt_tokens > 5 and 1 <= server.usage.completion_tokens <= 2
        cut = server.complete([{"role": "user", "content": "Is it right?"}], max_tokens=8, stop=["rue"])
        assert cut.finish_reason == "stop" and cut.text in ("T", "True")  # transformers keeps the stop string


def test_it_judges(address: str, judge_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = yaml.safe_load((ROOT / "r1_searcher/params/defaults.yaml").read_text(encoding="utf-8"))
    raw["judge"] |= {"server": address, "model": str(judge_model), "concurrency": 2}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    command = ["judge", str(HAND_MADE), "--json", "--params", str(tmp_path / "params.yaml"),
               "--record", str(tmp_path / "replies.jsonl"), "--out", str(tmp_path / "out")]  # fmt: skip
    for known in ("0 on record (0.0 %)", "on record (100.0 %)"):
        assert main(command) == 0
        out, said = capsys.readouterr()
        assert known in said
        figures = json.loads(out)["hand_made_transcripts"]
        assert figures["acc_l_unparsable"] == figures["acc_l_missing"] == 0
        assert 0.5 < figures["acc_l"] < 1.0  # it judges everything right, but some rows hold no answer
