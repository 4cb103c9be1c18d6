from __future__ import annotations

import csv
import io
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardiometa import files
from cardiometa.errors import InputError, OutputError, UsageError


def test_write_all_leaves_nothing_when_one_cannot_be_staged(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a folder should be")
    with pytest.raises(OutputError, match=r"b\.txt cannot be written"):
        files.write_all(tmp_path, {"a.txt": "one", "taken/b.txt": "two"})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["taken"]


def test_a_failed_rename_leaves_the_old_file_and_no_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "x.csv"
    files.write_text(target, "old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError, match=r"x\.csv cannot be written: no space"):
        files.write_text(target, "new")
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.csv"]


@pytest.mark.parametrize(
    "name",
    ["..", ".", "", "a/b", "a\\b", "/abs", ".hidden", "NUL", "a\0b", "x" * 200, "end.", " lead"],
)
def test_paths_cannot_escape(tmp_path: Path, name: str) -> None:
    assert not files.is_safe_name(name)
    with pytest.raises(InputError):
        files.inside(tmp_path, name)


@pytest.mark.parametrize("name", ["001", "S-12", "Ж1", "followup_12m", "a.b"])
def test_ordinary_ids_are_safe(tmp_path: Path, name: str) -> None:
    assert files.inside(tmp_path, name).parent == tmp_path


def test_json_is_canonical_and_has_no_nan() -> None:
    value = {"b": float("nan"), "a": [np.float64(0.1), np.int64(3), True, None]}
    text = files.canonical_json(value)
    assert text == '{\n  "a": [\n    0.1,\n    3,\n    true,\n    null\n  ],\n  "b": null\n}\n'


def test_a_path_never_reaches_an_output() -> None:
    with pytest.raises(TypeError, match="path"):
        files.canonical_json({"source": Path("x")})


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_cells_of_numbers_round_trip(value: float) -> None:
    text = files.cell(np.float64(value))
    assert float(text) == value
    assert not text.startswith("'")


def test_cells_follow_the_contract() -> None:
    assert files.cell(None) == ""
    assert files.cell(float("nan")) == ""
    assert files.cell(np.bool_(True)) == "true"
    assert files.cell(-1.5) == "-1.5"
    assert files.cell("=SUM(A1)") == "'=SUM(A1)"
    assert files.cell("001") == "001"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"))))
def test_csv_text_can_be_read_back(values: list[str]) -> None:
    rows = [[value, "end"] for value in values]
    read = list(csv.reader(io.StringIO(files.csv_text(["a", "b"], rows), newline="")))
    plain = [[row[0].removeprefix("'") if row[0] else row[0], row[1]] for row in read[1:]]
    wanted = [[v.removeprefix("'"), "end"] for v in values]
    wanted = [["" if v in ("<NA>", "NaT") else v, end] for v, end in wanted]
    assert plain == wanted


def test_output_of_another_command_or_options_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    files.check_output(out, command="segment", options={"a": 1}, overwrite=False)
    files.write_text(
        out / files.RECORD_NAME,
        files.canonical_json({"command": "segment", "options": {"a": 1}}),
    )
    files.check_output(out, command="segment", options={"a": 1}, overwrite=False)
    files.check_output(out, command="segment", options={"a": 2}, overwrite=True)
    with pytest.raises(UsageError, match=r"other options \(a\)"):
        files.check_output(out, command="segment", options={"a": 2}, overwrite=False)
    with pytest.raises(UsageError, match="an output of `segment`"):
        files.check_output(out, command="pool-trials", options={"a": 1}, overwrite=True)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.docx").write_text("")
    with pytest.raises(UsageError, match="other files"):
        files.check_output(tmp_path / "foreign", command="segment", options={}, overwrite=True)


def test_infinite_is_empty() -> None:
    assert files.cell(math.inf) == ""
