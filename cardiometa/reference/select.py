"""Values that no heart has, and values that a method cannot take: refused before anything else.

Columns of measures divided by a power of body size, where the user names them.

Which rows of a table the ranges are made of: one row a person, every other row with its reason.

Rows in = people kept + excluded rows; each measure then leaves out the people without its value.

Facts that move a measure and must not be mixed in one range.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pandas as pd

from ..cohort.parsing import rows_text
from ..errors import Problem, TableError
from ..measurement.measures import definition, derived_measure, derived_values
from ..records import ETHNICITIES, SEXES, CohortTable, Exclusion
from .options import Factor, Method, ReferenceOptions

NEEDS_POSITIVE = ("lms",)
# A volume or mass below it is one in litres or kilograms.
_LITRES = {"mL": 2.0, "mL/m2": 1.0, "g": 2.0, "g/m2": 1.0}
_NEVER_NEGATIVE = (*_LITRES, "%", "bpm", "L/min", "L/min/m2", "m2", "cm", "kg")
_FEW = 3
_MOST_NAMED = 200


def check_values(people: People, measures: Sequence[str]) -> None:
    """Refuse negative values and those in litres or kilograms; raises TableError with all of them.

    Of the measures known by name: a column of the user's own may hold anything.
    """
    negative = [p for measure in measures for p in _negative(people, measure)]
    if negative:
        raise TableError(
            "A measure has negative values.",
            hint="Correct them, or leave them blank: an unknown value is left out and counted.",
            problems=negative,
        )
    litres = [p for measure in measures for p in _litres(people, measure)]
    if litres:
        raise TableError(
            "The unit of a measure is wrong.",
            hint="Give volumes in mL and masses in g, or map the unit in [columns] of --config.",
            problems=litres,
        )


def _negative(people: People, measure: str) -> Iterator[Problem]:
    known = definition(measure)
    if known.unit not in _NEVER_NEGATIVE:
        return
    values = people.values(measure)
    for row in np.flatnonzero(values < 0)[:_MOST_NAMED].tolist():
        keys = people.keys
        names = (keys.trial[row], keys.participant[row], keys.visit[row])
        yield Problem(
            where=f"{measure}, {'/'.join(name for name in names if name)}",
            what=f"{values[row]:g} {known.unit}",
            why="It cannot be below 0.",
        )


def _litres(people: People, measure: str) -> Iterator[Problem]:
    """A trial's values in litres or kilograms: half of them, or some that 1,000 times would fit.

    No trial of adults has a median LV or RV volume of 2 mL or a mass of 2 g.
    """
    unit = definition(measure).unit
    least = _LITRES.get(unit)
    if least is None:
        return
    values = people.values(measure)
    for number, trial in enumerate(people.trials):
        mine = values[(people.trial == number) & np.isfinite(values) & (values != 0)]
        if len(mine) < _FEW:
            continue
        small, rest = mine[mine < least], mine[mine >= least]
        many = bool(np.median(mine) < least)
        fit = 0
        if len(rest) and not many:
            low, high = np.quantile(rest, [0.01, 0.99])
            fit = int(np.sum((1000 * small >= low) & (1000 * small <= high)))
        if many or fit >= _FEW:
            yield Problem(
                where=f"{measure}, trial {trial}",
                what=f"{'half of the' if many else fit} values are below {least:g} {unit}",
                why="They look like litres or kilograms.",
            )


def check_positive(
    people: People, measures: Sequence[str], methods: Sequence[Method], options: ReferenceOptions
) -> None:
    """Refuse values that the method named cannot take; raises TableError with their counts."""
    by_name = options.method in NEEDS_POSITIVE
    what = f"--method {options.method}" if by_name else f"--limits {options.limits}"
    banded = "strata" in methods or "meta" in methods
    if not by_name and (options.limits not in ("log", "boxcox") or not banded):
        return
    problems = [
        Problem(where=name, what=f"{count} values are 0 or less")
        for name in measures
        if (count := int(np.sum(people.values(name) <= 0)))
    ]
    if problems:
        other = "another --method" if by_name else "other --limits"
        raise TableError(
            f"{what} needs positive values.",
            hint=f"Choose {other}, or name the measures that are positive with --measure.",
            problems=problems,
        )


def with_derived(table: CohortTable, names: Sequence[str] | None) -> CohortTable:
    """The table with a column for each derived measure among ``names``.

    TableError where the measure or the body size that it needs is not in the table.
    """
    columns, problems = {}, []
    for name in names or ():
        measure = derived_measure(name)
        if measure is None or name in table.rows:
            continue
        missing = [c for c in (measure.of, *measure.needs) if c not in table.rows]
        if missing:
            problems.append(
                Problem(where=name, what=f"the table has no column {' and no '.join(missing)}")
            )
            continue
        columns[name] = derived_values(
            measure,
            _numbers(table.rows, measure.of),
            _numbers(table.rows, "height_cm"),
            _numbers(table.rows, "weight_kg"),
        )
    if problems:
        raise TableError("An index needs a column that is not there.", problems=problems)
    return replace(table, rows=table.rows.assign(**columns)) if columns else table


def _numbers(rows: pd.DataFrame, name: str) -> np.ndarray:
    if name not in rows:
        return np.full(len(rows), np.nan)
    numbers = pd.to_numeric(rows[name], errors="coerce")
    return np.asarray(numbers.to_numpy(dtype=np.float64, na_value=np.nan))


BASELINE = "baseline"
_FEW_PHASES = "very_few_phases"  # the flag of `imaging` that is not for reference ranges
Stage = Literal["scan", "participant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The ids of rows as text ``[rows]``, "" where missing."""

    trial: np.ndarray
    participant: np.ndarray
    visit: np.ndarray

    def at(self, rows: np.ndarray) -> Keys:
        """The keys of some rows (a mask or numbers)."""
        return Keys(
            trial=self.trial[rows], participant=self.participant[rows], visit=self.visit[rows]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """One row a person, in a fixed order (trial, participant), as arrays ``[people]``.

    ``trial`` counts into ``trials``; ``sex`` and ``ethnicity`` into `SEXES` and `ETHNICITIES`,
    -1 unknown; ``age_years`` NaN unknown; ``band`` counts into the age bands, -1 outside;
    ``by`` is what the limits are stratified by. ``frame`` and ``keys`` hold the same rows.
    ``person`` numbers the people where one may have several rows (``--repeated``), else None.
    """

    frame: pd.DataFrame
    keys: Keys
    trials: tuple[str, ...]
    trial: np.ndarray
    sex: np.ndarray
    ethnicity: np.ndarray
    age_years: np.ndarray
    band: np.ndarray
    by: tuple[Factor, ...]
    rows_in: int
    review_rows: int
    visits: tuple[tuple[str, int], ...]
    exclusions: tuple[Exclusion, ...]
    warnings: tuple[str, ...] = field(default=())
    person: np.ndarray | None = None

    @property
    def count(self) -> int:
        """People: as many as rows, but where a person has several."""
        return self.count_of(np.arange(len(self.trial)))

    def count_of(self, rows: np.ndarray) -> int:
        """People of some rows (numbers)."""
        return len(rows) if self.person is None else len(np.unique(self.person[rows]))

    def values(self, measure: str) -> np.ndarray:
        """A measure's values ``[people]`` as float64, NaN where there is none."""
        return _numbers_people(self.frame, measure)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """The columns that decide who is used, as arrays ``[rows]`` made once."""

    keys: Keys
    visit_day: np.ndarray
    status: np.ndarray
    flags: np.ndarray
    healthy: np.ndarray
    sex: np.ndarray
    ethnicity: np.ndarray
    age_years: np.ndarray


@dataclass(slots=True)
class _Sieve:
    """Row numbers on their way: what fell through is kept with its reason."""

    columns: _Columns
    rows: np.ndarray
    exclusions: list[Exclusion]

    def drop(self, out: np.ndarray, stage: Stage, code: str, sentence: str) -> None:
        """Exclude those of the current rows where ``out`` is true."""
        if out.any():
            gone = self.columns.keys.at(self.rows[out])
            self.exclusions.extend(excluded(gone, stage, code, sentence))
            self.rows = self.rows[~out]


def excluded(keys: Keys, stage: Stage, code: str, sentence: str) -> list[Exclusion]:
    """An exclusion for each row of ``keys``."""
    return [
        Exclusion(
            stage=stage,
            trial=trial,
            participant_id=participant,
            visit=visit,
            code=code,
            sentence=sentence,
        )
        for trial, participant, visit in zip(keys.trial, keys.participant, keys.visit, strict=True)
    ]


def select_people(table: CohortTable, options: ReferenceOptions) -> People:
    """The people of a table by the options; raises TableError where they cannot be told.

    In order: failed scans, those of fewer than 12 phases, those to review (``status`` ``ok``), who
    is not healthy, other visits than the one used, unknown sex, unknown age or age below the first
    band.
    """
    _require_keys(table.rows)
    columns = _columns(table.rows)
    sieve = _Sieve(
        columns=columns, rows=np.arange(len(table.rows)), exclusions=list(table.exclusions)
    )
    _drop_by_status(sieve, options)
    if options.healthy_only:
        _drop_not_healthy(sieve)
    visit_warnings = _one_visit(sieve, options)
    by, warnings = _factors(sieve, options)
    _drop_unknown(sieve, by, options)
    if not len(sieve.rows):
        raise _nobody_left(sieve.exclusions)
    rows = sieve.rows[_order(columns.keys.at(sieve.rows))]
    keys = columns.keys.at(rows)
    trial, trials = pd.factorize(keys.trial, sort=True)
    age = columns.age_years[rows]
    return People(
        frame=table.rows.iloc[rows],
        keys=keys,
        trials=tuple(str(name) for name in trials),
        trial=trial,
        sex=columns.sex[rows],
        ethnicity=columns.ethnicity[rows],
        age_years=age,
        band=age_band(age, options.age_bands),
        by=by,
        rows_in=len(table.rows) + len(table.exclusions),
        review_rows=int(np.sum(columns.status[rows] == "review")),
        visits=_visits_used(keys.visit),
        exclusions=tuple(sieve.exclusions),
        warnings=(*warnings, *visit_warnings),
        person=_person_numbers(keys) if options.repeated else None,
    )


def _person_numbers(keys: Keys) -> np.ndarray:
    """The number of each row's person: ids are of one trial."""
    trial, trials = pd.factorize(keys.trial)
    participant, _ = pd.factorize(keys.participant)
    return np.asarray(pd.factorize(participant * len(trials) + trial)[0])


def age_band(age_years: np.ndarray, bands: Sequence[float]) -> np.ndarray:
    """The band of each age: [lo, hi) on the exact age, the last open; -1 below or unknown."""
    found = np.searchsorted(np.asarray(bands), age_years, side="right") - 1
    return np.where(np.isfinite(age_years), found, -1)


# ------------------------------------------------------------------ columns


def _columns(frame: pd.DataFrame) -> _Columns:
    number, words = pd.factorize(_texts(frame, "healthy"))
    healthy = np.array([str(word).lower() for word in words], dtype=object)[number]
    return _Columns(
        keys=Keys(
            trial=_texts(frame, "trial"),
            participant=_texts(frame, "participant_id"),
            visit=_texts(frame, "visit"),
        ),
        visit_day=_numbers_people(frame, "visit_day"),
        status=_texts(frame, "status"),
        flags=_texts(frame, "flags"),
        healthy=np.where(healthy == "true", 1, np.where(healthy == "false", 0, -1)),
        sex=_coded(frame, "sex", SEXES),
        ethnicity=_coded(frame, "ethnicity", ETHNICITIES),
        age_years=_numbers_people(frame, "age_years"),
    )


def _texts(frame: pd.DataFrame, name: str) -> np.ndarray:
    """A column as text, "" where missing or absent."""
    if name not in frame:
        return np.full(len(frame), "", dtype=object)
    column = frame[name]
    cells = column.to_numpy(dtype=object)
    missing = column.isna().to_numpy()
    if pd.api.types.infer_dtype(column, skipna=True) != "string":
        cells = np.asarray([str(cell) for cell in cells], dtype=object)
    return np.where(missing, "", cells)


def _numbers_people(frame: pd.DataFrame, name: str) -> np.ndarray:
    """A column as float64, NaN where missing, absent or not finite."""
    if name not in frame:
        return np.full(len(frame), np.nan)
    column = pd.to_numeric(frame[name], errors="coerce")
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isfinite(values), values, np.nan)


def _coded(frame: pd.DataFrame, name: str, codes: Sequence[str]) -> np.ndarray:
    index = pd.Index(list(codes), dtype=object)
    return np.asarray(
        index.get_indexer(pd.Index(_texts(frame, name), dtype=object)), dtype=np.int64
    )


def _require_keys(frame: pd.DataFrame) -> None:
    if frame.empty:
        raise TableError("The table has no rows.", hint="Nothing can be computed from it.")
    if "participant_id" not in frame or "trial" not in frame:
        raise TableError(
            "The table has no participant or no trial column.",
            hint="Name them with --participant and --trial.",
        )
    missing = np.flatnonzero(_texts(frame, "participant_id") == "")
    if len(missing):
        raise TableError(
            f"{len(missing)} rows have no participant id.",
            hint="Without it nobody can tell whether two rows are one person.",
            problems=[
                Problem(where=f"data row {row + 1}", what="participant_id is empty")
                for row in missing[:200]
            ],
        )


def _order(keys: Keys) -> np.ndarray:
    """Rows by trial and participant, so that the order of the file plays no part."""
    trial, _ = pd.factorize(keys.trial, sort=True)
    participant, _ = pd.factorize(keys.participant, sort=True)
    return np.lexsort((participant, trial))


def _factors(
    sieve: _Sieve, options: ReferenceOptions
) -> tuple[tuple[Factor, ...], tuple[str, ...]]:
    """What to stratify by: the options' wish, or every factor known of someone still here.

    A factor that only others have (patients, another visit) would leave nobody.
    """
    columns, rows = sieve.columns, sieve.rows
    known: dict[Factor, np.ndarray] = {
        "sex": columns.sex >= 0,
        "ethnicity": columns.ethnicity >= 0,
        "age": np.isfinite(columns.age_years),
    }
    if not len(rows):
        return (), ()
    absent = [factor for factor, is_known in known.items() if not is_known[rows].any()]
    if options.by is None:
        warnings = tuple(
            f"{'Nobody selected has a known' if known[factor].any() else 'The table has no'} "
            f"{factor}: the limits are not stratified by {factor}."
            for factor in absent
        )
        return tuple(factor for factor in known if factor not in absent), warnings
    wrong = [factor for factor in options.by if factor in absent]
    if wrong:
        what = (
            "nobody selected has a known"
            if any(known[factor].any() for factor in wrong)
            else "the table has no"
        )
        raise TableError(
            f"--by {','.join(options.by)}: {what} {' and no '.join(wrong)}.",
            hint="Name the columns (--sex, --ethnicity, --age) or leave them out of --by.",
        )
    return tuple(factor for factor in known if factor in options.by), ()


# ------------------------------------------------------------------ who is not used


def _drop_by_status(sieve: _Sieve, options: ReferenceOptions) -> None:
    status = sieve.columns.status
    sieve.drop(status[sieve.rows] == "failed", "scan", "failed", "segmentation failed")
    number, flags = pd.factorize(sieve.columns.flags[sieve.rows])
    few = np.array([_FEW_PHASES in text.split(";") for text in flags], dtype=bool)[number]
    sentence = "cine of fewer than 12 phases, whose EDV and EF read low"
    sieve.drop(few, "scan", _FEW_PHASES.replace("_", "-"), sentence)
    if options.status == "ok":
        review = status[sieve.rows] == "review"
        sieve.drop(review, "scan", "review", "scan asks for review (--status ok)")


def _drop_not_healthy(sieve: _Sieve) -> None:
    healthy = sieve.columns.healthy
    if not (healthy[sieve.rows] >= 0).any():
        raise TableError(
            "No row says whether its participant is healthy (column healthy).",
            hint=(
                "A reference interval needs a healthy population. Map a column to `healthy` in "
                "[columns], or use --all for the distribution of everybody, which is titled so."
            ),
        )
    unknown = healthy[sieve.rows] < 0
    sieve.drop(unknown, "participant", "healthy-unknown", "not known to be healthy")
    sick = healthy[sieve.rows] == 0
    sieve.drop(sick, "participant", "not-healthy", "not healthy by the trial's rule")


def _drop_unknown(sieve: _Sieve, by: Sequence[Factor], options: ReferenceOptions) -> None:
    columns = sieve.columns
    if "sex" in by:
        sieve.drop(columns.sex[sieve.rows] < 0, "participant", "sex-unknown", "sex is unknown")
    if "age" in by:
        unknown = ~np.isfinite(columns.age_years[sieve.rows])
        sieve.drop(unknown, "participant", "age-unknown", "age is unknown")
        first = options.age_bands[0]
        sieve.drop(
            columns.age_years[sieve.rows] < first,
            "participant",
            "age-below-bands",
            f"younger than {first:g} years, the first age band",
        )


def _nobody_left(exclusions: Sequence[Exclusion]) -> TableError:
    counts: dict[str, int] = {}
    for exclusion in exclusions:
        counts[exclusion.code] = counts.get(exclusion.code, 0) + 1
    return TableError(
        "Nobody is left to make ranges of.",
        hint="Look at --healthy-only/--all, --status and --age-bands.",
        problems=[
            Problem(where=code, what=f"{count} rows excluded")
            for code, count in sorted(counts.items())
        ],
    )


# ------------------------------------------------------------------ one visit a person


def _visits_used(visit: np.ndarray) -> tuple[tuple[str, int], ...]:
    number, names = pd.factorize(visit, sort=True)
    counts = np.bincount(number, minlength=len(names))
    return tuple((str(n), int(c)) for n, c in zip(names, counts, strict=True) if n)


def _one_visit(sieve: _Sieve, options: ReferenceOptions) -> tuple[str, ...]:
    """Keep one row a person: the named visit, else baseline, else the least visit_day."""
    keys = sieve.columns.keys.at(sieve.rows)
    named = options.use_visit
    if named is not None and not (keys.visit == named).any():
        seen = ", ".join(sorted(set(keys.visit) - {""})) or "none"
        raise TableError(f"No row has the visit {named}.", hint=f"Visits here: {seen}.")
    if not len(sieve.rows) or options.repeated:
        return ()
    rank = np.where(keys.visit == named, 0, np.where(keys.visit == BASELINE, 1, 2))
    trial, trials = pd.factorize(keys.trial)
    participant, _ = pd.factorize(keys.participant)
    person, _ = pd.factorize(participant * len(trials) + trial)
    keep = _chosen_rows(keys, sieve.columns.visit_day[sieve.rows], person, rank)
    chosen = keys.visit[keep]
    sieve.drop(~keep, "scan", "other-visit", "another scan of this participant is used")
    others = int(np.sum(chosen != named))
    if named is None or not others:
        return ()
    who = f"{others} of {len(chosen)} people have no visit {named}"
    return (f"{who}: their baseline or earliest scan is used.",)


def _chosen_rows(
    keys: Keys, visit_day: np.ndarray, person: np.ndarray, rank: np.ndarray
) -> np.ndarray:
    """True for the row of each person that is used; TableError where that cannot be told."""
    people = int(person.max()) + 1
    best = np.full(people, 2)
    np.minimum.at(best, person, rank)
    candidate = rank == best[person]
    several = (np.bincount(person[candidate], minlength=people) > 1)[person] & candidate
    if not several.any():
        return np.asarray(candidate, dtype=bool)
    # Only the least visit_day decides, and only among visits that have no name to go by.
    dated = np.bincount(person[several & ~np.isfinite(visit_day)], minlength=people) == 0
    least = np.full(people, np.inf)
    np.minimum.at(least, person[several], np.nan_to_num(visit_day[several], nan=np.inf))
    first = several & (visit_day == least[person])
    one = np.bincount(person[first], minlength=people) == 1
    decided = dated & one & (best == 2)
    unclear = several & ~decided[person]
    if unclear.any():
        raise _several_rows(keys.at(unclear), person[unclear])
    return np.asarray(np.where(several, first, candidate), dtype=bool)


def _several_rows(keys: Keys, person: np.ndarray) -> TableError:
    numbers = np.unique(person)
    problems = []
    for number in numbers[:200]:
        mine = keys.at(person == number)
        names = ", ".join(name or "no visit" for name in mine.visit)
        problems.append(
            Problem(
                where=f"{mine.trial[0]}/{mine.participant[0]}",
                what=f"{len(mine.visit)} rows ({names})",
            )
        )
    return TableError(
        f"{len(numbers)} participants have several rows and nothing says which one to use.",
        hint=(
            "Give one row a participant and visit; name the visit with --use-visit, call it "
            "baseline, or give visit_day for each row (no ties)."
        ),
        problems=problems,
    )


# What each convention changes: BSA only the measures divided by it, the others every heart volume.
_ALWAYS = ("papillary", "sequence", "model_id", "model_sha256")
_BSA = "bsa_formula"
CONVENTIONS = (*_ALWAYS, "reported_papillary", _BSA)
SCANNERS = ("vendor", "field_strength_t")
_NO_IMAGE = ("heart_rate_bpm", "bsa_m2")


def depends_on(measure: str) -> tuple[str, ...]:
    """The conventions that a measure depends on.

    A trial's own ``reported_*`` values come from no model of ours and have a convention of theirs.
    """
    needs: tuple[str, ...]
    if measure in _NO_IMAGE:
        needs = ()
    elif measure.startswith("reported_"):
        needs = ("reported_papillary", "sequence")
    else:
        needs = _ALWAYS
    if measure.endswith(("_ml_m2", "_g_m2")) or measure == "bsa_m2":
        needs = (*needs, _BSA)
    return needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """One convention of the people: ``code`` ``[people]`` counts into ``values``, -1 unknown."""

    name: str
    values: tuple[str, ...]
    code: np.ndarray

    def met(self, rows: np.ndarray) -> dict[str, int]:
        """The values met among the people ``rows`` (a mask), with how many have each."""
        counts = np.bincount(self.code[rows] + 1, minlength=len(self.values) + 1)[1:]
        return {v: int(c) for v, c in zip(self.values, counts, strict=True) if c}


def read_conventions(people: People, names: Sequence[str] = CONVENTIONS) -> tuple[Convention, ...]:
    """The conventions (or other facts) that the table states."""
    found = []
    for name in names:
        if name in people.frame:
            column = people.frame[name].astype(object)
            text = column.where(column.notna() & (column != ""), None)
            code, values = pd.factorize(text, sort=True)
            found.append(
                Convention(name=name, values=tuple(str(v) for v in values), code=np.asarray(code))
            )
    return tuple(found)


def check_conventions(
    people: People, measures: Sequence[str], *, by_name: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The measures whose conventions are one, and a warning for each left out.

    A mixed BSA formula leaves out the indexed measures, with a warning, unless the user named them
    (``by_name``). Any other mixture, and no measure left, is a TableError with the values, their
    counts and trials.
    """
    good, problems = [], {}
    stated = read_conventions(people)
    for measure in measures:
        has_value = np.isfinite(people.values(measure))
        met = {c.name: c.met(has_value) for c in stated if c.name in depends_on(measure)}
        mixed = {name: values for name, values in met.items() if len(values) > 1}
        if mixed:
            problems[measure] = mixed
        else:
            good.append(measure)
    only_bsa = all(set(mixed) == {_BSA} for mixed in problems.values())
    if problems and (by_name or not good or not only_bsa):
        raise _mixed(people, problems)
    warnings = tuple(
        f"{measure} is left out: its rows mix {_values(mixed)}."
        for measure, mixed in problems.items()
    )
    return tuple(good), warnings


def _values(mixed: Mapping[str, Mapping[str, int]]) -> str:
    return "; ".join(
        f"{name} " + " and ".join(f"{value} ({count} rows)" for value, count in values.items())
        for name, values in mixed.items()
    )


def _mixed(people: People, problems: Mapping[str, Mapping[str, Mapping[str, int]]]) -> TableError:
    listed: dict[tuple[str, str], list[str]] = {}
    for measure, mixed in problems.items():
        for name, values in mixed.items():
            for value in values:
                listed.setdefault((name, value), []).append(measure)
    found = []
    for (name, value), measures in sorted(listed.items()):
        rows = people.frame[name].astype(str) == value
        trials = ", ".join(sorted(set(people.frame["trial"][rows].astype(str))))
        numbers = rows_text(sorted(people.frame.index[rows].tolist()))
        found.append(
            Problem(
                where=f"{name} = {value}",
                what=f"{int(rows.sum())} rows of {trials} ({numbers})",
                why=f"It matters for {', '.join(measures)}.",
            )
        )
    names = sorted({name for name, _ in listed})
    return TableError(
        f"The rows mix conventions ({', '.join(names)}), and a range over them would mean nothing.",
        hint=(
            "A convention moves a limit more than a decade of age does: keep the rows of one value,"
            " or name measures that do not depend on it with --measure."
        ),
        problems=found,
    )
