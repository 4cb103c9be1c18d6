"""Which rows of a table the ranges are made of: one per participant, every other with its reason.

Rows in = participants kept + excluded rows; each measure then leaves out the participants without
its value. Refused before anything else: values that a method cannot take, and facts that move a
measure and must not be mixed in one range (conventions).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from ..cohort.models import TableOptions
from ..cohort.plausibility import in_another_trial
from ..cohort.recode import LARGEST, as_text, rows_text
from ..errors import Problem, TableError
from ..measurement.indexing import (
    DEFAULT_FORMULA,
    FORMULAS,
    body_sizes,
    derived_measure,
    derived_values,
)
from ..measurement.measures import INDEX_OF, MEASURES
from ..privacy.characteristics import UNKNOWN, with_body_size
from ..records import ETHNICITIES, SEXES, CohortTable, Exclusion, InputNotice, SeriousWarning
from ..statistics.measurement_error import ErrorInput
from ..statistics.robust import MIN_N
from .options import Factor, Method, ReferenceOptions

ALL = "all"
BASELINE = "baseline"
NEEDS_POSITIVE = ("lms", "bct", "bcpe")
# What each convention changes: BSA only the measures divided by it, the others every heart volume.
_ALWAYS = ("papillary", "sequence", "model_id", "model_sha256")
_BSA = "bsa_formula"
CONVENTIONS = (*_ALWAYS, "reported_papillary", _BSA)
SCANNERS = ("vendor", "field_strength_t")
_MOST_NAMED = 200
_FINGERPRINT = 2  # measures whose equality, with sex and age, is hardly chance
_FEW_PHASES = "very-few-phases"  # the flag of `imaging` that is not for reference ranges
_HEALTHY = ("false", "true")
Stage = Literal["scan", "participant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The ids of rows as text ``[rows]``, "" where missing."""

    trial: np.ndarray
    participant: np.ndarray
    visit: np.ndarray

    def at(self, rows: np.ndarray) -> Keys:
        """The keys of some rows (a mask or numbers)."""
        return Keys(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def person(self) -> tuple[np.ndarray, np.ndarray]:
        """The number of each row's participant (ids are of one trial), and their names."""
        trial, trials = pd.factorize(self.trial)
        participant, _ = pd.factorize(self.participant)
        return pd.factorize(participant * len(trials) + trial)

    def excluded(self, stage: Stage, code: str, sentence: str) -> list[Exclusion]:
        """An exclusion for each row."""
        return [
            Exclusion(stage=stage, trial=t, participant_id=p, visit=v, code=code, sentence=sentence)
            for t, p, v in zip(self.trial, self.participant, self.visit, strict=True)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Participants:
    """One row per participant, in a fixed order (trial, participant), arrays ``[participants]``.

    ``trial`` counts into ``trials``; ``sex`` and ``ethnicity`` into `SEXES` and `ETHNICITIES`,
    -1 unknown; ``age_years`` NaN unknown; ``band`` counts into the age bands, -1 outside;
    ``by`` is what the limits are stratified by. ``frame`` and ``keys`` have the same rows.
    ``person`` numbers the participants where one may have several rows (``--repeated``), else None.
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
    warnings: tuple[str, ...] = ()
    person: np.ndarray | None = None

    @property
    def count(self) -> int:
        """As many as rows, except where a participant has several."""
        return self.count_of(np.arange(len(self.trial)))

    def count_of(self, rows: np.ndarray) -> int:
        """Participants of some rows (numbers)."""
        return len(rows) if self.person is None else len(np.unique(self.person[rows]))

    def values(self, measure: str) -> np.ndarray:
        """A measure's values ``[participants]`` as float64, NaN where there is none."""
        return numbers_of(self.frame, measure)

    def described(self, measures: Sequence[str]) -> pd.DataFrame:
        """What `characteristics` takes: a row a participant, by trial and (``group``) sex."""
        words = {"sex": (SEXES, self.sex), "ethnicity": (ETHNICITIES, self.ethnicity)}
        coded = {name: np.append(names, "")[codes] for name, (names, codes) in words.items()}
        known = ("height_cm", "weight_kg", *measures)
        found = pd.DataFrame(
            {
                "trial": np.asarray(self.trials)[self.trial],
                "group": np.where(coded["sex"] == "", UNKNOWN, coded["sex"]),
                "age_years": self.age_years,
                "ethnicity": coded["ethnicity"],
                **{name: self.values(name) for name in known},
            }
        ).dropna(axis=1, how="all")
        once = slice(None) if self.person is None else np.unique(self.person, return_index=True)[1]
        return with_body_size(found.iloc[once])


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureData:
    """One measure: ``values`` ``[participants]``, NaN where missing or left out.

    ``extreme`` numbers the participants whose values are far from all others and kept in;
    ``error`` what is known of the measurement's error, None where limits of true values are not
    asked for.
    """

    measure: str
    unit: str
    participants: Participants
    values: np.ndarray
    options: ReferenceOptions
    extreme: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    error: ErrorInput | None = None

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of a row that say of what it is."""
        return {"measure": self.measure, "unit": self.unit}


@dataclass(slots=True)
class RowFilter:
    """The numbers of the rows still used; those dropped are kept with their reason."""

    columns: Mapping[str, np.ndarray]
    keys: Keys
    rows: np.ndarray
    exclusions: list[Exclusion]

    def __getitem__(self, name: str) -> np.ndarray:
        """A column of the rows still used."""
        return np.asarray(self.columns[name][self.rows])

    def drop(self, out: np.ndarray, stage: Stage, code: str, sentence: str) -> None:
        """Exclude those of the current rows where ``out`` is true."""
        if out.any():
            gone = self.keys.at(self.rows[out])
            self.exclusions.extend(gone.excluded(stage, code, sentence))
            self.rows = self.rows[~out]


def select_participants(table: CohortTable, options: ReferenceOptions) -> Participants:
    """The participants of a table by the options; raises TableError where that is ambiguous.

    In order: failed scans, those of fewer than 12 phases, those to review (``status`` ``ok``), who
    is not healthy, other visits than the one used, unknown sex, unknown age or age below the first
    band.
    """
    frame = table.rows
    keys = Keys(
        trial=texts_of(frame, "trial"),
        participant=texts_of(frame, "participant_id"),
        visit=texts_of(frame, "visit"),
    )
    columns = {
        "visit_day": numbers_of(frame, "visit_day"),
        "status": texts_of(frame, "status"),
        "flags": texts_of(frame, "flags"),
        "healthy": _coded(frame, "healthy", _HEALTHY, lower=True),
        "sex": _coded(frame, "sex", SEXES),
        "ethnicity": _coded(frame, "ethnicity", ETHNICITIES),
        "age_years": numbers_of(frame, "age_years"),
    }
    kept = RowFilter(
        columns=columns, keys=keys, rows=np.arange(len(frame)), exclusions=list(table.exclusions)
    )
    _drop_scans(kept, options)
    if options.healthy_only and len(kept.rows):
        _drop_not_healthy(kept)
    visit_warnings = _one_visit(kept, options)
    by, warnings = _factors(kept, options)
    _drop_unknown(kept, by, options)
    if not len(kept.rows):
        raise _none_left(kept.exclusions)
    keys = keys.at(kept.rows)
    # By trial and participant, so that the order of the file does not matter.
    order = np.lexsort([pd.factorize(k, sort=True)[0] for k in (keys.participant, keys.trial)])
    rows, keys = kept.rows[order], keys.at(order)
    trial, trials = pd.factorize(keys.trial, sort=True)
    visits = sorted(Counter(keys.visit.tolist()).items())
    age = columns["age_years"][rows]
    return Participants(
        frame=frame.iloc[rows],
        keys=keys,
        trials=tuple(str(name) for name in trials),
        trial=trial,
        sex=columns["sex"][rows],
        ethnicity=columns["ethnicity"][rows],
        age_years=age,
        band=age_band(age, options.age_bands),
        by=by,
        rows_in=len(frame) + len(table.exclusions),
        review_rows=int(np.sum(columns["status"][rows] == "review")),
        visits=tuple((str(name), count) for name, count in visits if name),
        exclusions=tuple(kept.exclusions),
        warnings=(*warnings, *visit_warnings),
        person=np.asarray(keys.person()[0]) if options.repeated else None,
    )


def age_band(age_years: np.ndarray, bands: Sequence[float]) -> np.ndarray:
    """The band of each age: [lo, hi) on the exact age, the last open; -1 below or unknown."""
    found = np.searchsorted(np.asarray(bands), age_years, side="right") - 1
    return np.where(np.isfinite(age_years), found, -1)


# ------------------------------------------------------------------ columns


def texts_of(frame: pd.DataFrame, name: str) -> np.ndarray:
    """A column as text, "" where missing or absent."""
    if name not in frame:
        return np.full(len(frame), "", dtype=object)
    return as_text(frame[name]).to_numpy(dtype=object)


def numbers_of(frame: pd.DataFrame, name: str) -> np.ndarray:
    """A column as float64, NaN where missing, absent or not finite."""
    if name not in frame:
        return np.full(len(frame), np.nan)
    column = pd.to_numeric(frame[name], errors="coerce")
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isfinite(values), values, np.nan)


def _coded(
    frame: pd.DataFrame, name: str, codes: Sequence[str], *, lower: bool = False
) -> np.ndarray:
    number, words = pd.factorize(texts_of(frame, name))
    known = [str(word).lower() if lower else word for word in words]
    found = pd.Index(list(codes), dtype=object).get_indexer(pd.Index(known, dtype=object))
    return np.asarray(found, dtype=np.int64)[number]


def rows_options(options: ReferenceOptions, columns: TableOptions) -> TableOptions:
    """How to read participants' rows: the user's own measures, and all the columns in use."""
    known = {definition.name for definition in MEASURES}
    measures = options.measures or tuple(known)
    own = tuple(name for name in measures if name not in known and not derived_measure(name))
    # Sizes make the indices; a table of absolute measures alone has no use for them.
    indexed = {d.of for name in measures if (d := derived_measure(name))}
    indexed |= {INDEX_OF[name] for name in measures if name in INDEX_OF}
    sizes: tuple[str, ...] = ("height_cm", "weight_kg", "bsa_m2")
    if not (options.measures is None or indexed or any("_m2" in name for name in measures)):
        sizes = ()
    groups = options.by or ("sex", "ethnicity", "age")
    used = ["age_years" if factor == "age" else factor for factor in groups]
    if options.method not in ("strata", "meta"):
        used.append("age_years")
    rows = ("participant_id", "visit", "visit_day", "status", "healthy", "reported_papillary")
    needed = dict.fromkeys((*rows, *used, *measures, *indexed, *sizes))
    return replace(columns, numeric=own, needed=tuple(needed))


def with_derived(table: CohortTable, names: Sequence[str] | None) -> CohortTable:
    """The table with the measures among ``names`` (None: all) that body size makes of others.

    Body surface area and the measures divided by it where the table has none, which a notice says;
    those divided by a power of body size where they are named. TableError where the measure or the
    body size that a named one needs is not in the table.
    """
    table = _with_indices(table, names)
    columns, problems = {}, []
    for name in names or ():
        measure = derived_measure(name)
        if measure is None or name in table.rows:
            continue
        missing = [c for c in (measure.of, *measure.needs) if c not in table.rows]
        if missing:
            what = f"the table has no column {' and no '.join(missing)}"
            problems.append(Problem(where=name, what=what))
            continue
        parts = (numbers_of(table.rows, c) for c in (measure.of, "height_cm", "weight_kg"))
        columns[name] = derived_values(measure, *parts)
    if problems:
        raise TableError("An index needs a column that the table does not have.", problems=problems)
    return replace(table, rows=table.rows.assign(**columns)) if columns else table


def _with_indices(table: CohortTable, names: Sequence[str] | None) -> CohortTable:
    rows, notices = table.rows, []

    def has(name: str) -> bool:
        return bool(np.isfinite(numbers_of(rows, name)).any())

    lacking = [
        m for m, of in INDEX_OF.items() if (names is None or m in names) and has(of) and not has(m)
    ]
    columns: dict[str, Any] = {}
    bsa = numbers_of(rows, "bsa_m2")
    if lacking and not has("bsa_m2"):
        stated = {*texts_of(rows, "bsa_formula")} & {*FORMULAS}
        formula = stated.pop() if len(stated) == 1 else DEFAULT_FORMULA
        height, weight = (numbers_of(rows, name) for name in ("height_cm", "weight_kg"))
        bsa = body_sizes(f"bsa_{formula}", height, weight)
        columns = {
            "bsa_m2": bsa,
            "bsa_formula": [formula if known else None for known in np.isfinite(bsa)],
        }
        notices.append(f"BSA was computed from height and weight (formula: {formula}).")
    if not lacking or not np.isfinite(bsa).any():
        return table
    columns |= {name: numbers_of(rows, INDEX_OF[name]) / bsa for name in lacking}
    notices.append(f"Computed from volume or mass and BSA: {', '.join(lacking)}.")
    found = {*table.measures, *lacking}
    return replace(
        table,
        rows=rows.assign(**columns),
        measures=tuple(m.name for m in MEASURES if m.name in found),
        warnings=(*table.warnings, *map(InputNotice, notices)),
    )


def with_healthy(table: CohortTable, rule: str) -> CohortTable:
    """The table with every row declared healthy by ``rule``, where no row says who is."""
    if not rule or (_coded(table.rows, "healthy", _HEALTHY, lower=True) >= 0).any():
        return table
    notice = InputNotice(
        f"All {len(table.rows)} rows are taken as healthy (--healthy-rule): {rule}"
    )
    return replace(table, rows=table.rows.assign(healthy=True), warnings=(*table.warnings, notice))


# ------------------------------------------------------------------ who is not used


def _drop_scans(kept: RowFilter, options: ReferenceOptions) -> None:
    kept.drop(kept["status"] == "failed", "scan", "failed", "segmentation failed")
    number, flags = pd.factorize(kept["flags"])
    # Tables of earlier versions have underscores in codes.
    found = [_FEW_PHASES in text.replace("_", "-").split(";") for text in flags]
    few = np.array(found, dtype=bool)[number]
    sentence = "cine of fewer than 12 phases, whose EDV and EF read low"
    kept.drop(few, "scan", _FEW_PHASES, sentence)
    if options.status == "ok":
        review = kept["status"] == "review"
        kept.drop(review, "scan", "review", "scan asks for review (--status ok)")


def _drop_not_healthy(kept: RowFilter) -> None:
    if not (kept["healthy"] >= 0).any():
        raise TableError(
            "No row says whether its participant is healthy (column healthy).",
            hint=(
                "A reference interval needs a healthy population. Map a column to `healthy` in "
                "[columns]; if all rows are healthy, say by which rule: --healthy-rule TEXT; or "
                "use --all for the distribution of all participants, which is titled so."
            ),
        )
    unknown = kept["healthy"] < 0
    kept.drop(unknown, "participant", "healthy-unknown", "not known to be healthy")
    sick = kept["healthy"] == 0
    kept.drop(sick, "participant", "not-healthy", "not healthy by the trial's rule")


def _drop_unknown(kept: RowFilter, by: Sequence[Factor], options: ReferenceOptions) -> None:
    if "sex" in by:
        kept.drop(kept["sex"] < 0, "participant", "sex-unknown", "sex is unknown")
    if "age" in by:
        unknown = ~np.isfinite(kept["age_years"])
        kept.drop(unknown, "participant", "age-unknown", "age is unknown")
        first = options.age_bands[0]
        sentence = f"younger than {first:g} years, the first age band"
        kept.drop(kept["age_years"] < first, "participant", "age-below-bands", sentence)


def _none_left(exclusions: Sequence[Exclusion]) -> TableError:
    counts = sorted(Counter(e.code for e in exclusions).items())
    return TableError(
        "No participants are left to make ranges of.",
        hint="Check --healthy-only/--all, --status and --age-bands.",
        problems=[Problem(where=code, what=f"{n} rows excluded") for code, n in counts],
    )


def _factors(kept: RowFilter, options: ReferenceOptions) -> tuple[tuple[Factor, ...], list[str]]:
    """What to stratify by: the options' wish, or every factor known of a participant still used.

    A factor that only others have (patients, another visit) would leave no participants.
    """
    known: dict[Factor, np.ndarray] = {
        "sex": kept.columns["sex"] >= 0,
        "ethnicity": kept.columns["ethnicity"] >= 0,
        "age": np.isfinite(kept.columns["age_years"]),
    }
    if not len(kept.rows):
        return (), []
    absent = [factor for factor, is_known in known.items() if not is_known[kept.rows].any()]
    if options.by is None:
        warnings = []
        for factor in absent:
            selected = "No participant selected has a known"
            what = selected if known[factor].any() else "The table has no"
            warnings.append(f"{what} {factor}: the limits are not stratified by {factor}.")
        return tuple(factor for factor in known if factor not in absent), warnings
    wrong = [factor for factor in options.by if factor in absent]
    if wrong:
        anyone = any(known[factor].any() for factor in wrong)
        what = "no participant selected has a known" if anyone else "the table has no"
        raise TableError(
            f"--by {','.join(options.by)}: {what} {' and no '.join(wrong)}.",
            hint="Name the columns (--sex, --ethnicity, --age) or leave them out of --by.",
        )
    return tuple(factor for factor in known if factor in options.by), []


def _one_visit(kept: RowFilter, options: ReferenceOptions) -> list[str]:
    """Keep one row per participant: the named visit, else baseline, else the least visit_day."""
    keys = kept.keys.at(kept.rows)
    named = options.use_visit
    if named is not None and not (keys.visit == named).any():
        seen = ", ".join(sorted(set(keys.visit) - {""})) or "none"
        raise TableError(f"No row has the visit {named}.", hint=f"Visits here: {seen}.")
    if not len(kept.rows) or options.repeated:
        return []
    rank = np.where(keys.visit == named, 0, np.where(keys.visit == BASELINE, 1, 2))
    keep = _chosen_rows(keys, kept["visit_day"], rank)
    chosen = keys.visit[keep]
    kept.drop(~keep, "scan", "other-visit", "another scan of this participant is used")
    others = int(np.sum(chosen != named))
    if named is None or not others:
        return []
    who = f"{others} of {len(chosen)} participants have no visit {named}"
    return [f"{who}: their baseline or earliest scan is used."]


def _chosen_rows(keys: Keys, visit_day: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """True for the row of each participant that is used; TableError where that is ambiguous."""
    person, _ = keys.person()
    rows = pd.DataFrame({"person": person, "rank": rank, "day": visit_day}).groupby("person")
    best = rows["rank"].transform("min").to_numpy()
    candidate = rank == best
    several = candidate & (np.bincount(person, candidate)[person] > 1)
    if not several.any():
        return np.asarray(candidate)
    # Only the least visit_day decides, and only among visits that have no name to go by.
    day = pd.Series(np.where(several, visit_day, np.nan)).groupby(person).transform("min")
    first = several & (visit_day == day.to_numpy())
    dated = np.bincount(person, several & ~np.isfinite(visit_day))[person] == 0
    one = np.bincount(person, first)[person] == 1
    unclear = several & ~(dated & one & (best == 2))
    if not unclear.any():
        return np.asarray(np.where(several, first, candidate))
    doubtful = np.unique(person[unclear])
    problems = []
    for number in doubtful[:_MOST_NAMED]:
        mine = keys.at(unclear & (person == number))
        names = ", ".join(name or "no visit" for name in mine.visit)
        where = f"{mine.trial[0]}/{mine.participant[0]}"
        problems.append(Problem(where=where, what=f"{len(mine.visit)} rows ({names})"))
    raise TableError(
        f"{len(doubtful)} participants have several rows and nothing says which one to use.",
        hint=(
            "Give one row per participant and visit; name the visit with --use-visit, call it "
            "baseline, or give visit_day for each row (no ties)."
        ),
        problems=problems,
    )


# ------------------------------------------------------------------ values


def check_positive(
    participants: Participants,
    measures: Sequence[str],
    methods: Sequence[Method],
    options: ReferenceOptions,
) -> None:
    """Refuse values that the method named cannot take; raises TableError with their counts."""
    by_name = options.method in NEEDS_POSITIVE
    banded = "strata" in methods or "meta" in methods
    if not by_name and (options.limits not in ("log", "boxcox") or not banded):
        return
    problems = [
        Problem(where=name, what=f"{count} values are 0 or less")
        for name in measures
        if (count := int(np.sum(participants.values(name) <= 0)))
    ]
    if problems:
        what = f"--method {options.method}" if by_name else f"--limits {options.limits}"
        other = "another --method" if by_name else "other --limits"
        raise TableError(
            f"{what} needs positive values.",
            hint=f"Choose {other}, or name the measures that are positive with --measure.",
            problems=problems,
        )


# ------------------------------------------------------------------ conventions


def depends_on(measure: str) -> tuple[str, ...]:
    """The conventions that a measure depends on.

    A trial's own ``reported_*`` values do not come from our model and have their own convention.
    """
    needs: tuple[str, ...] = _ALWAYS
    if measure in ("heart_rate_bpm", "bsa_m2"):
        needs = ()
    elif measure.startswith("reported_"):
        needs = ("reported_papillary", "sequence")
    if measure.endswith(("_ml_m2", "_g_m2")) or measure == "bsa_m2":
        needs = (*needs, _BSA)
    return needs


def read_conventions(participants: Participants, names: Sequence[str]) -> dict[str, pd.Series]:
    """What the table states of each convention, categories ``[participants]``."""
    columns = {n: participants.frame[n].astype(object) for n in names if n in participants.frame}
    return {n: column.where(column.ne("")).astype("category") for n, column in columns.items()}


def value_counts(stated: pd.Series, rows: np.ndarray) -> dict[str, int]:
    """The values of ``rows`` (a mask), with how many rows have each."""
    return {str(v): n for v, n in stated[rows].value_counts(sort=False).items() if n}


def check_conventions(
    participants: Participants, measures: Sequence[str], *, by_name: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The measures whose conventions are one, and a warning for each left out.

    A mixed BSA formula leaves out the indexed measures, with a warning, unless the user named them
    (``by_name``). Any other mixture, and no measure left, is a TableError with the values, their
    counts and trials.
    """
    problems, stated = {}, read_conventions(participants, CONVENTIONS)
    for measure in measures:
        known = np.isfinite(participants.values(measure))
        needed = {name: codes for name, codes in stated.items() if name in depends_on(measure)}
        met = {name: value_counts(codes, known) for name, codes in needed.items()}
        mixed = {name: values for name, values in met.items() if len(values) > 1}
        if mixed:
            problems[measure] = mixed
    good = tuple(m for m in measures if m not in problems)
    only_bsa = all(set(mixed) == {_BSA} for mixed in problems.values())
    if problems and (by_name or not good or not only_bsa):
        raise _mixed(participants, problems)
    warnings = []
    for measure, mixed in problems.items():
        values = "; ".join(
            f"{name} " + " and ".join(f"{value} ({count} rows)" for value, count in counts.items())
            for name, counts in mixed.items()
        )
        warnings.append(SeriousWarning(f"{measure} is left out: its rows mix {values}."))
    for name, codes in stated.items():
        known = [np.isfinite(participants.values(m)) for m in good if name in depends_on(m)]
        rows = np.any(known, axis=0) if known else np.zeros(len(codes), dtype=bool)
        silent = np.unique(participants.trial[rows & codes.isna().to_numpy()])
        if len(silent) and (found := value_counts(codes, rows)):
            trials = ", ".join(participants.trials[t] for t in silent)
            what = f"{name} is not stated in every row, and is taken as {' or '.join(found)}"
            warnings.append(SeriousWarning(f"{trials}: {what}."))
    return good, tuple(warnings)


def trial_warnings(participants: Participants, measures: Sequence[str]) -> Iterator[str]:
    """Trials without a value of a measure, and those whose participants another trial has too."""
    values = pd.DataFrame({name: participants.values(name) for name in measures})
    for number, trial in enumerate(participants.trials):
        mine = values[participants.trial == number]
        lacking = [name for name in measures if mine[name].isna().all()]
        if lacking:
            yield f"{trial} has no value of {', '.join(lacking)}."
    if len(participants.trials) < 2:
        return
    usable = (values.notna().sum(axis=1) >= _FINGERPRINT).to_numpy()
    rows = values.assign(sex=participants.sex, age=participants.age_years)[usable]
    codes = pd.Series(participants.trial[usable], index=rows.index)
    twice = np.bincount(codes[in_another_trial(rows, codes)])
    every = np.bincount(codes)[: len(twice)]
    same = np.flatnonzero((twice >= MIN_N) & (2 * twice >= every))
    if len(same):
        yield SeriousWarning(
            f"{', '.join(participants.trials[t] for t in same)}: most participants have sex, age "
            "and all measures of one in another trial, number for number. If they are the same "
            "participants, they count twice: leave one trial out."
        )


def _mixed(
    participants: Participants, problems: Mapping[str, Mapping[str, Mapping[str, int]]]
) -> TableError:
    listed: dict[tuple[str, str], list[str]] = {}
    for measure, mixed in problems.items():
        for name, values in mixed.items():
            for value in values:
                listed.setdefault((name, value), []).append(measure)
    found, frame = [], participants.frame
    for (name, value), measures in sorted(listed.items()):
        rows = frame[name].astype(str) == value
        trials = ", ".join(sorted(set(frame["trial"][rows].astype(str))))
        numbers = rows_text(sorted(frame.index[rows].tolist()))
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


# ------------------------------------------------------------------ rows of groups, as text

_SEX_WORDS = {"": ALL, "all": ALL, "m": "male", "male": "male", "f": "female", "female": "female"}


@dataclass(slots=True)
class TextRow:
    """A row that describes a group (a summary, a published limit); collects its problems."""

    texts: Mapping[str, str]
    where: str
    problems: list[Problem] = field(default_factory=list)

    def refuse(self, what: str, fix: str = "") -> None:
        """Add a problem."""
        self.problems.append(Problem(where=self.where, what=what, fix=fix))

    def number(self, name: str, *, needed: bool = True) -> float | None:
        """A column as a number; None where blank."""
        text = self.texts.get(name, "")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if text and abs(value) <= LARGEST:
            return value
        if text or needed:
            self.refuse(f"{name} is {text!r}, not a number" if text else f"{name} is empty")
        return None

    def ages(self) -> tuple[float | None, float | None]:
        """``age_low`` and ``age_high``, in order."""
        low, high = self.number("age_low", needed=False), self.number("age_high", needed=False)
        if low is not None and high is not None and low >= high:
            self.refuse(f"age_low {low:g} is not below {high:g}")
        return low, high

    def sex(self) -> str:
        """The harmonised sex, ``all`` where blank."""
        text = self.texts.get("sex", "")
        found = _SEX_WORDS.get(text.casefold())
        if found is None:
            self.refuse(f"sex is {text!r}", "Use male, female or all.")
        return found or ""

    def ethnicity(self) -> str:
        """The harmonised ethnicity (``South Asian`` is ``south-asian``), ``all`` where blank."""
        text = self.texts.get("ethnicity", "")
        found = text.casefold().replace(" ", "-").replace("/", "-") or ALL
        if found not in (ALL, *ETHNICITIES):
            self.refuse(f"ethnicity is {text!r}", f"Use {', '.join((*ETHNICITIES, ALL))}.")
        return found


def text_rows(table: pd.DataFrame, where: str) -> Iterator[TextRow]:
    """The rows of a table read as text."""
    columns = {
        str(name): table[name].astype(str).where(table[name].notna(), "").str.strip().tolist()
        for name in table.columns
    }
    for place, number in enumerate(table.index.tolist()):
        texts = {name: column[place] for name, column in columns.items()}
        yield TextRow(texts, f"{where}, row {number}")
