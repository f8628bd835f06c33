"""This project's environment as an OpenEnv server, and a client that plays one episode with a fixed policy.

After `make train` or `make smoke` (in .workspaces/smoke) and `make setup-doors`:

    python examples/with_openenv.py --episodes 2
"""

import argparse
import socket
import threading
from pathlib import Path

import uvicorn

from r1_searcher import params
from r1_searcher.environments.core import SearchEnvironment
from r1_searcher.environments.for_openenv import SearchAction, SearchClient, create_app
from r1_searcher.files.artefacts import read_table


def main(episodes: int, policy: str = "data/base_model") -> list[tuple[str, float]]:
    """Serve the environment, play; return each episode's transcript and reward."""
    settings = params.load()
    environment = SearchEnvironment.open(settings, policy=Path(policy), index=Path("data/index"))
    questions = read_table("data/questions/train.parquet").to_pylist()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(create_app(environment, questions), log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            with SearchClient(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}") as client:
                return [play(client, question) for question in questions[:episodes]]
        finally:
            server.should_exit = True
            thread.join()


def play(client: SearchClient, question: dict[str, str]) -> tuple[str, float]:
    """Play an episode: search for the question itself, then answer with the first words that were found."""
    client.reset(question_id=question["question_id"])
    query = f"I search for it. <|begin_of_query|> {question['question']} <|end_of_query|>"
    result = client.step(SearchAction(text=query))
    if not result.done:
        first = " ".join(result.observation.text.partition("(1)")[2].split()[:2])
        result = client.step(SearchAction(text=f" That is it.</think>\n\n<answer> {first} </answer>"))
    assert result.done and result.reward is not None
    return client.state().transcript, result.reward


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--episodes", type=int, default=2)
    for transcript, reward in main(parser.parse_args().episodes):
        print(f"reward {reward:+.2f}: …{transcript[-60:]!r}")
