"""Every table of an evaluation, from the scans that were compared: analysis sets, groups, rows.

The lines of the model's errors (`measurement_error`) are what other commands need to correct an
effect or a limit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Final, TypeVar, get_args

import numpy as np
import pandas as pd

from ..errors import InputError
from ..measurement.measures import MEASURES, definition
from ..privacy.suppression import Count, is_small, suppress_groups
from ..records import SeriousWarning
from ..statistics.measurement_error import (
    FORMAT,
    ErrorLine,
    MeasureError,
    MeasurementError,
    line_of,
    partially_pooled,
)
from . import agreement
from .agreement import EF_GRADES, Equivalence, Estimate, Repeatability, Weights
from .groups import ALL, Group, analysis_sets, groups_of, participant_codes, tables_of
from .options import DICE, EvaluationOptions
from .overlap import CONTOURED
from .results import (
    AgreementRow,
    Compared,
    CoverageRow,
    EquivalenceRow,
    EvaluationResult,
    GradeRow,
    LargeErrorRow,
    OverlapSummary,
    RateKind,
    RateRow,
    RepeatabilityRow,
    SliceErrorRow,
)

LARGE_POINTS: Final = 10.0
LEVEL: Final = 95.0
LEVELS: Final = (50.0, 60.0, 70.0, 80.0, 90.0, LEVEL, 99.0)
LINE_GROUPS: Final = ("trial", "vendor", "arm", "sex", "ethnicity")
ERRORS: Final = {"false-positive": "false_positive", "false-negative": "false_negative"}
GRADED: Final = ("lv_ef_percent", "rv_ef_percent")
METRICS: Final = (("dice", ""), ("hd95_mm", "mm"), ("assd_mm", "mm"))
BOTH_PHASES: Final = "ED+ES"
FEW: Final = "too few for an interval"
BOOTSTRAP: Final = "bootstrap over participants"
FLAGGED: Final = "flagged"
RANDOM: Final = "random"
RATE_GROUPS: Final = ("arm", "sex", "ethnicity", "vendor")
# Of these groups the bias is also partially pooled: many may have few hearts.
SHRUNKEN: Final = ("trial", "vendor")
_Row = TypeVar("_Row", EquivalenceRow, RepeatabilityRow)


def evaluate(
    name: str,
    model: Mapping[str, str],
    measurements: pd.DataFrame,
    compared: Compared,
    options: EvaluationOptions,
) -> EvaluationResult:
    """Every table of an evaluation; raises InputError where nothing can be compared.

    ``measurements`` are the rows of OUT that are not failed (for repeat visits).
    """
    if options.against is not None and compared.scans.empty:
        reasons = pd.Series([e.code for e in compared.exclusions], dtype=object).value_counts()
        listed = ", ".join(f"{code} {count}" for code, count in reasons.items())
        raise InputError(
            f"None of the {compared.scans_in} scans can be compared ({listed}).",
            hint="Labels are matched by trial, participant_id and visit; see evaluate --help.",
        )
    repeats = list(repeatability_rows(measurements, compared, options))
    if options.repeat_visits is not None and not repeats:
        first, second = options.repeat_visits
        visits = sorted({str(v) for v in measurements["visit"].dropna()})
        raise InputError(
            f"No participant has a scan at both {first} and {second}.",
            hint=f"Visits here: {', '.join(visits)}.",
        )
    warnings = list(compared.warnings)
    if ", " in model.get("sha256", ""):
        warnings.append(
            SeriousWarning("OUT contains scans of several models: their errors are mixed here.")
        )
    if compared.scans["trained_on"].any():
        warnings.append(
            SeriousWarning(
                "Participants that the model was trained on are among those compared: errors are "
                "larger in new ones. Rows not trained on, where there are any, are without them."
            )
        )
    if len(set(compared.pairs["scope"])) > 1:
        warnings.append(
            "Some scans were compared on their contoured slices only, others on the full stack: "
            "they are never pooled and have rows of their own (column scope)."
        )
    least = options.least
    return EvaluationResult(
        name=name,
        options=options,
        model=model,
        compared=compared,
        agreement=suppress_groups(agreement_rows(compared, options), least),
        overlap=suppress_groups(overlap_rows(compared, options), least),
        grades=suppress_groups(grade_rows(compared, options), least),
        equivalence=suppress_groups(equivalence_rows(compared, options), least),
        repeatability=suppress_groups(repeats, least),
        slices=slice_error_rows(compared, least),
        large_errors=large_error_rows(compared, least),
        coverage=coverage_rows(compared, least),
        error=measurement_error(compared, name, model, options),
        warnings=tuple(warnings),
    )


# ------------------------------------------------------------------ measures


def agreement_rows(compared: Compared, options: EvaluationOptions) -> Iterator[AgreementRow]:
    """Rows of ``agreement.csv``."""
    level = options.ci_level
    for one in analysis_sets(compared, compared.pairs, ["measure", "scope"], options):
        model, reference = one.both()
        error = np.abs(model - reference)
        found = agreement.bland_altman(model - reference, one.participants, level)
        bias = Estimate(value=float((model - reference).mean()))
        limits = _fields(found) if found else {"bias": bias, "note": FEW}
        mae = agreement.mean_interval(error, one.participants, options, name=f"mae {one.name}")
        # Centred: the sums of squares then lose no digits.
        middle = float(reference.mean())
        terms = agreement.sums_of(model - middle, reference - middle)
        icc = agreement.icc(model, reference, level=level)
        ccc = agreement.ccc(model, reference, level)
        yield AgreementRow(
            against=str(options.against),
            unit=definition(one.cells["measure"]).unit,
            mean_reference=middle,
            slope=agreement.proportional_bias(model, reference, one.participants, level),
            mae=Estimate(value=float(error.mean()), low=mae and mae[0], high=mae and mae[1]),
            rmse=float(np.sqrt((error**2).mean())),
            cov_percent=agreement.cov_percent(model, reference),
            icc=one.redrawn("icc", icc, terms, agreement.icc_from_sums, options),
            ccc=one.redrawn("ccc", ccc, terms, agreement.ccc_from_sums, options),
            reliability_ci=BOOTSTRAP if one.repeated else "mcgraw-wong-1996; lin-2000",
            **limits,
            **one.cells,
        )


# ------------------------------------------------------------------ grades of EF


def grade_rows(compared: Compared, options: EvaluationOptions) -> Iterator[GradeRow]:
    """Rows of ``grades.csv``."""
    pairs = compared.pairs[compared.pairs["measure"].isin(GRADED)]
    size = len(EF_GRADES)
    for one in analysis_sets(compared, pairs, ["measure", "scope"], options):
        model, reference = (agreement.ef_grade(values) for values in one.both())
        table = agreement.cross_table(model, reference, size)
        terms = np.eye(size * size)[model * size + reference]
        kappas: dict[str, Any] = {}
        for weights in get_args(Weights):
            name = "kappa" if weights == "none" else f"kappa_{weights}"

            def statistic(sums: np.ndarray, weights: Weights = weights) -> np.ndarray:
                return agreement.kappa_values(sums.reshape(-1, size, size), weights)

            plain = agreement.kappa(table, weights, options.ci_level)
            kappas[name] = one.redrawn(name, plain, terms, statistic, options)
        yield GradeRow(
            against=str(options.against),
            scheme=agreement.EF_SCHEME,
            percent_agreement=100 * float((model == reference).mean()),
            kappa_ci=BOOTSTRAP if one.repeated else "fleiss-cohen-everitt-1969",
            note="" if kappas["kappa"] else "one grade alone",
            **kappas,
            **one.cells,
        )


def grade_table(compared: Compared, measure: str, scope: str) -> np.ndarray | None:
    """Counts of scans by the model's grade (rows) and the reference's (columns)."""
    pairs = compared.pairs
    chosen = pairs[(pairs["measure"] == measure) & (pairs["scope"] == scope)]
    model, reference = (
        agreement.ef_grade(chosen[n].to_numpy(dtype=float)) for n in ("model", "reference")
    )
    return agreement.cross_table(model, reference, len(EF_GRADES)) if len(chosen) else None


# ------------------------------------------------------------------ overlap


def overlap_rows(compared: Compared, options: EvaluationOptions) -> Iterator[OverlapSummary]:
    """Rows of ``overlap_summary.csv``: each phase, then the participant's mean of ED and ES."""
    keys = ["structure", "phase", "scope"]
    for one in analysis_sets(compared, _with_both(compared.overlaps), keys, options):
        for metric, unit in METRICS:
            values = one.rows[metric].to_numpy(dtype=float)
            known = np.isfinite(values)
            participants, values = one.participants[known], values[known]
            name = f"{metric} {one.name}"
            ends = agreement.mean_interval(values, participants, options, name=name)
            counts = {
                "n_people": one.cells["n_people"].part(len(np.unique(participants))),
                "n_scans": len(values),
                "n_without": int((~known).sum()),
            }
            yield OverlapSummary(
                metric=metric,
                unit=unit,
                mean=float(values.mean()) if len(values) else None,
                sd=float(values.std(ddof=1)) if len(values) > 1 else None,
                median=float(np.median(values)) if len(values) else None,
                ci_low=ends and ends[0],
                ci_high=ends and ends[1],
                note="" if ends else FEW if len(values) else "no value",
                **{**one.cells, **counts},
            )


def _with_both(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows, then those of `BOTH_PHASES`: the mean over ED and ES of scans with both."""
    if frame.empty:
        return frame
    names = [name for name, _ in METRICS]
    keys = ["scan", "structure", "scope"]
    two = frame[frame["phase"].isin(["ED", "ES"])].groupby(keys, sort=False)
    both = two[names].mean().where(two[names].count() == 2)
    both = both[two["phase"].nunique() == 2].reset_index().assign(phase=BOTH_PHASES)
    kept = frame[[*keys, "phase", *names]]
    return pd.concat([kept, both], ignore_index=True) if len(both) else kept


# ------------------------------------------------------------------ equivalence


def equivalence_rows(compared: Compared, options: EvaluationOptions) -> Iterator[EquivalenceRow]:
    """Rows of ``equivalence.csv``: the bias of each group, then its difference from the rest.

    Where ``dice`` has a margin, differences in Dice follow: the mean of ED and ES of each
    participant of a group less that of the rest, by structure.
    """
    margins, against = options.margins, str(options.against)
    for (measure, scope), rows in tables_of(compared, compared.pairs, ["measure", "scope"]):
        if measure in margins:
            blank = EquivalenceRow(
                against=against,
                measure=measure,
                unit=definition(measure).unit,
                scope=scope,
                kind="bias",
                margin=margins[measure].of(float(rows["reference"].mean())),
                margin_source=str(margins[measure]),
            )
            values = (rows["model"] - rows["reference"]).to_numpy(dtype=float)
            yield from _equivalence(blank, rows, values)
    if DICE not in margins or compared.overlaps.empty:
        return
    both = _with_both(compared.overlaps)
    both = both[(both["phase"] == BOTH_PHASES) & np.isfinite(both["dice"].astype(float))]
    for (structure, scope), rows in tables_of(compared, both, ["structure", "scope"]):
        values = rows["dice"].to_numpy(dtype=float)
        blank = EquivalenceRow(
            against=against,
            measure=f"dice_{structure}",
            unit="",
            scope=scope,
            kind="difference from the rest",
            margin=margins[DICE].of(float(values.mean())),
            margin_source=str(margins[DICE]),
        )
        yield from _equivalence(blank, rows, values)


def _equivalence(
    blank: EquivalenceRow, rows: pd.DataFrame, values: np.ndarray
) -> Iterator[EquivalenceRow]:
    """The rows of each group, of its bias only where ``blank`` is."""
    participants, margin = participant_codes(rows), blank.margin or 0.0
    by_kind: dict[str, list[tuple[EquivalenceRow, np.ndarray]]] = {by: [] for by in SHRUNKEN}
    for group in groups_of(rows):
        row = replace(blank, group_by=group.by, group=group.name, n_people=group.participants)
        inside, _ = agreement.participant_means(values[group.mask], participants[group.mask])
        if blank.kind == "bias":
            yield _judged(row, agreement.bias_equivalence(inside, margin))
            if group.by in by_kind:
                by_kind[group.by].append((replace(row, kind="bias, partially pooled"), inside))
        if group.by == ALL:
            continue
        row = replace(row, kind="difference from the rest")
        if group.mask.all():
            yield replace(row, note="no rest")
        else:
            outside, _ = agreement.participant_means(values[~group.mask], participants[~group.mask])
            found = agreement.difference_equivalence(inside, outside, margin)
            yield _judged(replace(row, n_rest=len(outside)), found)
    for groups in by_kind.values():
        pooled = agreement.pooled_bias_equivalence([inside for _, inside in groups], margin)
        for (row, _), one in zip(groups, pooled, strict=False):  # none where it cannot be done
            yield _judged(row, one)


def _judged(row: _Row, found: Equivalence | Repeatability | None) -> _Row:
    """The row with the fields that were found."""
    return replace(row, **(_fields(found) if found else {"note": FEW}))


def _fields(record: Any) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in fields(record)}


# ------------------------------------------------------------------ repeat visits


def repeatability_rows(
    measurements: pd.DataFrame, compared: Compared, options: EvaluationOptions
) -> Iterator[RepeatabilityRow]:
    """Rows of ``repeatability.csv``: participants with both repeat visits, by either source."""
    if options.repeat_visits is None:
        return
    first, second = options.repeat_visits
    keys = ["trial", "participant_id", "visit"]
    names = [m.name for m in MEASURES if m.name in measurements]
    model = measurements.melt(id_vars=keys, value_vars=names, var_name="measure")
    sources = [("model", model)]
    if len(compared.pairs):
        reference = compared.pairs.join(compared.scans[keys], on="scan")
        sources.append(("reference", reference.assign(value=reference["reference"])))
    for source, values in sources:
        for measure in MEASURES:
            known = values[(values["measure"] == measure.name) & np.isfinite(values["value"])]
            by_visit = [
                known[known["visit"] == visit].set_index(["trial", "participant_id"])["value"]
                for visit in (first, second)
            ]
            both = pd.concat(by_visit, axis=1, join="inner").to_numpy(dtype=float)
            if not len(both):
                continue
            row = RepeatabilityRow(
                source=source,  # type: ignore[arg-type]
                measure=measure.name,
                unit=measure.unit,
                visit_a=first,
                visit_b=second,
                n_people=Count(len(both)),
                ci_level=options.ci_level,
            )
            yield _judged(row, agreement.repeatability(both[:, 0], both[:, 1], options.ci_level))


# ------------------------------------------------------------------ reading packages


def choose(status: np.ndarray, share_percent: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the flagged scans and of a random share of the others, at least one.

    ``status`` ``[n]`` of scans in a fixed order: ``review`` is flagged, ``ok`` is other.
    """
    flagged = np.flatnonzero(status == "review")
    others = np.flatnonzero(status == "ok")
    count = min(len(others), max(1, math.ceil(len(others) * share_percent / 100 - 1e-9)))
    drawn = np.random.default_rng(seed).choice(others, size=count, replace=False)
    return flagged, np.sort(drawn)


def rate_rows(rows: pd.DataFrame, kind: RateKind, sample: str, least: int) -> Sequence[RateRow]:
    """Rates of ``event`` (boolean) over scans: all participants, then by `RATE_GROUPS`.

    Arms are named within their trial, because one word means another treatment elsewhere.
    """
    if rows.empty:
        return ()
    grouped = rows.assign(**{by: None for by in RATE_GROUPS if by not in rows})
    arms = zip(grouped["trial"].astype(str), grouped["arm"], strict=True)
    grouped["arm"] = [f"{t}: {arm}" if isinstance(arm, str) and arm else None for t, arm in arms]
    found = []
    for group in groups_of(grouped, RATE_GROUPS, lambda _, names: sorted(names)):
        n, events = int(group.mask.sum()), int(rows["event"][group.mask].sum())
        cells = {**_share(events, n), **_cells(group)}
        found.append(RateRow(kind=kind, sample=sample, n_events=events, **cells))
    return suppress_groups(found, least)


# ------------------------------------------------------------------ errors of the model


def _cells(group: Group) -> dict[str, Any]:
    return {
        "group_by": group.by,
        "group": group.name,
        "n_people": group.participants,
        "n_scans": int(group.mask.sum()),
    }


def _share(events: int, n: int) -> dict[str, Any]:
    low, high = agreement.wilson(events, n)
    return {"percent": 100 * events / n, "ci_low": low, "ci_high": high}


def slice_error_rows(compared: Compared, least: int) -> tuple[SliceErrorRow, ...]:
    """Rows of ``slice_errors.csv``: each structure, phase and end, all scans and groups."""
    found: list[SliceErrorRow] = []
    slices: dict[int, int] = {}
    for key, rows in tables_of(compared, compared.slices, ["structure", "phase", "end"]):
        for error, column in ERRORS.items():
            counts = rows[column].to_numpy(dtype=int)
            for group in groups_of(rows):
                inside = counts[group.mask]
                events = int(np.count_nonzero(inside))
                row = SliceErrorRow(
                    **dict(zip(("structure", "phase", "end"), key, strict=True)),  # type: ignore[arg-type]
                    error=error,  # type: ignore[arg-type]
                    n_reference=int(rows["n_reference"].to_numpy(dtype=int)[group.mask].sum()),
                    n_events=events,
                    **_share(events, len(inside)),
                    **_cells(group),
                )
                slices[len(found)] = int(inside.sum())
                found.append(row)
    shown = suppress_groups(found, least)
    # Slices are counted where the scans that have them are.
    return tuple(
        row if row.n_events is None else replace(row, n_slices=slices[at])
        for at, row in enumerate(shown)
    )


def large_error_rows(compared: Compared, least: int) -> tuple[LargeErrorRow, ...]:
    """Rows of ``large_errors.csv``: EF errors above 10 points, and those among scans ``ok``."""
    found: list[LargeErrorRow] = []
    were_ok: dict[int, int] = {}
    pairs = compared.pairs[compared.pairs["measure"].isin(GRADED)]
    for (measure, scope), rows in tables_of(compared, pairs, ["measure", "scope"]):
        far = np.abs(_errors(rows)) > LARGE_POINTS
        ok = (rows["status"] == "ok").to_numpy(dtype=bool)
        for group in groups_of(rows):
            events = int(np.count_nonzero(far & group.mask))
            were_ok[len(found)] = int(np.count_nonzero(far & ok & group.mask))
            found.append(
                LargeErrorRow(
                    measure=measure,
                    scope=scope,
                    limit=LARGE_POINTS,
                    n_events=events,
                    **_share(events, int(group.mask.sum())),
                    **_cells(group),
                )
            )
    shown = []
    for at, row in enumerate(suppress_groups(found, least)):
        n_ok = were_ok[at]
        if row.n_events is None or is_small(n_ok, least) or is_small(row.n_events - n_ok, least):
            shown.append(row)
        else:
            shown.append(replace(row, n_ok=n_ok))
    return tuple(shown)


def _errors(rows: pd.DataFrame) -> np.ndarray:
    """Model less reference ``[n]``."""
    return (rows["model"] - rows["reference"]).to_numpy(dtype=float)


def coverage_rows(compared: Compared, least: int) -> tuple[CoverageRow, ...]:
    """Rows of ``interval_coverage.csv``: all scans at several levels, groups at 95 %.

    Of scans that have an SD. Wilson's interval takes scans as independent.
    """
    found = []
    known = compared.pairs[compared.pairs["model_sd"].astype(float) > 0]
    for (measure, scope), rows in tables_of(compared, known, ["measure", "scope"]):
        sd = rows["model_sd"].to_numpy(dtype=float)
        ratio = np.abs(_errors(rows)) / sd
        for group in groups_of(rows):
            inside = ratio[group.mask]
            for level in LEVELS if group.by == ALL else (LEVEL,):
                within = int(np.count_nonzero(inside <= agreement.two_sided_z(level)))
                found.append(
                    CoverageRow(
                        measure=measure,
                        unit=definition(measure).unit,
                        scope=scope,
                        level=level,
                        mean_sd=float(np.sqrt((sd[group.mask] ** 2).mean())),
                        sd_ratio=float(np.sqrt((inside**2).mean())),
                        **_share(within, len(inside)),
                        **_cells(group),
                    )
                )
    return suppress_groups(found, least)


# ------------------------------------------------------------------ the section for other commands


def measurement_error(
    compared: Compared, name: str, model: Mapping[str, str], options: EvaluationOptions
) -> MeasurementError | None:
    """The lines of each measure: all hearts, then groups of at least the smallest cell.

    Participants that the model was trained on are left out where enough others remain. None where
    nothing is compared.
    """
    pairs, trained = compared.pairs, compared.scans["trained_on"].to_numpy(dtype=bool)
    least = max(options.min_cell, 2)
    use, trained_on = np.ones(len(trained), dtype=bool), "none"
    if trained.any():
        left = len(np.unique(participant_codes(compared.scans[~trained])))
        use, trained_on = (~trained, "excluded") if left >= least else (use, "included")
    elif not compared.training_known:
        trained_on = "unknown"
    pairs = pairs[use[pairs["scan"].to_numpy(dtype=int)]] if len(pairs) else pairs
    measures: list[MeasureError] = []
    tables = tables_of(compared, pairs, ["measure", "scope"])
    # Where some scans have whole stacks and others contours, the whole stacks are the measure.
    for (measure, scope), rows in sorted(tables, key=lambda table: table[0][1] == CONTOURED):
        found = _lines(rows, least)
        if found and measure not in {one.measure for one in measures}:
            pooled, between = partially_pooled([one for one in found if one.group_by == "trial"])
            measures.append(
                MeasureError(
                    measure=measure,
                    unit=definition(measure).unit,
                    scope=scope,
                    lines=(*found, *pooled),
                    between_trials=between,
                )
            )
    if not measures:
        return None
    return MeasurementError(
        format=FORMAT,
        source="evaluation",
        against=str(options.against),
        cohort=name,
        model_id=model.get("id", ""),
        model_sha256=model.get("sha256", ""),
        min_cell=options.min_cell,
        trained_on=trained_on,  # type: ignore[arg-type]
        measures=tuple(measures),
    )


def _lines(rows: pd.DataFrame, least: int) -> list[ErrorLine]:
    """The line of all hearts and of each group that may be shown; none without that of all."""
    model, reference = (rows[n].to_numpy(dtype=float) for n in ("model", "reference"))
    codes = participant_codes(rows)
    found = []
    for group in groups_of(rows, LINE_GROUPS):
        if group.participants.is_hidden(least):
            continue
        at = group.mask
        line = line_of(model[at], reference[at], codes[at], group_by=group.by, group=group.name)
        # A slope of 0 or less is of values that do not measure the same.
        if line is not None and line.slope > 0:
            found.append(line)
    return found if found and found[0].group_by == ALL else []
