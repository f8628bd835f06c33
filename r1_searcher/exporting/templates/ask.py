"""Ask this policy with plain transformers: it thinks, searches and answers.

    python ask.py "Who directed Silent Castle?" --service http://127.0.0.1:8400

Or with a search of your own:

    from ask import Agent
    print(Agent(".").answer("Who directed Silent Castle?", search=lambda query, k: [("Silent Castle", "a text ...")]))

Needs torch and transformers. Decoding is greedy.
"""

from __future__ import annotations

import argparse
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

Searcher = Callable[[str, int], list[tuple[str, str]]]  # a query and a number → titles and texts, best first


class Agent:
    """The policy in a folder, and how it was trained to search (agent.json)."""

    def __init__(self, folder: str | Path) -> None:
        self.how = json.loads((Path(folder) / "agent.json").read_text(encoding="utf-8"))
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, self.how["dtype"])).eval()

    def answer(self, question: str, search: Searcher) -> tuple[str | None, str]:
        """Return the answer (None: it gave none) and the whole transcript."""
        how, tags = self.how, self.how["tags"]
        ids = self.encode(self.prompt(question))
        transcript = ""
        for _ in range(how["max_searches"] + 1):
            turn = self.turn(ids)
            ids += turn
            written = self.tokenizer.decode(turn, skip_special_tokens=False)
            transcript += written
            if tags["end_query"] not in written or len(ids) >= how["max_total_tokens"]:
                break
            query = written.rpartition(tags["begin_query"])[2].split(tags["end_query"])[0]
            query = " ".join(query.replace('"', " ").split()).strip("'` ")
            if not query or transcript.count(tags["end_query"]) > how["max_searches"]:
                break
            documents = self.documents(search(query, how["k"]))
            ids += self.encode(documents)
            transcript += documents
        _, found, rest = transcript.rpartition(tags["begin_answer"])
        complete = bool(found) and tags["end_answer"] in rest
        return (rest.split(tags["end_answer"])[0].strip() if complete else None), transcript

    def prompt(self, question: str) -> str:
        if not self.how["prompt_is_chat"]:
            return str(self.how["prompt"]).replace("{question}", question)
        messages = [{"role": "system", "content": self.how["prompt"]}, {"role": "user", "content": question}]
        text = str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        think = self.how["tags"]["think"]
        return text if text.rstrip().endswith(think) else text + think

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def turn(self, ids: list[int]) -> list[int]:
        """Continue until a query or the answer is complete."""
        how, tags = self.how, self.how["tags"]
        room = min(how["max_turn_tokens"], how["max_total_tokens"] - len(ids))
        whole = self.model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            do_sample=False,
            max_new_tokens=max(room, 1),
            stop_strings=[tags["end_query"], tags["end_answer"]],
            tokenizer=self.tokenizer,
        )
        return list(whole[0, len(ids) :].tolist())

    def documents(self, found: list[tuple[str, str]]) -> str:
        """Return the block that the policy reads. A passage must contain no tag: angle brackets are replaced."""
        lines = []
        for number, (title, text) in enumerate(found, 1):
            shown = text if self.how["passages"] == "text" else f"{title}: {text}"
            shown = " ".join(shown.split()).replace("<", "‹").replace(">", "›")
            tokens = self.encode(f" {shown}")
            if len(tokens) > self.how["max_passage_tokens"]:
                shown = self.tokenizer.decode(tokens[: self.how["max_passage_tokens"]]).strip()
            lines.append(f"({number}) {shown}\n")
        tags = self.how["tags"]
        return f"\n\n{tags['begin_documents']}\n{''.join(lines)}{tags['end_documents']}\n\n"


def service(address: str) -> Searcher:
    """Return a search by a retrieval server that answers POST /retrieve: this project's, Searcher-R1's."""

    def search(query: str, k: int) -> list[tuple[str, str]]:
        body = json.dumps({"queries": [query], "topk": k}).encode()
        request = urllib.request.Request(f"{address}/retrieve", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as reply:
            hits = json.load(reply)["result"][0]
        contents = [hit.get("document", hit)["contents"].partition("\n") for hit in hits]
        return [(title.strip('"'), text) for title, _, text in contents]

    return search


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Ask this policy a question.")
    parser.add_argument("question")
    parser.add_argument("--service", default="http://127.0.0.1:8400", help="retrieval service (default: %(default)s)")
    options = parser.parse_args()
    try:
        answer, transcript = Agent(Path(__file__).parent).answer(options.question, service(options.service))
    except urllib.error.URLError as error:
        raise SystemExit(f"error: no retrieval service answers at {options.service}: {error}") from None
    print(transcript)
    print("answer:", answer)
