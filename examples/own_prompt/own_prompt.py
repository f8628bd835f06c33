"""A prompt of your own, put together by code: two examples, and the question.

Roll out the committed policy with it, which has never seen such a prompt, and look at what it was given:

    mkdir -p own
    r1-searcher params examples/own_prompt/profile.yaml --set threads=1 > own/params.yaml
    r1-searcher index --corpus baselines/code/passages.parquet --index own/index
    r1-searcher rollout --params own/params.yaml --policy baselines/code/policy --limit 1 --greedy \
        --questions baselines/code/questions/held_out.parquet --corpus baselines/code/passages.parquet \
        --index own/index --out own/rollouts.parquet
    python -c "import r1_searcher; print(r1_searcher.read_rollouts('own/rollouts.parquet')['prompt'][0])"

The same prompt as a text file needs no code: `rollout.prompt: examples/own_prompt/prompt.txt`.
"""

from r1_searcher.extend import prompt

EXAMPLES = {"Who wrote Dubliners?": "James Joyce", "Where was James Joyce born?": "Dublin"}


@prompt("by_example")
def by_example() -> str:
    """The template: ``{question}`` is replaced, and the policy writes on behind ``<think>``."""
    shown = "\n".join(f"Question: {question}\n<answer> {answer} </answer>" for question, answer in EXAMPLES.items())
    return f"{shown}\n\nQuestion: {{question}}\n<think>"
