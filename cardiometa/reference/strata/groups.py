"""Groups of participants with their limits, and values far from their group.

A group is a sex × ethnicity × age band, or the same over all ethnicities. Outliers are listed, and
dropped only when asked: Tukey's fences Q1 - 1.5 IQR and Q3 + 1.5 IQR after a power transformation
to symmetry (Horn PS et al., Clin Chem 2001;47:2137-45). The power is the one that makes the 10th
and 90th centiles lie equally far from the median (Hinkley DV, Biometrika 1975;62:101-11): unlike
the maximum-likelihood Box-Cox power, the outliers themselves do not move it. The internal list also
says where Horn's own fences (after the maximum-likelihood power) and Dixon's ratio call a value an
outlier.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from scipy import optimize

from ...privacy.suppression import Count, without_extremes
from ...records import ETHNICITIES, SEXES
from ...statistics.lms import box_cox_power
from ...statistics.order_statistics import interpolated_quantile
from ..options import LimitsRule, ReferenceOptions
from ..select import ALL, Participants
from .limits import Limit, LimitRequest, default_rule, estimate_limits


@dataclass(frozen=True, slots=True, kw_only=True)
class StratumKey:
    """Whose limits: ``all`` is not stratified; ages in years, both None where not banded."""

    sex: str
    ethnicity: str
    age_low: float | None
    age_high: float | None

    def text(self) -> str:
        """``female/black/30-40``: for seeds and messages."""
        low = ALL if self.age_low is None else f"{self.age_low:g}"
        high = "" if self.age_high is None else f"{self.age_high:g}"
        return f"{self.sex}/{self.ethnicity}/{low}-{high}"

    def columns(self) -> dict[str, Any]:
        """The columns of a row that say whose it is."""
        return {
            "sex": self.sex,
            "ethnicity": self.ethnicity,
            "age_low": self.age_low,
            "age_high": self.age_high,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Strata:
    """Every group in the order of the tables.

    ``pooled`` and ``split`` ``[participants]`` int16 count into ``keys``: the group over all
    ethnicities and that of the participant's own, -1 where there is none.
    """

    keys: tuple[StratumKey, ...]
    pooled: np.ndarray
    split: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A measure in a group, sorted by value: ``ordered`` ``[n]``, ``members`` and ``trial`` alike.

    Ties are in no fixed order. ``trial_counts`` maps each trial to its participants; ``person``
    ``[n]`` numbers them where one may have several values, else None.
    """

    key: StratumKey
    ordered: np.ndarray
    members: np.ndarray
    trial: np.ndarray
    trial_counts: Mapping[int, int]
    person: np.ndarray | None = None

    @property
    def n(self) -> int:
        """Participants with a value."""
        return len(self.ordered) if self.person is None else sum(self.trial_counts.values())

    @property
    def n_trials(self) -> int:
        """Trials that these participants come from."""
        return len(self.trial_counts)


def strata(participants: Participants, bands: Sequence[float]) -> Strata:
    """Every group, empty ones too, in order: sex, ethnicity (``all`` first), age band.

    The ethnicities are those found in the table; participants of unknown ethnicity are in ``all``
    alone.
    """
    by = participants.by
    sexes = range(len(SEXES)) if "sex" in by else (-1,)
    met = sorted(set(participants.ethnicity.tolist()) - {-1}) if "ethnicity" in by else []
    codes = list(product(sexes, (-1, *met), range(len(bands)) if "age" in by else (-1,)))
    unknown = np.full(len(participants.trial), -1)
    sex = participants.sex if "sex" in by else unknown
    band = participants.band if "age" in by else unknown
    size = max(b for _, _, b in codes) + 2

    def packed(ethnicity: Any, sex: Any, band: Any) -> Any:
        return ((ethnicity + 1) * (len(SEXES) + 1) + sex + 1) * size + band + 1

    lookup = np.full((len(ETHNICITIES) + 1) * (len(SEXES) + 1) * size, -1, dtype=np.int16)
    for number, (s, e, b) in enumerate(codes):
        lookup[packed(e, s, b)] = number
    split = lookup[packed(participants.ethnicity, sex, band)] if met else unknown.astype(np.int16)
    return Strata(
        keys=tuple(
            StratumKey(
                sex=ALL if s < 0 else SEXES[s],
                ethnicity=ALL if e < 0 else ETHNICITIES[e],
                age_low=None if b < 0 else bands[b],
                age_high=None if b < 0 or b + 1 == len(bands) else bands[b + 1],
            )
            for s, e, b in codes
        ),
        pooled=lookup[packed(unknown, sex, band)],
        split=split,
    )


def cells(participants: Participants, groups: Strata, values: np.ndarray) -> tuple[Cell, ...]:
    """Each group's participants with a value in ``values`` ``[participants]``, sorted by it.

    One sort by value and two radix sorts by group serve every group.
    """
    order = np.argsort(values)
    order = order[: int(np.isfinite(values).sum())]  # NaN sorts last
    known = participants.ethnicity >= 0
    parts = [np.empty(0, dtype=np.int64)] * len(groups.keys)
    for numbers, rows in ((groups.pooled, order), (groups.split, order[known[order]])):
        mine = numbers[rows]
        grouped = rows[np.argsort(mine, kind="stable")]
        counts = np.bincount(mine + 1, minlength=len(groups.keys) + 1)
        ends = np.cumsum(counts)
        for number in np.flatnonzero(counts[1:]).tolist():
            parts[number] = grouped[ends[number] : ends[number + 1]]
    found = []
    for key, members in zip(groups.keys, parts, strict=True):
        trial = participants.trial[members]
        person = None if participants.person is None else participants.person[members]
        once = trial if person is None else trial[np.unique(person, return_index=True)[1]]
        counts = np.bincount(once)
        found.append(
            Cell(
                key=key,
                ordered=values[members],
                members=members,
                trial=trial,
                trial_counts={int(t): int(counts[t]) for t in np.flatnonzero(counts)},
                person=person,
            )
        )
    return tuple(found)


# ------------------------------------------------------------------ the limits of a cell


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedCell:
    """A cell; ``rule`` None, no limits: too few participants, or the limits are ``withheld``.

    ``limits`` are exact and stay inside the program; ``printed`` is for the outputs. ``without``
    maps each trial of the cell to the limits of the others by the same rule, where they are enough.
    """

    cell: Cell
    rule: LimitsRule | None = None
    limits: tuple[Limit, ...] = ()
    printed: tuple[Limit, ...] = ()
    without: Mapping[int, tuple[Limit, ...]] = field(default_factory=dict)
    withheld: bool = False


def fit_cell(
    measure: str, cell: Cell, options: ReferenceOptions, *, without_trials: bool = True
) -> FittedCell:
    """The limits of a cell by the options' rule.

    The cell's rule is kept where a trial is left out, so that the span shows the trial's influence
    and not the method's.
    """
    if cell.n < options.smallest_n:
        return FittedCell(cell=cell)
    rule, request = rule_for(cell.n, options), request_for(measure, cell, options)
    limits = estimate_limits(cell.ordered, rule, request)
    without = {
        trial: estimate_limits(cell.ordered[cell.trial != trial], rule, request.point())
        for trial, count in cell.trial_counts.items()
        if without_trials and cell.n - count >= options.smallest_n
    }
    printed = limits if options.internal else without_extremes(limits)
    return FittedCell(cell=cell, rule=rule, limits=limits, printed=printed, without=without)


def rule_for(n: int, options: ReferenceOptions) -> LimitsRule:
    """The rule asked for by name, or the default one for so many participants."""
    return options.limits or default_rule(n, options.outer_centiles)


def request_for(measure: str, cell: Cell, options: ReferenceOptions) -> LimitRequest:
    """What to estimate, with a seed of the cell's own, independent of other cells."""
    return LimitRequest(
        centiles=options.centiles,
        ci_level=options.ci_level / 100,
        bootstrap=options.bootstrap,
        seed=zlib.crc32(f"{options.seed}/{measure}/{cell.key.text()}".encode()),
        person=cell.person,
    )


# ------------------------------------------------------------------ outliers

_MIN_N = 20  # below it the quartiles say nothing of outliers
_POWERS = (-2.0, 3.0)
_POWER_FROM = 2000


def tukey_fences(ordered: np.ndarray) -> tuple[float, float]:
    """The fences of sorted values ``[n]`` on their own scale; (-inf, inf) for fewer than 20."""
    if len(ordered) < _MIN_N:
        return -math.inf, math.inf
    return _fences(ordered, symmetry_power(ordered))


def horn_fences(ordered: np.ndarray) -> tuple[float, float]:
    """Horn's own fences: Tukey's after the Box-Cox power of the highest likelihood.

    Of many values the power is that of 2,000 of them, equally spaced in rank. (-inf, inf) for
    fewer than 20 values, or where they are not all positive or all equal.
    """
    if len(ordered) < _MIN_N or ordered[0] <= 0 or not ordered[0] < ordered[-1]:
        return -math.inf, math.inf
    thinned = ordered
    if len(ordered) > _POWER_FROM:
        thinned = ordered[np.linspace(0, len(ordered) - 1, _POWER_FROM).astype(int)]
    return _fences(ordered, box_cox_power(thinned))


def symmetry_power(ordered: np.ndarray) -> float:
    """The Box-Cox power between -2 and 3 that makes the 10th and 90th centiles symmetric.

    1 (no change) where values are not all positive or no such power exists.
    """
    low, middle, high = (interpolated_quantile(ordered, p) for p in (0.1, 0.5, 0.9))
    if ordered[0] <= 0 or not low < middle < high:
        return 1.0

    def imbalance(power: float) -> float:
        # In units of the median the transformed median is 0.
        return _transformed(high / middle, power) + _transformed(low / middle, power)

    if imbalance(_POWERS[0]) * imbalance(_POWERS[1]) > 0:
        return 1.0
    return float(optimize.brentq(imbalance, *_POWERS, xtol=1e-12))


def _fences(ordered: np.ndarray, power: float) -> tuple[float, float]:
    """Tukey's fences after a power, on the values' own scale."""
    q1, q3 = (_transformed(interpolated_quantile(ordered, p), power) for p in (0.25, 0.75))
    reach = 1.5 * (q3 - q1)

    def back(value: float) -> float:
        if power == 1.0:  # also of values that are not positive
            return value + 1
        if abs(power) < 1e-9:
            return math.exp(value)
        inner = power * value + 1
        if inner <= 0:  # beyond what the power can reach: no value can lie there
            return -math.inf if power > 0 else math.inf
        return float(inner ** (1 / power))

    return back(q1 - reach), back(q3 + reach)


def _transformed(value: float, power: float) -> float:
    return math.log(value) if abs(power) < 1e-9 else (value**power - 1) / power


def dixon_extremes(ordered: np.ndarray) -> tuple[bool, bool]:
    """Whether the smallest and the largest value are apart by a third of the range or more.

    Dixon's D/R as Reed used it for reference intervals (Reed AH, Henry RJ, Mason WB. Clin Chem
    1971;17:275-84; EP28-A3c); ``ordered`` ``[n]`` ascending, n ≥ 3.
    """
    spread = float(ordered[-1] - ordered[0])
    if len(ordered) < 3 or spread <= 0:
        return False, False
    low, high = float(ordered[1] - ordered[0]), float(ordered[-1] - ordered[-2])
    return low >= spread / 3, high >= spread / 3


def outlying(cell: Cell) -> np.ndarray:
    """Members ``[outliers]`` of a cell beyond Tukey's fences."""
    low, high = tukey_fences(cell.ordered)
    return cell.members[(cell.ordered < low) | (cell.ordered > high)]


def suspects(cell: Cell) -> Iterator[tuple[int, tuple[str, ...], tuple[float, float]]]:
    """Members that Tukey's, Horn's or Dixon's rule calls an outlier, by value.

    With each the rules that do, and the fences of the first.
    """
    ordered = cell.ordered
    fences = {"tukey": tukey_fences(ordered), "horn": horn_fences(ordered)}
    beyond = {rule: (ordered < low) | (ordered > high) for rule, (low, high) in fences.items()}
    beyond["dixon"] = np.zeros(len(ordered), dtype=bool)
    if len(ordered) >= _MIN_N:
        beyond["dixon"][[0, -1]] = dixon_extremes(ordered)
    for place in np.flatnonzero(np.any(list(beyond.values()), axis=0)).tolist():
        rules = tuple(rule for rule, out in beyond.items() if out[place])
        yield int(cell.members[place]), rules, fences.get(rules[0], fences["tukey"])


def counts_of(cells: Sequence[Cell]) -> list[Count]:
    """The n of each cell; those of ethnicities are shown with that of all."""
    counts = [Count(cell.n) for cell in cells]
    by_group: dict[tuple[Any, ...], dict[str, int]] = {}
    for index, cell in enumerate(cells):
        by_group.setdefault((cell.key.sex, cell.key.age_low), {})[cell.key.ethnicity] = index
    for members in by_group.values():
        total = cells[members.pop(ALL)].n
        siblings = [cells[index].n for index in members.values()]
        for place, index in enumerate(members.values()):
            counts[index] = Count(cells[index].n, siblings, total, place)
    return counts
