"""The joined tables: the contract's columns, and an account that always closes."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiometa.cohort.load import load_cohort
from cardiometa.cohort.models import Cohort, CohortScan, NotObtained, TrialDefinition
from cardiometa.cohort.tables import build_tables
from cardiometa.errors import CohortError
from cardiometa.measurement.measures import COLUMNS
from cardiometa.records import ScanKey, ScanSource
from cardiometa.reports.figures.flow import flow_boxes
from cardiometa.reports.pages.segment import side_notes
from tests.kit.cohorts import cohort_folder, people, result, results, roster, write

# Copied from the contract, section 3, not from the code.
CONTRACT_TEXT = (
    "trial, participant_id, visit, visit_day, status, lv_edv_ml, lv_esv_ml, lv_sv_ml, "
    "lv_ef_percent, lv_mass_g, rv_edv_ml, rv_esv_ml, rv_sv_ml, rv_ef_percent, heart_rate_bpm, "
    "lv_co_l_min, bsa_m2, lv_edvi_ml_m2, lv_esvi_ml_m2, lv_svi_ml_m2, lv_massi_g_m2, "
    "rv_edvi_ml_m2, rv_esvi_ml_m2, rv_svi_ml_m2, ed_frame, es_frame, rv_ed_frame, rv_es_frame, "
    "frames, frame_ms, slices, lv_slices_ed, lv_slices_es, spacing_mm, slice_distance_mm, "
    "thickness_mm, quality, flags, vendor, field_strength_t, sequence, papillary, bsa_formula, "
    "model_id, model_sha256, seconds, age_years, sex, ethnicity, height_cm, weight_kg, arm, "
    "randomised, healthy"
)
CONTRACT = CONTRACT_TEXT.split(", ")
# What follows the trials' own columns.
ERRORS_TEXT = (
    "lv_edv_ml_sd, lv_esv_ml_sd, lv_sv_ml_sd, lv_ef_percent_sd, lv_mass_g_sd, rv_edv_ml_sd, "
    "rv_esv_ml_sd, rv_sv_ml_sd, rv_ef_percent_sd, lv_per_edv_s, lv_pfr_edv_s, lv_time_to_pfr_ms, "
    "lv_dvr80_fraction, lv_wall_thickness_max_mm, lv_gcs_percent, lv_per_edv_s_sd, "
    "lv_pfr_edv_s_sd, lv_time_to_pfr_ms_sd, "
    "lv_dvr80_fraction_sd, lv_wall_thickness_max_mm_sd, lv_gcs_percent_sd"
)
ERRORS = ERRORS_TEXT.split(", ")


@pytest.fixture
def cohort(tmp_path):
    return load_cohort(cohort_folder(tmp_path, trials=("ALPHA",), visits=("baseline", "m12")))


def test_columns_are_the_contracts(cohort):
    tables = build_tables(cohort, results(cohort, ["ok"] * 12))
    assert list(tables.measurements.columns) == CONTRACT + ERRORS
    assert list(tables.exclusions.columns) == [
        *("stage", "trial", "participant_id", "visit", "code", "sentence")
    ]
    assert list(tables.participants.columns)[-5:] == [
        *("death_day", "withdrawal_day", "reason_no_scan", "scans", "status")
    ]


def test_carried_then_reported(tmp_path):
    path = cohort_folder(tmp_path, trials=("ALPHA",), visits=("baseline",))
    text = path.read_text() + 'papillary = "myocardium"\ncarry = ["nyha"]\n'
    write(path, text)
    write(tmp_path / "ALPHA/participants.csv", roster([{**p, "nyha": "II"} for p in people(6)]))
    table = tmp_path / "ALPHA/scans.csv"
    head, first, *rest = table.read_text().splitlines()
    write(
        table, "\n".join([f"{head},reported_lv_edv_ml", f"{first},99.5", *(f"{r}," for r in rest)])
    )
    cohort = load_cohort(path)
    rows = build_tables(cohort, results(cohort, ["ok"] * 6)).measurements
    own = ["nyha", "reported_lv_edv_ml", "reported_papillary"]
    assert list(rows.columns) == [*CONTRACT, *own, *ERRORS]
    assert rows["reported_papillary"].tolist() == ["myocardium"] + [None] * 5
    # The segmentation's own convention is another.
    assert rows["papillary"].tolist() == ["blood-pool"] * 6


def test_a_failed_scan_keeps_its_row_without_measures(cohort):
    statuses = ["failed", "review", *["ok"] * 10]
    rows = build_tables(cohort, results(cohort, statuses)).measurements
    failed, review = rows.iloc[0], rows.iloc[1]
    measured = CONTRACT[CONTRACT.index("lv_edv_ml") : CONTRACT.index("flags")]
    assert failed[measured].isna().all()
    assert (failed["status"], failed["flags"], failed["vendor"]) == (
        "failed",
        "no-images",
        "Siemens",
    )
    assert failed["age_years"] == 41
    assert (review["status"], review["lv_edv_ml"], review["frames"]) == ("review", 150.25, 25)
    assert (review["seconds"], review["model_id"]) == (12.5, "m1")
    assert (review["bsa_formula"], review["randomised"]) == ("mosteller", True)


def test_the_order_of_results_decides_nothing(cohort):
    found = results(cohort, ["ok", "review", "failed"] * 4)
    one, two = build_tables(cohort, found), build_tables(cohort, found[::-1])
    pd.testing.assert_frame_equal(one.measurements, two.measurements)
    pd.testing.assert_frame_equal(one.exclusions, two.exclusions)
    assert one.flow == two.flow


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", "1 scans have no result"),
        ("foreign", "1 results belong to no scan"),
        ("twice", "1 scans have several"),
    ],
)
def test_an_account_that_does_not_close_is_refused(cohort, change, message):
    found = results(cohort, ["ok"] * 12)
    foreign = result(ScanKey(trial="ALPHA", participant="001", visit="never"))
    found = {"missing": found[1:], "foreign": [*found, foreign], "twice": [*found, found[0]]}[
        change
    ]
    with pytest.raises(CohortError, match=message):
        build_tables(cohort, found)


# ------------------------------------------------------------------ the account


@st.composite
def cohorts(draw):
    """Random cohorts with random results: scanned, failed, blank, dead, withdrawn, silent."""
    people_rows, scans, blank, outcomes = [], [], [], []
    trials = draw(st.integers(1, 3))
    for t in range(trials):
        for p in range(draw(st.integers(0, 4))):
            person = f"p{p}"
            people_rows.append(
                {
                    "trial": f"T{t}",
                    "participant_id": person,
                    "death_day": draw(st.sampled_from([float("nan"), 40.0])),
                    "withdrawal_day": draw(st.sampled_from([float("nan"), 9.0])),
                    "reason_no_scan": draw(st.sampled_from([None, "claustrophobia"])),
                }
            )
            for v in range(draw(st.integers(0, 3))):
                key = ScanKey(trial=f"T{t}", participant=person, visit=f"v{v}")
                if draw(st.booleans()):
                    scans.append(key)
                    outcomes.append(draw(st.sampled_from(["ok", "review", "failed"])))
                else:
                    blank.append(key)
    names = (
        "age_years",
        "sex",
        "ethnicity",
        "height_cm",
        "weight_kg",
        "arm",
        "randomised",
        "healthy",
    )
    base = ["trial", "participant_id", "death_day", "withdrawal_day", "reason_no_scan"]
    frame = pd.DataFrame(people_rows, columns=base).assign(**dict.fromkeys(names))
    source = ScanSource(kind="images", paths=())
    cohort = Cohort(
        name="random",
        trials=tuple(TrialDefinition(name=f"T{t}", root=None) for t in range(trials)),
        participants=frame,
        scans=tuple(CohortScan(key=key, source=source) for key in scans),
        visits_without_images=tuple(blank),
    )
    return cohort, [result(k, s) for k, s in zip(scans, outcomes, strict=True)]


@settings(max_examples=50, deadline=None)
@given(drawn=cohorts())
def test_the_account_always_closes(drawn):
    cohort, found = drawn
    tables = build_tables(cohort, found)
    status = tables.measurements["status"].value_counts()
    flow, excluded = tables.flow, tables.exclusions
    assert len(tables.measurements) == sum(status.get(s, 0) for s in ("ok", "review", "failed"))
    for level in ("trials", "participants", "scans"):
        assert flow[level]["obtained"] == flow[level]["analysed"] + flow[level]["excluded"]
        assert flow[level]["with_images"] == flow[level]["analysed"] + flow[level]["failed"]
        assert 0 <= flow[level]["review"] <= flow[level]["analysed"]
    assert (excluded["stage"] == "scan").sum() == flow["scans"]["excluded"]
    gone = excluded[excluded["stage"] == "participant"]
    assert len(gone) == flow["participants"]["excluded"]
    assert not gone.duplicated(["trial", "participant_id"]).any()
    used = tables.measurements[tables.measurements["status"] != "failed"]
    analysed = set(zip(used["trial"], used["participant_id"], strict=True))
    assert analysed.isdisjoint(zip(gone["trial"], gone["participant_id"], strict=True))
    boxes_add_up(tables, cohort)
    stands = tables.participants
    is_analysed = stands["status"].eq("analysed")
    assert analysed == set(
        zip(stands["trial"][is_analysed], stands["participant_id"][is_analysed], strict=True)
    )
    assert stands["scans"].sum() == len(found)


def boxes_add_up(tables, cohort):
    """Each box of the diagram is the one above less the one at its side, reasons included."""

    def numbers(lines):
        found = [re.fullmatch(r"(\d+) (trial|participant|scan)s?", line) for line in lines]
        return Counter({match[2]: int(match[1]) for match in found if match})

    rows = flow_boxes(tables.flow, side_notes(tables, cohort))
    boxes = [(numbers(kept), numbers(lost)) for _, kept, _, lost in rows]
    for (kept, gone), (after, _) in pairwise(boxes):
        # Nobody states how many scans were sought, and not every cohort what was.
        assert all(kept[unit] - gone[unit] == after[unit] for unit in kept)
    for (*_, lines), unit, step in zip(rows[1:3], ("participant", "scan"), (1, 2), strict=True):
        reasons = [int(line.rsplit(": ", 1)[1]) for line in lines if ": " in line]
        assert sum(reasons) == boxes[step][1][unit]


def test_no_one_is_subtracted_twice_whatever_the_reason():
    days = {"dead": (40.0, None, None), "gone": (None, 9.0, None), "said": (None, None, "phobia")}
    names = ["fine", "review", "half", "bad", "dead", "gone", "said", "blank", "silent"]
    base = ["trial", "participant_id", "death_day", "withdrawal_day", "reason_no_scan"]
    people = [("A", name, *days.get(name, (None, None, None))) for name in names]
    scans = [("fine", 1, "ok"), ("review", 1, "review"), ("half", 1, "failed"), ("half", 2, "ok")]
    scans += [("bad", 1, "failed"), ("bad", 2, "failed")]
    keys = [ScanKey(trial="A", participant=who, visit=f"v{visit}") for who, visit, _ in scans]
    known = {c.name: None for c in COLUMNS if c.kind == "person" and c.name not in base}
    cohort = Cohort(
        name="all reasons",
        trials=tuple(
            TrialDefinition(name=t, root=None, n_sought=n) for t, n in (("A", 11), ("B", 1))
        ),
        participants=pd.DataFrame([*people, ("B", "lone", *[None] * 3)], columns=base).assign(
            **known
        ),
        scans=tuple(CohortScan(key=k, source=ScanSource(kind="images", paths=())) for k in keys),
        visits_without_images=(ScanKey(trial="A", participant="blank", visit="v1"),),
        not_obtained=(NotObtained(trial="OMEGA", reason="no reply", n_participants=30),),
        withdrawn=2,
    )
    found = [result(k, status) for k, (_, _, status) in zip(keys, scans, strict=True)]
    tables = build_tables(cohort, found)
    lost = [row[3] for row in flow_boxes(tables.flow, side_notes(tables, cohort))]
    assert lost[0] == ("1 trial", "32 participants", "OMEGA (no reply): 30",
                       "withdrew, data erased: 2")  # fmt: skip
    assert lost[1][:3] == ("1 trial", "6 participants", "1 scan")
    assert lost[2][:2] == ("1 participant", "3 scans")
    boxes_add_up(tables, cohort)


def test_the_reason_of_a_participant_without_a_scan():
    reasons = pd.DataFrame(
        {
            "trial": "A",
            "participant_id": ["dead", "gone", "said", "blank", "silent", "failed"],
            "death_day": [40.0, None, 50.0, None, None, 3.0],
            "withdrawal_day": [None, 9.5, None, None, None, None],
            "reason_no_scan": [None, None, "claustrophobia", None, None, None],
        }
    ).astype({"death_day": float, "withdrawal_day": float, "reason_no_scan": object})
    reasons["reason_no_scan"] = reasons["reason_no_scan"].where(
        reasons["reason_no_scan"].notna(), None
    )
    names = (
        "age_years",
        "sex",
        "ethnicity",
        "height_cm",
        "weight_kg",
        "arm",
        "randomised",
        "healthy",
    )
    key = ScanKey(trial="A", participant="failed", visit="v")
    cohort = Cohort(
        name="x",
        trials=(TrialDefinition(name="A", root=None),),
        participants=reasons.assign(**dict.fromkeys(names)),
        scans=(CohortScan(key=key, source=ScanSource(kind="images", paths=())),),
        visits_without_images=(ScanKey(trial="A", participant="blank", visit="v"),),
    )
    rows = build_tables(cohort, [result(key, "failed")]).exclusions
    people_rows = rows[rows["stage"] == "participant"].set_index("participant_id")
    assert people_rows["code"].to_dict() == {
        "dead": "died-before-scan",
        "gone": "withdrawn",
        "said": "reason-no-scan",
        "blank": "no-images",
        "silent": "no-scan",
        "failed": "scan-failed",
    }
    assert people_rows.loc["dead", "sentence"] == "No scan; died on day 40."
    assert people_rows.loc["said", "sentence"] == "No scan: claustrophobia"


@pytest.mark.parametrize(
    ("sought", "omega", "people_sought", "trials_sought"),
    [((10, 12), 210, 232, 3), ((10, None), 210, None, 3), ((10, 12), None, None, 3)],
)
def test_what_was_sought_is_never_guessed(sought, omega, people_sought, trials_sought):
    cohort = Cohort(
        name="x",
        trials=tuple(TrialDefinition(name=f"T{n}", root=None, n_sought=n) for n in sought),
        participants=pd.DataFrame(
            columns=[
                *("trial", "participant_id", "age_years", "sex", "ethnicity", "height_cm"),
                *("weight_kg", "arm", "randomised", "healthy", "death_day", "withdrawal_day"),
                "reason_no_scan",
            ]
        ),
        scans=(),
        not_obtained=(NotObtained(trial="OMEGA", reason="no reply", n_participants=omega),),
    )
    flow = build_tables(cohort, []).flow
    assert flow["participants"]["sought"] == people_sought
    assert flow["trials"]["sought"] == trials_sought
    assert flow["scans"]["sought"] is None
