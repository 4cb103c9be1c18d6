"""How a volume or mass grows with body size: log(measure) on log(size), by least squares.

``exponent`` b of measure = a·size^b, men and women with a level each (Dewey FE et al., Circulation
2008;117:2279-87). An index that divides by size^1 where b is far from 1 still depends on size.

Table → reference ranges: people, groups, limits by strata and curves, the checks beside them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from ..errors import EstimationError, TableError
from ..measurement.measures import MEASURES, body_sizes, definition
from ..privacy.suppression import hidden_counts
from ..records import CohortTable, Exclusion
from .curves.measure import (
    STRATA,
    MeasureCurves,
    check_trials,
    curve_rows_alone,
    measure_curves,
    methods_of,
    with_ages,
)
from .meta import META, MeasureMeta, group_of_cell, measure_meta, meta_cells, on_logs
from .model import SAMPLING_ERROR, model_document, stratum_model
from .options import NONPARAMETRIC_MIN_N, NOT_A_REFERENCE, Method, ReferenceOptions
from .results import (
    Account,
    Allometry,
    Calibration,
    Contrast,
    MetaEstimate,
    Outlier,
    PartitionTest,
    ReferenceLimit,
    ReferenceRanges,
    TrialLimit,
)
from .select import (
    CONVENTIONS,
    SCANNERS,
    People,
    check_conventions,
    check_positive,
    check_values,
    excluded,
    read_conventions,
    select_people,
)
from .strata.checks import calibrate, contrasts, partition_tests, trial_limits
from .strata.groups import (
    ALL,
    Cell,
    FittedCell,
    Strata,
    cells,
    fit_cell,
    outer_centiles,
    outlying,
    strata,
    suspects,
)
from .strata.limits import Limit, person_means

SIZES = ("height", "bsa_mosteller", "bsa_dubois", "weight")
_ABSOLUTE = ("_ml", "_g")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """A least-squares slope: its SE and residual degrees of freedom."""

    value: float
    se: float
    df: int


def log_log_slope(y: np.ndarray, x: np.ndarray, group: np.ndarray | None) -> Slope | None:
    """The slope of ln ``y`` on ln ``x`` ``[n]``, with an intercept for each level of ``group``.

    None where the sizes do not vary within groups.
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
    return Slope(value=slope, se=float(np.sqrt(residual @ residual / df / spread)), df=df)


def allometry(
    people: People, measures: tuple[str, ...], *, ci_level: float, smallest_n: int, min_cell: int
) -> Iterator[Allometry]:
    """The exponents of every absolute volume and mass; none without heights or weights."""
    from scipy import special

    height, weight = people.values("height_cm"), people.values("weight_kg")
    if not np.isfinite(height).any():
        return
    by_sex = bool((people.sex >= 0).any())
    units = {m.name: m.unit for m in MEASURES}
    for measure in measures:
        if measure not in units or not measure.endswith(_ABSOLUTE):
            continue
        values = people.values(measure)
        for size in SIZES:
            sizes = body_sizes(size, height, weight)
            usable = np.isfinite(values) & (values > 0) & np.isfinite(sizes)
            if by_sex:
                usable &= people.sex >= 0
            n = int(usable.sum())
            if not n:
                continue
            found = None
            if n >= smallest_n:
                group = people.sex[usable] if by_sex else None
                found = log_log_slope(values[usable], sizes[usable], group)
            half = 0.0
            if found is not None:
                half = float(special.stdtrit(found.df, (1 + ci_level / 100) / 2)) * found.se
            usable_index = found is not None and 0.005 <= found.value <= 5
            yield Allometry(
                measure=measure,
                unit=units[measure],
                size=size,
                adjusted_for="sex" if by_sex else "",
                n=n if n >= min_cell else None,
                exponent=found.value if found else None,
                se=found.se if found else None,
                ci_low=found.value - half if found else None,
                ci_high=found.value + half if found else None,
                ci_level=ci_level,
                index=f"{measure}_per_{size}_{found.value:.2f}" if found and usable_index else "",
                notes=() if found else (f"n<{smallest_n}" if n < smallest_n else "size-constant",),
                below_n=smallest_n if n < smallest_n else None,
            )


METHOD = STRATA
_Row = TypeVar("_Row", TrialLimit, PartitionTest, Contrast, Calibration, MetaEstimate, Allometry)
# A CI wider than this share of the reference interval is a common reason to ask for more people.
_WIDE_CI = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class _MeasureResult:
    """Everything about one measure."""

    limits: tuple[ReferenceLimit, ...]
    by_trial: tuple[TrialLimit, ...]
    partition: tuple[PartitionTest, ...]
    contrasts: tuple[Contrast, ...]
    calibration: tuple[Calibration, ...]
    outliers: tuple[Outlier, ...]
    exclusions: tuple[Exclusion, ...]
    account: Account
    models: tuple[Mapping[str, Any], ...]
    curves: tuple[MeasureCurves, ...]
    meta: MeasureMeta


def reference_ranges(table: CohortTable, options: ReferenceOptions) -> ReferenceRanges:
    """The reference ranges of a table by strata, as curves over age, or both.

    Raises TableError where the people, visits, measures or conventions of the table do not allow
    them, every problem of a kind listed; EstimationError where a model asked for cannot be fitted.
    """
    options = with_ages(options, table)
    people = select_people(table, options)
    methods = methods_of(options, people)
    check_trials(people, methods, options)
    measures, warnings = _measures(table, people, methods, options)
    groups = strata(people, options.age_bands)
    found = {m: _one_measure(m, people, groups, methods, options) for m in measures}
    curves = [c for r in found.values() for c in r.curves]
    _raise_failures(curves, options)
    _check_ages(curves, methods, options)
    warnings = (*warnings, *dict.fromkeys(w for c in curves for w in c.warnings))
    title = "Reference ranges" if options.healthy_only else NOT_A_REFERENCE.capitalize()
    has_value = np.any([np.isfinite(people.values(m)) for m in measures], axis=0)
    conventions = _facts(people, has_value, CONVENTIONS)
    results = list(found.values())
    return ReferenceRanges(
        title=title,
        name=table.name,
        options=options,
        by=people.by,
        measures=measures,
        trials=people.trials,
        people=people.count,
        review_people=people.review_rows,
        visits=people.visits,
        conventions=conventions,
        scanners=_facts(people, has_value, SCANNERS),
        rows=tuple(row for r in results for row in _all_limits(r)),
        by_trial=_titled(
            (row for r in results for row in (*r.by_trial, *r.meta.by_trial)), options
        ),
        partition=_titled((row for r in results for row in r.partition), options),
        contrasts=_titled((row for r in results for row in r.contrasts), options),
        calibration=_titled((row for r in results for row in _all_calibration(r)), options),
        methods=methods,
        curve_lines=tuple(line for c in curves for line in c.lines),
        curve_people=tuple(part for c in curves for part in c.people),
        q_statistics=tuple(q for c in curves for q in c.q_statistics),
        worms=tuple(worm for c in curves for worm in c.worms),
        meta=_titled((row for r in results for row in r.meta.estimates), options),
        indexing=_titled(
            allometry(
                people,
                measures if people.person is None else (),
                ci_level=options.ci_level,
                smallest_n=options.smallest_n,
                min_cell=options.min_cell,
            ),
            options,
        ),
        outliers=tuple(row for r in results for row in r.outliers),
        accounts=tuple(r.account for r in results),
        exclusions=_sorted([*people.exclusions, *(e for r in results for e in r.exclusions)]),
        model=model_document(
            [model for r in results for model in (*r.models, *r.meta.models)],
            [model for c in curves for model in c.models],
            options,
            methods=methods,
            title=title,
            name=table.name,
            facts={
                "conventions": {name: sorted(values) for name, values in conventions.items()},
                "trials": list(people.trials),
                "healthy_rule": options.healthy_rule,
                "by": list(people.by),
                "input_sha256": table.sha256,
            },
        ),
        without_review=_without_review(table, people, methods, options),
        warnings=(*table.warnings, *people.warnings, *warnings),
    )


def _check_ages(
    curves: Sequence[MeasureCurves], methods: Sequence[Method], options: ReferenceOptions
) -> None:
    """Refuse ages at which no curve has anybody; raises TableError."""
    if options.at_ages is None or not _curve_methods(methods):
        return
    if not any(row.age is not None for c in curves for row in c.limits):
        ages = ", ".join(f"{age:g}" for age in options.at_ages)
        raise TableError(
            f"--at-ages {ages}: no curve has people observed at these ages.",
            hint="Nothing is given outside the observed ages; leave --at-ages out to see them.",
        )


def _all_limits(result: _MeasureResult) -> Iterator[ReferenceLimit]:
    yield from result.limits
    yield from result.meta.limits
    for curves in result.curves:
        yield from curves.limits


def _all_calibration(result: _MeasureResult) -> Iterator[Calibration]:
    yield from result.calibration
    yield from result.meta.calibration
    for curves in result.curves:
        yield from curves.calibration


def _raise_failures(curves: Sequence[MeasureCurves], options: ReferenceOptions) -> None:
    """A method asked for must work for each measure asked for, and for one of those found."""
    failures = [c.failed for c in curves if c.failed is not None]
    if options.method is None or not failures:
        return
    if options.measures is not None or len(failures) == len(curves):
        raise EstimationError(" ".join(f.message for f in failures), hint=failures[0].hint)


def _titled(rows: Iterable[_Row], options: ReferenceOptions) -> tuple[_Row, ...]:
    """The rows; of everybody, healthy or not, each with a note that says so."""
    if options.healthy_only:
        return tuple(rows)
    return tuple(replace(row, notes=(*row.notes, NOT_A_REFERENCE)) for row in rows)


def _sorted(exclusions: list[Exclusion]) -> tuple[Exclusion, ...]:
    return tuple(sorted(exclusions, key=lambda e: (e.trial, e.participant_id, e.visit, e.code)))


def _facts(
    people: People, has_value: np.ndarray, names: Sequence[str]
) -> dict[str, dict[str, int]]:
    met = {c.name: c.met(has_value) for c in read_conventions(people, names)}
    return {name: values for name, values in met.items() if values}


def _measures(
    table: CohortTable, people: People, methods: tuple[Method, ...], options: ReferenceOptions
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The measures to give, and warnings for those that cannot be given."""
    wanted = options.measures or table.measures
    if not wanted:
        raise TableError(
            "The table has no column that is a known measure (lv_edv_ml, lv_ef_percent, …).",
            hint="Name your own numeric columns with --measure.",
        )
    absent = [name for name in wanted if name not in people.frame]
    if absent:
        raise TableError(
            f"The table has no column {', '.join(absent)}.",
            hint=f"Measures here: {', '.join(table.measures) or 'none that is known'}.",
        )
    empty = [name for name in wanted if not np.isfinite(people.values(name)).any()]
    if options.measures and empty:
        raise TableError(f"No one has a number in {', '.join(empty)}.", hint="Check the column.")
    usable = [name for name in dict.fromkeys(wanted) if name not in empty]
    if not usable:
        raise TableError("No measure has a single value among the people selected.")
    check_values(people, usable)
    check_positive(people, usable, methods, options)
    good, warnings = check_conventions(people, usable, by_name=options.measures is not None)
    gone = tuple(f"{name} is left out: no one has a value." for name in empty)
    return good, (*gone, *warnings)


def _without_review(
    table: CohortTable, people: People, methods: tuple[Method, ...], options: ReferenceOptions
) -> tuple[ReferenceLimit, ...] | None:
    """The same limits without scans that ask for review; None where all scans are ``ok``."""
    if options.status == "ok" or not people.review_rows:
        return None
    try:
        strict = replace(options, status="ok")
        rest = select_people(table, strict)
        measures, _ = _measures(table, rest, methods, strict)
    except TableError:
        # Nothing is left without them: the difference is everything, and the page says so.
        return ()
    groups = strata(rest, options.age_bands)
    rows: list[ReferenceLimit] = []
    for measure in measures:
        kept, unit = _kept(measure, rest, groups, options), definition(measure).unit
        if STRATA in methods:
            fitted = [fit_cell(measure, c, options, without_trials=False) for c in kept.cells]
            fitted = _without_sums(fitted, options)
            rows += _limit_rows(measure, unit, fitted, options)
        if META in methods:
            rows += _meta(measure, unit, rest, kept.cells, options).limits
        for method in _curve_methods(methods):
            asked = replace(options, method=method)
            rows += curve_rows_alone(measure, unit, rest, kept.values, asked)
    return tuple(rows)


# ------------------------------------------------------------------ one measure


def _curve_methods(methods: Sequence[Method]) -> list[Method]:
    return [m for m in methods if m not in (STRATA, META)]


def _meta(
    measure: str, unit: str, people: People, found: Sequence[Cell], options: ReferenceOptions
) -> MeasureMeta:
    """The meta-analytic limits of the cells, numbers hidden as in strata."""
    hidden = _withheld_counts([FittedCell(cell=c, rule=None, without={}) for c in found], options)
    groups = [
        replace(group_of_cell(cell, people.trials, logs=on_logs(options)), hide=hide)
        for cell, hide in zip(found, hidden, strict=True)
    ]
    fitted = tuple(meta_cells(found, groups, people.trials, options))
    return replace(
        measure_meta(measure, unit, groups, options),
        calibration=tuple(calibrate(measure, unit, fitted, people, options, method=META)),
    )


def _one_measure(
    measure: str,
    people: People,
    groups: Strata,
    methods: tuple[Method, ...],
    options: ReferenceOptions,
) -> _MeasureResult:
    unit = definition(measure).unit
    kept = _kept(measure, people, groups, options)
    by_strata = STRATA in methods
    fitted = [fit_cell(measure, cell, options) for cell in kept.cells] if by_strata else []
    fitted = _without_sums(fitted, options)
    missing = ~np.isfinite(people.values(measure))
    gone = [
        *excluded(people.keys.at(missing), "scan", f"no-value:{measure}", f"{measure} is empty"),
        *excluded(
            people.keys.at(kept.dropped), "scan", f"outlier:{measure}", f"{measure} is an outlier"
        ),
    ]
    withheld = _withheld_counts(fitted, options)
    once, tested = kept.values, fitted
    if people.person is not None:
        once = person_means(people.person, kept.values)
        tested = [FittedCell(cell=c, rule=None, without={}) for c in cells(people, groups, once)]
    models = (
        stratum_model(measure, unit, f, n=None if hide else f.cell.n)
        for f, hide in zip(fitted, withheld, strict=True)
    )
    return _MeasureResult(
        limits=tuple(_limit_rows(measure, unit, fitted, options)),
        by_trial=tuple(
            row for f in fitted for row in trial_limits(measure, unit, f, people.trials, options)
        ),
        partition=tuple(partition_tests(measure, unit, tested, options)),
        contrasts=tuple(contrasts(measure, unit, people, once, options)),
        calibration=tuple(calibrate(measure, unit, fitted, people, options)),
        outliers=kept.named,
        exclusions=tuple(gone),
        account=_account(measure, people, kept, gone, options),
        models=tuple(model for model in models if model is not None),
        curves=tuple(
            measure_curves(measure, unit, people, kept.values, replace(options, method=method))
            for method in _curve_methods(methods)
        ),
        meta=(
            _meta(measure, unit, people, kept.cells, options) if META in methods else MeasureMeta()
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """Values ``[people]`` to use and their cells; people ``far`` out and those ``dropped`` for it.

    ``named`` are outliers by name, on internal runs alone.
    """

    values: np.ndarray
    cells: tuple[Cell, ...]
    far: np.ndarray
    dropped: np.ndarray
    named: tuple[Outlier, ...] = ()


def _kept(measure: str, people: People, groups: Strata, options: ReferenceOptions) -> _Kept:
    """What is left of a measure after the outlier rule.

    Outliers are looked for by sex and age band over all ethnicities, so that one person is or is
    not an outlier in every stratum alike.
    """
    values = people.values(measure)
    found = cells(people, groups, values)
    nobody = np.empty(0, dtype=np.int64)
    if options.outliers == "none":
        return _Kept(values=values, cells=found, far=nobody, dropped=nobody)
    pooled = [cell for cell in found if cell.key.ethnicity == ALL]
    far = np.sort(np.concatenate([nobody, *(outlying(cell) for cell in pooled)]))
    named: list[Outlier] = []
    if options.internal:
        named = [row for cell in pooled for row in _outliers(measure, people, cell, values)]
        named.sort(key=lambda o: (o.trial, o.participant_id))
    if options.outliers == "list":
        return _Kept(values=values, cells=found, far=far, dropped=nobody, named=tuple(named))
    values = values.copy()
    values[far] = np.nan
    again = cells(people, groups, values)
    return _Kept(values=values, cells=again, far=far, dropped=far, named=tuple(named))


def _outliers(measure: str, people: People, cell: Cell, values: np.ndarray) -> Iterator[Outlier]:
    """The outliers of a cell by name, each with the rules and the fences it is beyond."""
    found = suspects(cell)
    members = np.array([s.member for s in found], dtype=np.int64)
    persons = excluded(people.keys.at(members), "scan", "outlier", "")
    for suspect, person in zip(found, persons, strict=True):
        yield Outlier(
            rule="; ".join(suspect.rules),
            measure=measure,
            trial=person.trial,
            participant_id=person.participant_id,
            visit=person.visit,
            value=float(values[suspect.member]),
            fence_low=suspect.low,
            fence_high=suspect.high,
            sex=cell.key.sex,
            age_low=cell.key.age_low,
            age_high=cell.key.age_high,
        )


def _account(
    measure: str,
    people: People,
    kept: _Kept,
    gone: Sequence[Exclusion],
    options: ReferenceOptions,
) -> Account:
    used = np.isfinite(kept.values)
    codes = Counter(e.code for e in people.exclusions)
    codes.update(e.code.partition(":")[0] for e in gone)
    return Account(
        measure=measure,
        rows_in=people.rows_in,
        excluded=dict(codes),
        analysed=int(used.sum()),
        ethnicity_unknown=(
            int(np.sum(used & (people.ethnicity < 0))) if "ethnicity" in people.by else 0
        ),
        outliers=None if options.outliers == "none" else len(kept.far),
    )


# ------------------------------------------------------------------ rows


def _limit_rows(
    measure: str, unit: str, fitted: Sequence[FittedCell], options: ReferenceOptions
) -> Iterator[ReferenceLimit]:
    withheld = _withheld_counts(fitted, options)
    for index, f in enumerate(fitted):
        width = _interval_width(f.printed)
        printed: Sequence[Limit | None] = f.printed or [None] * len(options.centiles)
        for centile, found in zip(options.centiles, printed, strict=True):
            yield _limit_row(
                ReferenceLimit(
                    measure=measure,
                    unit=unit,
                    method=METHOD,
                    limits=f.rule or "",
                    kind="population",
                    sex=f.cell.key.sex,
                    ethnicity=f.cell.key.ethnicity,
                    age_low=f.cell.key.age_low,
                    age_high=f.cell.key.age_high,
                    age=None,
                    n=None if withheld[index] else f.cell.n,
                    n_trials=None if f.cell.n < options.min_cell else f.cell.n_trials,
                    centile=centile,
                    limit=None,
                    ci_low=None,
                    ci_high=None,
                    ci_level=options.ci_level,
                    status="suppressed",
                ),
                f,
                found,
                width,
                options,
            )


def _limit_row(
    empty: ReferenceLimit,
    fitted: FittedCell,
    found: Limit | None,
    width: float | None,
    options: ReferenceOptions,
) -> ReferenceLimit:
    cell = fitted.cell
    notes: list[str] = []
    below_n = options.below(cell.n)
    if below_n is not None:
        notes.append(f"n<{below_n}")
    elif fitted.withheld:
        notes.append("limits-withheld")
    if empty.n is None and cell.n >= options.min_cell:
        notes.append("n-withheld")
    row = empty
    if found is not None:
        notes += found.notes
        small = cell.n < NONPARAMETRIC_MIN_N or fitted.rule != (options.limits or "nonparametric")
        row = replace(row, limit=found.limit, ci_low=found.ci_low, ci_high=found.ci_high)
        if found.limit is not None:
            one_trial = cell.n_trials == 1
            row = replace(row, status="small-n" if small else "single-trial" if one_trial else "ok")
            if small and one_trial:
                notes.append("single-trial")
        if _is_wide(found, width, options):
            notes.append("ci-wide")
        if found.ci_low is not None and cell.n_trials > 1:
            notes.append(SAMPLING_ERROR)
    if not options.healthy_only:
        notes.append(NOT_A_REFERENCE)
    return replace(row, notes=tuple(notes), below_n=below_n)


def _is_wide(found: Limit, width: float | None, options: ReferenceOptions) -> bool:
    if found.centile not in outer_centiles(options) or not width:
        return False
    if found.ci_low is None or found.ci_high is None:
        return False
    return found.ci_high - found.ci_low > _WIDE_CI * width


def _interval_width(limits: Sequence[Limit]) -> float | None:
    """Upper minus lower limit, None where one of them is not given."""
    low = [f.limit for f in limits if f.centile < 50]
    high = [f.limit for f in limits if f.centile > 50]
    if not low or not high or low[0] is None or high[0] is None:
        return None
    return high[0] - low[0]


def _without_sums(fitted: Sequence[FittedCell], options: ReferenceOptions) -> list[FittedCell]:
    """The cells without the limits of ``all`` where those of its groups leave a few people over.

    Mean, SD and n of ``all`` and of the groups give the sums of who is in no group with limits: of
    one person the value itself.
    """
    if options.internal:
        return list(fitted)
    shown: Counter[tuple[str, float | None]] = Counter()
    for f in fitted:
        if f.cell.key.ethnicity != ALL and f.rule is not None:
            shown[f.cell.key.sex, f.cell.key.age_low] += f.cell.n
    found = []
    for f in fitted:
        others = f.cell.n - shown[f.cell.key.sex, f.cell.key.age_low]
        if f.cell.key.ethnicity == ALL and f.rule is not None and 0 < others < options.min_cell:
            f = FittedCell(cell=f.cell, rule=None, without={}, withheld=True)  # noqa: PLW2901
        found.append(f)
    return found


def _withheld_counts(fitted: Sequence[FittedCell], options: ReferenceOptions) -> list[bool]:
    """True for each cell whose n must not be printed, alone or beside that of all ethnicities."""
    hidden = [f.cell.n < options.min_cell for f in fitted]
    by_group: dict[tuple[Any, ...], dict[str, int]] = {}
    for index, f in enumerate(fitted):
        key = (f.cell.key.sex, f.cell.key.age_low)
        by_group.setdefault(key, {})[f.cell.key.ethnicity] = index
    for members in by_group.values():
        parts = [index for ethnicity, index in members.items() if ethnicity != ALL]
        total = fitted[members[ALL]].cell.n
        counts = [fitted[index].cell.n for index in parts]
        for index, hide in zip(parts, hidden_counts(counts, total, options.min_cell), strict=True):
            hidden[index] = hide
    return hidden
