"""Meta-analytic ranges of trials that give summaries alone: number, mean and SD by group."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..cohort.parsing import LARGEST
from ..errors import EstimationError, Problem, TableError, UsageError
from ..measurement.measures import definition
from ..records import ETHNICITIES, SEXES
from ..statistics.meta_range import TrialMoments
from .curves.curves import too_few_trials
from .meta import LEAST_PEOPLE, META, MeasureMeta, MetaGroup, log_moments, measure_meta, on_logs
from .model import model_document
from .options import NOT_A_REFERENCE, Factor, ReferenceOptions
from .results import ReferenceResult
from .strata.groups import ALL, StratumKey

if TYPE_CHECKING:
    import pandas as pd


REQUIRED = ("trial", "measure", "n", "mean", "sd")
COLUMNS = (*REQUIRED, "sex", "ethnicity", "age_low", "age_high")
_SEX_WORDS = {"": ALL, "all": ALL, "m": "male", "male": "male", "f": "female", "female": "female"}
_FAR = 4.0  # times the other trials' mean: another unit
_SMALL_SD = 0.25  # of the others' SD: perhaps a standard error
_FACTORS: tuple[Factor, ...] = ("sex", "ethnicity", "age")


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryRow:
    """One trial's people of one group; ages None where it has no bounds."""

    trial: str
    measure: str
    sex: str
    ethnicity: str
    age_low: float | None
    age_high: float | None
    n: int
    mean: float
    sd: float


def is_summaries(columns: Iterable[str]) -> bool:
    """True for a table of summaries: it has ``measure, n, mean, sd``."""
    return {"measure", "n", "mean", "sd"} <= set(columns)


def summary_rows(table: pd.DataFrame, where: str) -> tuple[SummaryRow, ...]:
    """The rows of a table read as text; TableError lists every problem.

    Blank (or ``all``) sex, ethnicity and ages: not parted by it.
    """
    missing = [name for name in REQUIRED if name not in table]
    if missing:
        raise TableError(
            f"{where} has no column {', '.join(missing)}.",
            hint=f"A table of summaries has {', '.join(COLUMNS)}.",
        )
    rows, problems = [], []
    cells = {
        name: table[name].astype(str).where(table[name].notna(), "").str.strip().tolist()
        for name in COLUMNS
        if name in table
    }
    for place, number in enumerate(table.index.tolist()):
        texts = {name: column[place] for name, column in cells.items()}
        found = _row(texts, f"{where}, row {number}")
        if isinstance(found, SummaryRow):
            rows.append(found)
        else:
            problems += found
    problems += _twice(rows, where)
    problems += _other_units(rows, where)
    if problems:
        raise TableError(
            f"{where} cannot be used: {len(problems)} problem{'s' * (len(problems) > 1)}.",
            problems=problems,
        )
    if not rows:
        raise TableError(f"{where} has a header, but no rows.")
    return tuple(rows)


def _row(texts: dict[str, str], where: str) -> SummaryRow | list[Problem]:
    problems: list[Problem] = []

    def number(name: str, *, needed: bool = True) -> float | None:
        text = texts.get(name, "")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if text and abs(value) <= LARGEST:
            return value
        if text or needed:
            what = f"{name} is {text!r}, no number" if text else f"{name} is empty"
            problems.append(Problem(where=where, what=what))
        return None

    n, mean, sd = number("n"), number("mean"), number("sd")
    low, high = number("age_low", needed=False), number("age_high", needed=False)
    if n is not None and (n < 2 or n != int(n)):
        problems.append(Problem(where=where, what=f"n is {n:g}", fix="Give people, 2 or more."))
    if sd is not None and sd <= 0:
        problems.append(
            Problem(where=where, what=f"sd is {sd:g}", fix="Give the standard deviation of people.")
        )
    if low is not None and high is not None and low >= high:
        problems.append(Problem(where=where, what=f"age_low {low:g} is not below {high:g}"))
    if low is None and high is not None:
        problems.append(Problem(where=where, what="there is an age_high, but no age_low"))
    sex = _SEX_WORDS.get(texts.get("sex", "").casefold(), "")
    if not sex:
        problems.append(
            Problem(where=where, what=f"sex is {texts['sex']!r}", fix="Use male, female or all.")
        )
    ethnicity = texts.get("ethnicity", "").casefold() or ALL
    if ethnicity not in (ALL, *ETHNICITIES):
        known = ", ".join((*ETHNICITIES, ALL))
        problems.append(
            Problem(where=where, what=f"ethnicity is {ethnicity!r}", fix=f"Use {known}.")
        )
    problems += [
        Problem(where=where, what=f"there is no {name}")
        for name in ("trial", "measure")
        if not texts[name]
    ]
    if problems or n is None or mean is None or sd is None:
        return problems
    return SummaryRow(
        trial=texts["trial"],
        measure=texts["measure"],
        sex=sex,
        ethnicity=ethnicity,
        age_low=low,
        age_high=high,
        n=int(n),
        mean=mean,
        sd=sd,
    )


def _twice(rows: Sequence[SummaryRow], where: str) -> list[Problem]:
    counts: dict[tuple[object, ...], int] = {}
    for row in rows:
        key = (row.trial, row.measure, row.sex, row.ethnicity, row.age_low, row.age_high)
        counts[key] = counts.get(key, 0) + 1
    return [
        Problem(
            where=f"{where}, {key[0]}",
            what=f"{count} rows of {key[1]} for one group",
            why="It is unknown which counts.",
        )
        for key, count in counts.items()
        if count > 1
    ]


def _other_units(rows: Sequence[SummaryRow], where: str) -> list[Problem]:
    """A mean far from those of the other trials is in another unit (L for mL)."""
    problems = []
    for measure in dict.fromkeys(r.measure for r in rows):
        mine = [r for r in rows if r.measure == measure]
        middle = float(np.median([r.mean for r in mine]))
        problems += [
            Problem(
                where=f"{where}, {r.trial}",
                what=f"the mean {r.mean:g} of {measure} is far from the median {middle:g}",
                why="It looks like another unit.",
                fix=f"Give {definition(measure).unit or 'one unit'} in every row.",
            )
            for r in mine
            if middle > 0 and not middle / _FAR <= r.mean <= middle * _FAR
        ]
    return problems


def _maybe_errors(rows: Sequence[SummaryRow]) -> list[str]:
    found = []
    for measure in dict.fromkeys(r.measure for r in rows):
        mine = [r for r in rows if r.measure == measure]
        middle = float(np.median([r.sd for r in mine]))
        names = dict.fromkeys(r.trial for r in mine if r.sd < _SMALL_SD * middle)
        if names:
            found.append(
                f"{measure}: the SD of {', '.join(names)} is less than a quarter of the others': "
                "is it a standard error?"
            )
    return found


# ------------------------------------------------------------------ groups


def _joined(rows: Sequence[SummaryRow], **common: object) -> SummaryRow:
    """The people of several rows of one trial as one."""
    n = np.array([r.n for r in rows], dtype=float)
    mean = np.array([r.mean for r in rows])
    total = n.sum()
    centre = float(n @ mean / total)
    squares = float((n - 1) @ np.array([r.sd for r in rows]) ** 2 + n @ (mean - centre) ** 2)
    return replace(
        rows[0],
        n=int(total),
        mean=centre,
        sd=math.sqrt(squares / (total - 1)),
        **common,  # type: ignore[arg-type]
    )


def _without_factor(rows: Sequence[SummaryRow], factor: Factor) -> list[SummaryRow]:
    """Each trial's rows over all levels of a factor: its own such row, else its parts as one."""
    blank: dict[Factor, dict[str, object]] = {
        "sex": {"sex": ALL},
        "ethnicity": {"ethnicity": ALL},
        "age": {"age_low": None, "age_high": None},
    }
    groups: dict[SummaryRow, list[SummaryRow]] = {}
    for row in rows:
        key = replace(row, n=0, mean=0.0, sd=0.0, **blank[factor])  # type: ignore[arg-type]
        groups.setdefault(key, []).append(row)
    found = []
    for mine in groups.values():
        whole = [r for r in mine if replace(r, **blank[factor]) == r]  # type: ignore[arg-type]
        found.append(whole[0] if whole else _joined(mine, **blank[factor]))
    return found


def _factors(rows: Sequence[SummaryRow], options: ReferenceOptions) -> tuple[Factor, ...]:
    there = {
        "sex": any(r.sex != ALL for r in rows),
        "ethnicity": any(r.ethnicity != ALL for r in rows),
        "age": any(r.age_low is not None for r in rows),
    }
    if options.by is None:
        return tuple(f for f in _FACTORS if there[f])
    absent = [f for f in options.by if not there[f]]
    if absent:
        raise TableError(f"--by {','.join(options.by)}: the summaries have no {absent[0]}.")
    return tuple(f for f in _FACTORS if f in options.by)


def summary_groups(rows: Sequence[SummaryRow], by: Sequence[Factor]) -> tuple[MetaGroup, ...]:
    """The groups of one measure in the order of the tables, ethnicity ``all`` always among them.

    Rows that are of everybody where others are parted (sex ``all``) make no group of their own.
    """
    for factor in _FACTORS:
        if factor not in by:
            rows = _without_factor(rows, factor)
    if "ethnicity" in by:
        rows = [*_without_factor(rows, "ethnicity"), *(r for r in rows if r.ethnicity != ALL)]
    if "sex" in by:
        rows = [r for r in rows if r.sex != ALL]
    if "age" in by:
        rows = [r for r in rows if r.age_low is not None]
    groups: dict[StratumKey, list[SummaryRow]] = {}
    for row in rows:
        key = StratumKey(
            sex=row.sex, ethnicity=row.ethnicity, age_low=row.age_low, age_high=row.age_high
        )
        groups.setdefault(key, []).append(row)
    return tuple(_group(key, groups[key]) for key in sorted(groups, key=_order))


def _order(key: StratumKey) -> tuple[float, ...]:
    sexes, ethnicities = (ALL, *SEXES), (ALL, *ETHNICITIES)
    return (
        sexes.index(key.sex),
        ethnicities.index(key.ethnicity),
        -1.0 if key.age_low is None else key.age_low,
        math.inf if key.age_high is None else key.age_high,
    )


def _group(key: StratumKey, rows: Sequence[SummaryRow]) -> MetaGroup:
    used = sorted((r for r in rows if r.n >= LEAST_PEOPLE), key=lambda r: r.trial)
    return MetaGroup(
        key=key,
        names=tuple(r.trial for r in used),
        moments=TrialMoments(
            n=np.array([r.n for r in used], dtype=float),
            mean=np.array([r.mean for r in used]),
            sd=np.array([r.sd for r in used]),
        ),
        left_out=sum(r.n for r in rows if r.n < LEAST_PEOPLE),
    )


# ------------------------------------------------------------------ the result


def summary_ranges(
    rows: Sequence[SummaryRow], options: ReferenceOptions, *, name: str, sha256: str
) -> ReferenceResult:
    """The ranges of a table of summaries.

    Raises TableError where nobody says who the people are, EstimationError for a random trial
    effect of fewer than 5 trials.
    """
    if options.healthy_only and not options.healthy_rule:
        raise TableError(
            "Summaries do not say whether their people are healthy.",
            hint="Say who they are with --healthy-rule, or --all for everybody's distribution.",
        )
    trials = tuple(sorted({r.trial for r in rows}))
    why = too_few_trials(options, len(trials))
    if why is not None:
        raise EstimationError(f"{why}.", hint="Use --trial-effect fixed (or auto).")
    measures = tuple(dict.fromkeys(r.measure for r in rows))
    if options.measures is not None:
        absent = [m for m in options.measures if m not in measures]
        if absent:
            raise TableError(f"The summaries have no measure {', '.join(absent)}.")
        measures = options.measures
    by = _factors(rows, options)
    if on_logs(options):
        _need_positive([r for r in rows if r.measure in measures])
    found, people = {}, 0
    for measure in measures:
        groups = summary_groups([r for r in rows if r.measure == measure], by)
        if on_logs(options):
            groups = tuple(replace(g, moments=log_moments(g.moments)) for g in groups)
        found[measure] = measure_meta(measure, definition(measure).unit, groups, options)
        of_all = [g for g in groups if g.key.ethnicity == ALL]
        people = max(people, sum(g.n + g.left_out for g in of_all))
    facts = _Facts(
        name=name,
        sha256=sha256,
        by=by,
        measures=measures,
        trials=trials,
        people=people,
        warnings=tuple(_maybe_errors(rows)),
    )
    return _result(tuple(found.values()), options, facts)


def _need_positive(rows: Sequence[SummaryRow]) -> None:
    """Refuse means of which no log-normal law has one; raises TableError."""
    wrong = [r for r in rows if r.mean <= 0]
    if wrong:
        raise TableError(
            "--limits log needs positive means.",
            hint="Leave it out, or name the measures that are positive with --measure.",
            problems=[
                Problem(where=f"{r.measure}, trial {r.trial}", what=f"mean {r.mean:g}")
                for r in wrong
            ],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What the result says of the table."""

    name: str
    sha256: str
    by: tuple[Factor, ...]
    measures: tuple[str, ...]
    trials: tuple[str, ...]
    people: int
    warnings: tuple[str, ...]


def _result(
    found: Sequence[MeasureMeta], options: ReferenceOptions, facts: _Facts
) -> ReferenceResult:
    title = "Reference ranges" if options.healthy_only else NOT_A_REFERENCE.capitalize()
    return ReferenceResult(
        title=title,
        name=facts.name,
        options=options,
        by=facts.by,
        measures=facts.measures,
        trials=facts.trials,
        people=facts.people,
        review_people=0,
        visits=(),
        conventions={},
        scanners={},
        limits=tuple(row for m in found for row in m.limits),
        by_trial=tuple(row for m in found for row in m.by_trial),
        partition=(),
        contrasts=(),
        calibration=(),
        outliers=(),
        accounts=(),
        exclusions=(),
        model=model_document(
            [entry for m in found for entry in m.models],
            [],
            options,
            methods=(META,),
            title=title,
            name=facts.name,
            facts={
                "conventions": {},
                "trials": list(facts.trials),
                "healthy_rule": options.healthy_rule,
                "by": list(facts.by),
                "input_sha256": facts.sha256,
            },
        ),
        methods=(META,),
        meta=tuple(row for m in found for row in m.estimates),
        warnings=(
            *facts.warnings,
            "Made of the trials' summaries: conventions, outliers and skewness were not checked.",
        ),
    )


def refuse_other_method(options: ReferenceOptions, name: str) -> None:
    """A table of summaries has one method; raises UsageError."""
    if options.method != META:
        raise UsageError(
            f"{name} is a table of summaries (measure, n, mean, sd).",
            hint="Say --method meta; the other methods need a row a person.",
        )
