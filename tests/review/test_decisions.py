"""``decisions.csv``: what counts, what is refused, what a killed program leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from cardiometa.errors import InputError
from cardiometa.reading.decisions import (
    COLUMNS,
    Decision,
    append_decision,
    chosen_decisions,
    last_decisions,
    make_appendable,
    masks_of_reader,
    read_decisions,
    remove_participants,
)
from cardiometa.records import ScanKey

KEY = ScanKey(trial="ALPHA", participant="001", visit="baseline")


def decision(word: str, person: str = "001", **more) -> Decision:
    return Decision(trial="ALPHA", participant_id=person, visit="baseline", decision=word, **more)


def test_what_is_appended_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "decisions.csv"
    written = [
        decision("accepted", reader="R1", time="2026-12-01T01:00:00Z", seconds=12.5, before="ab"),
        decision("rejected", "002", reader="R1", reason='=of, "artefact"', comment="-5 mm"),
        decision("edited", "003", reader="R1", ed_frame=0, es_frame=8, after="cd", mask="m/x.nii"),
    ]
    for one in written:
        append_decision(path, one)
    found, problems = read_decisions(path)
    assert not problems
    assert [{n: getattr(d, n) for n in COLUMNS} for d in found] == [
        {n: getattr(d, n) for n in COLUMNS} for d in written
    ]
    assert found[2].frames == {"ed_frame": 0, "es_frame": 8}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_written_by_hand_needs_four_columns(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "decisions.csv"
    rows = ("Trial,participant_id,visit,decision", "ALPHA,001,baseline,Accepted")
    path.write_bytes("\ufeff".encode() + "\r\n".join(rows).replace(",", separator).encode())
    found, problems = read_decisions(path)
    assert not problems
    assert [(d.key, d.decision) for d in found] == [(KEY, "accepted")]
    (tmp_path / "noted.csv").write_text("trial,participant_id,visit,decision,note\n")
    with pytest.raises(InputError, match="would lose: note"):
        make_appendable(tmp_path / "noted.csv")
    # A review adds rows that fit the table, and a withdrawal finds the participant in both forms.
    given = path.read_bytes()
    make_appendable(path)
    append_decision(path, decision("rejected", "002", reason="=1"))
    found, problems = read_decisions(path)
    assert not problems
    assert [d.participant_id for d in found] == ["001", "002"]
    for written in (given, path.read_bytes()):
        path.write_bytes(written)
        remove_participants(tmp_path, lambda who: who == ("ALPHA", "001"))
        assert "001" not in path.read_text()


def test_every_problem_of_every_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "decisions.csv"
    path.write_text(
        "trial,participant_id,visit,decision,reason,ed_frame\n"
        "ALPHA,001,baseline,acepted,,\n"
        "ALPHA,002,baseline,rejected,,-3\n"
        "\n"
        "ALPHA,003,baseline,accepted\n"
        "ALPHA,004,baseline,accepted,,one\n"
    )
    found, problems = read_decisions(path)
    assert not found
    shown = [str(problem) for problem in problems]
    expected = [
        ("row 2", "'acepted' is not known"),
        ("row 3", "ed_frame is not a number from 0: '-3'"),
        ("row 3", "no reason"),
        ("row 5", "4 cells, the header has 6"),
        ("row 6", "ed_frame is not a number from 0: 'one'"),
    ]
    assert len(shown) == len(expected)
    for line, (where, what) in zip(shown, expected, strict=True):
        assert where in line
        assert what in line


def test_a_table_without_its_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "decisions.csv"
    for text in ("", "trial,visit\nA,b\n", "\xff"):
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(InputError):
            read_decisions(path)


def test_the_last_decision_of_a_reader_counts() -> None:
    rows = [
        decision("accepted", reader="R1"),
        decision("rejected", reader="R1", reason="wrong"),
        decision("saved", reader="R1", after="x"),
        decision("accepted", reader="R2"),
        decision("accepted", "002", reader="R1"),
        decision("reopened", "002", reader="R1"),
    ]
    found = last_decisions(rows)
    assert {k: {r: d.decision for r, d in v.items()} for k, v in found.items()} == {
        KEY: {"R1": "rejected", "R2": "accepted"}
    }
    own = masks_of_reader(rows, "R1")
    assert (own[KEY].decision, own[KEY].after) == ("saved", "x")


def test_readers_who_differ_are_not_merged_in_silence() -> None:
    rows = [
        decision("accepted", reader="R1"),
        decision("rejected", reader="R2", reason="wrong"),
        decision("accepted", "002", reader="R1"),
        decision("accepted", "002", reader="R2"),
        decision("edited", "003", reader="R1", after="a"),
        decision("edited", "003", reader="R2", after="b"),
        decision("edited", "004", reader="R1", mask="a.nii"),
        decision("edited", "004", reader="R2", mask="b.nii"),
    ]
    found, problems = chosen_decisions(last_decisions(rows), None)
    assert [key.participant for key in found] == ["002"]
    assert [problem.where for problem in problems] == [
        f"ALPHA/{person}/baseline" for person in ("001", "003", "004")
    ]
    assert "R1: accepted, R2: rejected" in str(problems[0])
    found, problems = chosen_decisions(last_decisions(rows), "R2")
    assert not problems
    assert [one.decision for one in found.values()] == ["rejected", "accepted", "edited", "edited"]
    _, problems = chosen_decisions(last_decisions(rows), "R3")
    assert "'R1', 'R2'" in str(problems[0])


@pytest.mark.parametrize(("cut", "left"), [(0, 2), (1, 2), (30, 1)])
def test_a_row_that_was_cut_off_is_removed_and_a_complete_one_kept(
    tmp_path: Path, cut: int, left: int
) -> None:
    path = tmp_path / "decisions.csv"
    append_decision(path, decision("accepted", reader="R1"))
    append_decision(path, decision("accepted", "002", reader="R1", comment="all good here"))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - cut])
    assert len(read_decisions(path)[0]) == left
    make_appendable(path)
    append_decision(path, decision("accepted", "003", reader="R1"))
    found, problems = read_decisions(path)
    assert not problems
    assert [d.participant_id for d in found] == ["001", "002", "003"][:left] + ["003"][: 3 - left]


def test_nothing_of_a_withdrawn_participant_stays(tmp_path: Path) -> None:
    path = tmp_path / "decisions.csv"
    for person in ("001", "002"):
        append_decision(path, decision("edited", person, reader="R1", comment="a, b"))
        mask = tmp_path / "masks" / "ALPHA" / person / "baseline" / "R1-ab.nii.gz"
        mask.parent.mkdir(parents=True)
        mask.write_bytes(b"mask")
    remove_participants(tmp_path, lambda who: who == ("ALPHA", "001"))
    assert [d.participant_id for d in read_decisions(path)[0]] == ["002"]
    assert "001" not in path.read_text()
    assert [p.name for p in (tmp_path / "masks" / "ALPHA").iterdir()] == ["002"]
