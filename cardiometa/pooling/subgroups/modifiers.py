"""The sums by arm for one possible effect modifier: a number, or levels of a category."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pandas as pd

from ...records import ETHNICITIES, SEXES
from ..endpoint.analysis_set import Analysed
from ..endpoint.columns import covariate_numbers
from ..first_stage.arm_sums import ArmSums, arm_sums
from ..options import EVENTS, PoolingOptions

AGE = "age_years"
LEVEL_PREFIX = "level:"
LEAST_IN_CELL = 2  # pooling.md 2.3: fewer per arm and level give no effect of their own
_ORDER = {"sex": SEXES, "ethnicity": ETHNICITIES}
# An interaction is read per so many units of the covariate.
PER = {AGE: (10.0, "per 10 years")}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModifierSums:
    """One modifier and one active arm against control, over all trials.

    ``levels`` are empty for a number; the first is the reference. ``sums`` has a trial's columns:
    its nuisance, then ``value`` or ``level:<name>`` of each level it has, and the outcome.
    ``counts`` are participants by (trial, level, arm), level ``""`` for a number; ``left_out`` are
    (trial, level) cells with too few of them;
    ``members`` are the rows used, by (trial, arm), where the rows are here; of events ``own`` are
    the modifier's columns of these rows, by trial.
    """

    name: str
    arm: str
    control: str
    levels: tuple[str, ...]
    sums: tuple[ArmSums, ...]
    counts: Mapping[tuple[str, str, str], int]
    left_out: tuple[tuple[str, str], ...]
    banded: bool = False
    members: Mapping[tuple[str, str], frozenset[object]] = field(default_factory=dict)
    own: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    @property
    def numeric(self) -> bool:
        """True for a number that enters linearly."""
        return not self.levels

    def levels_of(self, sums: ArmSums) -> tuple[str, ...]:
        """The levels that a trial's sums have, in the modifier's order."""
        return tuple(level for level in self.levels if level_column(level) in sums.columns)


VALUE = "value"


def level_column(level: str) -> str:
    """The name of a level's indicator among the sums' columns."""
    return f"{LEVEL_PREFIX}{level}"


def per_text(name: str) -> str:
    """What an interaction with a number is read per."""
    return PER[name][1] if name in PER else "per 1"


def band_labels(bands: Sequence[float]) -> tuple[str, ...]:
    """``18-29``, …, ``70+``: [low, high) on exact age, the last band open."""
    closed = tuple(f"{low:g}-{high - 1:g}" for low, high in pairwise(bands))
    return (*closed, f"{bands[-1]:g}+")


def modifier_sums(
    trials: Sequence[Analysed],
    values: pd.Series[str],
    name: str,
    arm: str,
    options: PoolingOptions,
    *,
    least: int = LEAST_IN_CELL,
) -> ModifierSums:
    """The sums for one modifier; ``values`` are the participants' texts by the rows' index.

    Numbers stay numbers. Participants without a value are left out of this analysis alone, and so
    is a level with fewer than ``least`` of them in an arm of a trial.
    """
    numbers = covariate_numbers(values)
    text = values.where(values != "")
    named = (name, arm)
    if numbers is None:
        return _sums(trials, text, named, options, least=least)
    # A number is one level without a name.
    numbers = numbers / PER.get(name, (1.0, ""))[0]
    return _sums(trials, text.mask(text.notna(), ""), named, options, least=least, numbers=numbers)


def banded_ages(
    trials: Sequence[Analysed],
    values: pd.Series[str],
    arm: str,
    options: PoolingOptions,
    *,
    least: int = LEAST_IN_CELL,
) -> ModifierSums | None:
    """Ages in bands, for display; None where the ages are not numbers."""
    numbers = covariate_numbers(values)
    if numbers is None:
        return None
    labels = band_labels(options.age_bands)
    edges = np.array(options.age_bands)
    place = np.searchsorted(edges, numbers.to_numpy(), side="right") - 1
    text = pd.Series(
        [
            labels[p] if p >= 0 and np.isfinite(n) else None
            for p, n in zip(place, numbers, strict=True)
        ],
        index=values.index,
        dtype=object,
    )
    return _sums(trials, text, (AGE, arm), options, order=labels, least=least)


def both_arms(trial: Analysed, arm: str, control: str) -> pd.Index:
    """The rows of the active arm and control."""
    return trial.rows.index[trial.rows["arm"].isin([control, arm])]


def sums_with(
    trial: Analysed, part: pd.DataFrame, name: str, own: pd.DataFrame, options: PoolingOptions
) -> ArmSums:
    """The sums of the rows; the modifier itself is no longer among the nuisance columns."""
    itself = {name, "baseline"} if name in (options.outcome, options.baseline_column) else {name}
    names = [c for c in trial.nuisance.columns if c.partition("=")[0] not in itself]
    return arm_sums(
        trial.trial,
        part,
        nuisance=trial.nuisance.loc[part.index, names],
        control=options.control,
        modifiers=own,
    )


def _sums(
    trials: Sequence[Analysed],
    values: pd.Series[str],
    named: tuple[str, str],
    options: PoolingOptions,
    *,
    least: int,
    order: Sequence[str] | None = None,
    numbers: pd.Series[float] | None = None,
) -> ModifierSums:
    """The sums over the levels in ``values`` (NaN unknown), or of ``numbers`` where these are."""
    name, arm = named
    known = values.notna()
    members: dict[tuple[str, str], frozenset[object]] = {}
    chosen: list[tuple[Analysed, pd.DataFrame, list[str]]] = []
    counts: dict[tuple[str, str, str], int] = {}
    left_out: list[tuple[str, str]] = []
    for trial in trials:
        index = both_arms(trial, arm, options.control)
        part = trial.rows.loc[index[known.loc[index].to_numpy()]]
        own = values.loc[part.index]
        table = pd.crosstab(own, part["arm"]).reindex(columns=[options.control, arm], fill_value=0)
        enough = table.min(axis=1) >= least
        left_out += [(trial.trial, str(level)) for level in table.index[~enough]]
        usable = [str(level) for level in table.index[enough]]
        if not usable:
            continue
        for level in usable:
            counts |= {
                (trial.trial, level, a): int(table[a][level]) for a in (options.control, arm)
            }
        part = part[own.isin(usable)]
        by_arm = part["arm"].groupby(part["arm"], observed=True)
        members |= {(trial.trial, str(a)): frozenset(rows.index) for a, rows in by_arm}
        chosen.append((trial, part, usable))
    met = Counter(level for *_, usable in chosen for level in usable)
    ranked = ordered_levels(name, met, order)
    sums = []
    columns: dict[str, pd.DataFrame] = {}
    for trial, part, usable in chosen:
        own = values.loc[part.index]
        found = {level_column(v): (own == v).astype(float) for v in ranked if v in usable}
        found = found if numbers is None else {VALUE: numbers.loc[part.index]}
        columns[trial.trial] = pd.DataFrame(found)
        sums.append(sums_with(trial, part, name, columns[trial.trial], options))
    return ModifierSums(
        name=name,
        arm=arm,
        control=options.control,
        levels=ranked if numbers is None else (),
        sums=tuple(sums),
        counts=counts,
        left_out=tuple(left_out) if numbers is None else (),
        banded=order is not None,
        members=members,
        own=columns if options.effect in EVENTS else {},
    )


def ordered_levels(
    name: str, met: Mapping[str, int], order: Sequence[str] | None
) -> tuple[str, ...]:
    """The field's order, the reference first: the first level that most trials have.

    ``met`` counts the trials of each level; ``order`` is given for bands, which have no reference.
    """
    known = list(order if order is not None else _ORDER.get(name, ()))
    ranked = sorted(met, key=lambda v: (known.index(v) if v in known else len(known), v))
    if order is None and ranked:
        most = max(met.values())
        reference = next(v for v in ranked if met[v] >= 0.8 * most)
        ranked = [reference, *(v for v in ranked if v != reference)]
    return tuple(ranked)
