from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cardiometa.cohort.models import Cohort, CohortTables, NotObtained, TrialDefinition
from cardiometa.records import Flag, ScanKey, ScanResult
from cardiometa.reports.figures.evaluation import quality_figure
from cardiometa.reports.figures.overlay import curve_svg, overlay_png
from cardiometa.reports.page import INTERNAL_NOTICE
from cardiometa.reports.pages.segment import (
    correction_table,
    error_table,
    flag_table,
    gallery_html,
    gallery_items,
    methods_text,
    mixed_models_notice,
    segment_page,
    side_notes,
    status_table,
    summary_table,
)
from cardiometa.segmentation.model import ErrorModel, ModelCard
from tests.kit.report_page import assert_self_contained, read_page

EVIL = "<script>alert(1)</script>"
REVIEW = Flag(code="sv-mismatch", level="review", sentence=f"Stroke volumes differ {EVIL}.")
INFO = Flag(code="repeated-slices", level="info", sentence="Acquired again.")
REJECT = Flag(code="no-images", level="reject", sentence="No short-axis cine.")


def result(index, status="ok", trial="ALPHA"):
    measures = {} if status == "failed" else {
        "lv_edv_ml": 140.0 + index, "lv_esv_ml": 60.0, "lv_ef_percent": 57.1, "lv_mass_g": 101.0,
        "rv_edv_ml": None, "ed_frame": 0, "es_frame": 3,
    }  # fmt: skip
    curve = (100 + 40 * np.cos(np.arange(10) / 10 * 2 * np.pi)).tolist()
    flags = {"ok": (INFO,), "review": (REVIEW, INFO), "failed": (REJECT,)}[status]
    return ScanResult(
        key=ScanKey(trial=trial, participant=f"P{index:03d}", visit="baseline"),
        status=status,
        measures=measures,
        facts={},
        flags=flags,
        document={"curves": {"lv_ml": curve, "rv_ml": [math.nan] * 10}} if measures else {},
    )


def test_review_comes_first_then_failed_and_the_rest_is_counted():
    results = [result(i, ("ok", "failed", "review")[i % 3]) for i in range(12)]
    gallery = gallery_items(results, {}, limit=9)
    assert [item.result.status for item in gallery.items] == ["review"] * 4 + ["failed"] * 4 + [
        "ok"
    ]
    text = read_page(str(gallery_html(gallery))).text
    assert "3 of 12 scans are not shown here (3 ok)" in text
    assert "not shown" not in gallery_html(gallery_items(results, {}))


def test_cards_show_picture_numbers_flags_and_curve(tmp_path):
    labels = np.zeros((2, 2, 40, 40), dtype=np.uint8)
    labels[:, :, 10:30, 10:30] = 1
    path = tmp_path / "overlay.png"
    path.write_bytes(overlay_png(labels.astype(np.float32), labels, 0, 1, (2.0, 2.0)))
    shown = result(1, "review")
    markup = gallery_html(
        gallery_items([shown, result(2)], {shown.key: path, result(2).key: tmp_path / "absent"})
    )
    page = read_page(str(markup))
    assert page.problems == []
    assert len(page.all("img")) == 2
    assert page.all("img")[0]["src"].startswith("data:image/jpeg;base64,")
    assert page.all("img")[1]["src"].startswith("data:image/png;base64,")
    assert len(page.all("svg")) == 2
    assert "Stroke volumes differ <script>" in page.text
    assert "<script>" not in markup
    assert "141 mL" in " ".join(page.text.split())
    assert "57.1 %" in " ".join(page.text.split())
    assert "RV EDV" not in page.text  # it has none


def test_cards_show_the_sd_of_the_error_after_the_measure():
    one = result(1)
    sds = {"lv_edv_ml_sd": 8.3, "lv_ef_percent_sd": 4.24, "lv_mass_g_sd": 12.6}
    one = replace(one, measures={**one.measures, **sds})
    text = " ".join(read_page(str(gallery_html(gallery_items([one], {})))).text.split())
    for words in ("141 ± 8 mL", "60.0 mL", "57.1 ± 4.2 %", "101 ± 13 g"):
        assert words in text


def test_the_width_of_the_intervals_is_a_table():
    frame = tables(mixed()).measurements
    assert error_table(frame, CARD) is None
    frame["lv_ef_percent_sd"] = np.where(frame["status"] == "failed", np.nan, 5.0)
    error = ErrorModel(
        measures={}, vendors=("Siemens",), elsewhere={"lv": 1.5, "rv": 2.0}, document={}
    )
    table = error_table(frame, replace(CARD, error=error))
    assert table is not None
    assert table.rows == (("LV EF, %", "12", "9.8", "9.8", "9.8"),)
    assert "other than Siemens have 1.5 (LV) and 2 (RV) times" in table.caption


def test_flags_are_counted_once_a_scan_worst_first():
    twice = ScanResult(
        key=ScanKey(trial="A", participant="x", visit="v"),
        status="review",
        measures={},
        facts={},
        flags=(REVIEW, REVIEW),
        document={},
    )
    table = flag_table([result(1, "failed"), result(2), result(3), twice])
    assert [row[:3] for row in table.rows] == [
        ("no-images", "reject", "1 (25.0%)"),
        ("sv-mismatch", "review", "1 (25.0%)"),
        ("repeated-slices", "info", "2 (50.0%)"),
    ]


def test_curve_leaves_gaps_where_a_volume_is_unknown():
    svg = curve_svg([100.0, None, 80.0, 90.0, math.nan, 70.0], [], [0, 1], "a <b>")
    line = svg.split('d="')[3].split('"')[0]
    assert line.count("M") == 3
    assert svg.count("<circle") == 1
    assert "a &lt;b&gt;" in svg
    assert curve_svg([], [], [], "x").startswith("<svg")


def tables(results):
    rows = []
    for index, one in enumerate(results):
        value = one.measures.get
        rows.append(
            {
                "trial": one.key.trial,
                "participant_id": one.key.participant if index else EVIL,
                "visit": one.key.visit,
                "status": one.status,
                "lv_edv_ml": value("lv_edv_ml", math.nan),
                "lv_ef_percent": value("lv_ef_percent", math.nan),
                "frames": 2 if one.measures else None,
                "bsa_formula": "mosteller" if one.measures else None,
                "age_years": 60.0,
                "sex": ("male", "female", None)[index % 3],
                "ethnicity": "white",
                "arm": ("active", "control")[index % 2],
                "reported_lv_edv_ml": 150.0 if one.measures else math.nan,
            }
        )
    failed = [one for one in results if one.status == "failed"]
    columns = ["stage", "trial", "participant_id", "visit", "code", "sentence"]
    exclusions = pd.DataFrame(
        [
            ("scan", one.key.trial, one.key.participant, "baseline", "no-images", "No cine.")
            for one in failed
        ],
        columns=columns,
    )
    n, bad = len(results), len(failed)
    stages = {"obtained": n, "with_images": n, "segmented": n - bad, "failed": bad,
              "analysed": n - bad, "excluded": bad}  # fmt: skip
    frame = pd.DataFrame(rows)
    return CohortTables(
        measurements=frame,
        participants=frame[["trial", "participant_id"]],
        exclusions=exclusions,
        flow={"trials": {"obtained": 2}, "participants": dict(stages), "scans": dict(stages)},
    )


CARD = ModelCard(
    model_id="heart-1",
    classes=("background", "lv_cavity", "lv_myocardium", "rv_cavity"),
    widths=(16,),
    context_slices=3,
    spacing_mm=1.5,
    crop=128,
    rv_vendors=(),
    tensors_sha256="ab" * 32,
    document={
        "licence": "CC BY-NC-SA 4.0",
        "training": {"data": ["64 patients"], "held_out": ["a", "b"]},
        "accuracy": {"lv_mean": 0.93},
        "limits": ["One hospital."],
    },
)


def cohort(frames):
    return Cohort(
        name=f"pool {EVIL}",
        trials=(
            TrialDefinition(name="ALPHA", root=Path(), papillary="myocardium"),
            TrialDefinition(name="BETA", root=Path(), healthy_rule="no CVD"),
        ),
        participants=frames.participants,
        scans=(),
        not_obtained=(NotObtained(trial="OMEGA", reason="no reply", n_participants=210),),
        warnings=("Trial BETA: 3 heights are unknown.",),
    )


def made(results):
    frames = tables(results)
    return segment_page(
        frames,
        cohort=cohort(frames),
        items=gallery_items(results, {}),
        card=CARD,
        model_sha256="cd" * 32,
    )


def mixed():
    return [
        result(i, ("ok", "ok", "review", "failed")[i % 4], ("ALPHA", "BETA")[i % 2])
        for i in range(16)
    ]


def test_page_is_whole_self_contained_and_internal():
    html = made(mixed())
    page = assert_self_contained(html)
    assert "<script>" not in html
    assert html.index(INTERNAL_NOTICE) < html.index("<h1>")
    for words in (
        "2 trials · 16 participants · 16 scans",
        "Trial BETA: 3 heights are unknown.",
        "OMEGA (no reply): 210",
        "CC BY-NC-SA 4.0",
        "cd" * 32,
        "count papillary muscles as myocardium",
        "12 scans had two phases only",
        "Mosteller's formula",
        "LV 0.930",
        "One hospital.",
        "Rule for healthy",
        "Scans for review come first, then failed ones;",
        "cardiometa review OUT --cohort COHORT",
    ):
        assert words in page.text, words
    assert html == made(mixed())
    assert len(page.all("article")) == 16


def test_a_cohort_in_which_every_scan_failed_still_has_a_page():
    page = assert_self_contained(made([result(i, "failed") for i in range(3)]))
    assert "No scan could be measured." in page.text
    assert "Agreement with reported values" not in page.text


def test_an_account_that_does_not_close_is_at_the_top():
    frames = tables(mixed())
    frames.flow["scans"]["failed"] += 1
    html = segment_page(
        frames,
        cohort=cohort(frames),
        items=gallery_items(mixed(), {}),
        card=CARD,
        model_sha256="cd" * 32,
    )
    assert html.index("The account of scans does not close") < html.index("<nav")


def test_visits_without_images_are_not_counted_as_failed():
    frames = tables(mixed())
    blank = ("scan", "ALPHA", "P900", "baseline", "no-images", "No images.")
    frames.exclusions.loc[len(frames.exclusions)] = blank
    frames.exclusions.loc[len(frames.exclusions)] = (
        "participant",
        "ALPHA",
        "P900",
        "",
        "no-scan",
        "x",
    )
    frames.flow["scans"]["obtained"] += 1
    text = read_page(
        segment_page(
            frames,
            cohort=cohort(frames),
            items=gallery_items(mixed(), {}),
            card=CARD,
            model_sha256="cd" * 32,
        )
    ).text
    assert "no-images: 4" in text
    assert "no-scan: 1" in text
    assert "no-images5No cine." in text.replace("\n", "")


def test_what_is_empty_is_said_in_a_sentence_or_left_out():
    quiet = replace(result(1), flags=())
    frames = tables([quiet, replace(quiet, key=result(2).key)])
    facts = {"items": gallery_items([quiet], {}), "card": CARD, "model_sha256": "cd" * 32}
    page = assert_self_contained(segment_page(frames, cohort=cohort(frames), **facts))
    assert "Every scan and every participant is analysed." in page.text
    assert "Scans and participants that are not analysed" not in page.text
    assert "Flags" not in page.text
    assert "the small numbers are the slices of the source" in page.text
    assert "come first" not in page.text  # all have one status
    assert "reader corrected" not in page.text
    assert "The DICOM SEG objects" not in page.text
    html = segment_page(frames, cohort=cohort(frames), identity_kept=True, **facts)
    assert html.index("carry the identity of patient and study") < html.index("<nav")
    assert "is in any output except the DICOM SEG objects." in " ".join(html.split())


def test_a_cohort_without_a_failed_scan_has_no_reasons():
    frames = tables([result(1)])
    assert len(frames.exclusions) == 0
    empty = replace(cohort(frames), not_obtained=())
    assert side_notes(frames, empty) == {"not_obtained": [], "without_images": [], "failed": []}


def test_a_single_scan_has_no_flow_and_no_histogram():
    frames = tables([result(1)])
    page = assert_self_contained(made([result(1)]))
    assert "1 of 1 scan could be measured." in page.text
    assert "LV EF is 57.1 %." in page.text
    assert "Individual participant data sought" not in page.text
    assert quality_figure(frames.measurements.assign(quality=0.9)) is None


def test_the_result_comes_first_with_a_histogram_of_quality():
    frame = tables(mixed()).measurements
    frame["quality"] = np.where(frame["status"] == "failed", np.nan, 0.7 + 0.01 * frame.index)
    drawn = quality_figure(frame)
    known = frame["quality"].where(frame["status"] == "ok").dropna()
    assert f"ok: 8 scans, median {known.median():.2f}, lowest {known.min():.2f}" in drawn.svg
    assert "review: 4 scans" in drawn.svg
    html = made(mixed())
    assert html.index("12 of 16 scans could be measured; 4 of these") < html.index("<table")
    assert html.index('id="measures"') < html.index('id="flow"') < html.index('id="gallery"')


def test_summary_counts_and_means_are_those_of_the_rows():
    frame = tables(mixed()).measurements
    table = summary_table(frame)
    assert [row[:3] for row in table.rows] == [
        ("ALPHA", "baseline", "8"),
        ("BETA", "baseline", "4"),
        ("all trials", "baseline", "12"),
    ]
    used = frame[(frame["status"] != "failed") & (frame["trial"] == "ALPHA")]["lv_edv_ml"]
    at = table.columns.index("LV EDV, mL")
    assert table.rows[0][at] == f"{used.mean():.0f} ± {used.std(ddof=1):.0f}"
    known = frame[(frame["status"] != "failed") & frame["sex"].notna()]
    female = (known["sex"] == "female").sum()
    assert table.rows[2][3] == f"{female} ({100 * female / len(known):.0f}%)"
    assert table.caption.endswith("EDV end-diastolic volume, EF ejection fraction.")
    assert "RV" not in table.caption  # no column has a right ventricle


def test_summary_says_where_fewer_scans_have_the_value():
    frame = tables(mixed()).measurements
    frame.loc[frame.index[0], "age_years"] = math.nan
    table = summary_table(frame)
    assert table.rows[0][table.columns.index("Age, years")].endswith("[7]")


def test_status_by_group_adds_up():
    frame = tables(mixed()).measurements
    rows = status_table(frame).rows
    assert rows[0] == ("All scans", "", "16", "8 (50.0%)", "4 (25.0%)", "4 (25.0%)")
    for group in ("Trial", "Arm", "Sex"):
        assert sum(int(row[2]) for row in rows if row[0] == group) == 16
    assert ("Sex", "unknown") in [row[:2] for row in rows]
    assert "Ethnicity" not in [row[0] for row in rows]  # one level says nothing


@pytest.mark.parametrize("sex", [[None] * 16, [math.nan] * 16])
def test_unknown_sex_of_all_is_a_dash(sex):
    frame = tables(mixed()).measurements
    frame["sex"] = sex
    assert {row[3] for row in summary_table(frame).rows} == {"–"}


def corrected(index):
    flag = Flag(code="corrected", level="info", sentence="A reader changed 5 voxels.")
    one = result(index)
    own = {"measures": {**one.measures, "lv_ef_percent": 48.2}}
    return replace(one, flags=(flag, *one.flags), document={**one.document, "model_result": own})


def test_a_corrected_scan_stands_beside_the_models_own(tmp_path):
    labels = np.zeros((2, 2, 40, 40), dtype=np.uint8)
    labels[:, :, 10:30, 10:30] = 1
    (tmp_path / "correction").mkdir()
    for name in ("overlay.png", "correction/overlay.png"):
        (tmp_path / name).write_bytes(
            overlay_png(labels.astype(np.float32), labels, 0, 1, (2.0, 2.0))
        )
    one, other = corrected(1), result(2)
    pictures = {
        one.key: tmp_path / "correction" / "overlay.png",
        other.key: tmp_path / "overlay.png",
    }
    page = read_page(str(gallery_html(gallery_items([one, other], pictures))))
    assert page.problems == []
    assert len(page.all("img")) == 6
    text = " ".join(page.text.split())
    assert "corrected A reader changed 5 voxels." in text
    assert "LV EF57.1 %" in text
    assert "The model's own result" in text
    assert "LV EF 48.2 %" in text
    assert text.count("The model's own result") == 1


def rows_of(groups):
    """``{(sex, ethnicity): (people, corrected, failed)}`` as rows of measurements."""
    rows = []
    for (sex, ethnicity), (people, mended, failed) in groups.items():
        for index in range(people):
            status = "failed" if index >= people - failed else "ok"
            flags = "corrected;accepted" if index < mended else "few-phases"
            if status == "failed":
                flags = "rejected"
            elif index == mended:
                flags = "few-phases;accepted"
            rows.append(("A", f"{sex}{ethnicity}{index}", status, flags, sex, ethnicity))
    return pd.DataFrame(
        rows, columns=["trial", "participant_id", "status", "flags", "sex", "ethnicity"]
    )


def test_rates_of_correction_by_group_and_none_of_fewer_than_ten_people():
    frame = rows_of({("female", "white"): (40, 4, 1), ("male", "white"): (31, 1, 0),
                     ("male", "black"): (9, 2, 2)})  # fmt: skip
    table = correction_table(frame)
    lines = {row[:2]: row[2:] for row in table.rows}
    accepted = rejected = failed = "3 (3.8%)"
    corrected = "7 (8.8%)", "4.3 to 17.0"
    assert lines["All scans", ""] == ("80", accepted, *corrected, rejected, failed, "")
    female = ("40", "1 (2.5%)", "4 (10.0%)", "4.0 to 23.1", "1 (2.5%)", "1 (2.5%)", "")
    assert lines["Sex", "female"] == female
    assert lines["Ethnicity", "black"] == ("", "", "", "", "", "", "n<10")
    assert ("Arm", "") not in lines
    assert correction_table(frame.assign(flags="few-phases")) is None


def test_ten_scans_of_one_person_are_one_person():
    frame = rows_of({("female", "white"): (20, 4, 0), ("male", "white"): (12, 1, 0)})
    frame.loc[frame["sex"] == "male", "participant_id"] = "one"
    lines = {row[:2]: row[2:] for row in correction_table(frame).rows}
    assert lines["Sex", "male"][-1] == "n<10"


def test_scans_of_several_models_are_told_apart():
    frame = pd.DataFrame(
        {
            "model_id": ["a", "b", None],
            "model_sha256": ["1" * 64, "2" * 64, "2" * 64],
            "flags": ["", "", ""],
            "frames": [20, 20, 20],
            "bsa_formula": ["mosteller"] * 3,
        }
    )
    assert "2 models (a 11111111, b 22222222)" in methods_text(frame, CARD)
    assert "2 models" in mixed_models_notice(frame)[0]
    alone = frame.iloc[:1]
    assert "one model (heart-1)" in methods_text(alone, CARD)
    assert mixed_models_notice(alone) == ()
