"""What `import r1_searcher` offers: every name is there, documented, and loaded when it is asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import r1_searcher

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", sorted(r1_searcher._names()))
def test_every_name_is_there_with_a_docstring(name: str) -> None:
    module, there = r1_searcher._names()[name]
    found = getattr(r1_searcher, name)
    assert found is getattr(sys.modules[module], there)
    assert found.__doc__ and name in dir(r1_searcher)


def test_the_main_names_are_offered() -> None:
    wanted = "build_index open_index open_retriever roll_out reward_table compute_advantages compare_evaluations"
    assert set(wanted.split()) < set(r1_searcher.__all__) == set(r1_searcher._names())


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'serch'"):
        r1_searcher.serch  # noqa: B018


def test_importing_it_loads_nothing() -> None:
    code = "import sys, r1_searcher; print([name for name in sys.modules if name.startswith('r1_searcher.')])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
