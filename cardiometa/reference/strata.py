"""Groups of people: every sex × ethnicity × age band, and the same over all ethnicities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from ..records import ETHNICITIES, SEXES
from .people import People

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
class Stratum:
    """A group: ``members`` ``[n]`` count into the people."""

    key: StratumKey
    members: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A measure in a group, sorted by value: ``ordered`` ``[n]``, ``members`` and ``trial`` alike.

    Ties stand in the people's order (trial, participant).
    """

    key: StratumKey
    ordered: np.ndarray
    members: np.ndarray
    trial: np.ndarray

    @property
    def n(self) -> int:
        """People with a value."""
        return len(self.ordered)

    @property
    def n_trials(self) -> int:
        """Trials that these people come from."""
        return len(np.unique(self.trial))


def strata(people: People, bands: Sequence[float]) -> tuple[Stratum, ...]:
    """Every group, empty ones too, in order: sex, ethnicity (``all`` first), age band.

    The ethnicities are those met in the table; people whose ethnicity is unknown are in ``all``
    alone.
    """
    sexes = range(len(SEXES)) if "sex" in people.by else (-1,)
    met = sorted(set(people.ethnicity.tolist()) - {-1}) if "ethnicity" in people.by else []
    band_numbers = range(len(bands)) if "age" in people.by else (-1,)
    order = {
        "pooled": _grouped(people, len(bands), with_ethnicity=False),
        "split": _grouped(people, len(bands), with_ethnicity=True),
    }
    found = []
    for sex, ethnicity, band in product(sexes, (-1, *met), band_numbers):
        kind = "pooled" if ethnicity < 0 else "split"
        members = order[kind].get((sex, ethnicity, band), np.empty(0, dtype=np.int64))
        found.append(Stratum(key=_key(sex, ethnicity, band, bands), members=members))
    return tuple(found)


def _key(sex: int, ethnicity: int, band: int, bands: Sequence[float]) -> StratumKey:
    return StratumKey(
        sex=ALL if sex < 0 else SEXES[sex],
        ethnicity=ALL if ethnicity < 0 else ETHNICITIES[ethnicity],
        age_low=None if band < 0 else bands[band],
        age_high=None if band < 0 or band + 1 == len(bands) else bands[band + 1],
    )


def _grouped(
    people: People, bands: int, *, with_ethnicity: bool
) -> dict[tuple[int, int, int], np.ndarray]:
    """The members of each group by one sort; people outside every group are left out."""
    n = len(people.trial)
    sex = people.sex if "sex" in people.by else np.full(n, -1)
    band = people.band if "age" in people.by else np.full(n, -1)
    ethnicity = people.ethnicity if with_ethnicity else np.full(n, -1)
    use = ethnicity >= 0 if with_ethnicity else np.full(n, fill_value=True)
    number = ((ethnicity + 1) * (len(SEXES) + 1) + sex + 1) * (bands + 1) + band + 1
    rows = np.flatnonzero(use)
    rows = rows[np.argsort(number[rows], kind="stable")]
    found = {}
    for part in np.split(rows, np.flatnonzero(np.diff(number[rows])) + 1):
        if len(part):
            first = part[0]
            found[int(sex[first]), int(ethnicity[first]), int(band[first])] = part
    return found


def cells(people: People, groups: Sequence[Stratum], values: np.ndarray) -> Iterator[Cell]:
    """Each group's people that have a value ``values`` ``[people]``, sorted by it."""
    for group in groups:
        mine = values[group.members]
        has_value = np.isfinite(mine)
        members = group.members[has_value]
        order = np.argsort(mine[has_value], kind="stable")
        members = members[order]
        yield Cell(
            key=group.key,
            ordered=values[members],
            members=members,
            trial=people.trial[members],
        )
