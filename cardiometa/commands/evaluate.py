"""``evaluate`` from OUT of `segment` and a reference to a folder: read, compare, render, write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from ..cohort.analysis_table import read_analysis_table
from ..errors import InputError, UsageError
from ..evaluation.options import EvaluationOptions
from ..evaluation.overlap import (
    STRUCTURES,
    LabelOrder,
    ManualScan,
    ScanOverlap,
    ScanPair,
    overlaps,
    pairs,
)
from ..evaluation.results import (
    AgreementRow,
    Compared,
    EquivalenceRow,
    EvaluationResult,
    GradeRow,
    OverlapSummary,
    RepeatabilityRow,
)
from ..evaluation.tables import GROUPINGS, add_group_columns, evaluate
from ..files import RECORD_NAME, canonical_json, check_output, records_csv, sha256_bytes, write_all
from ..locking import writing
from ..manifest import (
    FORMAT_VERSION,
    RESEARCH_USE,
    RunRecord,
    file_marks,
    library_versions,
    record_text,
    run_block,
    version,
)
from ..measurement.measures import MEASURES, PAPILLARY
from ..pipeline.merge import frame_csv
from ..pipeline.result_file import SegmentedScan, read_segmented
from ..reading.label_file import ScanTarget, UnusableError
from ..reading.manual_labels import find_labels, read_manual
from ..records import Exclusion, ScanKey

COMMAND = "evaluate"
_REASONS = {
    "failed": "The scan could not be measured.",
    "no-labels": "There are no labels of this scan.",
    "no-reported": "The trial reported no value of a measure that the model gives.",
    "nothing-to-compare": "The labels hold no structure that can be compared.",
}
# Codes that are no fault of the labels: exit 0 whatever their number.
_EXPECTED = frozenset({"failed", "no-labels", "no-reported"})
KEYS = ("trial", "participant_id", "visit")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateRequest:
    """What a user asks for; ``labels`` is a folder or a table where labels are compared.

    ``plan_sha256`` is of the file given with --config, ``departures`` from it in words.
    """

    segmented: Path
    out: Path
    options: EvaluationOptions
    labels: Path | None = None
    label_order: LabelOrder = "cardiometa"
    plan_sha256: str | None = None
    departures: tuple[str, ...] = ()
    overwrite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What a run tells its caller while it reads labels."""

    planned: Callable[[int], None] = lambda _: None
    read: Callable[[], None] = lambda: None


def run_evaluate(request: EvaluateRequest, watch: Watch | None = None) -> EvaluationResult:
    """Compare an output of `segment` and write every file of ``out``.

    Nothing is written where the input cannot be used. Raises UsageError (exit 2) and InputError
    (exit 3).
    """
    said = _result_options(request)
    check_output(request.out, command=COMMAND, options=said, overwrite=request.overwrite)
    if not request.segmented.is_dir():
        raise UsageError(
            f"{request.segmented.name} is not a folder.", hint="Give OUT of `cardiometa segment`."
        )
    table = read_analysis_table(request.segmented)
    unused = table.unused if table.unused is not None else table.rows.iloc[:0]
    missing = [name for name in KEYS if name not in table.rows]
    if missing:
        raise InputError(f"measurements.csv has no column {', '.join(missing)}.")
    measurements = table.rows.reset_index(drop=True)
    gone = [_exclusion(key, "failed") for key in _keys(unused)]
    if request.options.against == "labels":
        compared = _with_labels(request, measurements, gone, watch or Watch())
    elif request.options.against == "reported":
        compared = _with_reported(measurements, gone, request.options)
    else:
        blank = measurements.iloc[:0]
        compared = _compared(blank, [], [], gone, scans_in=len(measurements) + len(gone))
    model = {
        name.removeprefix("model_"): ", ".join(values)
        for name, values in table.conventions.items()
        if name in ("model_id", "model_sha256")
    }
    result = evaluate(table.name, model, measurements, compared, request.options)
    contents = render(result, {"measurements": table.sha256, **_label_inputs(compared)})
    record = RunRecord(
        command=COMMAND,
        format_version=FORMAT_VERSION,
        options=said,
        inputs={"measurements": table.sha256, **_label_inputs(compared)},
        model=model,
        run=run_block(
            libraries=library_versions("numpy", "scipy", "pandas", "nibabel", "pydicom"),
            outputs=file_marks(contents),
        ),
    )
    with writing(request.out, command=COMMAND, options=said, overwrite=request.overwrite):
        old = [f"figures/{p.name}" for p in sorted(request.out.glob("figures/*.svg"))]
        old = [name for name in old if name not in contents]
        # The record is last: it says that all is there.
        write_all(request.out, {**contents, RECORD_NAME: record_text(record)}, old=old)
    return result


def unusable_labels(result: EvaluationResult) -> int:
    """Scans whose labels were there but could not be used: the command then ends with exit 4."""
    return sum(e.code not in _EXPECTED for e in result.compared.exclusions)


def _keys(rows: pd.DataFrame) -> list[ScanKey]:
    return [
        ScanKey(trial=str(t), participant=str(p), visit=str(v))
        for t, p, v in zip(*(rows[name] for name in KEYS), strict=True)
    ]


def _exclusion(key: ScanKey, code: str, sentence: str = "") -> Exclusion:
    return Exclusion(
        stage="scan",
        trial=key.trial,
        participant_id=key.participant,
        visit=key.visit,
        code=code,
        sentence=sentence or _REASONS[code],
    )


def _result_options(request: EvaluateRequest) -> dict[str, Any]:
    """Everything asked for that decides the result; no path, because it may hold a name."""
    options = asdict(request.options)
    options.pop("margin")
    return {
        **options,
        "margins": {name: asdict(m) for name, m in sorted(request.options.margins.items())},
        "label_order": request.label_order,
        "plan_sha256": request.plan_sha256,
        "departures_from_plan": list(request.departures),
    }


# ------------------------------------------------------------------ comparing


def _compared(
    scans: pd.DataFrame,
    found_pairs: Iterable[Mapping[str, Any]],
    found_overlaps: Iterable[Mapping[str, Any]],
    exclusions: Sequence[Exclusion],
    *,
    scans_in: int,
) -> Compared:
    names = [f.name for f in fields(ScanPair)]
    overlap_names = [f.name for f in fields(ScanOverlap)]
    overlap = pd.DataFrame(list(found_overlaps), columns=["scan", *overlap_names])
    for name in ("dice", "hd95_mm", "assd_mm"):
        overlap[name] = pd.to_numeric(overlap[name]).astype(float)
    return Compared(
        scans=scans.reset_index(drop=True),
        pairs=pd.DataFrame(list(found_pairs), columns=["scan", *names]),
        overlaps=overlap,
        exclusions=tuple(
            sorted(exclusions, key=lambda e: (e.trial, e.participant_id, e.visit, e.code))
        ),
        scans_in=scans_in,
    )


def _grouped(measurements: pd.DataFrame, options: EvaluationOptions) -> pd.DataFrame:
    """The columns of a scan that the tables need."""
    rows = add_group_columns(measurements, options.age_bands)
    return rows[[*KEYS, "status", *(name for name in GROUPINGS if name != "trial")]]


def _with_reported(
    measurements: pd.DataFrame, gone: list[Exclusion], options: EvaluationOptions
) -> Compared:
    """The model's measures beside the trials' own."""
    both = [m.name for m in MEASURES if {m.name, f"reported_{m.name}"} <= set(measurements.columns)]
    if not both:
        raise InputError(
            "measurements.csv has no reported_ column of a measure.",
            hint="Give the trials' own values as reported_lv_ef_percent … in the table of scans.",
        )
    kept: list[int] = []
    found: list[dict[str, Any]] = []
    for number, key in enumerate(_keys(measurements)):
        row = measurements.iloc[number]
        values = [(n, float(row[n]), float(row[f"reported_{n}"])) for n in both]
        known = [(n, a, b) for n, a, b in values if np.isfinite(a) and np.isfinite(b)]
        if not known:
            gone.append(_exclusion(key, "no-reported"))
            continue
        found += [
            {"scan": len(kept), "measure": n, "scope": "reported", "model": a, "reference": b}
            for n, a, b in known
        ]
        kept.append(number)
    scans = _grouped(measurements, options).iloc[kept]
    compared = _compared(scans, found, [], gone, scans_in=len(measurements) + _failed(gone))
    used = measurements.iloc[kept]
    return replace(compared, papillary=_papillary(used), warnings=_other_convention(used))


def _other_convention(rows: pd.DataFrame) -> tuple[str, ...]:
    """A sentence for each trial whose own values follow the other papillary convention."""
    if "reported_papillary" not in rows:
        return ()
    other = rows["reported_papillary"].notna() & (rows["reported_papillary"] != PAPILLARY)
    return tuple(
        f"{trial}: the reported values count papillary muscles as {word}, the model as "
        f"{PAPILLARY}: part of a bias in volumes and mass is this convention."
        for trial, word in sorted(
            {
                (str(t), str(w))
                for t, w in zip(
                    rows.loc[other, "trial"], rows.loc[other, "reported_papillary"], strict=True
                )
            }
        )
    )


def _papillary(rows: pd.DataFrame) -> dict[str, int]:
    """Scans by the papillary convention of their reported values."""
    if "reported_papillary" not in rows:
        return {"not stated": len(rows)}
    words = rows["reported_papillary"].astype(object).where(rows["reported_papillary"].notna())
    return dict(Counter(str(w) if isinstance(w, str) and w else "not stated" for w in words))


def _failed(gone: Sequence[Exclusion]) -> int:
    return sum(e.code == "failed" for e in gone)


def _with_labels(
    request: EvaluateRequest, measurements: pd.DataFrame, gone: list[Exclusion], watch: Watch
) -> Compared:
    """The model's masks and measures beside a reader's labels."""
    assert request.labels is not None
    keys = _keys(measurements)
    # Failed scans too: their labels are known, and a folder that could be theirs is ambiguous.
    failed = [ScanKey(trial=e.trial, participant=e.participant_id, visit=e.visit) for e in gone]
    labels = find_labels(request.labels, [*keys, *failed])
    watch.planned(sum(key in labels for key in keys))
    read: dict[int, tuple[SegmentedScan, ManualScan]] = {}
    votes: Counter[str] = Counter()
    for number, key in enumerate(keys):
        files = labels.get(key)
        if files is None:
            gone.append(_exclusion(key, "no-labels"))
            continue
        try:
            if isinstance(files, UnusableError):
                raise files
            scan = read_segmented(request.segmented, key)
            manual, orders = read_manual(files, _target(key, scan, request))
        except UnusableError as error:
            gone.append(_exclusion(key, error.code, error.sentence))
        else:
            read[number] = scan, manual
            votes.update(orders)
        finally:
            watch.read()
    _check_order(votes, request.label_order)
    drawn, warnings = _without_undrawn(keys, {n: manual for n, (_, manual) in read.items()})
    kept: list[int] = []
    found_pairs: list[dict[str, Any]] = []
    found_overlaps: list[dict[str, Any]] = []
    for number, (scan, _) in read.items():
        one = [asdict(o) for o in overlaps(scan.model, drawn[number])]
        if not one:
            gone.append(_exclusion(keys[number], "nothing-to-compare"))
            continue
        found_overlaps += [{"scan": len(kept), **cells} for cells in one]
        found_pairs += [{"scan": len(kept), **asdict(p)} for p in pairs(scan.model, drawn[number])]
        kept.append(number)
    scans = _grouped(measurements, request.options).iloc[kept]
    compared = _compared(
        scans, found_pairs, found_overlaps, gone, scans_in=len(measurements) + _failed(gone)
    )
    digests = Counter(d for n in kept for d in drawn[n].sha256)
    warnings += _scan_warnings([read[n] for n in kept], request.options.least)
    return replace(compared, warnings=tuple(warnings), labels=digests)


def _target(key: ScanKey, scan: SegmentedScan, request: EvaluateRequest) -> ScanTarget:
    return ScanTarget(
        key=key,
        grid=scan.grid,
        even=scan.model.even_slices,
        order=request.label_order,
        series_regex=scan.series_regex,
        segmented_frames=scan.segmented_frames,
    )


def _check_order(votes: Mapping[str, int], order: LabelOrder) -> None:
    """Refuse labels whose shapes say that LV and RV were taken for each other."""
    against = sum(count for name, count in votes.items() if name != order)
    if against * 2 > sum(votes.values()):
        other = next(name for name in ("acdc", "cardiometa") if name != order)
        raise InputError(
            f"In {against} of {sum(votes.values())} label files the cavity inside the myocardium "
            f"is not the one that --label-order {order} calls the LV.",
            hint=f"Say --label-order {other}.",
        )


def _without_undrawn(
    keys: Sequence[ScanKey], manual: Mapping[int, ManualScan]
) -> tuple[dict[int, ManualScan], list[str]]:
    """Take away structures that no label of a trial has: nobody drew them there."""
    drawn: dict[str, set[str]] = {}
    for number, scan in manual.items():
        found = drawn.setdefault(keys[number].trial, set())
        found |= {name for p in scan.phases for name, mask in p.masks.items() if mask.any()}
    warnings = [
        f"{trial}: no label has the structure {name}; it is taken as not drawn."
        for trial, found in sorted(drawn.items())
        for name in STRUCTURES
        if name not in found
    ]
    result = {}
    for number, scan in manual.items():
        found = drawn[keys[number].trial]
        phases = tuple(
            replace(p, masks={n: m for n, m in p.masks.items() if n in found}) for p in scan.phases
        )
        result[number] = replace(scan, phases=tuple(p for p in phases if p.masks))
    return result, warnings


def _scan_warnings(read: Sequence[tuple[SegmentedScan, ManualScan]], least: int) -> list[str]:
    """What a reader of the page must know of some scans; a few are not counted."""

    def scans(count: int) -> str:
        return f"{count} scans" if count >= least else "Some scans"

    warnings = []
    contours = sum(manual.kind == "contours" for _, manual in read)
    if contours:
        warnings.append(
            f"{scans(contours)} have contours: they are compared on the contoured slices alone, "
            "and structures that were not contoured (the RV) are not compared."
        )
    uneven = sum(not scan.model.even_slices for scan, _ in read)
    if uneven:
        warnings.append(
            f"{scans(uneven)} have irregular gaps between slices: their overlap is compared, "
            "their volumes are not."
        )
    corrected = sum(scan.corrected for scan, _ in read)
    if corrected:
        warnings.append(
            f"{scans(corrected)} were corrected by a reader: the model's own masks and measures "
            "are compared, not the corrected ones."
        )
    return warnings


def _label_inputs(compared: Compared) -> dict[str, str]:
    """The hash over the label files' hashes, in order of hash."""
    if not compared.labels:
        return {}
    return {"labels": sha256_bytes("".join(sorted(compared.labels)).encode())}


# ------------------------------------------------------------------ files


def render(result: EvaluationResult, inputs: Mapping[str, str]) -> dict[str, bytes | str]:
    """Every file of the output but its record, by name."""
    from ..reports.figures.evaluation import figures_of
    from ..reports.pages.evaluation import evaluation_page

    compared = result.compared
    contents: dict[str, bytes | str] = {}
    if result.options.against is not None:
        contents["agreement.csv"] = records_csv(AgreementRow, result.agreement)
        contents["grades.csv"] = records_csv(GradeRow, result.grades)
        contents["equivalence.csv"] = records_csv(EquivalenceRow, result.equivalence)
        joined = compared.pairs.join(compared.scans[[*KEYS, "status"]], on="scan")
        names = [f.name for f in fields(ScanPair)]
        contents["pairs.csv"] = frame_csv(joined[[*KEYS, "status", *names]])
    if result.options.against == "labels":
        joined = compared.overlaps.join(compared.scans[[*KEYS, "status"]], on="scan")
        names = [f.name for f in fields(ScanOverlap)]
        contents["overlap.csv"] = frame_csv(joined[[*KEYS, "status", *names]])
        contents["overlap_summary.csv"] = records_csv(OverlapSummary, result.overlap)
    if result.options.repeat_visits is not None:
        contents["repeatability.csv"] = records_csv(RepeatabilityRow, result.repeatability)
    contents["exclusions.csv"] = records_csv(Exclusion, compared.exclusions)
    figures = figures_of(result)
    contents |= {f"figures/{name}.svg": str(figure.svg) for name, figure in figures.items()}
    contents["evaluation.json"] = canonical_json(document(result, inputs))
    contents["report.html"] = evaluation_page(result, figures)
    return contents


def document(result: EvaluationResult, inputs: Mapping[str, str]) -> dict[str, Any]:
    """``evaluation.json``: where the numbers come from, the account, and the headline."""
    compared = result.compared
    reasons = Counter(e.code for e in compared.exclusions)
    headline: dict[str, list[dict[str, Any]]] = {}
    kinds: tuple[tuple[Literal["agreement", "overlap", "grades"], Sequence[Any]], ...] = (
        ("agreement", result.agreement),
        ("overlap", result.overlap),
        ("grades", result.grades),
    )
    for name, rows in kinds:
        headline[name] = [asdict(row) for row in rows if row.group_by == "all"]
    headline["equivalence"] = [asdict(row) for row in result.equivalence]
    headline["repeatability"] = [asdict(row) for row in result.repeatability]
    return {
        "format_version": FORMAT_VERSION,
        "cardiometa_version": version(),
        "notice": RESEARCH_USE,
        "cohort": result.name,
        "model": dict(result.model),
        "inputs": dict(inputs),
        "label_files_sha256": sorted(compared.labels),
        "against": result.options.against,
        "scans": {
            "in": compared.scans_in,
            "compared": len(compared.scans),
            "excluded": dict(sorted(reasons.items())),
        },
        "reported_papillary": dict(sorted(compared.papillary.items())),
        "warnings": list(result.warnings),
        **headline,
    }
