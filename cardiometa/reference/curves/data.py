"""The people of a curve, and the curve once it is fitted, with what its intervals need."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from ..select import People
from .curve import Curve, Kind

TrialPlan = Literal["none", "fixed", "random"]
RANDOM_FROM = 5  # trials: fewer say nothing of how trials differ
KEPT_RANDOM: Final = "random-kept"  # a refit without one trial of a model that had random effects
_EDGE = 3  # people beyond each end of a curve, so that no end is a person's age


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveData:
    """People with a value and an age, arrays ``[n]``: of one sex, or of both.

    ``ethnicity`` counts into `ETHNICITIES`, -1 unknown or not asked for; ``trial`` counts into the
    table's trials.
    """

    y: np.ndarray
    age: np.ndarray
    ethnicity: np.ndarray
    trial: np.ndarray

    @property
    def n(self) -> int:
        """People."""
        return len(self.y)

    @property
    def trials(self) -> int:
        """Trials that these people come from."""
        return len(np.unique(self.trial))

    def at(self, rows: np.ndarray) -> CurveData:
        """Some of the people."""
        return CurveData(
            y=self.y[rows],
            age=self.age[rows],
            ethnicity=self.ethnicity[rows],
            trial=self.trial[rows],
        )

    def age_range(self) -> tuple[float, float]:
        """Whole years between which at least three people on each side bear the curve."""
        ordered = np.sort(self.age)
        edge = min(_EDGE, len(ordered)) - 1
        return math.ceil(ordered[edge]), math.floor(ordered[len(ordered) - 1 - edge])


def curve_data(people: People, values: np.ndarray, sex: int) -> tuple[CurveData, np.ndarray]:
    """The people of a sex (-1: all) with a value and an age, and their numbers in ``people``."""
    usable = np.isfinite(values) & np.isfinite(people.age_years)
    if sex >= 0:
        usable &= people.sex == sex
    members = np.flatnonzero(usable)
    by_ethnicity = "ethnicity" in people.by
    return (
        CurveData(
            y=values[members],
            age=people.age_years[members],
            ethnicity=people.ethnicity[members] if by_ethnicity else np.full(len(members), -1),
            trial=people.trial[members],
        ),
        members,
    )


def linked_groups(
    data: CurveData, groups: Sequence[int], plan: TrialPlan, least: int
) -> tuple[int, ...]:
    """The groups that can be told from trials: joined to the largest by people in its trials.

    A group is joined when at least ``least`` of its people are in trials that hold as many of the
    groups joined before. The others differ by their trials as much as by themselves, and nothing
    can tell which. Where trials are ignored all count.
    """
    if plan == "none" or len(groups) < 2:
        return tuple(groups)
    size = int(data.trial.max()) + 1
    counts = {g: np.bincount(data.trial[data.ethnicity == g], minlength=size) for g in groups}
    joined = {max(groups, key=lambda g: (int(counts[g].sum()), -g))}
    while True:
        held = np.sum([counts[g] for g in joined], axis=0) >= least
        more = {g for g in groups if g not in joined and counts[g][held].sum() >= least}
        if not more:
            return tuple(g for g in groups if g in joined)
        joined |= more


def plan_for(wish: str, trials: int) -> TrialPlan:
    """How trials enter a model of so many: ``auto`` is none, fixed from 2, random from 5.

    A random effect asked for is fixed where a group has fewer than 5 trials.
    """
    if trials < 2 or wish == "none":
        return "none"
    if wish == KEPT_RANDOM:
        return "random"
    if wish == "fixed" or trials < RANDOM_FROM:
        return "fixed"
    return "random"


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedCurve:
    """A curve with its uncertainty.

    Its parameters at ages are ``jacobian(ages) @ theta`` ``[functions, ages, p]`` (to first order),
    theta having ``covariance`` ``[p, p]``; ``deviations`` ``[samples, p]`` are a bootstrap's, whose
    percentiles then make the intervals. ``tau_df``: degrees of freedom of tau², 0 without;
    ``trials`` that tau comes from.
    """

    kind: Kind
    curve: Curve
    jacobian: Callable[[np.ndarray], np.ndarray]
    covariance: np.ndarray
    deviations: np.ndarray | None = None
    tau_df: float = 0.0
    tau: float = 0.0
    trials: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCurves:
    """The curves of one group, a kind each; none where it has too few people.

    ``pooled``: the age shape is that of all ethnicities, and only the level is its own;
    not ``linked``: no trial tells it from the others, and it has their level (see `linked_groups`).
    ``trial_effects`` by the table's trial number, on the scale of the law's location, for the
    z scores of people of these trials; ``edf`` of the location and the scale by age.
    """

    ethnicity: int
    n: int
    trials: int
    age_low: float
    age_high: float
    curves: tuple[FittedCurve, ...] = ()
    pooled: bool = False
    linked: bool = True
    trial_effects: Mapping[int, float] = field(default_factory=dict)
    edf: tuple[float, ...] = ()
