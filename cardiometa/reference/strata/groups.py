"""Groups of participants with their limits, and values far from their group.

A group is a sex × ethnicity × age band, or the same over all ethnicities. Outliers are listed, and
dropped only when asked, by Tukey's fences after a power to symmetry. The internal list also says
where Horn's own fences (after the maximum-likelihood power) and Dixon's ratio call a value an
outlier.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any

import numpy as np

from ...cohort.plausibility import possible_values
from ...privacy.suppression import Count, without_extremes
from ...records import ETHNICITIES, SEXES
from ...statistics.robust import MIN_N, dixon_extremes, horn_fences, tukey_fences
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
        return asdict(self)


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
    met = sorted(set(participants.ethnicity.tolist()) - {-1}) if "ethnicity" in by else []
    sexes = SEXES if "sex" in by else (ALL,)
    ages: list[tuple[float | None, float | None]] = [(None, None)]
    if "age" in by:
        ages = list(zip(bands, [*bands[1:], None], strict=True))
    names = (ALL, *(ETHNICITIES[e] for e in met))
    none = np.zeros(len(participants.trial), dtype=int)
    sex = participants.sex if "sex" in by else none
    band = participants.band if "age" in by else none
    # Numbers count in the order of `keys`.
    first = sex * len(names) * len(ages) + band
    pooled = np.where((sex >= 0) & (band >= 0), first, -1).astype(np.int16)
    own = np.searchsorted(met, participants.ethnicity) + 1 if met else none
    has_own = (pooled >= 0) & (participants.ethnicity >= 0) & bool(met)
    return Strata(
        keys=tuple(
            StratumKey(sex=s, ethnicity=e, age_low=low, age_high=high)
            for s, e, (low, high) in product(sexes, names, ages)
        ),
        pooled=pooled,
        split=np.where(has_own, first + own * len(ages), -1).astype(np.int16),
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


def fit_cell(measure: str, cell: Cell, options: ReferenceOptions) -> FittedCell:
    """The limits of a cell by the options' rule.

    The cell's rule is kept where a trial is left out, so that the span shows the trial's influence
    and not the method's.
    """
    if cell.n < options.smallest_n:
        return FittedCell(cell=cell)
    rule = options.limits or default_rule(cell.ordered, cell.n, options.outer_centiles)
    request = request_for(measure, cell, options)
    limits = estimate_limits(cell.ordered, rule, request)
    without = {
        trial: estimate_limits(cell.ordered[cell.trial != trial], rule, request.point())
        for trial, count in cell.trial_counts.items()
        if cell.n - count >= options.smallest_n
    }
    printed = limits if options.internal else without_extremes(limits)
    return FittedCell(cell=cell, rule=rule, limits=limits, printed=printed, without=without)


def request_for(measure: str, cell: Cell, options: ReferenceOptions) -> LimitRequest:
    """What to estimate, with a seed of the cell's own, independent of other cells."""
    return LimitRequest(
        centiles=options.centiles,
        ci_level=options.ci_level / 100,
        bootstrap=options.bootstrap,
        seed=zlib.crc32(f"{options.seed}/{measure}/{cell.key.text()}".encode()),
        person=cell.person,
        possible=possible_values(measure),
    )


# ------------------------------------------------------------------ outliers


def outlying(cell: Cell, reach: float = 1.5) -> np.ndarray:
    """Members ``[outliers]`` beyond Tukey's fences, ``reach`` interquartile ranges out."""
    low, high = tukey_fences(cell.ordered, reach)
    return cell.members[(cell.ordered < low) | (cell.ordered > high)]


def suspects(cell: Cell) -> Iterator[tuple[int, tuple[str, ...], tuple[float, float]]]:
    """Members that Tukey's, Horn's or Dixon's rule calls an outlier, by value.

    With each the rules that do, and the fences of the first.
    """
    ordered = cell.ordered
    fences = {"tukey": tukey_fences(ordered), "horn": horn_fences(ordered)}
    beyond = {rule: (ordered < low) | (ordered > high) for rule, (low, high) in fences.items()}
    beyond["dixon"] = np.zeros(len(ordered), dtype=bool)
    if len(ordered) >= MIN_N:
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
