"""Groups of people: every sex × ethnicity × age band, and the same over all ethnicities.

One cell with its limits: estimated, without each trial, and as they may be printed.

Values far from their group: listed, and dropped only when asked.

Tukey's fences Q1 - 1.5 IQR and Q3 + 1.5 IQR after a power transformation to symmetry (Horn PS et
al., Clin Chem 2001;47:2137-45). The power is the one that makes the 10th and 90th centiles lie
equally far from the median (Hinkley DV, Biometrika 1975;62:101-11): unlike the maximum-likelihood
Box-Cox power, the outliers themselves do not move it. The list that names people also says where
Horn's own fences (after the maximum-likelihood power) and Dixon's ratio call a value an outlier.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import optimize

from ...privacy.suppression import without_extremes
from ...records import ETHNICITIES, SEXES
from ...statistics.lms import box_cox_power
from ...statistics.order_statistics import interpolated_quantile
from ..options import LimitsRule, ReferenceOptions
from ..select import People
from .limits import Limit, LimitRequest, default_rule, estimate_limits

ALL = "all"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Strata:
    """Every group in the order of the tables.

    ``pooled`` and ``split`` ``[people]`` int16 count into ``keys``: the group over all ethnicities
    and that of the person's own, -1 where there is none.
    """

    keys: tuple[StratumKey, ...]
    pooled: np.ndarray
    split: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A measure in a group, sorted by value: ``ordered`` ``[n]``, ``members`` and ``trial`` alike.

    Ties stand in no fixed order. ``trial_counts`` maps each trial met to
    its people; ``person`` ``[n]`` numbers them where one may have several values, else None.
    """

    key: StratumKey
    ordered: np.ndarray
    members: np.ndarray
    trial: np.ndarray
    trial_counts: Mapping[int, int]
    person: np.ndarray | None = None

    @property
    def n(self) -> int:
        """People with a value."""
        return len(self.ordered) if self.person is None else sum(self.trial_counts.values())

    @property
    def n_trials(self) -> int:
        """Trials that these people come from."""
        return len(self.trial_counts)


def strata(people: People, bands: Sequence[float]) -> Strata:
    """Every group, empty ones too, in order: sex, ethnicity (``all`` first), age band.

    The ethnicities are those met in the table; people whose ethnicity is unknown are in ``all``
    alone.
    """
    sexes = range(len(SEXES)) if "sex" in people.by else (-1,)
    met = sorted(set(people.ethnicity.tolist()) - {-1}) if "ethnicity" in people.by else []
    band_numbers = range(len(bands)) if "age" in people.by else (-1,)
    codes = list(product(sexes, (-1, *met), band_numbers))
    n = len(people.trial)
    nobody = np.full(n, -1)
    sex = people.sex if "sex" in people.by else nobody
    band = people.band if "age" in people.by else nobody
    return Strata(
        keys=tuple(_key(*code, bands) for code in codes),
        pooled=_numbers(codes, sex, nobody, band),
        split=_numbers(codes, sex, people.ethnicity, band) if met else nobody.astype(np.int16),
    )


def _numbers(
    codes: Sequence[tuple[int, int, int]],
    sex: np.ndarray,
    ethnicity: np.ndarray,
    band: np.ndarray,
) -> np.ndarray:
    """The number of each person's group; of a person of unknown ethnicity that of ``all``."""
    bands = max(b for _, _, b in codes) + 2
    packed = ((ethnicity + 1) * (len(SEXES) + 1) + sex + 1) * bands + band + 1
    lookup = np.full((len(ETHNICITIES) + 1) * (len(SEXES) + 1) * bands, -1, dtype=np.int16)
    for number, (s, e, b) in enumerate(codes):
        lookup[((e + 1) * (len(SEXES) + 1) + s + 1) * bands + b + 1] = number
    return np.asarray(lookup[packed])


def _key(sex: int, ethnicity: int, band: int, bands: Sequence[float]) -> StratumKey:
    return StratumKey(
        sex=ALL if sex < 0 else SEXES[sex],
        ethnicity=ALL if ethnicity < 0 else ETHNICITIES[ethnicity],
        age_low=None if band < 0 else bands[band],
        age_high=None if band < 0 or band + 1 == len(bands) else bands[band + 1],
    )


def cells(people: People, groups: Strata, values: np.ndarray) -> tuple[Cell, ...]:
    """Each group's people that have a value in ``values`` ``[people]``, sorted by it.

    One sort by value and two radix sorts by group serve every group.
    """
    order = np.argsort(values)
    order = order[: int(np.isfinite(values).sum())]  # NaN sorts last
    known = people.ethnicity >= 0
    parts = [np.empty(0, dtype=np.int64)] * len(groups.keys)
    for numbers, rows in ((groups.pooled, order), (groups.split, order[known[order]])):
        mine = numbers[rows]
        grouped = rows[np.argsort(mine, kind="stable")]
        counts = np.bincount(mine + 1, minlength=len(groups.keys) + 1)
        ends = np.cumsum(counts)
        for number in np.flatnonzero(counts[1:]).tolist():
            parts[number] = grouped[ends[number] : ends[number + 1]]
    return tuple(
        _cell(people, key, values, members) for key, members in zip(groups.keys, parts, strict=True)
    )


def _cell(people: People, key: StratumKey, values: np.ndarray, members: np.ndarray) -> Cell:
    trial = people.trial[members]
    person = None if people.person is None else people.person[members]
    once = trial if person is None else trial[np.unique(person, return_index=True)[1]]
    counts = np.bincount(once)
    return Cell(
        key=key,
        ordered=values[members],
        members=members,
        trial=trial,
        trial_counts={int(t): int(counts[t]) for t in np.flatnonzero(counts)},
        person=person,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedCell:
    """A cell; ``rule`` None and no limits where it has too few people, or they are ``withheld``.

    ``limits`` are exact and stay inside the program; ``printed`` is for the outputs. ``without``
    maps each trial of the cell to the limits of the others by the same rule, where they are enough.
    """

    cell: Cell
    rule: LimitsRule | None
    limits: tuple[Limit, ...] = ()
    printed: tuple[Limit, ...] = ()
    without: Mapping[int, tuple[Limit, ...]]
    withheld: bool = False


def fit_cell(
    measure: str, cell: Cell, options: ReferenceOptions, *, without_trials: bool = True
) -> FittedCell:
    """The limits of a cell by the options' rule."""
    if cell.n < options.smallest_n:
        return FittedCell(cell=cell, rule=None, without={})
    rule = rule_for(cell.n, options)
    request = request_for(measure, cell, options)
    limits = estimate_limits(cell.ordered, rule, request)
    return FittedCell(
        cell=cell,
        rule=rule,
        limits=limits,
        printed=limits if options.internal else without_extremes(limits),
        without=_without_each(cell, rule, request, options) if without_trials else {},
    )


def rule_for(n: int, options: ReferenceOptions) -> LimitsRule:
    """The rule asked for by name, or the default one for so many people."""
    return options.limits or default_rule(n, outer_centiles(options))


def outer_centiles(options: ReferenceOptions) -> tuple[float, ...]:
    """The limits proper: the centiles without the middle."""
    return tuple(c for c in options.centiles if c != 50)


def request_for(measure: str, cell: Cell, options: ReferenceOptions) -> LimitRequest:
    """What to estimate, with a seed of the cell's own: other cells and their order play no part."""
    text = f"{options.seed}/{measure}/{cell.key.text()}"
    return LimitRequest(
        centiles=options.centiles,
        ci_level=options.ci_level / 100,
        bootstrap=options.bootstrap,
        seed=zlib.crc32(text.encode()),
        person=cell.person,
    )


def point_request(request: LimitRequest) -> LimitRequest:
    """The same without a bootstrap: for limits that are printed without an interval."""
    return LimitRequest(
        centiles=request.centiles, ci_level=request.ci_level, bootstrap=0, seed=request.seed
    )


def _without_each(
    cell: Cell, rule: LimitsRule, request: LimitRequest, options: ReferenceOptions
) -> dict[int, tuple[Limit, ...]]:
    """The cell's rule is kept, so that the span is the trial's doing and not the method's."""
    found = {}
    for trial in cell.trial_counts:
        others = cell.ordered[cell.trial != trial]
        if cell.n - cell.trial_counts[trial] >= options.smallest_n:
            found[trial] = estimate_limits(others, rule, point_request(request))
    return found


_MIN_N = 20  # below it the quartiles say nothing of outliers
_POWERS = (-2.0, 3.0)
_POWER_FROM = 2000


def tukey_fences(ordered: np.ndarray) -> tuple[float, float]:
    """The fences of sorted values ``[n]`` on their own scale; (-inf, inf) for fewer than 20."""
    if len(ordered) < _MIN_N:
        return -math.inf, math.inf
    power = symmetry_power(ordered)
    q1, q3 = (_transformed(interpolated_quantile(ordered, p), power) for p in (0.25, 0.75))
    reach = 1.5 * (q3 - q1)
    return _back(q1 - reach, power), _back(q3 + reach, power)


def horn_fences(ordered: np.ndarray) -> tuple[float, float]:
    """Horn's own fences: Tukey's after the Box-Cox power of the highest likelihood.

    Of many values the power is that of 2,000 of them, equally far apart in rank. (-inf, inf) for
    fewer than 20 values, or where they are not all positive or all equal.
    """
    if len(ordered) < _MIN_N or ordered[0] <= 0 or not ordered[0] < ordered[-1]:
        return -math.inf, math.inf
    thinned = ordered
    if len(ordered) > _POWER_FROM:
        thinned = ordered[np.linspace(0, len(ordered) - 1, _POWER_FROM).astype(int)]
    power = box_cox_power(thinned)
    q1, q3 = (_transformed(interpolated_quantile(ordered, p), power) for p in (0.25, 0.75))
    reach = 1.5 * (q3 - q1)
    return _back(q1 - reach, power), _back(q3 + reach, power)


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


def _transformed(value: float, power: float) -> float:
    return math.log(value) if abs(power) < 1e-9 else (value**power - 1) / power


def _back(value: float, power: float) -> float:
    if power == 1.0:  # also of values that are not positive
        return value + 1
    if abs(power) < 1e-9:
        return math.exp(value)
    inner = power * value + 1
    if inner <= 0:  # beyond what the power can reach: no value can lie there
        return -math.inf if power > 0 else math.inf
    return float(inner ** (1 / power))


def dixon_extremes(ordered: np.ndarray) -> tuple[bool, bool]:
    """Whether the smallest and the largest value are apart by a third of the range or more.

    Dixon's D/R as Reed used it for reference intervals (Reed AH, Henry RJ, Mason WB. Clin Chem
    1971;17:275-84; EP28-A3c); ``ordered`` ``[n]`` ascending, n ≥ 3.
    """
    if len(ordered) < 3:
        return False, False
    spread = float(ordered[-1] - ordered[0])
    if spread <= 0:
        return False, False
    low, high = float(ordered[1] - ordered[0]), float(ordered[-1] - ordered[-2])
    return low >= spread / 3, high >= spread / 3


def outlying(cell: Cell) -> np.ndarray:
    """Members ``[outliers]`` of a cell beyond Tukey's fences."""
    low, high = tukey_fences(cell.ordered)
    return cell.members[(cell.ordered < low) | (cell.ordered > high)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A member of a cell beyond a rule's fences: which rules, and the fences of the first."""

    member: int
    rules: tuple[str, ...]
    low: float
    high: float


def suspects(cell: Cell) -> tuple[Suspect, ...]:
    """Everybody whom Tukey's, Horn's or Dixon's rule calls an outlier, by value."""
    ordered = cell.ordered
    fences = {"tukey": tukey_fences(ordered), "horn": horn_fences(ordered)}
    beyond = {rule: (ordered < low) | (ordered > high) for rule, (low, high) in fences.items()}
    apart = np.zeros(len(ordered), dtype=bool)
    if len(ordered) >= _MIN_N:
        apart[0], apart[-1] = dixon_extremes(ordered)
    beyond["dixon"] = apart
    found = []
    for place in np.flatnonzero(np.any(list(beyond.values()), axis=0)).tolist():
        rules = tuple(rule for rule, out in beyond.items() if out[place])
        low, high = fences.get(rules[0], fences["tukey"])
        member = int(cell.members[place])
        found.append(Suspect(member=member, rules=rules, low=low, high=high))
    return tuple(found)
