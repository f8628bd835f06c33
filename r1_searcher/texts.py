"""JSON and YAML from outside: whatever they hold, what they raise is one kind of error.

The standard parsers raise others too for text that is well formed and hostile: brackets nested by the ten thousand
(``RecursionError``), whole numbers of thousands of digits (``ValueError``), impossible dates.
"""

from __future__ import annotations

import json
from typing import Any

from r1_searcher.errors import PipelineError

DEEP = "nested too deeply"
LONG_NUMBER = "a number of too many digits"
_YAML_FAULTS = (ValueError, TypeError, LookupError, AttributeError)  # of PyYAML's constructors


def parse_json(text: str | bytes) -> Any:
    """``json.loads`` that raises ``json.JSONDecodeError`` alone."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise json.JSONDecodeError(DEEP, "", 0) from None
    except UnicodeDecodeError as error:
        raise json.JSONDecodeError(f"not UTF-8: {error.reason}", "", 0) from None
    except ValueError:
        raise json.JSONDecodeError(LONG_NUMBER, "", 0) from None


def parse_yaml(text: str, *, where: str) -> Any:
    """``yaml.safe_load`` that raises ``PipelineError`` alone, in one line."""
    import yaml  # here: scoring transcripts loads no library

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PipelineError(f"not YAML: {' '.join(str(error).split())}", where=where) from None
    except RecursionError:
        raise PipelineError(f"not YAML: {DEEP}", where=where) from None
    except _YAML_FAULTS as error:
        said = LONG_NUMBER if "int_max_str_digits" in str(error) else " ".join(str(error).split())
        raise PipelineError(f"not YAML: a value that cannot be read ({said[:120]})", where=where) from None
