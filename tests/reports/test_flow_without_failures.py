from __future__ import annotations

import pandas as pd

from cardiometa.cohort.models import Cohort, CohortTables
from cardiometa.reports.figures.flow import SideNotes
from cardiometa.reports.pages.segment import side_notes


def test_a_cohort_without_a_failed_scan_has_no_reasons() -> None:
    key = ["trial", "participant_id", "visit"]
    tables = CohortTables(
        measurements=pd.DataFrame([["A", "1", "baseline", "ok"]], columns=[*key, "status"]),
        participants=pd.DataFrame(),
        exclusions=pd.DataFrame(columns=["stage", *key, "code", "sentence"], dtype=object),
        flow={},
    )
    cohort = Cohort(
        name="c", trials=(), participants=pd.DataFrame(), scans=(), not_obtained=(), warnings=()
    )
    assert side_notes(tables, cohort) == SideNotes()
