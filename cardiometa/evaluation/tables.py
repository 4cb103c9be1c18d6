"""Every table of an evaluation, from the scans that were compared: analysis sets, groups, rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Final, TypeVar, get_args

import numpy as np
import pandas as pd

from ..errors import InputError
from ..measurement.measures import MEASURES, definition
from ..privacy.suppression import Count, suppress_groups
from ..records import SeriousWarning
from . import agreement
from .agreement import EF_GRADES, Equivalence, Estimate, Repeatability, Weights
from .error_tables import (
    coverage_rows,
    large_error_rows,
    measurement_error,
    slice_error_rows,
)
from .groups import ALL, analysis_sets, groups_of, participant_codes, tables_of
from .options import DICE, EvaluationOptions
from .results import (
    AgreementRow,
    Compared,
    EquivalenceRow,
    EvaluationResult,
    GradeRow,
    OverlapSummary,
    RateKind,
    RateRow,
    RepeatabilityRow,
)

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
        low, high = agreement.wilson(events, n)
        found.append(
            RateRow(
                kind=kind,
                sample=sample,
                group_by=group.by,
                group=group.name,
                n_people=group.participants,
                n_scans=n,
                n_events=events,
                percent=100 * events / n,
                ci_low=low,
                ci_high=high,
            )
        )
    return suppress_groups(found, least)
