"""Flags that need the other scans: by trial and by person, in the table only."""

from dataclasses import replace

from cardiometa.pipeline.merge import run_facts, with_cohort_flags
from cardiometa.records import ScanKey, ScanResult
from cardiometa.reports.pages.segment import run_sentences
from tests.reports.test_segment_page import CARD


def result(participant: str, visit: str, slices: int | None, *, edv: float = 150.0) -> ScanResult:
    failed = slices is None
    return ScanResult(
        key=ScanKey(trial="ALPHA", participant=participant, visit=visit),
        status="failed" if failed else "ok",
        measures={}
        if failed
        else {"lv_slices_ed": slices, "slice_distance_mm": 10.0, "lv_edv_ml": edv},
        facts={},
        flags=(),
        document={},
    )


def test_cohort_flags_and_the_status_they_make() -> None:
    scans = [result(str(number), "baseline", 9, edv=140.0 + number) for number in range(20)]
    scans += [
        result("far", "baseline", 9, edv=900.0),
        result("moved", "baseline", 9),
        result("moved", "followup", 7),
        result("lost", "baseline", 9),
        result("lost", "followup", None),
    ]
    told = {
        (r.key.participant, r.key.visit): ([f.code for f in r.flags], r.status)
        for r in with_cohort_flags(scans)
        if r.flags
    }
    moved = (["slices-differ-between-visits"], "ok")
    assert told == {
        ("far", "baseline"): (["cohort-outlier"], "review"),
        ("moved", "baseline"): moved,
        ("moved", "followup"): moved,
    }


def test_what_holds_for_the_run_is_counted_once_and_said_in_a_sentence() -> None:
    card = replace(CARD, rv_vendors=("Siemens",))
    scans = [
        replace(
            result(str(number), "baseline", None if vendor == "lost" else 9),
            facts={"vendor": vendor},
            document={"details": {"base_at_stack_end": at_end}},
        )
        for number, (vendor, at_end) in enumerate(
            [("SIEMENS", True), ("GE", True), ("GE", False), (None, None), ("lost", True)]
        )
    ]
    facts = run_facts(scans, card)
    assert facts == {
        "rv_without_evidence": {"GE": 2, "unknown maker": 1},
        "base_at_stack_end": {"ALPHA": 2},
        "base_known": {"ALPHA": 3},
    }
    rv, base = run_sentences(facts, card)
    assert "on scanners of Siemens only" in rv
    assert "3 scans are unvalidated (GE 2, unknown maker 1)." in rv
    assert "in 2 of 3 scans of ALPHA." in base
    assert "of no maker of scanners" in run_sentences(run_facts(scans, CARD), CARD)[0]
    assert run_sentences(run_facts(scans[:0], card), card) == []
