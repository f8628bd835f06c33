"""A tool of your own with a budget as its parameter: a calculator, which the policy may call beside the search.

The policy writes the tags and a product or sum between them; the block with the result is inserted. Call it by hand:

    python examples/own_tool.py
"""

import operator
import re
from collections.abc import Sequence

from pydantic import BaseModel

from r1_searcher.extend import tool
from r1_searcher.tools.protocol import Budget, Call, Context, Tool, ToolResult
from r1_searcher.types.protocols import Passage

OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


class Budgeted(BaseModel):
    """Parameters of ``calculator``."""

    calls: int = 3  # per trajectory


@tool("calculator", parameters=Budgeted)
class Calculator(Tool):
    begin, end = "<|begin_of_sum|>", "<|end_of_sum|>"

    def __init__(self, context: Context | None, parameters: Budgeted) -> None:
        self.budget = Budget(calls=parameters.calls, passages=1, passage_tokens=32)

    def answer(self, calls: Sequence[Call]) -> list[ToolResult]:
        return [self.result(call.request) for call in calls]

    def result(self, request: str) -> list[Passage]:
        found = re.fullmatch(r"(\d{1,9}) *([-+*]) *(\d{1,9})", request)
        if found is None:
            return []  # nothing that it can calculate: the policy sees an empty block, and goes on
        left, sign, right = found.groups()
        calculate = OPERATIONS[sign]
        return [Passage("", "", f"{request} = {calculate(int(left), int(right))}", 1.0)]


if __name__ == "__main__":
    calculator = Calculator(None, Budgeted())
    turn = f"A week has this many hours: {calculator.begin} 7 * 24 {calculator.end}"
    passages = calculator.result(calculator.request(turn))
    print(turn + calculator.block([passage.text for passage in passages]))
