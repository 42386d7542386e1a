"""The file of an atlas: whole or not at all, and of every format so far."""

import json

import pandas as pd
import pretend
import pytest
from pyarrow import parquet

from caplab.study.atlas import Atlas, atlas
from caplab.support.errors import BadInput
from caplab.training.recipe import Recipe

PLAIN = Recipe(learning_rate=1e-3, steps=100)
OLD_NAMES = {"task_accuracy": "task", "classics_accuracy": "classics"}


@pytest.fixture
def small(made):
    return Atlas.of([pretend.record(r) for r in made.recipes[:4]], {"subject": "x"}, {PLAIN: "no"})


def same_tables(one, other):
    for table in ("points", "runs", "failed"):
        pd.testing.assert_frame_equal(getattr(one, table), getattr(other, table), check_exact=True)
    return one.about == other.about


def test_an_atlas_survives_its_file(small, tmp_path):
    assert same_tables(small, atlas(small.save(tmp_path / "atlas.parquet")))
    assert list(tmp_path.iterdir()) == [tmp_path / "atlas.parquet"]


def rewrite(path, change):
    """Change what the file says of itself, and the names of its columns."""
    table = parquet.read_table(path)
    extra = json.loads(table.schema.metadata[b"caplab"])
    names = change(extra, list(table.schema.names))
    text = {b"caplab": json.dumps(extra).encode()}
    table = table.rename_columns(names).replace_schema_metadata(text)
    parquet.write_table(table, path, write_page_checksum=True)


def as_format_1(extra, names):
    del extra["format"]
    base = extra["about"]["base"]
    extra["about"]["base"] = {OLD_NAMES.get(name, name): value for name, value in base.items()}
    old = {f"end_{new}": f"end_{name}" for new, name in OLD_NAMES.items()}
    old |= {f"end_base_{new}": f"end_base_{name}" for new, name in OLD_NAMES.items()}
    return [old.get(name, name) for name in names]


def test_the_first_format_is_read(small, tmp_path):
    path = small.save(tmp_path / "atlas.parquet")
    rewrite(path, as_format_1)
    assert "end_base_task" in parquet.read_schema(path).names
    assert same_tables(small, atlas(path))


def test_a_later_format_is_refused(small, tmp_path):
    path = small.save(tmp_path / "atlas.parquet")
    rewrite(path, lambda extra, names: extra.update(format=3) or names)
    with pytest.raises(BadInput, match="an atlas of format 3, and this version of caplab reads 2"):
        atlas(path)


def test_nothing_but_failures_can_be_kept(tmp_path):
    none = Atlas.of([], {"subject": "x"}, {PLAIN: "no memory"})
    again = Atlas.load(none.save(tmp_path / "none.parquet"))
    assert list(again.failed["reason"]) == ["no memory"]
    for ask in (again.summary, again.matched, again.best, lambda: again.nearest(PLAIN)):
        with pytest.raises(BadInput, match=r"holds no run\. What failed: no memory"):
            ask()


def test_what_is_no_atlas_is_refused(tmp_path):
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(BadInput, match="is not an atlas"):
        atlas(tmp_path / "text.parquet")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(BadInput, match="is not an atlas"):
        atlas(tmp_path / "other.parquet")
    with pytest.raises(BadInput, match="There is no atlas"):
        atlas(tmp_path / "missing.parquet")


def test_a_failed_save_says_so(small, tmp_path):
    with pytest.raises(BadInput, match="cannot be written"):
        small.save(tmp_path / "no" / "folder.parquet")


def test_a_failed_save_leaves_the_old_file(small, tmp_path, monkeypatch):
    path = small.save(tmp_path / "atlas.parquet")
    before = path.read_bytes()

    def full_disk(table, draft, **options):
        draft.write_text("half")
        raise OSError("No space left on device")

    monkeypatch.setattr(parquet, "write_table", full_disk)
    with pytest.raises(BadInput, match="cannot be written: No space left"):
        small.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
