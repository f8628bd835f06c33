"""Make the library importable on a machine that lacks pydantic, and the tests' jobs of the engine contract."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # a count of devices must not start CUDA in the process that forks
}


def prepare() -> list[str]:
    """Set the environment and the path; return what stands in for something missing, one line each."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for folder in (ROOT, ROOT / "tests"):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    if importlib.util.find_spec("pydantic") is None:
        from . import pydantic_stand_in

        pydantic_stand_in.install()
        return ["pydantic is missing: parameters are read without checks"]
    return []
