"""The store: whole or absent, with several writers, in several processes."""

from __future__ import annotations

import multiprocessing
import multiprocessing.synchronize
import os
import time
from pathlib import Path

import pytest

from r1_searcher.files import store as room
from r1_searcher.files.store import Store, link_tree, readable_size
from r1_searcher.files.sums import SUMS_FILE

KEY = "ab" + "0" * 62


def test_what_was_put_is_found(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.get("rollouts", KEY) is None
    with store.put("rollouts", KEY) as draft:
        (draft / "file").write_text("one")
        assert store.get("rollouts", KEY) is None
    found = store.get("rollouts", KEY)
    assert found == tmp_path / "rollouts" / "ab" / KEY
    assert (found / "file").read_text() == "one"
    assert store.get("rewards", KEY) is None


def test_a_draft_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(OSError, match="disk"), store.put("rollouts", KEY) as draft:
        (draft / "half").write_text("one")
        raise OSError("disk")
    assert store.get("rollouts", KEY) is None
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_first_of_two_writers_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.put("rollouts", KEY) as slow:
        (slow / "file").write_text("slow")
        with store.put("rollouts", KEY) as quick:
            (quick / "file").write_text("quick")
    found = store.get("rollouts", KEY)
    assert found is not None and (found / "file").read_text() == "quick"
    assert len(store.entries()) == 1


def _write(root: Path, number: int) -> None:
    with Store(root).put("rollouts", KEY) as draft:
        for name in "abc":
            (draft / name).write_text(str(number))
            time.sleep(0.002)


@pytest.mark.slow
def test_writers_in_many_processes_leave_one_whole_artefact(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        pool.starmap(_write, [(tmp_path, number) for number in range(16)])
    found = Store(tmp_path).get("rollouts", KEY)
    assert found is not None
    assert len({(found / name).read_text() for name in "abc"}) == 1


def test_a_place_that_cannot_be_written_is_an_error_not_a_silence(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / "rollouts").write_text("a file where a folder belongs")
    with pytest.raises(OSError), store.put("rollouts", KEY) as draft:
        (draft / "file").write_text("one")


def test_prune_takes_the_kind_and_the_old(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for kind in ("rollouts", "checkpoints"):
        for key in (KEY, "cd" + KEY[2:]):
            with store.put(kind, key) as draft:
                (draft / "file").write_text("12345678")
    old = store.place("checkpoints", KEY)
    os.utime(old, (time.time() - 3 * 86400,) * 2)
    stale = tmp_path / ".drafts" / "killed"
    stale.mkdir()
    os.utime(stale, (time.time() - 3 * 86400,) * 2)
    removed = store.prune("checkpoints", days=2)
    assert [(entry.kind, entry.key, entry.size) for entry in removed] == [("checkpoints", KEY, 8)]
    assert not old.exists() and not stale.exists()
    assert len(store.entries()) == 3
    assert len(store.prune()) == 3 and store.entries() == []


def test_the_command_lists_and_prunes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store(tmp_path).put("rollouts", KEY) as draft:
        (draft / "file").write_bytes(b"0" * 2048)
    monkeypatch.setattr("sys.argv", ["store", "--root", str(tmp_path)])
    room.main()
    assert "rollouts" in (listed := capsys.readouterr().out) and "2.0 KB" in listed
    monkeypatch.setattr("sys.argv", ["store", "--root", str(tmp_path), "--prune", "rollout"])
    assert room.main() == 2 and "kinds: rollouts" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["store", "--root", str(tmp_path), "--prune", "all"])
    room.main()
    assert "removed 1 artefacts, 2.0 KB" in capsys.readouterr().out


def test_the_environment_says_where_workspaces_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(room.ROOT_VARIABLE, str(tmp_path))
    assert Store().root == tmp_path
    monkeypatch.delenv(room.ROOT_VARIABLE)
    assert Store().root == Path(".store")


def test_links_copy_where_links_are_not_possible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "from" / "deep").mkdir(parents=True)
    (tmp_path / "from" / "deep" / "file").write_text("one")
    link_tree(tmp_path / "from", tmp_path / "linked")
    assert (tmp_path / "linked/deep/file").samefile(tmp_path / "from/deep/file")

    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    link_tree(tmp_path / "from", tmp_path / "copied")
    assert (tmp_path / "copied/deep/file").read_text() == "one"
    assert not (tmp_path / "copied/deep/file").samefile(tmp_path / "from/deep/file")


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (1536, "1.5 KB"), (5 << 30, "5.0 GB")])
def test_sizes_read_well(size: int, text: str) -> None:
    assert readable_size(size) == text


def damaged(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(bytes([content[0] ^ 1]) + content[1:])


def test_a_damaged_artefact_is_set_aside_and_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store(tmp_path).put("rollouts", KEY) as draft:
        (draft / "file").write_text("one")
    damaged(tmp_path / "rollouts" / "ab" / KEY / "file")
    store = Store(tmp_path)
    assert store.get("rollouts", KEY) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: ") and "/file: " in line and "set aside as" in line and "made again" in line
    [aside] = store.damaged()
    assert (aside.path / "file").exists()
    with store.put("rollouts", KEY) as draft:
        (draft / "file").write_text("one")
    assert store.get("rollouts", KEY) is not None
    store.prune("rollouts")
    assert len(store.damaged()) == 1  # only whole artefacts of a kind
    store.prune()
    assert store.damaged() == []


def test_a_name_that_no_longer_is_text_is_said_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Store(tmp_path).put("rollouts", KEY) as draft:
        (draft / "file").write_text("one")
    listed = tmp_path / "rollouts" / "ab" / KEY / SUMS_FILE
    content = listed.read_bytes()
    listed.write_bytes(content[:-2] + bytes([content[-2] | 128]) + content[-1:])
    assert Store(tmp_path).get("rollouts", KEY) is None
    assert "made again" in capfd.readouterr().err


def test_an_artefact_from_before_there_were_sums_gets_them(tmp_path: Path) -> None:
    with Store(tmp_path).put("rollouts", KEY) as draft:
        (draft / "file").write_text("one")
    place = tmp_path / "rollouts" / "ab" / KEY
    (place / SUMS_FILE).unlink()
    os.utime(place, (1, 1))
    assert Store(tmp_path).get("rollouts", KEY) == place
    assert (place / SUMS_FILE).exists() and place.stat().st_mtime == 1
    damaged(place / "file")
    assert Store(tmp_path).get("rollouts", KEY) is None


def _hold(root: Path, held: multiprocessing.synchronize.Event) -> None:
    with Store(root).put("rollouts", KEY) as draft:
        (draft / "half").write_text("one")
        held.set()
        time.sleep(60)


def test_drafts_of_the_killed_go_and_those_of_the_living_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    maker = context.Process(target=_hold, args=(tmp_path, held))
    maker.start()
    assert held.wait(60)
    store = Store(tmp_path)
    assert store.drop_drafts() == [] and len(store.drafts()) == 1
    monkeypatch.setattr("sys.argv", ["store", "--root", str(tmp_path)])
    room.main()
    assert "1 in the making" in capsys.readouterr().out
    maker.kill()
    maker.join()
    room.main()
    assert "1 of killed runs" in capsys.readouterr().out
    assert [draft.size for draft in store.drop_drafts()] == [3]
    assert store.drafts() == []


def test_a_new_store_is_closed_to_others(tmp_path: Path) -> None:
    with Store(tmp_path / "new").put("rollouts", KEY) as draft:
        (draft / "file").write_text("one")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
