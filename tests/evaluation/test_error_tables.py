"""Errors of scans: slices at the ends, large errors of EF, intervals, lines for other commands."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.proportion import proportion_confint

from cardiometa.evaluation.agreement import pooled_bias_equivalence
from cardiometa.evaluation.overlap import (
    CONTOURED,
    ManualPhase,
    ManualScan,
    ModelScan,
    SliceCounts,
    masks_of,
    slice_counts,
)
from cardiometa.evaluation.results import Compared
from cardiometa.evaluation.tables import (
    coverage_rows,
    equivalence_rows,
    evaluate,
    large_error_rows,
    measurement_error,
    slice_error_rows,
)
from cardiometa.privacy.suppression import suppress_groups
from tests.evaluation.test_tables import compared, options, scans
from tests.kit.labelled import disc_heart


def changed(data: Compared, **frames: pd.DataFrame) -> Compared:
    return replace(data, **frames)


# ------------------------------------------------------------------ slices


def model_scan(labels: np.ndarray) -> ModelScan:
    return ModelScan(
        labels=labels,
        spacing_mm=(1.5, 1.5),
        slice_distance_mm=10.0,
        ed_frame=0,
        es_frame=1,
        measures={},
        rv_at_lv_phases={},
    )


def counts(ours: np.ndarray, theirs: np.ndarray) -> dict[tuple[str, str, str], SliceCounts]:
    phases = tuple(
        ManualPhase(phase=phase, frame=None, masks=masks_of(theirs[at], "cardiometa"))
        for at, phase in enumerate(("ED", "ES"))
    )
    found = slice_counts(model_scan(ours), ManualScan(phases=phases))
    return {(one.phase, one.structure, one.end): one for one in found}


@pytest.mark.parametrize("order", [1, -1])
def test_slices_of_one_mask_alone_are_counted_at_their_end(order: int) -> None:
    theirs = disc_heart(np.array([1.0, 0.0]))
    ours = theirs.copy()
    ours[0, 0] = ours[0, 1]  # one slice above the base at ED, of both cavities
    ours[1, 1][ours[1, 1] == 3] = 0  # the basal RV lost at ES
    lv = np.flatnonzero((theirs[1] == 1).any(axis=(1, 2)))
    ours[1, lv[-1]] = 0  # the apex lost at ES
    found = counts(ours[:, ::order], theirs[:, ::order])
    assert len(found) == 8
    errors = {
        key: (one.false_positive, one.false_negative)
        for key, one in found.items()
        if one.false_positive or one.false_negative
    }
    rv_apex = int((theirs[1, lv[-1]] == 3).any())
    expected = {
        ("ED", "lv_cavity", "base"): (1, 0),
        ("ED", "rv_cavity", "base"): (1, 0),
        ("ES", "lv_cavity", "apex"): (0, 1),
        ("ES", "rv_cavity", "base"): (0, 1),
    }
    expected |= {("ES", "rv_cavity", "apex"): (0, 1)} if rv_apex else {}
    assert errors == expected
    assert found["ED", "lv_cavity", "base"].n_reference == 7


def test_contours_and_hearts_without_a_base_have_no_end() -> None:
    labels = disc_heart(np.array([1.0, 0.0]))
    scan, phase = model_scan(labels), ManualPhase(
        phase="ED", frame=None, masks=masks_of(labels[0], "cardiometa")
    )  # fmt: skip
    assert not list(slice_counts(scan, ManualScan(phases=(phase,), scope=CONTOURED)))
    alike = np.repeat(labels[:, 3:4], 6, axis=1)
    assert counts(alike, alike) == {}


def test_slice_errors_by_group_and_their_suppression() -> None:
    data = compared(scans(40))
    rows = [
        {"scan": scan, **asdict(SliceCounts(phase="ES", structure="lv_cavity", end="base",
         n_reference=9, false_positive=2 * (scan < 12), false_negative=int(scan == 39)))}
        for scan in range(40)
    ]  # fmt: skip
    found = slice_error_rows(changed(data, slices=pd.DataFrame(rows)), 10)
    every = {row.error: row for row in found if row.group_by == "all"}
    added = every["false-positive"]
    assert (added.n_scans, added.n_reference, added.n_slices, added.n_events) == (40, 360, 24, 12)
    assert added.percent == 30
    missed = every["false-negative"]
    assert (missed.n_slices, missed.n_events, missed.percent) == (None, None, None)
    assert missed.note == "events<10"
    assert {row.group for row in found if row.group_by == "trial"} == {"A", "B"}


# ------------------------------------------------------------------ large errors, intervals


def with_errors(errors: np.ndarray, sd: float = np.nan, **rows: Any) -> Compared:
    data = compared(scans(len(errors)).assign(**rows))
    pairs = data.pairs.assign(model=data.pairs["reference"] + errors, model_sd=sd)
    return changed(data, pairs=pairs)


def test_large_errors_and_how_many_of_them_were_ok() -> None:
    errors = np.where(np.arange(60) < 24, 12.0, 9.9)
    status = np.where(np.arange(60) < 12, "review", "ok")
    every = large_error_rows(with_errors(errors, status=status), 10)[0]
    assert (every.n_scans, every.n_events, every.percent, every.n_ok) == (60, 24, 40.0, 12)
    low, high = proportion_confint(24, 60, method="wilson")
    assert (every.ci_low, every.ci_high) == pytest.approx((100 * low, 100 * high))
    few_for_review = np.where(np.arange(60) < 5, "review", "ok")
    one = large_error_rows(with_errors(errors, status=few_for_review), 10)[0]
    assert (one.n_events, one.n_ok) == (24, None)  # 19: five would follow
    assert large_error_rows(with_errors(errors, status=few_for_review), 1)[0].n_ok == 19
    none = large_error_rows(with_errors(errors * 0), 10)[0]
    assert (none.n_events, none.percent) == (0, 0.0)


def test_coverage_of_the_models_intervals_at_each_level_and_by_group() -> None:
    errors = np.linspace(-3, 3, 61)
    rows = coverage_rows(with_errors(errors, sd=1.0), 10)
    levels = {row.level: row for row in rows if row.group_by == "all"}
    assert list(levels) == [50, 60, 70, 80, 90, 95, 99]
    within = int((np.abs(errors) <= 1.959964).sum())
    assert levels[95].percent == pytest.approx(100 * within / 61)
    assert (levels[95].mean_sd, levels[95].sd_ratio) == pytest.approx(
        (1.0, float(np.sqrt((errors**2).mean())))
    )
    assert {row.level for row in rows if row.group_by != "all"} == {95}
    assert coverage_rows(with_errors(errors), 10) == ()  # no SD


# ------------------------------------------------------------------ partial pooling of bias


def test_bias_of_trials_is_also_partially_pooled() -> None:
    draw = np.random.default_rng(1)
    groups = [draw.normal(mean, 4, n) for mean, n in ((0, 40), (1, 30), (2, 8), (6, 5))]
    found = pooled_bias_equivalence(groups, margin=3.0)
    means = np.array([one.mean() for one in groups])
    estimates = np.array([one.estimate for one in found])
    assert (np.abs(estimates - estimates.mean()) < np.abs(means - estimates.mean())).all()
    assert found[0].result == "equivalent"
    assert pooled_bias_equivalence(groups[:2], margin=3.0) == []
    rows = scans(90).assign(trial=np.repeat(["A", "B", "C"], 30))
    kinds = [
        (row.kind, row.group)
        for row in suppress_groups(equivalence_rows(compared(rows), options()), 10)
        if row.group_by == "trial" and row.kind != "difference from the rest"
    ]
    assert kinds == [("bias", g) for g in "ABC"] + [("bias, partially pooled", g) for g in "ABC"]


# ------------------------------------------------------------------ trained on, lines


def test_results_are_also_given_without_participants_that_the_model_was_trained_on() -> None:
    rows = scans(60)
    data = compared(rows.assign(trained_on=np.arange(60) < 20))
    found = evaluate("X", {"id": "m", "sha256": "ab"}, rows, data, options())
    sets = {row.scans_used: row for row in found.agreement if row.group_by == "all"}
    assert set(sets) == {"ok+review", "not-trained-on"}
    assert (sets["ok+review"].n_people, sets["not-trained-on"].n_people) == (60, 40)
    assert found.error is not None
    assert found.error.trained_on == "excluded"
    assert any(w.startswith("Participants that the model was trained on") for w in found.warnings)
    line = found.error.measures[0].line()
    assert line is not None
    assert line.n_people == 40


def test_lines_of_groups_that_may_be_shown() -> None:
    rows = scans(48, women=12).assign(arm=["active" if n % 3 else None for n in range(48)])
    data = compared(rows)
    error = measurement_error(data, "X", {"id": "m"}, options())
    assert error is not None
    (measure,) = error.measures
    assert measure.measure == "lv_ef_percent"
    assert measure.groups("sex") == ("male", "female")
    assert measure.groups("arm") == ("active",)
    assert measure.groups("trial") == ("A", "B")
    assert measure.between_trials is None  # two trials
    assert error.trained_on == "unknown"
    few = measurement_error(compared(scans(48, women=6)), "X", {}, options())
    assert few is not None
    assert few.measures[0].groups("sex") == ()  # women are few, and men would give them back
    assert measurement_error(compared(scans(8)), "X", {}, options()) is None
    included = compared(rows.assign(trained_on=np.arange(48) < 41))
    found = measurement_error(included, "X", {}, options())
    assert found is not None
    assert found.trained_on == "included"
    assert {f.name for f in fields(Compared)} >= {"slices", "training_known"}
