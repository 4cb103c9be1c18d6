"""Table → reference ranges: participants, groups, limits by strata and curves, and their checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import special

from ..errors import EstimationError, TableError
from ..measurement.indexing import body_sizes
from ..measurement.measures import MEASURES, definition
from ..privacy.characteristics import characteristics
from ..privacy.suppression import LIMITS_WITHHELD, Count
from ..records import CohortTable, Exclusion, SeriousWarning
from ..statistics.measurement_error import ErrorInput
from .curves.fit import check_trials
from .curves.measure import curve_tables
from .error_model import (
    adjusted_rows,
    error_input_of,
    refusals,
    stratum_curve,
    with_differences,
)
from .meta import META, participants_meta
from .model import SAMPLING_ERROR, STRATA, stratum_model
from .options import NONPARAMETRIC_MIN_N, Method, ReferenceOptions
from .reported import check_reported, reported_widths
from .results import (
    EXTREME_KEPT,
    Account,
    Allometry,
    ErrorAdjustedLimit,
    Outlier,
    ReferenceLimit,
    ReferenceRanges,
    Status,
)
from .select import (
    ALL,
    CONVENTIONS,
    SCANNERS,
    MeasureData,
    Participants,
    check_conventions,
    check_positive,
    read_conventions,
    select_participants,
    trial_warnings,
    value_counts,
)
from .strata.checks import calibrate, contrasts, partition_tests, trial_limits
from .strata.groups import (
    Cell,
    FittedCell,
    Strata,
    cells,
    counts_of,
    fit_cell,
    outlying,
    strata,
    suspects,
)
from .strata.limits import Limit, participant_means

# A CI wider than this share of the reference interval is a common reason for a larger sample.
_WIDE_CI = 0.2
_USE_T = "z of a small sample: --limits prediction uses t"
# Interquartile ranges beyond the quartiles: hardly one of 400,000 normal values; not a heart.
_FAR_OUT, _SURELY_WRONG = 3.0, 10.0
SIZES = ("height", "bsa_mosteller", "bsa_dubois", "weight")
_ABSOLUTE = ("_ml", "_g")


def reference_ranges(
    table: CohortTable, options: ReferenceOptions, error: ErrorInput | None = None
) -> ReferenceRanges:
    """The reference ranges of a table by strata, as curves over age, or both.

    With ``error``, what is known of the measurement's error, limits of true values too.

    Raises TableError where the participants, visits, measures or conventions of the table do not
    allow them, every problem of a kind listed; EstimationError where a model asked for cannot be
    fitted.
    """
    options = _with_ages(options, table)
    participants = select_participants(table, options)
    # Without a method strata and, where ages vary, curves.
    ages = participants.age_years[np.isfinite(participants.age_years)]
    curves = not options.repeated and len(np.unique(ages)) >= 5
    chosen: tuple[Method, ...] = ("strata", "lms") if curves else ("strata",)
    methods = chosen if options.method is None else (options.method,)
    if methods != (STRATA,):
        check_trials(options, len(participants.trials))
    measures, warnings = _measures(table, participants, methods, options)
    groups = strata(participants, options.age_bands)
    if options.compare_reported:
        check_reported(measures, participants)
    corrected, of_error = frozenset[str](), list[str]()
    if error is not None:
        corrected, of_error = error_input_of(error, measures, participants, options)
    found: dict[str, list[Any]] = {
        "exclusions": list(participants.exclusions),
        "warnings": [*table.warnings, *participants.warnings, *warnings],
    }
    failures: list[EstimationError | None] = []
    for measure in measures:
        known = error if measure in corrected else None
        for tables in _measure_tables(
            measure, participants, groups, methods, options, failures, known
        ):
            for name, rows in tables.items():
                found.setdefault(name, []).extend(rows)
    _check_curves(found["rows"], failures, methods, options)
    if error is not None:
        found["warnings"] += [*of_error, *refusals(found["error_adjusted"], options)]
    by_person = ("trial", "participant_id", "visit", "code")
    found["exclusions"].sort(key=lambda e: tuple(getattr(e, name) for name in by_person))
    found["warnings"] = list(dict.fromkeys(found["warnings"]))
    one_scan = measures if participants.person is None else ()
    found["indexing"] = list(allometry(participants, one_scan, options))
    without_review = _without_review(table, participants, methods, options)
    if without_review is not None:
        found["without_review"] = without_review
    has_value = np.any([np.isfinite(participants.values(m)) for m in measures], axis=0)
    facts = {
        name: {
            convention: met
            for convention, codes in read_conventions(participants, names).items()
            if (met := value_counts(codes, has_value))
        }
        for name, names in (("conventions", CONVENTIONS), ("scanners", SCANNERS))
    }
    return ReferenceRanges.of(
        found,
        options,
        name=table.name,
        input_sha256=table.sha256,
        by=participants.by,
        measures=measures,
        trials=participants.trials,
        participants=participants.count,
        methods=methods,
        error_source=error.source if error else "",
        review_rows=participants.review_rows,
        visits=participants.visits,
        table1=characteristics(
            participants.described(measures), 1 if options.internal else options.min_cell
        ),
        **facts,
    )


def _with_ages(options: ReferenceOptions, table: CohortTable) -> ReferenceOptions:
    """The options of a curve, whose participants must have an age; TableError where none has."""
    if options.method in (None, STRATA, META):
        return options
    if "age_years" not in table.rows or not table.rows["age_years"].notna().any():
        raise TableError(
            f"--method {options.method} needs ages, and the table has none.",
            hint="Name the column with --age, or use --method strata.",
        )
    if options.by is None or "age" in options.by:
        return options
    return replace(options, by=(*options.by, "age"))


def _check_curves(
    rows: Sequence[ReferenceLimit],
    failures: Sequence[EstimationError | None],
    methods: Sequence[Method],
    options: ReferenceOptions,
) -> None:
    """A method asked for must work for each measure asked for, and for one of those found.

    Ages asked for must have participants in a curve. ``failures`` has an entry for each curve.
    """
    errors = [e for e in failures if e is not None]
    every = options.measures is not None or len(errors) == len(failures)
    if options.method is not None and errors and every:
        raise EstimationError(" ".join(e.message for e in errors), hint=errors[0].hint)
    if options.at_ages is None or {*methods} <= {STRATA, META}:
        return
    if not any(row.age is not None and row.limit is not None for row in rows):
        ages = ", ".join(f"{age:g}" for age in options.at_ages)
        raise TableError(
            f"--at-ages {ages}: no curve has participants observed at these ages.",
            hint="Nothing is given outside the observed ages; leave --at-ages out to see them.",
        )


def _measures(
    table: CohortTable,
    participants: Participants,
    methods: tuple[Method, ...],
    options: ReferenceOptions,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The measures to give, and warnings for those that cannot be given."""
    wanted = options.measures or table.measures
    if not wanted:
        raise TableError(
            "The table has no column that is a known measure (lv_edv_ml, lv_ef_percent, …).",
            hint="Name your own numeric columns with --measure.",
        )
    absent = [name for name in wanted if name not in participants.frame]
    if absent:
        raise TableError(
            f"The table has no column {', '.join(absent)}.",
            hint=f"Measures here: {', '.join(table.measures) or 'none that is known'}.",
        )
    empty = [name for name in wanted if not np.isfinite(participants.values(name)).any()]
    if options.measures and empty:
        raise TableError(f"No one has a number in {', '.join(empty)}.", hint="Check the column.")
    usable = [name for name in dict.fromkeys(wanted) if name not in empty]
    if not usable:
        raise TableError("No measure has a single value among the participants selected.")
    check_positive(participants, usable, methods, options)
    good, warnings = check_conventions(participants, usable, by_name=options.measures is not None)
    gone = tuple(f"{name} is left out: no one has a value." for name in empty)
    return good, (*gone, *warnings, *trial_warnings(participants, good))


def _without_review(
    table: CohortTable,
    participants: Participants,
    methods: tuple[Method, ...],
    options: ReferenceOptions,
) -> list[ReferenceLimit] | None:
    """The same limits without scans that ask for review; None where all scans are ``ok``."""
    if options.status == "ok" or not participants.review_rows:
        return None
    try:
        strict = replace(options, status="ok", compare_reported=False)
        rest = select_participants(table, strict)
        measures, _ = _measures(table, rest, methods, strict)
    except TableError:
        # Nothing is left without them: the difference is everything, and the page says so.
        return []
    groups = strata(rest, options.age_bands)
    return [
        row
        for measure in measures
        for tables in _measure_tables(measure, rest, groups, methods, strict, [])
        for row in tables.get("rows", ())
    ]


# ------------------------------------------------------------------ one measure


def _measure_tables(
    measure: str,
    participants: Participants,
    groups: Strata,
    methods: tuple[Method, ...],
    options: ReferenceOptions,
    failures: list[EstimationError | None],
    error: ErrorInput | None = None,
) -> Iterator[Mapping[str, Iterable[Any]]]:
    """The rows of a measure by field of the result, each made when it is read.

    ``failures`` gets an entry for each curve.
    """
    values, unit = participants.values(measure), definition(measure).unit
    data = MeasureData(
        measure=measure,
        unit=unit,
        participants=participants,
        values=values,
        options=options,
        error=error,
    )
    data, found, far, dropped = _without_outliers(data, groups)
    keys, missing = participants.keys, ~np.isfinite(values)
    gone = [
        *keys.at(missing).excluded("scan", f"no-value:{measure}", f"{measure} is empty"),
        *keys.at(dropped).excluded("scan", f"outlier:{measure}", f"{measure} is an outlier"),
    ]
    fitted = [fit_cell(measure, cell, options) for cell in found] if STRATA in methods else []
    fitted = _without_sums(fitted, options)
    tested, once = fitted, data
    if participants.person is not None:
        once = replace(data, values=participant_means(participants.person, data.values))
        tested = [FittedCell(cell=c) for c in cells(participants, groups, once.values)]
    counts = counts_of([f.cell for f in fitted])
    models = [stratum_model(measure, data.unit, f, n) for f, n in zip(fitted, counts, strict=True)]
    rows = list(_limit_rows(data, fitted))
    yield {
        "rows": rows,
        "error_adjusted": _error_rows(data, rows, fitted) if error else (),
        "reported_widths": reported_widths(data, groups) if options.compare_reported else (),
        "by_trial": (row for f in fitted for row in trial_limits(data, f)),
        "partition": partition_tests(once, tested),
        "contrasts": contrasts(once),
        "calibration": calibrate(data, fitted),
        "outliers": _outliers(data, groups) if options.internal else [],
        "exclusions": gone,
        "accounts": [_account(data, far, gone)],
        "strata_models": [model for model in models if model is not None],
        "warnings": _extreme_warnings(data, found),
    }
    if META in methods:
        yield participants_meta(data, found)
    for method in (m for m in methods if m not in (STRATA, META)):
        tables, failed = curve_tables(data, method)
        failures.append(failed)
        yield tables


def _without_outliers(
    data: MeasureData, groups: Strata
) -> tuple[MeasureData, tuple[Cell, ...], np.ndarray, np.ndarray]:
    """The measure and its cells after the outlier rule, the outliers, and those left out.

    Outliers are searched by sex and age band over all ethnicities, so that a participant is or is
    not an outlier in every stratum alike.
    """
    found = cells(data.participants, groups, data.values)
    none, rule = np.empty(0, dtype=np.int64), data.options.outliers
    if rule == "none":
        return data, found, none, none
    pooled = [cell for cell in found if cell.key.ethnicity == ALL]
    far = np.sort(np.concatenate([none, *(outlying(cell) for cell in pooled)]))
    if rule == "list":
        extreme = np.concatenate([none, *(outlying(cell, _FAR_OUT) for cell in pooled)])
        return replace(data, extreme=extreme), found, far, none
    values = data.values.copy()
    values[far] = np.nan
    return replace(data, values=values), cells(data.participants, groups, values), far, far


def _extreme_warnings(data: MeasureData, found: Sequence[Cell]) -> list[str]:
    """What is said of values far from all others that are kept, by how far out they are."""
    if not len(data.extreme):
        return []
    text = (
        f"{data.measure}: values far from all others are kept in limits, curves and contrasts "
        "(--internal lists them, --outliers tukey leaves them out)."
    )
    pooled = (cell for cell in found if cell.key.ethnicity == ALL)
    wrong = any(len(outlying(cell, _SURELY_WRONG)) for cell in pooled)
    return [SeriousWarning(text) if wrong else text]


def _outliers(data: MeasureData, groups: Strata) -> list[Outlier]:
    """The outliers by name, each with the rules and the fences it is beyond."""
    if data.options.outliers == "none":
        return []
    participants, rows = data.participants, []
    values, keys = participants.values(data.measure), participants.keys
    for cell in cells(participants, groups, values):
        if cell.key.ethnicity == ALL:
            rows += [
                Outlier(
                    rule="; ".join(rules),
                    measure=data.measure,
                    trial=keys.trial[member],
                    participant_id=keys.participant[member],
                    visit=keys.visit[member],
                    value=float(values[member]),
                    fence_low=fences[0],
                    fence_high=fences[1],
                    sex=cell.key.sex,
                    age_low=cell.key.age_low,
                    age_high=cell.key.age_high,
                )
                for member, rules, fences in suspects(cell)
            ]
    return sorted(rows, key=lambda o: (o.trial, o.participant_id))


def _account(data: MeasureData, far: np.ndarray, gone: Sequence[Exclusion]) -> Account:
    participants, used = data.participants, np.isfinite(data.values)
    codes = Counter(e.code for e in participants.exclusions)
    codes.update(e.code.partition(":")[0] for e in gone)
    unknown = used & (participants.ethnicity < 0)
    return Account(
        measure=data.measure,
        rows_in=participants.rows_in,
        excluded=dict(codes),
        analysed=int(used.sum()),
        ethnicity_unknown=int(unknown.sum()) if "ethnicity" in participants.by else 0,
        outliers=None if data.options.outliers == "none" else len(far),
    )


# ------------------------------------------------------------------ rows of strata


def _limit_rows(data: MeasureData, fitted: Sequence[FittedCell]) -> Iterator[ReferenceLimit]:
    options = data.options
    for f, n in zip(fitted, counts_of([f.cell for f in fitted]), strict=True):
        cell, below_n = f.cell, options.below(f.cell.n)
        few = cell.n < NONPARAMETRIC_MIN_N
        small = few or f.rule != (options.limits or "nonparametric")
        single = cell.n_trials == 1
        first = [f"n<{below_n}"] if below_n else [LIMITS_WITHHELD] if f.withheld else []
        extreme = bool(np.isin(cell.members, data.extreme).any())
        low = next((x.limit for x in f.printed if x.centile < 50), None)
        high = next((x.limit for x in f.printed if x.centile > 50), None)
        width = None if low is None or high is None else high - low
        for limit in f.printed or [Limit(centile, None) for centile in options.centiles]:
            notes = [*first, *limit.notes]
            status: Status = "suppressed"
            if limit.limit is not None:
                status = "small-n" if small else "single-trial" if single else "ok"
                notes += ["single-trial"] if small and single else []
            if limit.ci_low is not None and limit.ci_high is not None and width:
                wide = limit.ci_high - limit.ci_low > _WIDE_CI * width
                notes += ["ci-wide"] if wide and limit.centile != 50 else []
            if limit.ci_low is not None and cell.n_trials > 1:
                notes.append(SAMPLING_ERROR)
            if f.printed:
                notes += [EXTREME_KEPT] if extreme else []
                # z takes mean and SD for known, which few participants do not make them.
                notes += [_USE_T] if few and f.rule == "parametric" else []
            yield ReferenceLimit(
                **data.columns,
                method=STRATA,
                limits=f.rule or "",
                kind="population",
                **cell.key.columns(),
                age=None,
                n=n,
                n_trials=cell.n_trials,
                **limit.columns,
                ci_level=options.ci_level,
                status=status,
                notes=tuple(notes),
                below_n=below_n,
            )


def _error_rows(
    data: MeasureData, rows: Sequence[ReferenceLimit], fitted: Sequence[FittedCell]
) -> list[ErrorAdjustedLimit]:
    """The strata's limits of true values."""
    of_cell: dict[tuple[Any, ...], list[ReferenceLimit]] = {}
    for row in rows:
        of_cell.setdefault((row.sex, row.ethnicity, row.age_low), []).append(row)
    found = [
        new
        for cell in (f.cell for f in fitted if f.printed)
        for new in adjusted_rows(
            data,
            of_cell[cell.key.sex, cell.key.ethnicity, cell.key.age_low],
            stratum_curve(cell.ordered),
            cell.members,
        )
    ]
    return with_differences(found, data)


def _without_sums(fitted: Sequence[FittedCell], options: ReferenceOptions) -> list[FittedCell]:
    """The cells without the limits of ``all`` where those of its groups leave a small rest.

    Mean, SD and n of ``all`` and of the groups give the sums of who is in no group with limits: of
    one participant the value itself.
    """
    if options.internal:
        return list(fitted)
    shown: Counter[tuple[str, float | None]] = Counter()
    for f in fitted:
        if f.cell.key.ethnicity != ALL and f.rule is not None:
            shown[f.cell.key.sex, f.cell.key.age_low] += f.cell.n
    found = []
    for f in fitted:
        rest = f.cell.n - shown[f.cell.key.sex, f.cell.key.age_low]
        hide = f.cell.key.ethnicity == ALL and f.rule is not None and 0 < rest < options.min_cell
        found.append(FittedCell(cell=f.cell, withheld=True) if hide else f)
    return found


# ------------------------------------------------------------------ body size


def log_log_slope(
    y: np.ndarray, x: np.ndarray, group: np.ndarray | None
) -> tuple[float, float, int] | None:
    """The slope of ln ``y`` on ln ``x`` ``[n]``, an intercept for each level of ``group``.

    With its SE and residual degrees of freedom; None where the sizes do not vary within groups.
    """
    ly, lx = np.log(y), np.log(x)
    codes = np.zeros(len(y), dtype=int)
    if group is not None:
        codes = np.unique(group, return_inverse=True)[1]
    sizes = np.bincount(codes)
    lx = lx - (np.bincount(codes, lx) / sizes)[codes]
    ly = ly - (np.bincount(codes, ly) / sizes)[codes]
    spread, df = float(lx @ lx), len(y) - len(sizes) - 1
    if spread < 1e-12 * len(y) or df < 1:
        return None
    slope = float(lx @ ly) / spread
    residual = ly - slope * lx
    return slope, float(np.sqrt(residual @ residual / df / spread)), df


def allometry(
    participants: Participants, measures: tuple[str, ...], options: ReferenceOptions
) -> Iterator[Allometry]:
    """How every absolute volume and mass grows with body size; none without heights.

    ``exponent`` b of measure = a·size^b, men and women with a level each (Dewey FE et al.,
    Circulation 2008;117:2279-87). An index that divides by size^1 where b is far from 1 still
    depends on size.
    """
    height, weight = participants.values("height_cm"), participants.values("weight_kg")
    if not np.isfinite(height).any():
        return
    by_sex = bool((participants.sex >= 0).any())
    units = {m.name: m.unit for m in MEASURES}
    absolute = [m for m in measures if m in units and m.endswith(_ABSOLUTE)]
    for measure, size in ((m, s) for m in absolute for s in SIZES):
        values, sizes = participants.values(measure), body_sizes(size, height, weight)
        usable = np.isfinite(values) & (values > 0) & np.isfinite(sizes)
        if by_sex:
            usable &= participants.sex >= 0
        n = int(usable.sum())
        if not n:
            continue
        below_n, columns = options.below(n), dict[str, Any]()
        group = participants.sex[usable] if by_sex else None
        found = None if below_n else log_log_slope(values[usable], sizes[usable], group)
        if found is None:
            columns["notes"] = (f"n<{below_n}" if below_n else "size-constant",)
        else:
            b, se, df = found
            half = float(special.stdtrit(df, (1 + options.ci_level / 100) / 2)) * se
            columns = {"exponent": b, "se": se, "ci_low": b - half, "ci_high": b + half}
            columns["index"] = f"{measure}_per_{size}_{b:.2f}" if 0.005 <= b <= 5 else ""
        yield Allometry(
            measure=measure,
            unit=units[measure],
            size=size,
            adjusted_for="sex" if by_sex else "",
            n=Count(n),
            ci_level=options.ci_level,
            below_n=below_n,
            **columns,
        )
