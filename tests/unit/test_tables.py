"""Tables lose nothing of their cells and control no terminal, whatever their content."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import sys
import termios
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from r1_searcher import tables
from r1_searcher.evaluation.summary_commands import text_table
from r1_searcher.shown import COLUMNS_VARIABLE, printable, table_width, terminal_width

ROWS = [["policy", "EM", "verdict"], ["base", "-0.250", "worse"], ["a policy with a long name", "12.000", "same"]]


def test_figures_stand_to_the_right() -> None:
    assert tables.text(ROWS, left=(0, 2)).splitlines() == [
        "policy                         EM  verdict",
        "base                       -0.250  worse",
        "a policy with a long name  12.000  same",
    ]
    assert tables.text([]) == ""


def test_off_a_terminal_no_environment_changes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tables.text(ROWS)
    for name, value in {"COLUMNS": "20", "FORCE_COLOR": "1", "TTY_COMPATIBLE": "1", "TERM": "xterm-256color"}.items():
        monkeypatch.setenv(name, value)
    assert tables.text(ROWS) == plain and terminal_width() is None


def test_a_narrow_terminal_gets_longer_rows_and_all_of_them() -> None:
    lines = tables.text(ROWS, left=(0, 2), width=30).splitlines()
    assert max(map(len, lines)) <= 30 and len(lines) > 3
    assert [line.split() for line in lines[:2]] == [["policy", "EM", "verdict"], ["base", "-0.250", "worse"]]
    letters = "".join("".join(row) for row in ROWS).replace(" ", "")
    assert sorted("".join(lines).replace(" ", "")) == sorted(letters)


@pytest.mark.parametrize(("columns", "width"), [(72, 72), (0, None)])
def test_the_width_is_that_of_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: int, width: int | None) -> None:
    ours, its = pty.openpty()
    with os.fdopen(ours, "rb"), os.fdopen(its, "w") as out:
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        monkeypatch.setattr(sys, "stdout", out)
        assert terminal_width() == width


@given(st.lists(st.lists(st.text(max_size=30), min_size=2, max_size=2), min_size=1, max_size=4))
def test_a_row_is_a_line_with_every_cell_of_any_text(rows: list[list[str]]) -> None:
    lines = tables.text(rows, left=(0, 1)).split("\n")
    assert len(lines) == len(rows)
    wide = max(cell_len(printable(row[0])) for row in rows)
    for line, (first, second) in zip(lines, rows, strict=True):
        pad = " " * (wide - cell_len(printable(first)) + 2)
        assert line == f"{printable(first)}{pad}{printable(second)}".rstrip(" ")


def test_a_page_has_the_same_rows() -> None:
    assert tables.markdown(("name", "figure"), [["a|b <i>", "-1.5"], ["- x", "+2"]]).splitlines() == [
        "| name | figure |",
        "|---|---:|",
        r"| a\|b &lt;i&gt; | -1.5 |",
        "| - x | +2 |",
    ]


def test_the_summary_leaves_out_what_a_narrow_terminal_has_no_room_for() -> None:
    figures = {"n": 20, "em": 0.5, "em_ci": [0.25, 0.75], "em_squad": 0.5, "em_squad_ci": [0.25, 0.75], "f1": 0.5}
    summary = {"stage2": {"held_out": figures | {"format_rate": 1.0, "searches_per_question": 2.0}}}
    whole = text_table(summary)
    assert "0.500 [0.250, 0.750]" in whole and text_table(summary, width=200) == whole
    narrow = text_table(summary, width=70, file=Path("out.json"))
    assert "[" not in narrow and "EM (SQuAD)" in narrow and narrow.endswith("\nintervals and further metrics: out.json")
    narrowest = text_table(summary, width=58)
    assert "SQuAD" not in narrowest and max(map(len, narrowest.splitlines())) <= 58 and "held_out" in narrowest


@pytest.mark.parametrize(("told", "width"), [("72", 72), ("", None), ("0", None), ("-5", None), ("wide", None)])
def test_who_shows_the_output_tells_its_width(monkeypatch: pytest.MonkeyPatch, told: str, width: int | None) -> None:
    monkeypatch.setenv(COLUMNS_VARIABLE, told)
    assert table_width() == width
