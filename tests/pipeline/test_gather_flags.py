"""Flags that need the other scans: by trial and by person, in the table only."""

from cardiometa.pipeline.merge import with_cohort_flags
from cardiometa.records import ScanKey, ScanResult


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
