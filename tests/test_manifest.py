"""The run record: what made an output, and how a file that was changed afterwards is noticed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cardiometa.errors import InputError, UsageError
from cardiometa.files import RECORD_NAME, sha256_file
from cardiometa.manifest import (
    BLOCK_BYTES,
    CRATE_NAME,
    RunRecord,
    change_of,
    file_marks,
    library_versions,
    made_from,
    model_of,
    read_run_record,
    refuse_modified,
    run_block,
    write_output,
)
from cardiometa.records import severity

TEXT = "".join(f"{number},{number * number}\n" for number in range(500))


def record(**changes: object) -> RunRecord:
    facts = {"command": "pool-trials", "options": {"level": 95}, "inputs": {"table": "abc"}}
    return RunRecord(**{**facts, **changes})


def written(out: Path, **changes: object) -> Path:
    write_output(out, {"effects.csv": TEXT}, record(**changes), overwrite=False)
    return out


def test_an_output_has_its_files_and_their_hashes(tmp_path: Path) -> None:
    out = written(tmp_path / "out", run=run_block(workers=2))
    document = read_run_record(out)
    assert document["command"] == "pool-trials"
    assert document["options"] == {"level": 95}
    assert document["inputs"] == {"table": "abc"}
    assert document["run"]["workers"] == 2
    assert list(document["run"]["outputs"]) == ["effects.csv", CRATE_NAME]
    mark = document["run"]["outputs"]["effects.csv"]
    assert mark["bytes"] == len(TEXT)
    assert change_of(out / "effects.csv", mark) == ""
    # Who ran it and where is not in it.
    assert not {"host", "user", "node"} & set(document["run"])


def test_an_output_is_a_research_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RO-Crate 1.1: what its sections on the root, on data entities and on provenance demand."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    out = written(tmp_path / "out", model={"id": "net", "sha256": "def", "licence": "Weights: X"})
    crate = json.loads((out / CRATE_NAME).read_text())
    assert crate["@context"][0] == "https://w3id.org/ro/crate/1.1/context"
    entities = {one["@id"]: one for one in crate["@graph"]}
    assert len(entities) == len(crate["@graph"])
    about = entities[CRATE_NAME]
    assert about["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    root = entities[about["about"]["@id"]]
    assert root["@type"] == "Dataset"
    assert root["datePublished"] == "2023-11-14"
    assert all(root[name] for name in ("name", "description", "license"))
    run = entities[root["mentions"]["@id"]]
    assert run["@type"] == "CreateAction"
    assert run["result"] == root["hasPart"]
    linked = [
        root["license"],
        *(one for name in ("instrument", "object", "result") for one in run[name]),
    ]
    assert {one["@id"] for one in linked} <= entities.keys()
    for part in root["hasPart"]:
        assert (out / part["@id"]).is_file()
    effects = entities["effects.csv"]
    assert effects["sha256"] == sha256_file(out / "effects.csv")
    assert effects["contentSize"] == str(len(TEXT))
    assert [entities[one["@id"]].get("sha256") for one in run["object"]] == ["abc"]
    assert str(tmp_path) not in (out / CRATE_NAME).read_text()


def test_the_same_run_again_passes_and_another_is_refused(tmp_path: Path) -> None:
    out = written(tmp_path / "out")
    assert written(out) == out
    with pytest.raises(UsageError, match=r"other options \(level\)"):
        written(out, options={"level": 90})
    with pytest.raises(UsageError, match=r"another input \(table\)"):
        written(out, inputs={"table": "def"})
    with pytest.raises(UsageError, match="an output of `pool-trials`"):
        written(out, command="reference-ranges")
    assert (out / "effects.csv").read_text() == TEXT


def test_files_of_an_earlier_run_go_unless_they_are_written_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_output(out, {"a.csv": "1\n", "b.csv": "2\n"}, record(), overwrite=False)
    write_output(out, {"b.csv": "3\n"}, record(), overwrite=True, old=("a.csv", "b.csv"))
    assert sorted(path.name for path in out.iterdir()) == ["b.csv", RECORD_NAME, CRATE_NAME]
    assert (out / "b.csv").read_text() == "3\n"


@pytest.mark.parametrize("place", [0, BLOCK_BYTES - 1, BLOCK_BYTES, 3000])
def test_the_first_changed_block_is_named_with_its_line(tmp_path: Path, place: int) -> None:
    path = tmp_path / "effects.csv"
    mark = file_marks({path.name: TEXT})[path.name]
    path.write_text(TEXT[:place] + "?" + TEXT[place + 1 :])
    first = place // BLOCK_BYTES * BLOCK_BYTES
    line = TEXT[:first].count("\n") + 1
    last = min(first + BLOCK_BYTES, len(TEXT)) - 1
    shown = f"the first changed byte is one of {first} to {last}, from line {line}"
    assert change_of(path, mark) == shown


def test_a_longer_a_shorter_and_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "effects.csv"
    mark = file_marks({path.name: TEXT})[path.name]
    assert change_of(path, mark) == "the file is missing"
    path.write_text(TEXT + "500,250000\n")
    assert f"it has {len(TEXT) + 11} bytes, not {len(TEXT)}" in change_of(path, mark)
    path.write_text(TEXT[:-4])
    assert f"it has {len(TEXT) - 4} bytes, not {len(TEXT)}" in change_of(path, mark)


def test_a_changed_input_is_refused_until_it_is_accepted(tmp_path: Path) -> None:
    out = written(tmp_path / "out")
    table = out / "effects.csv"
    assert refuse_modified([table], ()) == ()
    table.write_text(TEXT.replace("7,49", "7,94"))
    with pytest.raises(InputError) as caught:
        refuse_modified([table], ("unit",))
    assert caught.value.hint.endswith("--accept modified-input")
    (problem,) = caught.value.problems
    assert problem.where == "out/effects.csv"
    (warning,) = refuse_modified([table], ("modified-input",))
    assert severity(warning) == "serious"
    assert "out/effects.csv" in warning
    # A file of the user's own has no record, and nothing to differ from.
    own = tmp_path / "own.csv"
    own.write_text("x\n")
    assert refuse_modified([own], ()) == ()


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"command": 3}', '{"command": "show", "inputs": []}', '{"options": {}}']
)
def test_a_damaged_record_is_an_error_with_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / RECORD_NAME).write_text(text)
    with pytest.raises(InputError, match=RECORD_NAME):
        read_run_record(tmp_path)
    assert not made_from(tmp_path, ["abc"])


def test_what_was_made_from_a_table(tmp_path: Path) -> None:
    out = written(tmp_path / "out")
    assert made_from(out, ["xyz", "abc"])
    assert not made_from(out, ["xyz"])
    assert not made_from(tmp_path, ["abc"])


def test_the_model_of_a_table_and_installed_versions() -> None:
    conventions = {"model_id": ("m1", "m2"), "model_sha256": (), "papillary": ("blood-pool",)}
    assert model_of(conventions) == {"id": "m1, m2"}
    assert model_of({}) == {}
    found = library_versions("numpy", "no-such-package")
    assert list(found) == ["numpy"]
    assert json.dumps(found)
