"""What single trials do to the pooled effect, as rows of ``influence.csv``.

The delta-adjusted effect: what if those without an outcome did worse than the analysis assumes.

A pattern mixture: in each trial those of the active arm without the outcome are taken to be
``delta`` units from what similar participants with the outcome had. The trial's effect then moves
by delta x their share, its variance by the uncertainty of that share (White, Carpenter & Horton
2018, Stat Sin 28:1985; Cro et al. 2020, Stat Med 39:2815). Delta 0 is the analysis itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from ..measurement.measures import definition
from ..statistics.meta import LEAST_TRIALS_INFLUENCE, influence
from .endpoint.columns import each_trial
from .endpoint.endpoint import is_compared
from .options import DIFFERENCES, PoolingOptions
from .results import DeltaRow, EffectRow, InfluenceRow, Study, columns_of
from .second_stage.two_stage import comparison_cells, deleted_fits, estimates_of, pooled_rows


def influence_rows(studies: Sequence[Study], options: PoolingOptions) -> list[InfluenceRow]:
    """The deletion measures of one arm's trials; none below three."""
    usable = [study for study in studies if study.estimable]
    if len(usable) < LEAST_TRIALS_INFLUENCE:
        return []
    rows = []
    deleted = deleted_fits(tuple(usable), options.tau2)
    found = influence(*estimates_of(usable), options.tau2, deleted)
    for study, one in zip(usable, found, strict=True):
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


def delta_rows(
    studies: Mapping[str, Sequence[Study]], people: pd.DataFrame, options: PoolingOptions
) -> tuple[list[DeltaRow], list[str]]:
    """The pooled effect of each active arm on a grid of delta, and where its conclusion turns.

    The grid is in steps of a quarter of the trials' median residual SD; nothing where none
    of the active arm lacks the outcome. ``studies`` by arm; ``people`` as `participants_by_arm`
    takes it. The sentences say what the tipping points mean.
    """
    rows: list[DeltaRow] = []
    sentences: list[str] = []
    if options.effect not in DIFFERENCES:
        return rows, sentences
    is_about = is_compared(people)  # the participants that the estimand is about
    if options.estimand == "while-alive":
        is_about &= ~people["died"]
    about = people[["trial", "arm"]].assign(lacks=people["outcome"].isna(), is_about=is_about)
    shared = [name for name in columns_of(DeltaRow) if name in columns_of(EffectRow)]
    for arm, members in studies.items():
        lacks = {
            trial: part.loc[part["is_about"] & part["arm"].eq(arm), "lacks"]
            for trial, part in each_trial(about)
        }
        facts = {trial: (own.mean(), len(own)) for trial, own in lacks.items() if len(own)}
        missing = pd.DataFrame.from_dict(facts, orient="index", columns=["mean", "size"])
        usable = [study for study in members if study.estimable]
        spreads = [study.residual_sd for study in usable if study.residual_sd]
        known = missing[missing.index.isin([study.trial for study in usable])]
        if not spreads or not (known["mean"] > 0).any():
            continue
        unit = float(np.median(spreads))
        at = partial(_shifted, usable, known, options)
        points = _tipping_points(at, unit)
        places = [(step * unit, "grid") for step in _STEPS]
        places += [(delta, "tipping-point") for delta in points]
        for delta, kind in places:
            cells = {name: getattr(at(delta), name) for name in shared}
            rows.append(DeltaRow(delta=delta, kind=kind, **cells))
        start = at(0.0)
        if start.ci_low is None or start.ci_high is None or start.ci_low <= 0 <= start.ci_high:
            continue
        if not points:
            sentences.append(
                f"{arm}: no shift of up to five residual SDs of those without the outcome would "
                "make the interval include 0."
            )
            continue
        values = " or ".join(f"{delta:+.3g}".replace("-", "−") for delta in points)
        # A difference of percentages is in points; "15 % away" would read as a ratio.
        name = definition(options.outcome).unit.replace("%", "percentage points")
        sentence = (
            f"{arm}: the interval would include 0 if those of this arm without the outcome were "
            f"on average {values} {name} away from similar participants who have it."
        )
        sentences.append(sentence.replace("  ", " "))
    return rows, sentences


def _shifted(
    studies: Sequence[Study], missing: pd.DataFrame, options: PoolingOptions, delta: float
) -> EffectRow:
    """The headline with the active arm's missing outcomes moved by ``delta``."""
    moved = []
    for study in studies:
        if study.trial in missing.index and study.estimate is not None and study.se is not None:
            share, n = missing.loc[study.trial, ["mean", "size"]].to_numpy(dtype=float)
            se = math.sqrt(study.se**2 + delta**2 * float(share * (1.0 - share) / n))
            study = replace(study, estimate=study.estimate + delta * float(share), se=se)  # noqa: PLW2901
        moved.append(study)
    return next(row for row in pooled_rows(moved, options) if row.headline)


def _tipping_points(at: Callable[[float], EffectRow], unit: float) -> list[float]:
    """On either side the delta nearest to 0 at which the interval comes to include 0.

    None where the interval includes 0 as it is, or does not within five residual SDs.
    """

    def inner(delta: float, sign: float) -> float:
        """The limit nearer to 0, positive while the interval excludes it."""
        row = at(delta)
        limit = row.ci_low if sign > 0 else row.ci_high
        assert limit is not None
        return sign * limit

    sign = next((sign for sign in (1.0, -1.0) if inner(0.0, sign) > 0), 0.0)
    found = []
    for side in (-1.0, 1.0) if sign else ():
        before = 0.0
        for step in np.linspace(0, _FARTHEST_SD * unit, _SEARCH)[1:]:
            here = float(side * step)
            if inner(here, sign) <= 0:
                low, high = sorted((before, here))
                found.append(float(brentq(inner, low, high, args=(sign,), xtol=1e-10 * unit)))
                break
            before = here
    return found
