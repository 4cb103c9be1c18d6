"""Everyone of a large table in one pass: counts and sums of groups of people, no row kept.

People of one trial, arm and set of categories, with the same numbers missing, are one group; its
count, means and centred cross-products are all that the Gaussian models and the accounting need.
Groups of several parts of the table merge exactly (Chan, Golub & LeVeque 1979).

The first stage of a large table from its groups: who is analysed, each trial's sums and effects.

The same rules as for a table that is read whole (`eligible`, `arm_sums`, `first_stage`), applied to
groups of people instead of persons.

Pool a table too large to be held: the same rows as from all participants, from groups of them.

It is chosen for large tables with one row a participant and an analysis that needs no more than
sums; any other table is read whole. What needs each person's row is not done, and the result says
so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..cohort.analysis_table import CONVENTIONS, IMPUTATION, column_rules, lookalikes, unescaped
from ..cohort.chunks import Columns, NotPlainError, header_of, read_chunks, rows_of
from ..cohort.column_rules import COLUMN_KINDS, kind_of
from ..cohort.models import ColumnRule, TableOptions
from ..cohort.parsing import UNKNOWN, by_value, rows_text, text_of
from ..cohort.participants import resolve_columns
from ..cohort.recode import harmonise
from ..errors import Problem, TableError
from ..measurement.measures import definition
from ..records import Exclusion, TrialSummary
from ..statistics.mixed.sufficient_statistics import merge_summaries, transform_summary
from .aggregate_effects import source_rows
from .endpoint.accessors import harmonised_name
from .endpoint.analysis_set import SENTENCES, Analysed
from .endpoint.arms import refuse_without_arms
from .endpoint.endpoint import Endpoint
from .first_stage.arm_sums import OUTCOME, ArmSums
from .first_stage.first_stage import NOBODY, NOBODY_AT_ALL, FirstStage, natural, no_effect
from .first_stage.trial_effects import effects_of_trial
from .flow import flow_counts
from .integrity.cohort import Spread, spread_rows, unit_warnings
from .options import DIFFERENCES, PoolingOptions
from .pool import (
    JOINT_MODEL,
    SummaryTable,
    both_stages,
    headlines_again,
    influence_of,
    summaries_sentence,
    with_summaries,
)
from .results import Accounting, ArmCount, DeltaRow, EffectRow, IntegrityRow, PoolingResult, Study
from .second_stage.multi_arm import JOINT, joint_fit, joint_rows
from .second_stage.one_stage import OneStage, joint_one_stage_rows
from .second_stage.two_stage import heterogeneity_rows
from .sensitivity.delta import Missing, delta_rows_of, tipping_sentences
from .suppression import release_counts, release_effects, release_integrity
from .wording import integrity_warning, methods_of_rows, share_warning, stage_warnings

_MIX = np.uint64(0x9E3779B97F4A7C15)
_LONGEST_UNKNOWN = max(map(len, UNKNOWN))


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeColumns:
    """Which columns of the file are what.

    ``categories`` and ``numbers`` by harmonised name; the first categories are ``trial``, ``arm``
    and (where the table has it) ``randomised``, the first number is the outcome, the second the
    baseline where there is one. ``hints`` are sentences about columns under other names.
    """

    path: Path
    participant: ColumnRule
    categories: Mapping[str, ColumnRule]
    numbers: Mapping[str, ColumnRule]
    hints: tuple[str, ...] = ()

    @property
    def wanted(self) -> Columns:
        """The columns of the file to read."""
        return Columns(
            categories=[rule.column for rule in self.categories.values()],
            texts=[self.participant.column],
            numbers=[rule.column for rule in self.numbers.values()],
        )


@dataclass(slots=True, kw_only=True)
class Groups:
    """Groups as they are met: ``keys`` (category values, then which numbers are missing) to sums.

    ``n`` ``[K]``, ``means`` ``[K, p]`` and ``products`` ``[K, p, p]``, zero where missing;
    ``books`` number the values of each category.
    """

    columns: LargeColumns
    books: list[dict[object, int]]
    keys: dict[tuple[int, ...], int] = field(default_factory=dict)
    n: np.ndarray = field(default_factory=lambda: np.zeros(0))
    means: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    products: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0)))

    def table(self) -> pd.DataFrame:
        """One row a group: its categories, ``n``, and whether each number is ``missing``."""
        values = [list(book) for book in self.books]
        names = list(self.columns.categories)
        rows = [
            [values[place][code] for place, code in enumerate(key[: len(names)])]
            + [bool(code) for code in key[len(names) :]]
            for key in self.keys
        ]
        missing = [f"missing {name}" for name in self.columns.numbers]
        found = pd.DataFrame(rows, columns=pd.Index([*names, *missing]), dtype=object)
        return found.assign(n=self.n.astype(int))


def read_groups(
    columns: LargeColumns, suspicious: Callable[[pd.DataFrame], pd.Series]
) -> tuple[Groups, dict[int, list[str]]]:
    """All groups, and the ids of those in groups that `suspicious` picks from ``Groups.table()``.

    Raises TableError for cells that cannot be understood, and for a person with several rows.
    """
    groups = Groups(columns=columns, books=[{} for _ in columns.categories])
    held: dict[int, list[str]] = {}
    hashes: list[np.ndarray] = []
    problems: list[Problem] = []
    doubtful = np.zeros(0, dtype=bool)
    for part in _parts(groups, problems):
        _add(groups, part)
        hashes.append(part.hashes)
        if len(groups.keys) > len(doubtful):
            doubtful = suspicious(groups.table()).to_numpy(dtype=bool)
        picked = doubtful[part.group]
        if picked.any():
            _hold(held, part, picked)
    if problems:
        raise TableError(
            f"{columns.path.name} cannot be used: {len(problems)} "
            f"problem{'s' * (len(problems) > 1)}.",
            problems=problems,
        )
    _refuse_repeated(groups, hashes)
    return groups, held


def ids_of(groups: Groups, wanted: np.ndarray) -> dict[int, list[str]]:
    """The ids of the groups where ``wanted`` ``[K]``, by another pass over the table."""
    held: dict[int, list[str]] = {}
    for part in _parts(groups, []):
        picked = wanted[part.group]
        if picked.any():
            _hold(held, part, picked)
    return held


# ------------------------------------------------------------------ one part of the table


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    group: np.ndarray  # of each row, among all groups
    ids: pd.Series
    hashes: np.ndarray
    numbers: np.ndarray  # [n, p]


def _parts(groups: Groups, problems: list[Problem]) -> Iterator[_Part]:
    columns = groups.columns
    for chunk in read_chunks(columns.path, columns.wanted, problems):
        codes = [
            _codes(chunk[rule.column], rule, book, (columns.path.name, problems))
            for rule, book in zip(columns.categories.values(), groups.books, strict=True)
        ]
        numbers = np.column_stack(
            [
                _numbers(chunk[rule.column], rule, (columns.path.name, problems))
                for rule in columns.numbers.values()
            ]
        )
        ids = _ids(chunk[columns.participant.column])
        _check_keys(ids, codes[0], groups.books[0], (columns.path.name, problems))
        missing = np.isnan(numbers)
        group = _group_of(groups, [*codes, *missing.T.astype(np.int64)])
        hashes = pd.util.hash_array(ids.array, categorize=False)
        hashes = (hashes ^ (codes[0].astype(np.uint64) * _MIX)) * _MIX
        yield _Part(group=group, ids=ids, hashes=hashes, numbers=numbers)


def _codes(
    cells: pd.Series,
    rule: ColumnRule,
    book: dict[object, int],
    place: tuple[str, list[Problem]],
) -> np.ndarray:
    """The number of each cell's value, harmonised; new values are entered in the book."""
    distinct = pd.Series(cells.cat.categories, dtype=object)
    values, wrong = harmonise(unescaped(distinct), rule, place[0], adults=False)
    if wrong:  # once more over all rows, so that the message counts them
        place[1].extend(harmonise(unescaped(cells.astype(object)), rule, *place[:1])[1])
    known: list[object] = [
        value
        if isinstance(value, bool) or (value is None and rule.name == "randomised")
        else text_of(value)
        for value in values
    ]
    known.append(None if rule.name == "randomised" else "")
    numbers = np.array([book.setdefault(value, len(book)) for value in known], dtype=np.int64)
    found: np.ndarray = numbers[cells.cat.codes.to_numpy()]  # -1: the last, unknown
    return found


def _numbers(cells: pd.Series, rule: ColumnRule, place: tuple[str, list[Problem]]) -> np.ndarray:
    if rule.map is not None:
        raise NotPlainError
    values, wrong = harmonise(cells, rule, place[0], adults=False)
    place[1].extend(wrong)
    return values.to_numpy(dtype=float)


def _ids(cells: pd.Series) -> pd.Series:
    """Ids as text, as the table read whole has them: stripped, unknown ``""``."""
    if pd.api.types.is_integer_dtype(cells) and cells.notna().all():
        return cells.astype("str")
    if pd.api.types.is_numeric_dtype(cells) or cells.dtype == object:
        text = pd.Series(by_value(unescaped(cells), text_of), index=cells.index).astype("str")
    else:
        text = cells.str.strip().fillna("")
        if text.str.startswith("'").any():
            text = unescaped(text)
        if text.str.contains(".0", regex=False).any():
            text = pd.Series(by_value(text, text_of), index=cells.index).astype("str")
    short = text.str.len() <= _LONGEST_UNKNOWN
    if short.any():
        unknown = short & text.str.lower().isin(list(UNKNOWN))
        text = text.mask(unknown, "")
    return text


def _check_keys(
    ids: pd.Series, trial: np.ndarray, book: Mapping[object, int], place: tuple[str, list[Problem]]
) -> None:
    blank_id = ids.eq("").to_numpy()
    blank_trial = trial == book.get("", -1)
    if (blank_id & blank_trial).any():  # perhaps an empty row of a spreadsheet
        raise NotPlainError
    for name, blank in (("trial", blank_trial), ("participant_id", blank_id)):
        if blank.any() and len(place[1]) < 20:
            place[1].append(
                Problem(
                    where=f"{place[0]}, {rows_text(ids.index[blank])}",
                    what=f"there is no {name}",
                    fix="Fill it in, or remove the rows.",
                )
            )


def _group_of(groups: Groups, codes: Sequence[np.ndarray]) -> np.ndarray:
    """The group of each row; new ones are entered."""
    sizes = [int(code.max(initial=0)) + 1 for code in codes]
    combined = np.zeros(len(codes[0]), dtype=np.int64)
    for code, size in zip(codes, sizes, strict=True):
        combined = combined * size + code
    local, distinct = pd.factorize(combined)
    numbers = np.zeros(len(distinct), dtype=np.int64)
    for place, value in enumerate(distinct):
        key: list[int] = []
        rest = int(value)
        for size in reversed(sizes):
            rest, digit = divmod(rest, size)
            key.append(digit)
        numbers[place] = groups.keys.setdefault(tuple(reversed(key)), len(groups.keys))
    found: np.ndarray = numbers[local]
    return found


def _add(groups: Groups, part: _Part) -> None:
    """Merge a part's sums into those of the groups."""
    size, p = len(groups.keys), part.numbers.shape[1]
    if len(groups.n) < size:
        more = size - len(groups.n)
        groups.n = np.concatenate([groups.n, np.zeros(more)])
        groups.means = np.concatenate([groups.means.reshape(-1, p), np.zeros((more, p))])
        groups.products = np.concatenate(
            [groups.products.reshape(-1, p, p), np.zeros((more, p, p))]
        )
    local, met = pd.factorize(part.group)
    count = np.bincount(local, minlength=len(met)).astype(float)

    def mean(values: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.bincount(local, values, len(met)) / count
        return found

    means, centred = np.zeros((len(met), p)), []
    for j in range(p):
        values = np.nan_to_num(part.numbers[:, j], nan=0.0)
        means[:, j] = mean(values)
        left = values - means[local, j]
        rest = mean(left)  # what rounding left of the mean
        means[:, j] += rest
        centred.append(left - rest[local])
    products = np.zeros((len(met), p, p))
    for i in range(p):
        for j in range(i + 1):
            products[:, i, j] = np.bincount(local, centred[i] * centred[j], len(met))
            products[:, j, i] = products[:, i, j]
    before, total = groups.n[met], groups.n[met] + count
    step = means - groups.means[met]
    groups.products[met] += products + (before * count / total)[:, None, None] * (
        step[:, :, None] * step[:, None, :]
    )
    groups.means[met] += step * (count / total)[:, None]
    groups.n[met] = total


def _hold(held: dict[int, list[str]], part: _Part, picked: np.ndarray) -> None:
    ids, of = part.ids[picked].to_numpy(dtype=object), part.group[picked]
    for group in np.unique(of):
        held.setdefault(int(group), []).extend(ids[of == group])


def _refuse_repeated(groups: Groups, hashes: list[np.ndarray]) -> None:
    """TableError where a person of a trial has several rows; equal hashes are looked up."""
    every = np.concatenate(hashes)
    hashes.clear()
    every.sort()
    twice = np.unique(every[1:][every[1:] == every[:-1]])
    if not len(twice):
        return
    trials = list(groups.books[0])
    where = list(groups.keys)
    met: dict[tuple[str, str], int] = {}
    for part in _parts(groups, []):
        picked = np.isin(part.hashes, twice)
        for person, group in zip(part.ids[picked], part.group[picked], strict=True):
            key = (str(trials[where[group][0]]), str(person))
            met[key] = met.get(key, 0) + 1
    people: dict[str, int] = {}
    for (trial, _), count in met.items():
        if count > 1:
            people[trial] = people.get(trial, 0) + 1
    if people:
        raise TableError(
            "Participants have several rows at the table's one row a participant.",
            hint="One row a participant and visit is needed: remove the repeats, or tell visits "
            "apart with --visit, --followup-visit or --followup-day.",
            problems=[
                Problem(
                    where=f"trial {trial}",
                    what=f"{count} participant{'s' if count > 1 else ''} with more than one row",
                    why="It cannot be known which row is the right one.",
                )
                for trial, count in people.items()
            ],
        )


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


LEAST_ROWS = 1_000_000  # fewer are read whole in some tens of seconds
FOLLOWUP = "the table's one row a participant"
NOT_CHECKED = (
    "The table is large and was read in parts: people with several rows and outcomes in another "
    "unit were looked for, but not copied rows, last digits, dates, allocation, balance of the "
    "baseline, nor who is missing. A sample of the rows can be checked alone."
)
# Columns by which a table has several rows a person, scans to leave out, or deaths.
_NEEDS_ROWS = ("visit", "visit_day", "status", "death_day", "withdrawal_day")
# Options that need no person's row; any other must stand at its default.
_OF_SUMS = frozenset(
    {
        "outcome",
        "effect",
        "baseline_visit",
        "baseline_column",
        "adjust",
        "worse",
        "age_bands",
        "prespecified",
        "model",
        "residual",
        "random_effects",
        "ci_one_stage",
        "tau2",
        "ci",
        "hksj_adhoc",
        "pi_df",
        "control",
        "missing_baseline",
        "imputations",
        "seed",
        "min_cell",
        "leave_one_out",
        "level",
    }
)


def large_columns(
    path: Path, options: PoolingOptions, table_options: TableOptions, least: int | None = None
) -> LargeColumns | None:
    """What to read of a table of ``least`` rows or more; None where it is to be read whole."""
    if not (_needs_sums_alone(options) and table_options.status == "all" and path.is_file()):
        return None
    try:
        if rows_of(path) < (LEAST_ROWS if least is None else least):
            return None
        header = header_of(path)
    except (NotPlainError, OSError):
        return None
    rules, problems = column_rules(table_options)
    found, missing = resolve_columns(
        _empty_large_pool(header), rules, tuple(COLUMN_KINDS), path.name
    )
    numbers: dict[str, ColumnRule] = {"outcome": _plain(options.outcome)}
    if options.baseline_column:
        numbers["baseline"] = _plain(options.baseline_column)
    first: tuple[str, ...] = ("trial", "arm", "randomised")
    categories = {name: found[name] for name in first if name in found}
    for name in map(harmonised_name, options.adjust):
        if kind_of(name) in ("sex", "ethnicity", "text", "id", "boolean"):
            categories[name] = found.get(name, _plain(name))
        else:
            numbers[name] = found.get(name, _plain(name))
    ruled = {rule.column for name, rule in rules.items() if name not in COLUMN_KINDS}
    columns = [rule.column for rule in (*categories.values(), *numbers.values())]
    if (
        problems
        or missing
        or not {"trial", "arm", "participant_id"} <= set(found)
        or set(found) & set(_NEEDS_ROWS)
        or {IMPUTATION, *CONVENTIONS} & set(header)
        or ruled & set(columns)
        or not set(columns) <= set(header)
        or len(set(columns)) < len(columns)
        or any(rule.map is not None for rule in numbers.values())
    ):
        return None
    return LargeColumns(
        path=path,
        participant=found["participant_id"],
        categories=categories,
        numbers=numbers,
        hints=tuple(lookalikes(_empty_large_pool(header), found)),
    )


def _needs_sums_alone(options: PoolingOptions) -> bool:
    """True where every option that is not its default is one that groups of people can serve."""
    other = [
        item.name
        for item in fields(options)
        if item.name not in _OF_SUMS and getattr(options, item.name) != item.default
    ]
    return (
        not other
        and options.effect in DIFFERENCES
        and bool(options.outcome)
        and (bool(options.baseline_column) or not options.needs_baseline)
    )


def _plain(column: str) -> ColumnRule:
    return ColumnRule(name=column, column=column)


def _empty_large_pool(header: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(columns=pd.Index(list(header)))


# ------------------------------------------------------------------ the result


def pool_large(
    columns: LargeColumns,
    options: PoolingOptions,
    *,
    summaries: SummaryTable | None = None,
) -> PoolingResult:
    """Pool the trials of a large table; errors as `pool_trials`.

    Raises NotPlainError where the table must be read whole after all.
    """
    groups, held = read_groups(columns, lambda table: codes_of(table, options) != "")
    table = groups.table()
    _refuse_without_arms(table, options)
    if "baseline" in columns.numbers and table["missing baseline"].all():
        raise NotPlainError
    large = large_stage(groups, options)
    stage = _first_stage(groups, large, options)
    if not stage.arms:
        raise no_effect(stage.studies, options)
    studies = with_summaries(stage, summaries, options)
    effects: list[EffectRow] = []
    single: list[OneStage] = []
    for arm in stage.arms:
        rows, one = both_stages(stage, studies[arm], options)
        effects += rows
        single.append(one)
    beside = [row for arm in stage.arms for row in source_rows(studies[arm], options)]
    beside += joint_rows(joint_fit(stage.sums, studies, options), options)
    if options.model != "two-stage":
        beside += joint_one_stage_rows(stage.sums, studies, options)
    if options.effect == "mean-difference" and summaries is None:
        beside += _other_effects(groups, stage.arms, options)
    delta = _delta(large, stage, options)
    integrity = _integrity(groups, large)
    released = release_effects([*effects, *beside], options.min_cell)
    people = large.table.groupby("code")["n"].sum()
    compared = int(
        people.drop(["not-randomised", "no-arm", "one-arm-trial"], errors="ignore").sum()
    )
    analysed = int(people.get("", 0))
    return PoolingResult(
        options=options,
        name=columns.path.stem,
        unit=definition(options.outcome).unit,
        control=options.control,
        arms=stage.arms,
        effects=released,
        heterogeneity=tuple(
            row for arm in stage.arms for row in heterogeneity_rows(studies[arm], options)
        ),
        by_arm=release_counts(large_by_arm(groups, large), options.min_cell),
        integrity=release_integrity(integrity, options.min_cell),
        exclusions=_exclusions(groups, large, held),
        accounting=Accounting(
            participants=int(people.sum()),
            analysed=analysed,
            excluded={str(code): int(n) for code, n in people.items() if code},
        ),
        methods=methods_of_rows(stage, options) + summaries_sentence(summaries),
        warnings=(
            *stage_warnings(replace(stage, studies=studies)),
            *_missing_warnings(large, options),
            *share_warning(analysed, compared, options),
            *(text for one in single for text in one.warnings),
            *unit_warnings(integrity),
            *tipping_sentences(delta, stage.arms, definition(options.outcome).unit),
            *([JOINT_MODEL] if any(row.note.startswith(JOINT) for row in beside) else []),
            *columns.hints,
            NOT_CHECKED,
            *integrity_warning(integrity),
        ),
        endpoint=f"{options.outcome} at {FOLLOWUP}",
        checks=tuple(one.check for one in single if one.check is not None),
        delta=delta,
        influence=influence_of(studies, released, options),
        flow=replace(
            flow_counts(large.table, studies),
            provided_participants=int(people.sum()),
            analysed_participants=analysed,
        ),
    )


def _refuse_without_arms(table: pd.DataFrame, options: PoolingOptions) -> None:
    if "randomised" not in table:
        table = table.assign(randomised=None)
    people = table[["trial", "arm", "randomised", "n"]]
    try:
        refuse_without_arms(people, options)
    except TableError:  # once more, with every person, so that the message counts people
        refuse_without_arms(people.loc[people.index.repeat(people["n"])], options)


def _first_stage(groups: Groups, large: LargeStage, options: PoolingOptions) -> FirstStage:
    """The record that the models and sentences take, without people in it."""
    has = "baseline" in groups.columns.numbers
    endpoint = Endpoint(
        people=pd.DataFrame(),
        covariates=tuple(map(harmonised_name, options.adjust)),
        followup=FOLLOWUP,
        baseline=f"column {options.baseline_column}" if has else options.baseline_visit,
        has_baseline=has,
    )
    trials = tuple(
        Analysed(
            trial=one.trial,
            rows=pd.DataFrame(),
            nuisance=pd.DataFrame(columns=pd.Index(list(large.columns))),
            imputed=dict.fromkeys(large.imputed, 1),
        )
        for one in large.sums
    )
    return FirstStage(
        endpoint=endpoint,
        people=pd.DataFrame(),
        trials=trials,
        sums=large.sums,
        studies=large.studies,
    )


def _other_effects(groups: Groups, arms: Sequence[str], options: PoolingOptions) -> list[EffectRow]:
    """The headline by change and by follow-up only, as beside every ANCOVA."""
    rows: list[EffectRow] = []
    for effect, note in (
        ("change", "sensitivity: change score"),
        ("follow-up", "sensitivity: follow-up only"),
    ):
        other = replace(options, effect=effect)
        stage = _first_stage(groups, large_stage(groups, other), other)
        for arm in stage.arms:
            if arm in arms:
                rows += headlines_again(stage, stage.studies[arm], other, note)
    return rows


def _missing_warnings(large: LargeStage, options: PoolingOptions) -> list[str]:
    table = large.table
    found = []
    single = sorted(set(table.loc[table["code"] == "one-arm-trial", "trial"]))
    if single:
        found.append(f"Left out, because all randomised are in one arm: {', '.join(single)}.")
    if "randomised" in table:
        unknown = table["randomised"].map(lambda item: item is None)
        if unknown.any() and not unknown.all():
            found.append("Participants whose randomised is empty are taken as randomised.")
    if options.effect == "mean-difference":
        summed = table["code"].isin(["", "trial-not-estimable"])
        known = table[summed & ~table["missing baseline"].astype(bool)]
        without = [one.trial for one in large.sums if one.trial not in set(known["trial"])]
        if without:
            found.append(
                f"No analysed participant has a baseline in {', '.join(without)}: the effect there "
                "is not adjusted for it."
            )
    return found


def _delta(large: LargeStage, stage: FirstStage, options: PoolingOptions) -> tuple[DeltaRow, ...]:
    table = large.table[~large.table["code"].isin(["not-randomised", "no-arm"])]
    rows: list[DeltaRow] = []
    for arm in stage.arms:
        missing: dict[str, Missing] = {}
        for trial, part in table[table["arm"] == arm].groupby("trial"):
            n = int(part["n"].sum())
            lacks = int(part.loc[part["missing outcome"].astype(bool), "n"].sum())
            missing[str(trial)] = Missing(share=lacks / n, n=n)
        rows += delta_rows_of(large.studies[arm], missing, options)
    return tuple(rows)


def _integrity(groups: Groups, large: LargeStage) -> tuple[IntegrityRow, ...]:
    """The spread of each trial's outcome, and one row for what was not checked."""
    known = ~large.table["missing outcome"].astype(bool)
    table = large.table[known & ~large.table["code"].isin(["not-randomised", "no-arm"])]
    spreads: dict[str, Spread] = {}
    for trial, part in table.groupby("trial"):
        at = part.index.to_numpy(dtype=int)
        n, mean = groups.n[at], groups.means[at, 0]
        squares = float(groups.products[at, 0, 0].sum())
        for _, inner in part.groupby("arm"):
            own = inner.index.to_numpy(dtype=int)
            middle = groups.n[own] @ groups.means[own, 0] / groups.n[own].sum()
            squares += float(groups.n[own] @ (groups.means[own, 0] - middle) ** 2)
        spreads[str(trial)] = Spread(
            squares=squares,
            df=int(n.sum()) - part["arm"].nunique(),
            mean=float(n @ mean / n.sum()),
            n=int(n.sum()),
        )
    whole = IntegrityRow(
        trial="",
        check="each-persons-row",
        result="not-checked",
        n_checked=None,
        n_found=None,
        value=None,
        sentence=NOT_CHECKED,
    )
    return (*spread_rows(spreads), whole)


def _exclusions(
    groups: Groups, large: LargeStage, held: Mapping[int, list[str]]
) -> tuple[Exclusion, ...]:
    """One for each participant who is not analysed, by trial and id."""
    codes = [str(code) for code in large.table["code"]]
    trials = [str(trial) for trial in large.table["trial"]]
    wanted = np.array([bool(code) and i not in held for i, code in enumerate(codes)], dtype=bool)
    ids = {**held, **(ids_of(groups, wanted) if wanted.any() else {})}
    people = sorted(
        (trials[group], person, codes[group])
        for group, members in ids.items()
        if codes[group]
        for person in members
    )
    return tuple(
        Exclusion(
            stage="participant",
            trial=trial,
            participant_id=person,
            visit="",
            code=code,
            sentence=SENTENCES[code],
        )
        for trial, person, code in people
    )
