"""Keys cover the code that a chosen name uses, and no code that nobody chose."""

from __future__ import annotations

from pathlib import Path

import pytest

from r1_searcher.files import code

HEAD = "from r1_searcher.toys import shared\n"


def room(root: Path) -> Path:
    folder = root / "toys"
    (folder / "kinds").mkdir(parents=True)
    for name in ("__init__.py", "kinds/__init__.py", "unused.py", "deeper.py"):
        (folder / name).write_text("")
    (folder / "shared.py").write_text("def late():\n    from r1_searcher.toys.deeper import x\n")
    (folder / "kinds" / "one.py").write_text(HEAD)
    (folder / "kinds" / "other.py").write_text(HEAD)
    return folder


def test_what_is_used_changes_it_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "r1_searcher"
    monkeypatch.setattr(code, "_ROOT", root)
    monkeypatch.setattr(code, "shipped", lambda path: path.is_relative_to(root))
    folder = room(root)
    chosen = [folder / "kinds" / "one.py"]

    def now() -> str:
        return code.chosen_code(chosen, room="toys")

    before = now()
    for name in ("unused.py", "kinds/other.py", "kinds/brand_new.py"):
        (folder / name).write_text("x = 1\n")
        assert now() == before
    for name in ("deeper.py", "shared.py", "kinds/one.py"):
        (folder / name).write_text((folder / name).read_text() + "x = 2\n")
        assert now() != before
        before = now()


def test_of_a_users_file_the_bytes_count_and_not_its_place(tmp_path: Path) -> None:
    places = [tmp_path / "a.py", tmp_path / "b.py"]
    for place in places:
        place.write_text("from r1_searcher.rewards.metrics import f1\n")
    one, other = (code.chosen_code([place], room="rewards") for place in places)
    assert one == other
    places[1].write_text("from r1_searcher.rewards.metrics import em\n")
    assert code.chosen_code([places[1]], room="rewards") != one
