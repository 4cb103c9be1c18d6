"""New people against a reference: z score and centile, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from ..records import ETHNICITIES, SEXES
from .conventions import depends_on
from .curves.curve import Curve
from .model import EthnicityRule, GroupLaw, Kind, ReferenceModel, laws_for, outside
from .strata.groups import ALL

NO_VALUE = "no value"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreOptions:
    """How people are scored.

    ``ethnicity`` ``own``: by the limits of the person's ethnicity where the reference has them,
    else those of everybody; ``all``: always those of everybody. ``same_conventions``: what a table
    does not state is as in the reference.
    """

    kind: Kind = "marginal"
    ethnicity: EthnicityRule = "own"
    same_conventions: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPeople:
    """Rows to score, arrays ``[rows]``: ``sex`` and ``ethnicity`` as text, "" unknown.

    ``conventions`` maps each convention that the table states to its text, "" where it does not.
    """

    sex: np.ndarray
    ethnicity: np.ndarray
    age_years: np.ndarray
    conventions: Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Arrays ``[rows]``: NaN where there is no score; ``note`` says why, or by which limits."""

    z: np.ndarray
    centile: np.ndarray
    note: np.ndarray

    @property
    def scored(self) -> int:
        """Rows with a score."""
        return int(np.isfinite(self.z).sum())


def score_people(
    model: ReferenceModel,
    measure: str,
    values: np.ndarray,
    people: NewPeople,
    options: ScoreOptions,
) -> Scores:
    """The scores of ``values`` ``[rows]`` (NaN missing) of a measure that the model has."""
    n = len(values)
    z = np.full(n, np.nan)
    note = np.full(n, "", dtype=object)
    refused = convention_refusals(model, measure, people, options)
    note[refused != ""] = refused[refused != ""]
    missing = ~np.isfinite(values)
    note[missing] = NO_VALUE
    free = (note == "") & ~missing
    sexes = model.sexes(measure)
    keys, code = np.unique(
        np.char.add(np.char.add(people.sex.astype(str), "/"), people.ethnicity.astype(str)),
        return_inverse=True,
    )
    for number, key in enumerate(keys.tolist()):
        rows = np.flatnonzero((code == number) & free)
        if not len(rows):
            continue
        sex, _, ethnicity = key.partition("/")
        if sex not in SEXES and ALL not in sexes:
            note[rows] = "sex unknown"
            continue
        laws, remark = _choose(model, measure, sex, ethnicity, options)
        if not laws:
            note[rows] = "no limits for this group"
            continue
        _score_rows(laws, values, people.age_years, rows, (z, note))
        done = rows[np.isfinite(z[rows])]
        note[done] = remark
    return Scores(z=z, centile=100 * special.ndtr(z), note=note)


def _choose(
    model: ReferenceModel, measure: str, sex: str, ethnicity: str, options: ScoreOptions
) -> tuple[tuple[GroupLaw, ...], str]:
    """The laws of a group and what must be known about the choice."""
    wanted = ethnicity if options.ethnicity == "own" and ethnicity in ETHNICITIES else ALL
    laws = laws_for(model, measure, sex, wanted, options.kind)
    remarks = []
    if not laws and wanted != ALL:
        laws = laws_for(model, measure, sex, ALL, options.kind)
        remarks.append(f"limits of everybody (none of {wanted})")
    elif wanted == ALL and options.ethnicity == "own" and _parts(model, measure):
        remarks.append("limits of everybody (ethnicity unknown)")
    if laws and laws[0].kind != options.kind and laws[0].kind == "conditional":
        remarks.append("conditional limits")
    return laws, "; ".join(remarks)


def _parts(model: ReferenceModel, measure: str) -> bool:
    return any(law.ethnicity != ALL for law in model.laws if law.measure == measure)


def _score_rows(
    laws: Sequence[GroupLaw],
    values: np.ndarray,
    ages: np.ndarray,
    rows: np.ndarray,
    into: tuple[np.ndarray, np.ndarray],
) -> None:
    """Fill z and note ``[rows of the table]`` for some rows of one group."""
    z, note = into
    left = rows
    for group in laws:
        mine = left[group.holds(ages[left])]
        left = np.setdiff1d(left, mine, assume_unique=True)
        if not len(mine):
            continue
        # Where age plays no part any age will do.
        at = np.nan_to_num(ages[mine])
        found = group.law.z_scores(values[mine], at)
        z[mine] = np.where(np.isfinite(found), found, np.nan)
        note[mine[np.isnan(found)]] = "the law of this group has no such value"
        low, high = known_ends(group)
        note[mine[found == -np.inf]] = f"below centile {low:g}"
        note[mine[found == np.inf]] = f"above centile {high:g}"
    for row in left.tolist():
        note[row] = outside(laws, float(ages[row]))


def known_ends(group: GroupLaw) -> tuple[float, float]:
    """The centiles between which the law knows a score: 0 and 100 but for a nonparametric one."""
    law = group.law
    if isinstance(law, Curve) and law.family == "quantile":
        centiles = [float(name) for name in law.functions]
        return min(centiles), max(centiles)
    return 0.0, 100.0


# ------------------------------------------------------------------ conventions


def convention_refusals(
    model: ReferenceModel, measure: str, people: NewPeople, options: ScoreOptions
) -> np.ndarray:
    """For each row why its convention forbids a score, "" where nothing does."""
    refused = np.full(len(people.sex), "", dtype=object)
    for name in depends_on(measure):
        wanted = model.conventions.get(name, ())
        if not wanted:
            continue
        stated: Any = people.conventions.get(name)
        if stated is None:
            stated = np.full(len(refused), "", dtype=object)
        other = ~np.isin(stated.astype(str), ["", *wanted])
        unstated = stated == ""
        theirs = " or ".join(v[:12] if name.endswith("sha256") else v for v in wanted)
        for row in np.flatnonzero(other & (refused == "")).tolist():
            mine = str(stated[row])
            mine = mine[:12] if name.endswith("sha256") else mine
            refused[row] = f"{name} is {mine}, the reference's is {theirs}"
        if not options.same_conventions:
            refused[unstated & (refused == "")] = (
                f"{name} is not stated, the reference's is {theirs}"
            )
    return refused
