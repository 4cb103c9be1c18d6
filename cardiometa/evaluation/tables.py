"""Groups of people that an agreement is looked at in, and which of them may be shown.

A group of fewer people than the least cell is withheld; where it could be had by difference from
what is shown, the smallest shown group is withheld with it.

Which scans go into a blind package, and how often readers corrected them, by group.

The rows of each table, group by group, from scans that were compared.

Scan-rescan: how far two scans of one unchanged heart differ.

SEM is the within-person SD √(Σd²/2n), which holds a shift between the scans too, with its
chi-square interval; the smallest detectable change is 1.96 √2 SEM (Bland & Altman 1996; de Vet
2006); CoV is the root-mean-square one.

Scan-rescan rows: people with both repeat visits, by the model and by the reference.

Scans compared → every table of an evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, Literal

import numpy as np
import pandas as pd

from ..errors import InputError
from ..measurement.measures import MEASURES, definition
from ..privacy.suppression import hidden_counts
from ..records import ETHNICITIES, SEXES
from .agreement import (
    DICE,
    EF_GRADES,
    EF_SCHEME,
    Coefficient,
    Equivalence,
    Margin,
    Weights,
    bias_equivalence,
    bland_altman,
    ccc,
    ccc_from_sums,
    cov_percent,
    cross_table,
    difference_equivalence,
    ef_grade,
    icc,
    icc_from_sums,
    interval,
    kappa,
    kappa_value,
    mean_interval,
    person_means,
    proportional_bias,
    sums_of,
)
from .options import EvaluationOptions
from .results import (
    AgreementRow,
    Compared,
    EquivalenceRow,
    EvaluationResult,
    GradeRow,
    OverlapSummary,
    RepeatabilityRow,
    ScansUsed,
)

ALL: Final = "all"
GROUPINGS: Final = ("sex", "age_band", "ethnicity", "vendor", "field_strength", "trial")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rows of one group: ``mask`` over the rows given.

    ``hidden`` says why nothing is shown of it; ``uncounted``: its numbers are, its counts are not.
    """

    by: str
    name: str
    mask: np.ndarray
    people: int
    hidden: str = ""
    uncounted: bool = False


def add_group_columns(rows: pd.DataFrame, age_bands: Sequence[float]) -> pd.DataFrame:
    """The rows with a text column for each of `GROUPINGS`; None where unknown."""
    result = rows.copy()
    for name in ("sex", "ethnicity", "vendor"):
        result[name] = _text(rows, name)
    result["trial"] = rows["trial"].astype(str)
    result["age_band"] = _bands(rows, age_bands)
    strength = _numbers(rows, "field_strength_t")
    result["field_strength"] = [f"{v:g} T" if np.isfinite(v) else None for v in strength]
    return result


def _text(rows: pd.DataFrame, name: str) -> list[str | None]:
    if name not in rows:
        return [None] * len(rows)
    return [str(v) if isinstance(v, str) and v else None for v in rows[name].astype(object)]


def _numbers(rows: pd.DataFrame, name: str) -> np.ndarray:
    if name not in rows:
        return np.full(len(rows), np.nan)
    return np.asarray(pd.to_numeric(rows[name], errors="coerce").astype(float))


def _bands(rows: pd.DataFrame, age_bands: Sequence[float]) -> list[str | None]:
    ages = _numbers(rows, "age_years")
    ends = [_band(low, high) for low, high in pairwise(age_bands)]
    names = [f"<{age_bands[0]:g}", *ends, f"{age_bands[-1]:g}+"]
    return [
        None if not np.isfinite(age) else names[int(np.searchsorted(age_bands, age, "right"))]
        for age in ages
    ]


def person_codes(rows: pd.DataFrame) -> np.ndarray:
    """A whole number for each person (a trial's participant), equal for all their scans."""
    keys = pd.MultiIndex.from_frame(rows[["trial", "participant_id"]].astype(str))
    return np.asarray(pd.factorize(keys)[0])


def groups_of(rows: pd.DataFrame, least: int) -> Iterator[Group]:
    """Everybody, then each group of each of `GROUPINGS` that the rows are in.

    ``rows`` has the columns of `add_group_columns`.
    """
    codes = person_codes(rows)
    everybody = np.ones(len(rows), dtype=bool)
    total = len(np.unique(codes))
    yield Group(
        by=ALL, name=ALL, mask=everybody, people=total, hidden=f"n<{least}" * (total < least)
    )
    for by in GROUPINGS:
        # A join makes NaN of an unknown None.
        values = np.array([v if isinstance(v, str) else None for v in rows[by]], dtype=object)
        names = _in_order(by, {v for v in values if v is not None})
        masks = [values == name for name in names]
        counts = [len(np.unique(codes[mask])) for mask in masks]
        hidden = hidden_counts(counts, total, least)
        for name, mask, count, hide in zip(names, masks, counts, hidden, strict=True):
            why = "" if not hide else f"n<{least}" if count < least else "counts withheld"
            yield Group(by=by, name=name, mask=mask, people=count, hidden=why)


def _band(low: float, high: float) -> str:
    """``30-39`` for [30, 40); ``17.5-<30`` where the ends are not whole years."""
    whole = float(low).is_integer() and float(high).is_integer()
    return f"{low:g}-{high - 1:g}" if whole else f"{low:g}-<{high:g}"


def _first_age(band: str) -> float:
    return -1.0 if band.startswith("<") else float(band.rstrip("+").partition("-")[0])


def _in_order(by: str, names: set[str]) -> list[str]:
    """Sexes and ethnicities as the contract lists them, ages by age, all else by name."""
    if by == "age_band":
        return sorted(names, key=_first_age)
    fixed = SEXES if by == "sex" else ETHNICITIES if by == "ethnicity" else ()
    known = [name for name in fixed if name in names]
    return known + sorted(names - set(known))


FLAGGED: Final = "flagged"
RANDOM: Final = "random"
RATE_GROUPS: Final = ("arm", "sex", "ethnicity")

Kind = Literal["correction", "failure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RateRow:
    """One row of ``rates.csv``: how often masks were corrected, or scans failed, in a group.

    ``sample``: ``flagged`` (all scans for review), ``random`` (a random share of the others, so
    what holds of all others), or ``all`` scans for failures. ``n_people`` of ``n_scans``; the
    interval is Wilson's over scans, at 95 %.
    """

    kind: Kind
    sample: str
    group_by: str
    group: str
    n_people: int | None
    n_scans: int | None = None
    n_events: int | None = None
    percent: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    note: str = ""


def choose(status: np.ndarray, share_percent: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the flagged scans and of a random share of the others, at least one.

    ``status`` ``[n]`` of scans in a fixed order: ``review`` is flagged, ``ok`` is other.
    """
    flagged = np.flatnonzero(status == "review")
    others = np.flatnonzero(status == "ok")
    count = min(len(others), max(1, math.ceil(len(others) * share_percent / 100 - 1e-9)))
    drawn = np.random.default_rng(seed).choice(others, size=count, replace=False)
    return flagged, np.sort(drawn)


def wilson(events: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, in per cent (Wilson 1927)."""
    z = 1.959963984540054
    p = events / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # The ends are 0 and 1 exactly where nobody or everybody has the event.
    low = 0.0 if events == 0 else max(0.0, middle - half)
    high = 1.0 if events == n else min(1.0, middle + half)
    return 100 * low, 100 * high


def rate_rows(rows: pd.DataFrame, kind: Kind, sample: str, least: int) -> Iterator[RateRow]:
    """Rates of ``event`` (boolean) over scans: everybody, then by arm, sex and ethnicity.

    Arms stand within their trial, because one word means another treatment elsewhere.
    """
    if rows.empty:
        return
    yield _rate(kind, sample, ("all", "all"), rows, least)
    for by in RATE_GROUPS:
        values = _group_values(rows, by)
        names = sorted(set(values.dropna()))
        parts = [rows[(values == name).to_numpy(dtype=bool)] for name in names]
        counts = [_people(part) for part in parts]
        hidden = hidden_counts(counts, _people(rows), least)
        for name, part, count, hide in zip(names, parts, counts, hidden, strict=True):
            if hide:
                note = f"n<{least}" if count < least else "counts withheld"
                yield RateRow(
                    kind=kind, sample=sample, group_by=by, group=name, n_people=None, note=note
                )
            else:
                yield _rate(kind, sample, (by, name), part, least)


def _group_values(rows: pd.DataFrame, by: str) -> pd.Series:
    if by not in rows:
        return pd.Series(None, index=rows.index, dtype=object)
    values = rows[by].astype(object)
    values = values.where(values.notna() & (values != ""), None)
    if by != "arm":
        return values
    named = rows["trial"].astype(str) + ": " + values.astype(str)
    return named.where(values.notna(), None)


def _people(rows: pd.DataFrame) -> int:
    return len(rows[["trial", "participant_id"]].drop_duplicates())


def _rate(
    kind: Kind, sample: str, group: tuple[str, str], rows: pd.DataFrame, least: int
) -> RateRow:
    people, n = _people(rows), len(rows)
    row = RateRow(kind=kind, sample=sample, group_by=group[0], group=group[1], n_people=None)
    if people < least:
        return _with(row, note=f"n<{least}")
    events = int(rows["event"].sum())
    low, high = wilson(events, n)
    few = 0 < events < least
    return _with(
        row,
        n_people=people,
        n_scans=n,
        n_events=None if few else events,
        percent=None if few else 100 * events / n,
        ci_low=None if few else low,
        ci_high=None if few else high,
        note=f"events<{least}" if few else "",
    )


def _with(row: RateRow, **cells: object) -> RateRow:
    return replace(row, **cells)  # type: ignore[arg-type]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeatability:
    """Scan-rescan of one measure: people, mean of both, bias (second - first) with t interval."""

    people: int
    mean: float
    bias: float
    bias_low: float
    bias_high: float
    cov_percent: float | None
    sem: float
    sem_low: float
    sem_high: float
    sdc: float
    sdc_low: float
    sdc_high: float
    icc: Coefficient | None


def repeatability(
    first: np.ndarray, second: np.ndarray, level: float = 95.0
) -> Repeatability | None:
    """Repeatability of pairs ``[n]``, one a person; None below 3 people."""
    from scipy import stats

    n = len(first)
    if n < 3:
        return None
    difference = second - first
    p = 0.5 + level / 200
    half = float(stats.t.ppf(p, n - 1)) * float(difference.std(ddof=1)) / math.sqrt(n)
    squares = float((difference**2).sum())
    sem = math.sqrt(squares / (2 * n))
    low, high = (math.sqrt(squares / 2 / stats.chi2.ppf(q, n)) for q in (p, 1 - p))
    factor = 1.959963984540054 * math.sqrt(2)
    bias = float(difference.mean())
    return Repeatability(
        people=n,
        mean=float((first + second).mean() / 2),
        bias=bias,
        bias_low=bias - half,
        bias_high=bias + half,
        cov_percent=cov_percent(first, second),
        sem=sem,
        sem_low=low,
        sem_high=high,
        sdc=factor * sem,
        sdc_low=factor * low,
        sdc_high=factor * high,
        icc=icc(first, second, level),
    )


def model_values(measurements: pd.DataFrame) -> pd.DataFrame:
    """The model's measures one a row: trial, participant_id, visit, measure, value."""
    keys = ["trial", "participant_id", "visit"]
    names = [m.name for m in MEASURES if m.name in measurements]
    return measurements.melt(id_vars=keys, value_vars=names, var_name="measure")


def reference_values(compared: Compared) -> pd.DataFrame:
    """The reference's values likewise, of the scans that were compared."""
    keys = ["trial", "participant_id", "visit"]
    if compared.pairs.empty:
        return pd.DataFrame(columns=[*keys, "measure", "value"])
    joined = compared.pairs.join(compared.scans[keys], on="scan")
    return joined.assign(value=joined["reference"])[[*keys, "measure", "value"]]


def repeatability_rows(
    measurements: pd.DataFrame, compared: Compared, options: EvaluationOptions
) -> Iterator[RepeatabilityRow]:
    """Rows of ``repeatability.csv``; none without ``repeat_visits``."""
    if options.repeat_visits is None:
        return
    first, second = options.repeat_visits
    sources = (
        ("model", model_values(measurements)),
        ("reference", reference_values(compared)),
    )
    for source, values in sources:
        for measure in MEASURES:
            rows = values[values["measure"] == measure.name]
            both = _both_visits(rows, first, second)
            if not len(both):
                continue
            row = RepeatabilityRow(
                source=source,  # type: ignore[arg-type]
                measure=measure.name,
                unit=measure.unit,
                visit_a=first,
                visit_b=second,
                n_people=len(both),
                ci_level=options.ci_level,
            )
            yield _filled(row, both, options)


def _both_visits(rows: pd.DataFrame, first: str, second: str) -> np.ndarray:
    """The values at both visits of each person who has them, ``[n, 2]``."""
    known = rows[np.isfinite(rows["value"].to_numpy(dtype=float))]
    codes = person_codes(known) if len(known) else np.zeros(0, dtype=int)
    by_visit = [
        pd.Series(known["value"].to_numpy(dtype=float)[mask], index=codes[mask])
        for mask in (
            (known["visit"] == first).to_numpy(dtype=bool),
            (known["visit"] == second).to_numpy(dtype=bool),
        )
    ]
    return pd.concat(by_visit, axis=1, join="inner").to_numpy(dtype=float)


def _filled(
    row: RepeatabilityRow, both: np.ndarray, options: EvaluationOptions
) -> RepeatabilityRow:
    if len(both) < options.least:
        return replace(row, n_people=None, note=f"n<{options.least}")
    found = repeatability(both[:, 0], both[:, 1], options.ci_level)
    if found is None:
        return replace(row, note=FEW)
    return replace(
        row,
        mean=found.mean,
        bias=found.bias,
        bias_low=found.bias_low,
        bias_high=found.bias_high,
        cov_percent=found.cov_percent,
        sem=found.sem,
        sem_low=found.sem_low,
        sem_high=found.sem_high,
        sdc=found.sdc,
        sdc_low=found.sdc_low,
        sdc_high=found.sdc_high,
        icc=found.icc.value if found.icc else None,
        icc_low=found.icc.low if found.icc else None,
        icc_high=found.icc.high if found.icc else None,
    )


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
        said = ", ".join(f"{code} {count}" for code, count in reasons.items())
        raise InputError(
            f"None of the {compared.scans_in} scans can be compared ({said}).",
            hint="Labels are matched by trial, participant_id and visit; see evaluate --help.",
        )
    repeats = tuple(repeatability_rows(measurements, compared, options))
    if options.repeat_visits is not None and not repeats:
        first, second = options.repeat_visits
        visits = sorted({str(v) for v in measurements["visit"].dropna()})
        raise InputError(
            f"Nobody has a scan at both {first} and {second}.",
            hint=f"Visits here: {', '.join(visits)}.",
        )
    warnings = list(compared.warnings)
    if ", " in model.get("sha256", ""):
        warnings.append("OUT holds scans of several models: their errors are mixed here.")
    scopes = set(compared.pairs["scope"]) if len(compared.pairs) else set()
    if len(scopes) > 1:
        warnings.append(
            "Some scans were compared on their contoured slices alone, others whole: they are "
            "never pooled and stand in rows of their own (column scope)."
        )
    return EvaluationResult(
        name=name,
        options=options,
        model=model,
        compared=compared,
        agreement=tuple(agreement_rows(compared, options)),
        overlap=tuple(overlap_rows(compared, options)),
        grades=tuple(grade_rows(compared, options)),
        equivalence=(
            *equivalence_rows(compared, options),
            *dice_equivalence_rows(compared, options),
        ),
        repeatability=repeats,
        warnings=tuple(warnings),
    )
