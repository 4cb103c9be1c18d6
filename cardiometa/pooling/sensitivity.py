"""What single trials do to the pooled effect, as rows of ``influence.csv``.

The delta-adjusted effect: what if those without an outcome did worse than the analysis assumes.

A pattern mixture: in each trial those of the active arm without the outcome are taken to be
``delta`` units from what similar participants with the outcome had. The trial's effect then moves
by delta x their share, its variance by the uncertainty of that share (White, Carpenter & Horton
2018, Stat Sin 28:1985; Cro et al. 2020, Stat Med 39:2815). Delta 0 is the analysis itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from ..statistics.meta import LEAST_TRIALS_INFLUENCE, influence
from .endpoint.analysis_set import compared
from .options import PoolingOptions
from .results import DeltaRow, EffectRow, InfluenceRow, Study
from .second_stage.two_stage import comparison_cells, estimates_of, pooled_rows


def influence_rows(studies: Sequence[Study], options: PoolingOptions) -> list[InfluenceRow]:
    """The deletion measures of one arm's trials; none below three."""
    usable = [study for study in studies if study.estimable]
    if len(usable) < LEAST_TRIALS_INFLUENCE:
        return []
    rows = []
    for study, one in zip(usable, influence(*estimates_of(usable), options.tau2), strict=True):
        cells = {name: getattr(one, name) for name in one.__slots__}
        rows.append(
            InfluenceRow(
                **comparison_cells(options, study.arm, study.control),
                trial=study.trial,
                k=len(usable),
                **cells,
            )
        )
    return rows


_STEPS = (-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0)
_FARTHEST_SD = 5.0
_SEARCH = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """The share without an outcome, of ``n`` participants."""

    share: float
    n: int


def delta_rows(
    studies: Sequence[Study], people: pd.DataFrame, options: PoolingOptions
) -> tuple[DeltaRow, ...]:
    """The pooled effect of one active arm on a grid of delta, and where its conclusion turns.

    The grid is in steps of a quarter of the trials' median residual SD; nothing where none
    of the active arm lacks the outcome. ``people`` as `participants_by_arm` takes it.
    """
    arm = next(study.arm for study in studies if study.estimable)
    return delta_rows_of(studies, _missing_by_trial(people, arm, options), options)


def delta_rows_of(
    studies: Sequence[Study], missing: Mapping[str, Missing], options: PoolingOptions
) -> tuple[DeltaRow, ...]:
    """The same, given who lacks the outcome in each trial's active arm."""
    usable = [study for study in studies if study.estimable]
    spreads = [study.residual_sd for study in usable if study.residual_sd]
    if not spreads or not any(
        missing[study.trial].share > 0 for study in usable if study.trial in missing
    ):
        return ()
    unit = float(np.median(spreads))

    def at(delta: float) -> EffectRow:
        moved = [_moved(study, missing.get(study.trial), delta) for study in usable]
        return next(row for row in pooled_rows(moved, options) if row.headline)

    grid = [_row(at(step * unit), step * unit, "grid") for step in _STEPS]
    return (*grid, *(_row(at(d), d, "tipping-point") for d in _tipping_points(at, unit)))


def _missing_by_trial(
    people: pd.DataFrame, arm: str, options: PoolingOptions
) -> dict[str, Missing]:
    """The share without an outcome of the arm's participants that the estimand is about."""
    mine = compared(people)
    mine = mine[mine["arm"] == arm]
    if options.estimand == "while-alive":
        mine = mine[~mine["died"]]
    return {
        str(trial): Missing(share=float(part["outcome"].isna().mean()), n=len(part))
        for trial, part in mine.groupby("trial")
    }


def _moved(study: Study, missing: Missing | None, delta: float) -> Study:
    if missing is None or study.estimate is None or study.se is None:
        return study
    share = missing.share
    variance = study.se**2 + delta**2 * share * (1.0 - share) / missing.n
    return replace(study, estimate=study.estimate + delta * share, se=float(np.sqrt(variance)))


def _tipping_points(at: Callable[[float], EffectRow], unit: float) -> list[float]:
    """On either side the delta nearest to 0 at which the interval comes to include 0.

    None where the interval includes 0 as it is, or does not within five residual SDs.
    """
    start = at(0.0)
    assert start.ci_low is not None
    assert start.ci_high is not None
    if start.ci_low <= 0 <= start.ci_high:
        return []
    positive = start.ci_low > 0

    def inner(delta: float) -> float:
        row = at(delta)
        limit = row.ci_low if positive else row.ci_high
        assert limit is not None
        return limit if positive else -limit

    found = []
    for side in (-1.0, 1.0):
        before = 0.0
        for step in np.linspace(0, _FARTHEST_SD * unit, _SEARCH)[1:]:
            here = float(side * step)
            if inner(here) <= 0:
                low, high = sorted((before, here))
                found.append(float(brentq(inner, low, high, xtol=1e-10 * unit)))
                break
            before = here
    return found


def _row(row: EffectRow, delta: float, kind: str) -> DeltaRow:
    return DeltaRow(
        outcome=row.outcome,
        effect=row.effect,
        arm=row.arm,
        control=row.control,
        kind=kind,
        delta=delta,
        estimate=row.estimate,
        se=row.se,
        ci_low=row.ci_low,
        ci_high=row.ci_high,
        p=row.p,
        k=row.k,
        ci_method=row.ci_method,
    )


def tipping_sentence(rows: Sequence[DeltaRow], arm: str, unit: str) -> str:
    """What the tipping points say, in words; empty where there is no such analysis."""
    mine = [row for row in rows if row.arm == arm]
    if not mine:
        return ""
    points = [row for row in mine if row.kind == "tipping-point"]
    start = next(row for row in mine if row.delta == 0)
    if (
        start.ci_low is not None
        and start.ci_high is not None
        and start.ci_low <= 0 <= start.ci_high
    ):
        return ""
    if not points:
        return (
            f"{arm}: no shift of up to five residual SDs of those without the outcome would make "
            "the interval include 0."
        )
    values = " or ".join(f"{row.delta:+.3g}".replace("-", "−") for row in points)
    # A difference of percentages is in points; "15 % away" would read as a ratio.
    unit = "percentage points" if unit == "%" else unit
    return (
        f"{arm}: the interval would include 0 if those of this arm without the outcome were on "
        f"average {values} {unit} away from similar participants who have it."
    ).replace("  ", " ")
