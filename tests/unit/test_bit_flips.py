"""No flipped bit is used silently: the short form of benchmarks/bit_flips.py, on a project of small files."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pytest

from r1_searcher import params
from r1_searcher.corpus.world import make_world
from r1_searcher.files import verify
from r1_searcher.files.artefacts import atomic, write_json, write_table
from r1_searcher.files.passages import fingerprint
from r1_searcher.files.store import Store
from r1_searcher.files.sums import SUMS_FILE, checksum_after
from r1_searcher.retrieval import build_index
from r1_searcher.types import schemas

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "bit_flips.py"
FLIPS = 20
SETTINGS = params.Index(k1=1.5, b=0.75, title_weight=3, stemmer="none", stopwords="none")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bit_flips", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bit_flips"] = module
    spec.loader.exec_module(module)
    return module


def table(schema: pa.Schema) -> pa.Table:
    """Return a few rows of any schema."""
    draw = random.Random(0)

    def value(kind: pa.DataType) -> object:
        if pa.types.is_list(kind):
            return [value(kind.value_type) for _ in range(draw.randrange(1, 20))]
        if pa.types.is_struct(kind):
            return {field.name: value(field.type) for field in kind}
        if pa.types.is_string(kind):
            return "".join(draw.choices("abcdefgh ", k=draw.randrange(1, 30)))
        return draw.randrange(2) if pa.types.is_boolean(kind) else draw.randrange(100)

    rows = [{field.name: value(field.type) for field in schema} for _ in range(8)]
    for row in rows:
        for field in schema:
            if pa.types.is_boolean(field.type):
                row[field.name] = bool(row[field.name])
    return pa.Table.from_pylist(rows, schema=schema)


def write_model(folder: Path) -> None:
    """Write the files of a policy; their content does not matter here."""
    (folder / "model.safetensors").write_bytes(random.Random(1).randbytes(4096))
    write_json(folder / "config.json", {"hidden_size": 16})
    write_json(folder / "manifest.json", {"sha256": "0", "parent": None, "step": 2})


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a finished run: outputs, store and cache."""
    root = tmp_path_factory.mktemp("run")
    data = root / "data"
    corpus = make_world(params.WorldSize(people=12, films=6, books=6, cities=4), 0).passages()
    with atomic(data / "corpus", folder=True) as draft:
        write_table(draft / "passages.parquet", corpus)
    build_index(corpus, SETTINGS, data / "index", fingerprint(data / "corpus"))
    with atomic(data / "questions", folder=True) as draft:
        write_table(draft / "train.parquet", table(schemas.QUESTIONS))
    with checksum_after(data / "mixes" / "hard.parquet"):
        write_table(data / "mixes" / "hard.parquet", table(schemas.QUESTIONS))
    with atomic(data / "evaluation", folder=True) as draft:
        write_table(draft / "held_out.parquet", table(schemas.EVALUATION))
    with atomic(data / "base_model", folder=True) as draft:
        write_model(draft)
    segment = data / "train" / "s1"
    store = Store(root / "store")
    for kind, schema in (
        ("rollouts", schemas.ROLLOUTS),
        ("rewards", schemas.REWARDS),
        ("advantages", schemas.ADVANTAGES),
    ):
        with atomic(segment / kind, folder=True) as draft:
            write_table(draft / "0000.parquet", table(schema))
        with store.put("updates" if kind == "advantages" else kind, "ab" * 32) as draft:
            write_table(draft / f"{kind}.parquet", table(schema))
            write_json(draft / "timings.json", {"seconds": 1.5})
    with store.put("checkpoints", "cd" * 32) as draft:
        for part in ("policy", "trainer_state"):
            with atomic(draft / part, folder=True) as folder:
                write_model(folder)
    with atomic(segment / "policy", folder=True) as draft:
        write_model(draft)
    with atomic(segment / "trainer_state", folder=True) as draft:
        (draft / "optimizer.safetensors").write_bytes(random.Random(2).randbytes(4096))
        write_json(draft / "trainer.json", {"seed": 0})
    for name in ("passages.arrow", "meta.json"):
        content = data / "index" / name
        md5 = verify.md5_file(content)
        place = root / "cache" / md5[:2] / md5[2:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.read_bytes())
    return root


def test_of_every_kind_of_file_no_flipped_bit_is_used(script: ModuleType, project: Path) -> None:
    found = script.run(project / "data", Store(project / "store"), project / "cache", FLIPS, seed=0)
    assert found.keys() == {
        *(f"data: {kind}" for kind in ("base_model", "corpus", "evaluation", "index", "mixes", "policy", "questions")),
        *(f"data: {kind}" for kind in ("advantages", "rewards", "rollouts", "trainer_state")),
        *(f"store: {kind}" for kind in ("checkpoints", "rewards", "rollouts", "updates")),
        "DVC cache",
    }
    assert all(outcomes == {"refused": FLIPS} for outcomes in found.values()), found


def test_a_flip_is_found_by_the_sums_and_by_nothing_else(script: ModuleType, project: Path, tmp_path: Path) -> None:
    """Without checksums, some flips would be read as other values: the check above can fail."""

    def without(folder: Path, root: Path) -> Path:
        inside: Path = script._whole(folder, root)
        (inside / SUMS_FILE).unlink()
        return inside

    folder = project / "data/train/s1/rollouts"
    outcomes = [what for what, _ in script.trials([folder], script.read_tables, 60, random.Random(0), without)]
    assert "SILENT" in outcomes
