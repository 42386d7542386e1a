import json
import math
from pathlib import Path

import pytest

from caplab.support.errors import BadInput
from caplab.support.files import (
    as_path,
    check_target,
    from_json,
    make_folder,
    read_jsonl,
    read_sealed,
    read_text,
    write_atomically,
    write_sealed,
)

# ---------------------------------------------------------------- paths


def test_a_tilde_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert as_path("~/card.json") == tmp_path / "card.json"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "A path is missing"),
        (None, "None is not a path"),
        ("a\0b", "is not a path: embedded null byte"),
        ("x" * 10_000, "cannot be used: File name too long"),
    ],
)
def test_what_cannot_be_a_path_is_refused(given, message):
    with pytest.raises(BadInput, match=message):
        as_path(given)


def test_a_target_needs_its_folder(tmp_path):
    assert check_target(tmp_path / "new") == tmp_path / "new"
    with pytest.raises(BadInput, match="there is no folder"):
        check_target(tmp_path / "no" / "new")
    with pytest.raises(BadInput, match="it is a folder"):
        check_target(tmp_path)


def test_a_folder_is_made_with_its_parents(tmp_path):
    assert make_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="cannot be written: File exists"):
        make_folder(tmp_path / "file")


# ---------------------------------------------------------------- text


def test_a_byte_order_mark_is_dropped(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf\xc3\xa9\n")
    assert read_text(tmp_path / "a.txt", "text") == "é\n"


def test_a_missing_file_suggests_others(tmp_path):
    (tmp_path / "card.json").touch()
    with pytest.raises(BadInput, match=r"no scorecard .*cart\.json\. Did you mean '.*card\.json'"):
        read_text(tmp_path / "cart.json", "scorecard")
    with pytest.raises(BadInput, match=r"no exam clasics\. Did you mean 'classics'"):
        read_text("clasics", "exam", known=["classics"])


def test_other_than_utf8_is_named_by_its_byte(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\ncaf\xe9")
    with pytest.raises(BadInput, match=r"not UTF-8: byte 7 \(0xe9\), on line 2"):
        read_text(tmp_path / "a.txt", "text")


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "kept.json"
    path.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(BadInput, match=r"kept\.json cannot be written: No space left on device"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.json"]


def test_a_lone_surrogate_is_written_escaped(tmp_path):
    write_atomically(tmp_path / "a.txt", "a\ud800\n")
    assert (tmp_path / "a.txt").read_bytes() == b"a\\ud800\n"


# ---------------------------------------------------------------- JSON lines


def positive(value):
    """Accept numbers above 0."""
    if not value > 0:
        raise BadInput(f"{value} is not positive")
    return value


@pytest.fixture
def lines(tmp_path):
    """Write a file of lines."""

    def write(*given):
        path = tmp_path / "numbers.jsonl"
        path.write_text("\n".join(given))
        return path

    return write


def test_each_line_becomes_an_item(lines):
    assert read_jsonl(lines("1", "", "  ", "2.5\r", ""), "list", positive) == [1, 2.5]
    assert read_jsonl(lines(""), "list", positive) == []


def test_all_bad_lines_are_listed(lines):
    path = lines("1", "-1", "", "{", "0")
    with pytest.raises(BadInput) as refused:
        read_jsonl(path, "list", positive, advice="Give numbers.")
    first, second, third, fourth, last = str(refused.value).split("\n")
    assert first == f"{path} has 3 malformed lines:"
    assert second == "  line 2: -1 is not positive"
    assert third.startswith("  line 4: this is not JSON")
    assert fourth == "  line 5: 0 is not positive"
    assert last == "Give numbers."


def test_one_bad_line_is_counted_as_one(lines):
    with pytest.raises(BadInput, match=r"has 1 malformed line:\n  line 1: -1 is not positive$"):
        read_jsonl(lines("-1"), "list", positive)


def test_at_most_20_bad_lines_are_listed(lines):
    with pytest.raises(BadInput) as refused:
        read_jsonl(lines(*["-1"] * 50), "list", positive)
    said = str(refused.value).split("\n")
    assert said[0].endswith("has 50 malformed lines:")
    assert said[-2:] == ["  line 20: -1 is not positive", "  ... and 30 more"]


def test_a_missing_file_of_lines_suggests_others(tmp_path):
    with pytest.raises(BadInput, match=r"There is no exam clasics\. Did you mean 'classics'"):
        read_jsonl("clasics", "exam", positive, known=["classics"])


# ---------------------------------------------------------------- JSON


def test_a_key_may_appear_only_once():
    with pytest.raises(BadInput, match="the key 'a' appears 2 times"):
        from_json('{"b": {"a": 1, "a": 1}}')


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "1" * 5000])
def test_other_than_json_is_refused(text):
    with pytest.raises(BadInput, match="this is not JSON"):
        from_json(text)


@pytest.fixture
def sealed(tmp_path) -> Path:
    path = tmp_path / "card.json"
    write_sealed(path, {"format": "card 1", "value": 0.5, "name": "é\ud800"})
    return path


def test_sealed_content_comes_back(sealed):
    assert read_sealed(sealed, "card") == {"format": "card 1", "value": 0.5, "name": "é\ud800"}


def test_nan_can_be_refused(tmp_path):
    write_sealed(tmp_path / "a.json", {"value": math.nan})
    assert math.isnan(read_sealed(tmp_path / "a.json", "card")["value"])
    with pytest.raises(ValueError, match="JSON compliant"):
        write_sealed(tmp_path / "b.json", {"value": math.nan}, allow_nan=False)
    assert not (tmp_path / "b.json").exists()


def test_changed_content_is_noticed(sealed):
    sealed.write_text(sealed.read_text().replace("0.5", "0.6"))
    with pytest.raises(BadInput, match="is not a card any more: it was changed or damaged"):
        read_sealed(sealed, "card")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a card: this is not JSON"),
        ("[1]", "is not a card: it contains no JSON object"),
        (json.dumps({"format": "report"}), "it has no seal, and its format is 'report'"),
    ],
)
def test_content_without_a_seal_is_refused(tmp_path, content, message):
    (tmp_path / "card.json").write_text(content)
    with pytest.raises(BadInput, match=message):
        read_sealed(tmp_path / "card.json", "card")
