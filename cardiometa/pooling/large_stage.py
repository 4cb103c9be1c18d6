"""The first stage of a large table from its groups: who is analysed, each trial's sums and effects.

The same rules as for a table that is read whole (`eligible`, `arm_sums`, `first_stage`), applied to
groups of people instead of persons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd

from ..estimation.sums import merge_summaries, transform_summary
from ..records import TrialSummary
from .arm_sums import OUTCOME, ArmSums
from .columns import harmonised_name
from .first_stage import NOBODY, NOBODY_AT_ALL, natural
from .large_groups import Groups
from .options import PoolingOptions
from .records import ArmCount, Study
from .trial_effects import effects_of_trial

NOT_COMPARED = ("not-randomised", "no-arm", "one-arm-trial")


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeStage:
    """``table``: one row a group with ``code`` (empty: analysed); ``sums`` and ``studies`` by arm.

    ``imputed`` names the columns of the models in which a trial's mean stands for missing values.
    """

    table: pd.DataFrame
    sums: tuple[ArmSums, ...]
    studies: Mapping[str, tuple[Study, ...]]
    columns: tuple[str, ...]
    imputed: frozenset[str]


def codes_of(table: pd.DataFrame, options: PoolingOptions) -> pd.Series:
    """Why the people of each group are not analysed, as far as the group itself tells."""
    codes = pd.Series("", index=table.index, dtype=object)

    def mark(where: pd.Series | np.ndarray, code: str) -> None:
        codes[np.asarray(where, dtype=bool) & (codes == "")] = code

    if "randomised" in table:
        mark(np.array([value is False for value in table["randomised"]]), "not-randomised")
    mark(table["arm"].eq(""), "no-arm")
    mark(table["missing outcome"].astype(bool), "no-outcome")
    complete = options.missing_baseline == "complete"
    if options.effect == "change" or (complete and options.effect == "mean-difference"):
        mark(table["missing baseline"].astype(bool), "no-baseline")
    if complete:
        for name in _covariates(table):
            column = f"missing {name}"
            lacks = table[column].astype(bool) if column in table else table[name].eq("")
            mark(lacks, "no-covariate")
    return codes


def _covariates(table: pd.DataFrame) -> list[str]:
    """The covariates among the columns of the groups' table."""
    own = {"trial", "arm", "randomised", "n", "missing outcome", "missing baseline"}
    return [str(c).removeprefix("missing ") for c in table.columns if c not in own]


def large_stage(groups: Groups, options: PoolingOptions) -> LargeStage:
    """Codes, sums and studies of all trials for the effect that ``options`` ask for."""
    table = groups.table()
    codes = codes_of(table, options)
    randomised = ~codes.isin(["not-randomised", "no-arm"])
    arms = table[randomised].groupby("trial")["arm"].nunique()
    single = table["trial"].isin(list(arms.index[arms < 2])) & randomised
    table = table.assign(code=codes.mask(single, "one-arm-trial"))
    compared = table[~table["code"].isin(NOT_COMPARED)]
    design = _design(groups, compared, options)
    built = [
        _trial_sums(groups, str(trial), part, design, options)
        for trial, part in compared.groupby("trial", sort=True)
    ]
    sums = tuple(one for one, _ in built if one is not None)
    found = {(s.arm, s.trial): s for one in sums for s in effects_of_trial(one)}
    studies = _with_empty(compared, found, options)
    given = {(trial, arm) for (arm, trial), study in found.items() if study.estimable}
    given |= {(trial, options.control) for trial, _ in given}
    keys = list(zip(table["trial"], table["arm"], strict=True))
    lost = (table["code"] == "") & ~pd.Series([key in given for key in keys], index=table.index)
    return LargeStage(
        table=table.assign(code=table["code"].mask(lost, "trial-not-estimable")),
        sums=sums,
        studies=studies,
        columns=tuple(column.name for column in design),
        imputed=frozenset(name for _, names in built for name in names),
    )


# ------------------------------------------------------------------ each trial's sums


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """A column of the models: a number (``place``), or a ``level`` of a category."""

    name: str
    source: str
    place: int | None = None
    level: str = ""


def _design(groups: Groups, compared: pd.DataFrame, options: PoolingOptions) -> list[_Column]:
    """The nuisance columns: baseline, numbers as they are, categories as indicators."""
    numbers = list(groups.columns.numbers)
    found = []
    if options.effect == "mean-difference":
        found.append(_Column(name="baseline", source="baseline", place=numbers.index("baseline")))
    for name in map(harmonised_name, options.adjust):
        if name in numbers:
            found.append(_Column(name=name, source=name, place=numbers.index(name)))
            continue
        levels = sorted({str(value) for value in compared[name]} - {""})[1:]
        found += [_Column(name=f"{name}={level}", source=name, level=level) for level in levels]
    return found


def _known(row: Any, column: _Column, groups: Groups) -> float | None:
    """The mean of a column in one group; None where it is missing."""
    if column.place is None:
        return None if row[column.source] == "" else float(row[column.source] == column.level)
    if row[f"missing {column.source}"]:
        return None
    return float(groups.means[row["group"], column.place])


def _trial_sums(
    groups: Groups,
    trial: str,
    part: pd.DataFrame,
    design: Sequence[_Column],
    options: PoolingOptions,
) -> tuple[ArmSums | None, set[str]]:
    """The sums of a trial's arms, and the columns with means in place of missing values.

    A missing value is the mean of all randomised of the trial, both arms together; a column without
    any value is 0, and is absorbed as a constant.
    """
    rows: list[Any] = part.assign(group=part.index).to_dict("records")
    fill = [_mean([(r["n"], _known(r, c, groups)) for r in rows]) for c in design]
    arms: dict[str, list[TrialSummary]] = {}
    imputed = set()
    names = [*(column.name for column in design), OUTCOME]
    for row in rows:
        if row["code"]:
            continue
        values = [_known(row, column, groups) for column in design]
        imputed |= {
            column.name
            for column, value, mean in zip(design, values, fill, strict=True)
            if value is None and mean is not None
        }
        means = [(m or 0.0) if v is None else v for v, m in zip(values, fill, strict=True)]
        places = [c.place if v is not None else None for c, v in zip(design, values, strict=True)]
        arms.setdefault(row["arm"], []).append(
            _summary(groups, trial, row, (names, [*means], places), options)
        )
    if not arms:
        return None, imputed
    order = sorted(arms, key=lambda arm: (arm != options.control, arm))
    sums = ArmSums(
        trial=trial,
        control=options.control,
        nuisance=tuple(names[:-1]),
        arms={arm: reduce(merge_summaries, arms[arm]) for arm in order},
    )
    return sums, imputed


def _mean(parts: Sequence[tuple[int, float | None]]) -> float | None:
    known = [(n, value) for n, value in parts if value is not None]
    total = sum(n for n, _ in known)
    return sum(n * value for n, value in known) / total if total else None


def _summary(
    groups: Groups,
    trial: str,
    row: Mapping[str, Any],
    model: tuple[list[str], list[float], list[int | None]],
    options: PoolingOptions,
) -> TrialSummary:
    """One group's sums for the model's columns; constants have no cross-products."""
    names, means, places = model
    group = row["group"]
    p = len(names)
    products = np.zeros((p, p))
    own = [*places, 0]
    at = [i for i, place in enumerate(own) if place is not None]
    source = [place for place in own if place is not None]
    products[np.ix_(at, at)] = groups.products[group][np.ix_(source, source)]
    summary = TrialSummary(
        trial=trial,
        n=int(row["n"]),
        columns=tuple(names),
        means=np.array([*means, groups.means[group, 0]]),
        cross_products=products,
    )
    return _change(groups, summary, row) if options.effect == "change" else summary


def _change(groups: Groups, summary: TrialSummary, row: Mapping[str, Any]) -> TrialSummary:
    """The sums with outcome less baseline as the outcome; covariates as they are."""
    group, baseline = row["group"], list(groups.columns.numbers).index("baseline")
    names = [*summary.columns, "baseline"]
    p = len(names)
    products = np.zeros((p, p))
    products[:-1, :-1] = summary.cross_products
    numbers = list(groups.columns.numbers)
    for i, name in enumerate(names):
        place = 0 if name == OUTCOME else numbers.index(name) if name in numbers else None
        if place is not None and not row.get(f"missing {name}", False):
            products[i, -1] = products[-1, i] = groups.products[group, place, baseline]
    wide = replace(
        summary,
        columns=tuple(names),
        means=np.append(summary.means, groups.means[group, baseline]),
        cross_products=products,
    )
    forms = np.zeros((1 + p, p - 1))
    forms[1:p, :] = np.eye(p - 1)
    forms[p, -1] = -1.0
    return transform_summary(wide, summary.columns, forms)


def _with_empty(
    compared: pd.DataFrame, found: Mapping[tuple[str, str], Study], options: PoolingOptions
) -> dict[str, tuple[Study, ...]]:
    """Each active arm's trials, those that lost an arm to missing values included."""
    pairs = {(a, t) for a, t in zip(compared["arm"], compared["trial"], strict=True)}
    studies: dict[str, tuple[Study, ...]] = {}
    for arm, trial in sorted(pairs, key=lambda pair: (pair[0], natural(pair[1]))):
        if arm == options.control:
            continue
        study = found.get((arm, trial)) or _empty(compared, trial, arm, options.control)
        studies[arm] = (*studies.get(arm, ()), study)
    return studies


def _empty(compared: pd.DataFrame, trial: str, arm: str, control: str) -> Study:
    mine = compared[(compared["trial"] == trial) & (compared["code"] == "")]
    n_control, n_active = (int(mine.loc[mine["arm"] == a, "n"].sum()) for a in (control, arm))
    return Study(
        trial=trial,
        arm=arm,
        control=control,
        estimate=None,
        se=None,
        n_control=n_control,
        n_active=n_active,
        n=n_control + n_active,
        note=NOBODY if n_control or n_active else NOBODY_AT_ALL,
    )


# ------------------------------------------------------------------ the account by arm


def large_by_arm(groups: Groups, stage: LargeStage) -> tuple[ArmCount, ...]:
    """Counts and means of each arm of each trial, of the randomised whose arm is known."""
    table = stage.table.assign(group=stage.table.index)
    table = table[~table["code"].isin(["not-randomised", "no-arm"])]
    has = "missing baseline" in table
    rows = []
    for (trial, arm), part in table.groupby(["trial", "arm"], sort=True):
        analysed = part["code"] == ""
        outcome = ~part["missing outcome"].astype(bool)
        before = ~part["missing baseline"].astype(bool) if has else outcome & False
        mean, deviation = _moments(groups, part[analysed], 0)
        rows.append(
            ArmCount(
                trial=str(trial),
                arm=str(arm),
                randomised=int(part["n"].sum()),
                died=None,
                withdrew=None,
                alive=None,
                scanned=_count(part, outcome),
                no_outcome=_count(part, ~outcome),
                no_baseline=_count(part, ~before),
                paired=_count(part, before & outcome),
                baseline_only=_count(part, before & ~outcome),
                followup_only=_count(part, ~before & outcome),
                analysed=_count(part, analysed),
                events=None,
                outcome_mean=mean,
                outcome_sd=deviation,
                n_baseline_others=_count(part, ~analysed & before),
                baseline_analysed=_moments(groups, part[analysed & before], 1)[0],
                baseline_others=_moments(groups, part[~analysed & before], 1)[0],
                note="deaths not recorded",
            )
        )
    return tuple(sorted(rows, key=lambda row: natural(row.trial)))


def _count(part: pd.DataFrame, where: pd.Series) -> int:
    return int(part.loc[where, "n"].sum())


def _moments(groups: Groups, part: pd.DataFrame, place: int) -> tuple[float | None, float | None]:
    """Mean and SD of a number over groups that have it; None where there is too little."""
    at = part["group"].to_numpy(dtype=int)
    n = groups.n[at]
    total = float(n.sum())
    if total == 0:
        return None, None
    means = groups.means[at, place]
    mean = float(n @ means) / total
    squares = float(groups.products[at, place, place].sum() + n @ (means - mean) ** 2)
    return mean, (squares / (total - 1)) ** 0.5 if total > 1 else None
