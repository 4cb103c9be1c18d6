"""A reader's session: what is shown, measured, kept on disk, and taken by ``segment``."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cardiometa.commands.merge import run_merge
from cardiometa.commands.withdraw import run_withdraw
from cardiometa.errors import InputError, UsageError
from cardiometa.reading.decisions import read_decisions
from cardiometa.review.session import ReviewError, Session
from tests.kit.small_runs import MASK, contents, load, table
from tests.review.conftest import Opened, number_of, segment


def decide(session: Session, n: int, word: str, reason: str = "") -> dict:
    revision = session.scan(n).revision
    return session.decide(n, word, revision, reason=reason, comment="", seconds=3.0)


def without_rv(session: Session, n: int, phase: int, place: int) -> dict:
    scan = session.scan(n)
    plane = np.where(scan.labels[phase, place] == 3, 0, scan.labels[phase, place])
    data = plane.astype(np.uint8).tobytes()
    return session.put_labels(n, [(phase, place)], data, scan.revision)


def test_the_numbers_of_the_page_are_those_that_segment_writes(
    cohort: Path, out: Path, opened: Opened
) -> None:
    before = contents(out)
    session = opened()
    edited, accepted, rejected = (number_of(session, p) for p in ("001", "002", "003"))
    scan = session.scan(edited)
    planes = np.where(scan.labels == 1, 2, scan.labels)[[0, 8], 1]
    shown = session.put_labels(edited, [(0, 1), (8, 1)], planes.tobytes(), scan.revision)
    shown = session.set_frames(edited, 1, 9, shown["revision"])
    assert (shown["ed"], shown["es"], shown["changed"]) == (1, 9, True)
    decide(session, edited, "accepted")
    decide(session, accepted, "accepted")
    decide(session, rejected, "rejected", "motion")
    assert contents(out) == before  # the model's results are only read
    segment(cohort, out, out / "review")
    rows = table(out)
    measures = {name: values for name, *values in shown["measures"]}
    for name, column in (("EDV (mL)", "edv_ml"), ("ESV (mL)", "esv_ml"), ("EF (%)", "ef_percent")):
        for place, side in ((0, "lv"), (2, "rv")):
            assert float(rows["001"][f"{side}_{column}"]) == pytest.approx(measures[name][place])
    assert (rows["001"]["ed_frame"], rows["001"]["es_frame"]) == ("1", "9")
    assert [rows[p]["status"] for p in ("001", "002", "003")] == ["ok", "ok", "failed"]


def test_every_decision_is_on_disk_and_a_new_session_goes_on_with_it(
    out: Path, sources: dict, opened: Opened
) -> None:
    session = opened()
    n = number_of(session, "001")
    without_rv(session, n, 0, 4)
    session.save(n, 7.5, "check the RV")
    rows = read_decisions(out / "review" / "decisions.csv")[0]
    assert [(r.decision, r.seconds, r.comment, r.reader) for r in rows] == [
        ("saved", 7.5, "check the RV", "AB")
    ]
    labels, affine = load(out / "review" / rows[0].mask)
    own, grid = load(out / "scans" / "ALPHA" / "001" / "baseline" / MASK)
    np.testing.assert_array_equal(affine, grid)
    assert np.argwhere((labels != own).any(axis=(2, 3))).tolist() == [[0, 4]]
    session.__exit__()
    again = opened()
    found = again.describe(n)
    assert (found["changed"], found["saved"], found["comment"]) == (True, True, "check the RV")
    received = np.frombuffer(gzip.decompress(again.labels(n, "reader")), dtype=np.uint8)
    np.testing.assert_array_equal(received.reshape(labels.shape), labels)
    without_rv(again, n, 0, 5)
    decide(again, n, "accepted")
    last = read_decisions(out / "review" / "decisions.csv")[0][-1]
    assert (last.decision, last.before != last.after) == ("edited", True)
    # Of the masks only the one that counts is left.
    masks = sorted((out / "review").rglob("*.nii.gz"))
    assert [m.relative_to(out / "review").as_posix() for m in masks] == [last.mask]
    assert again.table()["rows"][n]["decision"] == "edited"
    assert again.rule().startswith("4 scans left")
    decide(again, n, "reopened")
    assert again.rule().startswith("5 scans left")
    assert again.describe(n)["changed"]


def test_contours_that_were_changed_after_the_decision_do_not_count_until_it_is_made_again(
    cohort: Path, out: Path, opened: Opened
) -> None:
    session = opened()
    n = number_of(session, "001")
    without_rv(session, n, 0, 4)
    decide(session, n, "accepted")
    assert not session.describe(n)["newer"]
    without_rv(session, n, 0, 5)
    session.save(n, 1.0, "")
    assert session.describe(n)["newer"]
    row = session.table()["rows"][n]
    assert (row["decision"], row["saved"]) == ("edited", True)
    segment(cohort, out, out / "review")
    labels, _ = load(out / "scans" / "ALPHA" / "001" / "baseline" / "correction" / MASK)
    assert not (labels[0, 4] == 3).any()
    assert (labels[0, 5] == 3).any()


def test_a_scan_whose_images_are_gone_can_be_rejected_only(out: Path) -> None:
    with Session(out, {}, reader="AB") as session:
        with pytest.raises(ReviewError, match="cannot be shown"):
            session.decide(0, "accepted", 0, reason="", comment="", seconds=0)
        session.decide(0, "rejected", 0, reason="images are lost", comment="", seconds=0)
        assert session.table()["rows"][0]["decision"] == "rejected"


def test_leaving_a_session_keeps_what_was_not_saved(out: Path, opened: Opened) -> None:
    session = opened()
    n = number_of(session, "002")
    without_rv(session, n, 0, 4)
    session.__exit__()
    assert opened().describe(n)["changed"]


def test_shards_and_a_first_run_take_decisions_as_one_run_does(
    cohort: Path, out: Path, opened: Opened, tmp_path: Path
) -> None:
    session = opened()
    edited, accepted, rejected = (number_of(session, p) for p in ("001", "002", "003"))
    without_rv(session, edited, 0, 4)
    decide(session, edited, "accepted")
    decide(session, accepted, "accepted")
    decide(session, rejected, "rejected", "motion")
    review = Path(shutil.copytree(out / "review", tmp_path / "review"))
    segment(cohort, out, out / "review")
    for number in (1, 2):
        segment(cohort, tmp_path / "sharded", review, shard_text=f"{number}/2")
    run_merge(tmp_path / "sharded")
    segment(cohort, tmp_path / "fresh", review)
    for other in ("sharded", "fresh"):
        assert table(tmp_path / other) == table(out)
        assert contents(tmp_path / other) == contents(out)
    found = json.loads((out / "flow.json").read_text())["scans"]
    assert (found["analysed"], found["failed"], found["excluded"]) == (4, 1, 1)


def test_a_decision_on_another_mask_is_to_be_made_again(
    cohort: Path, out: Path, opened: Opened
) -> None:
    session = opened()
    n = number_of(session, "001")
    decide(session, n, "accepted")
    session.__exit__()
    path = out / "review" / "decisions.csv"
    shown = session.scan(n).document["outputs"][MASK]
    path.write_text(path.read_text().replace(shown, "0" * 64))
    segment(cohort, out, out / "review")
    assert "decision-outdated" in table(out)["001"]["flags"].split(";")
    again = opened()
    assert again.table()["rows"][n]["decision"] == ""
    decide(again, n, "accepted")
    assert again.table()["rows"][n]["decision"] == "accepted"
    segment(cohort, out, out / "review")
    assert table(out)["001"]["status"] == "ok"


def test_two_readers_are_kept_apart_and_one_name_works_once(out: Path, opened: Opened) -> None:
    first, second = opened("AB"), opened("CD")
    n = number_of(first, "001")
    without_rv(first, n, 0, 4)
    decide(first, n, "accepted")
    assert not second.describe(n)["changed"]
    decide(second, n, "accepted")
    rows = read_decisions(out / "review" / "decisions.csv")[0]
    assert [(r.reader, r.decision) for r in rows] == [("AB", "edited"), ("CD", "accepted")]
    with pytest.raises(UsageError, match="A review by AB is already running"):
        opened("AB")
    with pytest.raises(UsageError, match="--reader"):
        opened("../x")


def test_of_two_tabs_the_one_that_is_behind_is_refused(opened: Opened) -> None:
    session = opened()
    n = number_of(session, "001")
    behind = session.scan(n).revision
    without_rv(session, n, 0, 4)
    now = session.scan(n).labels.copy()
    with pytest.raises(ReviewError) as caught:
        session.put_labels(n, [(0, 4)], bytes(96 * 96), behind)
    assert caught.value.status == 409
    with pytest.raises(ReviewError):
        session.decide(n, "accepted", behind, reason="", comment="", seconds=0)
    np.testing.assert_array_equal(session.scan(n).labels, now)


def test_a_blind_reader_sees_no_id_no_arm_no_number(opened: Opened) -> None:
    session = opened(blind=True)
    shown = json.dumps([session.table(), *(session.describe(n) for n in range(5))])
    for word in ("ALPHA", '"001', "/001", "baseline", "arm", "quality", '"ok"', "[[", "Dice"):
        assert word not in shown, word
    found = session.describe(number_of(session, "001"))
    assert (found["measures"], found["flags"], found["facts"]) == ([], [], "")
    assert max(v for v in found["curves"]["lv"] if v) == 1.0
    assert [key.participant for key in session.keys] != ["001", "002", "003", "004", "005"]
    assert opened("CD", blind=True).keys != session.keys


def test_contours_that_the_checks_reject_cannot_be_accepted(opened: Opened) -> None:
    session = opened()
    n = number_of(session, "001")
    scan = session.scan(n)
    t, z, y, x = scan.labels.shape
    places = [(a, b) for a in range(t) for b in range(z)]
    shown = session.put_labels(n, places, bytes(t * z * y * x), scan.revision)
    assert shown["status"] == "failed"
    with pytest.raises(ReviewError, match="The checks reject these contours"):
        decide(session, n, "accepted")
    shown = session.restore(n, session.scan(n).revision)
    assert (shown["changed"], shown["status"]) == (False, "review")
    decide(session, n, "accepted")


def test_an_ed_es_pair_keeps_its_phases(opened: Opened) -> None:
    session = opened()
    n = number_of(session, "005")
    assert session.describe(n)["is_pair"]
    with pytest.raises(ReviewError):
        session.set_frames(n, 1, 0, session.scan(n).revision)


def test_memory_is_bounded_and_what_leaves_it_is_saved(out: Path, opened: Opened) -> None:
    session = opened(most_bytes=1)
    for _ in range(3):
        for n in range(5):
            session.scan(n)
            assert sum(scan.nbytes for scan in session._open.values()) <= 3 * 3 * 20 * 9 * 96 * 96
    n = number_of(session, "001")
    behind = without_rv(session, n, 0, 4)["revision"]
    for other in range(5):
        if other != n:
            session.scan(other)
    assert session.describe(n)["changed"]
    with pytest.raises(ReviewError):  # a tab from before
        session.set_frames(n, 0, 8, behind)


def test_a_withdrawn_participant_leaves_the_review_too(out: Path, opened: Opened) -> None:
    session = opened()
    for person in ("001", "002"):
        n = number_of(session, person)
        without_rv(session, n, 0, 4)
        decide(session, n, "accepted")
    session.__exit__()
    run_withdraw(out, ["ALPHA/001"])
    review = out / "review"
    assert [d.participant_id for d in read_decisions(review / "decisions.csv")[0]] == ["002"]
    assert [p.name for p in (review / "masks" / "ALPHA").iterdir()] == ["002"]


def test_images_that_were_replaced_are_not_shown(out: Path, sources: dict, opened: Opened) -> None:
    session = opened()
    a, b = (session.keys[number_of(session, p)] for p in ("001", "002"))
    swapped = Session(out, {**sources, a: sources[b]}, reader="X")
    with swapped, pytest.raises(ReviewError, match="not those that were segmented"):
        swapped.scan(number_of(swapped, "001"))


def test_an_output_that_cannot_be_reviewed_is_named(out: Path, sources: dict) -> None:
    with pytest.raises(UsageError, match="--measure"):
        Session(out, sources, measure="lv_wonder_ml")
    review = out / "review"
    review.mkdir()
    (review / "decisions.csv").write_text("trial,participant_id,visit,decision\nA,1,b,perhaps\n")
    with pytest.raises(InputError) as caught, Session(out, sources):
        pass
    assert "'perhaps' is not known" in str(caught.value.problems[0])
    (out / "measurements.csv").unlink()
    with pytest.raises(InputError, match=r"no measurements\.csv"):
        Session(out, sources)
