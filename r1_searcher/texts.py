"""Parse JSON and YAML from outside with one kind of error, whatever they contain.

The standard parsers raise other errors for well-formed but hostile text: brackets nested ten thousand deep
(``RecursionError``), integers of thousands of digits (``ValueError``), impossible dates.
"""

from __future__ import annotations

import json
from typing import Any

from r1_searcher.errors import PipelineError

DEEP = "nested too deeply"
LONG_NUMBER = "a number of too many digits"
_YAML_FAULTS = (ValueError, TypeError, LookupError, AttributeError)  # of PyYAML's constructors


def parse_json(text: str | bytes) -> Any:
    """``json.loads`` that raises only ``json.JSONDecodeError``."""
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
    """``yaml.safe_load`` that raises only ``PipelineError``, in one line."""
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
