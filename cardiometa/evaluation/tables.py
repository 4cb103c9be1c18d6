"""The rows of each table, group by group, from scans that were compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np
import pandas as pd

from ..measurement.measures import definition
from .agreement import bland_altman, interval, mean_interval, person_means, proportional_bias
from .equivalence import DICE, Equivalence, Margin, bias_equivalence, difference_equivalence
from .groups import ALL, Group, groups_of, person_codes
from .options import EvaluationOptions
from .reliability import (
    EF_GRADES,
    EF_SCHEME,
    Coefficient,
    Weights,
    ccc,
    ccc_from_sums,
    cov_percent,
    cross_table,
    ef_grade,
    icc,
    icc_from_sums,
    kappa,
    kappa_value,
    sums_of,
)
from .results import AgreementRow, Compared, EquivalenceRow, GradeRow, OverlapSummary, ScansUsed

GRADED: Final = ("lv_ef_percent", "rv_ef_percent")
METRICS: Final = (("dice", ""), ("hd95_mm", "mm"), ("assd_mm", "mm"))
BOTH_PHASES: Final = "ED+ES"
FEW: Final = "too few for an interval"
WITHHELD: Final = "counts withheld"


def _tables(
    compared: Compared, frame: pd.DataFrame, keys: list[str]
) -> Iterator[tuple[tuple[str, ...], pd.DataFrame]]:
    """The rows of a frame by key, each with the columns of its scan."""
    if frame.empty:
        return
    joined = frame.join(compared.scans, on="scan")
    for key, rows in joined.groupby(keys, sort=False):
        yield tuple(str(k) for k in key), rows.reset_index(drop=True)


def _looks(rows: pd.DataFrame, least: int) -> Iterator[tuple[ScansUsed, pd.DataFrame, Group]]:
    """All scans in every group; then, where scans are for review, everybody without these."""
    for group in groups_of(rows, least):
        yield "ok+review", rows[group.mask], group
    settled = rows[rows["status"] != "review"]
    if 0 < len(settled) < len(rows):
        group = next(groups_of(settled.reset_index(drop=True), least))
        reviewed = set(person_codes(rows)) - set(person_codes(rows)[rows["status"] != "review"])
        # The people whose scans are all for review could be counted by difference.
        yield "ok", settled, replace(group, uncounted=0 < len(reviewed) < least)


def _counted(group: Group) -> tuple[int | None, str]:
    """The number of people of a group as it may be told, and the note."""
    if group.hidden or group.uncounted:
        return None, group.hidden or WITHHELD
    return group.people, ""


# ------------------------------------------------------------------ measures


def agreement_rows(compared: Compared, options: EvaluationOptions) -> Iterator[AgreementRow]:
    """Rows of ``agreement.csv``."""
    for (measure, scope), rows in _tables(compared, compared.pairs, ["measure", "scope"]):
        for used, part, group in _looks(rows, options.least):
            people, note = _counted(group)
            row = AgreementRow(
                against=str(options.against),
                measure=measure,
                unit=definition(measure).unit,
                scope=scope,
                scans_used=used,
                group_by=group.by,
                group=group.name,
                n_people=people,
                ci_level=options.ci_level,
                note=note,
            )
            yield row if group.hidden else _agreement(row, part, options)


def _agreement(row: AgreementRow, part: pd.DataFrame, options: EvaluationOptions) -> AgreementRow:
    model, reference = (part[n].to_numpy(dtype=float) for n in ("model", "reference"))
    people, level = person_codes(part), options.ci_level
    name = f"{row.measure} {row.scope} {row.scans_used} {row.group_by} {row.group}"
    found = bland_altman(model - reference, people, level)
    slope = proportional_bias(model, reference, people, level)
    error = np.abs(model - reference)
    mae = mean_interval(error, people, options.draws, name=f"mae {name}")
    row = replace(
        row,
        n_scans=None if row.note else len(part),
        mean_reference=float(reference.mean()),
        mae=float(error.mean()),
        mae_low=mae[0] if mae else None,
        mae_high=mae[1] if mae else None,
        rmse=float(np.sqrt((error**2).mean())),
        cov_percent=cov_percent(model, reference),
        slope=slope.slope if slope else None,
        slope_low=slope.low if slope else None,
        slope_high=slope.high if slope else None,
        note=row.note if found else FEW,
        **_reliability(model, reference, people, options, name),  # type: ignore[arg-type]
    )
    if found is None:
        return replace(row, bias=float((model - reference).mean()))
    return replace(
        row,
        bias=found.bias,
        bias_low=found.bias_low,
        bias_high=found.bias_high,
        sd=found.sd,
        loa_lower=found.lower,
        loa_lower_low=found.lower_low,
        loa_lower_high=found.lower_high,
        loa_upper=found.upper,
        loa_upper_low=found.upper_low,
        loa_upper_high=found.upper_high,
        loa_method=found.method,
    )


def _reliability(
    model: np.ndarray,
    reference: np.ndarray,
    people: np.ndarray,
    options: EvaluationOptions,
    name: str,
) -> dict[str, float | str | None]:
    """ICC and CCC; with several scans a person their intervals are bootstrapped over people."""
    found = {
        "icc": icc(model, reference, options.ci_level),
        "ccc": ccc(model, reference, options.ci_level),
    }
    method = "mcgraw-wong-1996; lin-2000"
    if len(np.unique(people)) < len(people):
        method = "bootstrap over people"
        # Centred: the sums of squares then lose no digits.
        middle = float(reference.mean())
        terms = sums_of(model - middle, reference - middle)
        for key, statistic in (("icc", icc_from_sums), ("ccc", ccc_from_sums)):
            value = found[key]
            if value is not None:
                ends = interval(terms, people, statistic, options.draws, name=f"{key} {name}")
                low, high = ends or (None, None)
                found[key] = Coefficient(value=value.value, low=low, high=high)
    cells: dict[str, float | str | None] = {"reliability_ci": method}
    for key, value in found.items():
        cells[key] = value.value if value else None
        cells[f"{key}_low"] = value.low if value else None
        cells[f"{key}_high"] = value.high if value else None
    return cells


# ------------------------------------------------------------------ grades of EF


def grade_rows(compared: Compared, options: EvaluationOptions) -> Iterator[GradeRow]:
    """Rows of ``grades.csv``."""
    for (measure, scope), rows in _tables(compared, compared.pairs, ["measure", "scope"]):
        if measure not in GRADED:
            continue
        for used, part, group in _looks(rows, options.least):
            people, note = _counted(group)
            row = GradeRow(
                against=str(options.against),
                measure=measure,
                scheme=EF_SCHEME,
                scope=scope,
                scans_used=used,
                group_by=group.by,
                group=group.name,
                n_people=people,
                ci_level=options.ci_level,
                note=note,
            )
            yield row if group.hidden else _graded(row, part, options)


def _graded(row: GradeRow, part: pd.DataFrame, options: EvaluationOptions) -> GradeRow:
    model, reference = (ef_grade(part[n].to_numpy(dtype=float)) for n in ("model", "reference"))
    people = person_codes(part)
    repeated = len(np.unique(people)) < len(people)
    table = cross_table(model, reference, len(EF_GRADES))
    cells: dict[str, float | None] = {}
    kinds: tuple[tuple[str, Weights], ...] = (
        ("kappa", "none"),
        ("kappa_linear", "linear"),
        ("kappa_quadratic", "quadratic"),
    )
    for key, weights in kinds:
        found = kappa(table, weights, options.ci_level)
        low, high = (found.low, found.high) if found else (None, None)
        if found and repeated:
            name = f"{key} {row.measure} {row.scope} {row.scans_used} {row.group_by} {row.group}"
            low, high = _drawn_kappa(model, reference, people, weights, options, name)
        cells |= {key: found.value if found else None, f"{key}_low": low, f"{key}_high": high}
    return replace(
        row,
        n_scans=None if row.note else len(part),
        percent_agreement=100 * float((model == reference).mean()),
        kappa_ci="bootstrap over people" if repeated else "fleiss-cohen-everitt-1969",
        note=row.note if cells["kappa"] is not None else "one grade alone",
        **cells,  # type: ignore[arg-type]
    )


def _drawn_kappa(
    model: np.ndarray,
    reference: np.ndarray,
    people: np.ndarray,
    weights: Weights,
    options: EvaluationOptions,
    name: str,
) -> tuple[float | None, float | None]:
    size = len(EF_GRADES)
    terms = np.zeros((len(model), size * size))
    terms[np.arange(len(model)), model * size + reference] = 1

    def statistic(sums: np.ndarray) -> np.ndarray:
        values = [kappa_value(s.reshape(size, size), weights) for s in sums]
        return np.array([np.nan if v is None else v for v in values])

    ends = interval(terms, people, statistic, options.draws, name=name)
    return ends or (None, None)


def grade_table(compared: Compared, measure: str, scope: str) -> np.ndarray | None:
    """Counts of scans by the model's grade (rows) and the reference's (columns)."""
    pairs = compared.pairs
    if pairs.empty:
        return None
    chosen = pairs[(pairs["measure"] == measure) & (pairs["scope"] == scope)]
    model, reference = (ef_grade(chosen[n].to_numpy(dtype=float)) for n in ("model", "reference"))
    return cross_table(model, reference, len(EF_GRADES)) if len(chosen) else None


# ------------------------------------------------------------------ overlap


def overlap_rows(compared: Compared, options: EvaluationOptions) -> Iterator[OverlapSummary]:
    """Rows of ``overlap_summary.csv``: each phase, then the person's mean of ED and ES."""
    frame = compared.overlaps
    if frame.empty:
        return
    keys = ["structure", "phase", "scope"]
    for (structure, phase, scope), rows in _tables(compared, _with_both(frame), keys):
        for used, part, group in _looks(rows, options.least):
            people, note = _counted(group)
            for metric, unit in METRICS:
                row = OverlapSummary(
                    metric=metric,
                    unit=unit,
                    structure=structure,
                    phase=phase,
                    scope=scope,
                    scans_used=used,
                    group_by=group.by,
                    group=group.name,
                    n_people=people,
                    ci_level=options.ci_level,
                    note=note,
                )
                yield row if group.hidden else _summary(row, part, options)


def _with_both(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows with those of `BOTH_PHASES` after: the mean over ED and ES of scans with both."""
    names = [name for name, _ in METRICS]
    two = frame[frame["phase"].isin(["ED", "ES"])]
    keys = ["scan", "structure", "scope"]
    mean = two.groupby(keys, sort=False)[names].mean()
    counts = two.groupby(keys, sort=False)[names].count()
    both = mean.where(counts == 2)
    drawn = two.groupby(keys, sort=False)["phase"].nunique() == 2
    both = both[drawn].reset_index().assign(phase=BOTH_PHASES)
    kept = frame[[*keys, "phase", *names]]
    return pd.concat([kept, both], ignore_index=True) if len(both) else kept


def _summary(row: OverlapSummary, part: pd.DataFrame, options: EvaluationOptions) -> OverlapSummary:
    values = part[row.metric].to_numpy(dtype=float)
    known = np.isfinite(values)
    people = person_codes(part)[known]
    count = len(np.unique(people))
    without = int(len(values) - known.sum())
    few = 0 < without < options.least
    row = replace(row, n_without=None if few or row.note else without)
    if count < options.least:
        why = f"n<{options.least}" if options.least > 1 else "no value"
        return replace(row, n_people=None, n_without=None, note=why)
    values = values[known]
    name = (
        f"{row.metric} {row.structure} {row.phase} {row.scope} {row.scans_used} "
        f"{row.group_by} {row.group}"
    )
    ends = mean_interval(values, people, options.draws, name=name)
    return replace(
        row,
        n_people=None if row.note else count,
        n_scans=None if row.note else int(known.sum()),
        mean=float(values.mean()),
        sd=float(values.std(ddof=1)) if len(values) > 1 else None,
        median=float(np.median(values)),
        ci_low=ends[0] if ends else None,
        ci_high=ends[1] if ends else None,
        note=row.note if ends else FEW,
    )


# ------------------------------------------------------------------ equivalence


def equivalence_rows(compared: Compared, options: EvaluationOptions) -> Iterator[EquivalenceRow]:
    """Rows of ``equivalence.csv``: the bias of each group, then its difference from the rest."""
    for (measure, scope), rows in _tables(compared, compared.pairs, ["measure", "scope"]):
        margin = options.margins.get(measure)
        if margin is None:
            continue
        people = person_codes(rows)
        difference = (rows["model"] - rows["reference"]).to_numpy(dtype=float)
        width = margin.of(float(rows["reference"].mean()))
        blank = EquivalenceRow(
            against=str(options.against),
            measure=measure,
            unit=definition(measure).unit,
            scope=scope,
            kind="bias",
            group_by=ALL,
            group=ALL,
            n_people=None,
            margin_source=_source(margin),
        )
        for group in groups_of(rows, options.least):
            row = replace(blank, group_by=group.by, group=group.name, note=group.hidden)
            if group.hidden:
                yield row
                continue
            row = replace(row, n_people=group.people, margin=width)
            inside, _ = person_means(difference[group.mask], people[group.mask])
            yield _judged(row, bias_equivalence(inside, width))
            if group.by != ALL:
                rest = difference[~group.mask], people[~group.mask]
                yield _against_rest(row, width, inside, rest, options.least)


def dice_equivalence_rows(
    compared: Compared, options: EvaluationOptions
) -> Iterator[EquivalenceRow]:
    """Further rows of ``equivalence.csv``: differences in Dice, where ``dice`` has a margin.

    The mean of ED and ES of each person of a group less that of the rest, by structure.
    """
    margin = options.margins.get(DICE)
    if margin is None or compared.overlaps.empty:
        return
    keys = ["structure", "phase", "scope"]
    for (structure, phase, scope), rows in _tables(compared, _with_both(compared.overlaps), keys):
        known = rows[np.isfinite(rows["dice"].to_numpy(dtype=float))].reset_index(drop=True)
        if phase != BOTH_PHASES or known.empty:
            continue
        people, dice = person_codes(known), known["dice"].to_numpy(dtype=float)
        width = margin.of(float(dice.mean()))
        for group in groups_of(known, options.least):
            if group.by == ALL:
                continue
            row = EquivalenceRow(
                against=str(options.against),
                measure=f"dice_{structure}",
                unit="",
                scope=scope,
                kind="difference from the rest",
                group_by=group.by,
                group=group.name,
                n_people=None if group.hidden else group.people,
                margin=None if group.hidden else width,
                margin_source=_source(margin),
                note=group.hidden,
            )
            if group.hidden:
                yield row
                continue
            inside, _ = person_means(dice[group.mask], people[group.mask])
            rest = dice[~group.mask], people[~group.mask]
            yield _against_rest(row, width, inside, rest, options.least)


def _source(margin: Margin) -> str:
    return f"{margin.value:g}% of the mean, {margin.source}" if margin.percent else margin.source


def _against_rest(
    row: EquivalenceRow,
    margin: float,
    inside: np.ndarray,
    rest: tuple[np.ndarray, np.ndarray],
    least: int,
) -> EquivalenceRow:
    row = replace(row, kind="difference from the rest")
    if not len(rest[0]):
        return replace(row, note="no rest")
    outside, _ = person_means(*rest)
    if len(outside) < least:
        return replace(row, n_people=None, margin=None, note=f"n<{least} in the rest")
    row = replace(row, n_rest=len(outside))
    return _judged(row, difference_equivalence(inside, outside, margin))


def _judged(row: EquivalenceRow, found: Equivalence | None) -> EquivalenceRow:
    if found is None:
        return replace(row, note=FEW)
    return replace(
        row,
        estimate=found.estimate,
        ci_low=found.low,
        ci_high=found.high,
        p_equivalence=found.p,
        result=found.verdict,
    )
