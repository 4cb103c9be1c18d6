"""Groups of people: every sex × ethnicity × age band, and the same over all ethnicities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from ...records import ETHNICITIES, SEXES
from ..select import People

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
