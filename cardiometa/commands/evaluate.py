"""``evaluate`` from OUT of `segment` and a reference to a folder: read, compare, render, write."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..cohort.analysis_table import MEASUREMENTS_NAME, read_analysis_table
from ..cohort.models import TableOptions
from ..errors import InputError, UsageError
from ..evaluation.agreement import flat
from ..evaluation.groups import ALL, GROUPINGS, add_group_columns
from ..evaluation.options import EvaluationOptions
from ..evaluation.overlap import (
    CONTOURED,
    STRUCTURES,
    LabelOrder,
    ManualScan,
    ScanOverlap,
    ScanPair,
    SliceCounts,
    overlaps,
    pairs,
    slice_counts,
)
from ..evaluation.results import (
    AgreementRow,
    Compared,
    CoverageRow,
    EquivalenceRow,
    EvaluationResult,
    GradeRow,
    LargeErrorRow,
    OverlapSummary,
    RepeatabilityRow,
    SliceErrorRow,
)
from ..evaluation.tables import evaluate
from ..files import (
    canonical_json,
    check_output,
    csv_text,
    records_csv,
    sha256_bytes,
)
from ..manifest import (
    FORMAT_VERSION,
    RunRecord,
    library_versions,
    model_of,
    notice_for,
    refuse_modified,
    run_block,
    version,
    write_output,
)
from ..measurement.measures import MEASURES, PAPILLARY
from ..pipeline.cohort_snapshot import read_snapshot
from ..pipeline.merge import frame_csv
from ..pipeline.result_file import SegmentedScan, read_segmented
from ..reading.label_file import ScanTarget, UnusableError
from ..reading.manual_labels import find_labels, read_manual
from ..records import Exclusion, ScanKey, severity
from ..statistics.measurement_error import KEY

COMMAND = "evaluate"
_REASONS = {
    "failed": "The scan could not be measured.",
    "no-labels": "There are no labels of this scan.",
    "no-reported": "The trial reported no value of a measure that the model gives.",
    "nothing-to-compare": "The labels contain no structure that can be compared.",
}
# Codes that are not the labels' fault: exit 0 whatever their number.
_EXPECTED = frozenset({"failed", "no-labels", "no-reported"})
KEYS = ("trial", "participant_id", "visit")
_ALWAYS_USED = (*KEYS[1:], "sex", "ethnicity", "age_years", "reported_papillary")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateRequest:
    """What a user asks for; ``labels`` is a folder or a table where labels are compared.

    ``plan_sha256`` is of the file given with --config, ``departures`` from it in words.
    """

    segmented: Path
    out: Path
    options: EvaluationOptions
    table_options: TableOptions
    labels: Path | None = None
    label_order: LabelOrder = "cardiometa"
    plan_sha256: str | None = None
    departures: tuple[str, ...] = ()
    overwrite: bool = False

    def document(self) -> dict[str, Any]:
        """Everything that decides the result; no path, because it may contain a name."""
        options = asdict(self.options)
        options.pop("margin")
        form = self.table_options
        read = {"missing": form.missing, "accept": form.accept}
        options |= {name: list(codes) for name, codes in read.items() if codes}
        return options | {
            "margins": {name: asdict(m) for name, m in sorted(self.options.margins.items())},
            "label_order": self.label_order,
            "plan_sha256": self.plan_sha256,
            "departures_from_plan": list(self.departures),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Callbacks while labels are read."""

    planned: Callable[[int], None] = lambda _: None
    read: Callable[[], None] = lambda: None


def run_evaluate(request: EvaluateRequest, watch: Watch | None = None) -> EvaluationResult:
    """Compare an output of `segment` and write every file of ``out``.

    Nothing is written where the input cannot be used. Raises UsageError (exit 2) and InputError
    (exit 3).
    """
    options = request.document()
    check_output(request.out, command=COMMAND, options=options, overwrite=request.overwrite)
    if not request.segmented.is_dir():
        raise UsageError(
            f"{request.segmented.name} is not a folder.", hint="Give OUT of `cardiometa segment`."
        )
    form = request.table_options
    accepted = refuse_modified([request.segmented / MEASUREMENTS_NAME], form.accept)
    asked, measures = request.options, [measure.name for measure in MEASURES]
    used = [f"reported_{name}" for name in measures if asked.against == "reported"]
    if used or asked.repeat_visits is not None:  # else the model's own are in its records
        used += measures
    used += [f"{name}_sd" for name in measures if asked.against is not None]
    needed = (*_ALWAYS_USED, *used)
    table = read_analysis_table(request.segmented, replace(form, needed=needed))
    accepted += tuple(text for text in table.warnings if severity(text) == "serious")
    unused = table.unused if table.unused is not None else table.rows.iloc[:0]
    missing = [name for name in KEYS if name not in table.rows]
    if missing:
        raise InputError(f"measurements.csv has no column {', '.join(missing)}.")
    measurements = table.rows.reset_index(drop=True)
    comparison = _Comparison(measurements, request.options, keys_of(unused))
    comparison.find_trained_on(request.segmented)
    if request.options.against == "labels":
        compared = _with_labels(comparison, request, watch or Watch())
    elif request.options.against == "reported":
        compared = _with_reported(comparison)
    else:
        compared = comparison.result()
    model = model_of(table.conventions)
    result = evaluate(table.name, model, measurements, compared, request.options)
    result = replace(result, warnings=(*accepted, *result.warnings))
    inputs = {"measurements": table.sha256}
    if compared.labels:  # the hash over the label files' hashes, in order of hash
        inputs["labels"] = sha256_bytes("".join(sorted(compared.labels)).encode())
    libraries = library_versions("numpy", "scipy", "pandas", "nibabel", "pydicom")
    record = RunRecord(
        command=COMMAND,
        options=options,
        inputs=inputs,
        model=model,
        run=run_block(libraries=libraries),
    )
    old = [f"figures/{p.name}" for p in request.out.glob("figures/*.svg")]
    contents = render(result, inputs)
    write_output(request.out, contents, record, overwrite=request.overwrite, old=old)
    return result


def unusable_labels(result: EvaluationResult) -> int:
    """Scans whose labels were there but could not be used: the command then ends with exit 4."""
    return sum(e.code not in _EXPECTED for e in result.compared.exclusions)


def keys_of(rows: pd.DataFrame) -> list[ScanKey]:
    """The scan of each row."""
    return [
        ScanKey(trial=str(t), participant=str(p), visit=str(v))
        for t, p, v in zip(*(rows[name] for name in KEYS), strict=True)
    ]


def _exclusion(key: ScanKey, code: str, sentence: str = "") -> Exclusion:
    text = sentence or _REASONS[code]
    return Exclusion("scan", key.trial, key.participant, key.visit, code, text)


class _Comparison:
    """Collects what is compared, scan by scan, and why the others are not."""

    def __init__(
        self, measurements: pd.DataFrame, options: EvaluationOptions, failed: list[ScanKey]
    ) -> None:
        self.measurements, self.options, self.failed = measurements, options, failed
        self.exclusions = [_exclusion(key, "failed") for key in failed]
        self.scans_in = len(measurements) + len(failed)
        self.keys = keys_of(measurements)
        self.kept: list[int] = []
        self._pairs: list[dict[str, Any]] = []
        self._overlaps: list[dict[str, Any]] = []
        self._slices: list[dict[str, Any]] = []
        self.trained_on = np.zeros(len(measurements), dtype=bool)
        self.training_known = False
        self.warnings: tuple[str, ...] = ()

    def exclude(self, number: int, code: str, sentence: str = "") -> None:
        """Leave out the scan of row ``number``."""
        self.exclusions.append(_exclusion(self.keys[number], code, sentence))

    def find_trained_on(self, out: Path) -> None:
        """Mark the participants that the model was trained on, as its card in OUT names them.

        They are recognised by the ids that the data set gave, in a trial that has its name; ids
        that were replaced by pseudonyms cannot be.
        """
        try:
            snapshot = read_snapshot(out)
        except InputError:  # an output without its cohort
            return
        training = snapshot.card.document.get("training")
        sets = training.get("participants") if isinstance(training, Mapping) else None
        if not isinstance(sets, Mapping) or snapshot.cohort.key_check is not None:
            return
        self.training_known = True
        alike: dict[tuple[str, str], int] = Counter()
        for name, ids in sets.items():
            known = {str(one).casefold() for one in ids}
            for number, key in enumerate(self.keys):
                if key.participant.casefold() in known:
                    names = key.trial.casefold(), str(name).casefold()
                    same = names[0] in names[1] or names[1] in names[0]
                    self.trained_on[number] |= same
                    if not same:
                        alike[key.trial, str(name)] += 1
        self.warnings = tuple(
            f"{trial}: participants have ids of the data set {name}, which the model was trained "
            f"on. If they are the same people, name the trial {name}: their errors are too small."
            for trial, name in sorted(alike)
        )

    def add(
        self,
        number: int,
        pairs: Iterable[ScanPair],
        overlaps: Iterable[ScanOverlap] = (),
        slices: Iterable[SliceCounts] = (),
    ) -> None:
        """Take in the scan of row ``number`` with what was compared of it.

        The model's SD of a measure is NaN where it has none, or a reader changed the labels.
        """
        scan, row = len(self.kept), self.measurements.iloc[number]
        corrected = "corrected" in str(row.get("flags") or "").split(";")
        for pair in pairs:
            sd = math.nan
            if pair.scope != CONTOURED and not corrected:
                with suppress(TypeError, ValueError):
                    sd = float(row.get(f"{pair.measure}_sd", math.nan))
            self._pairs.append({"scan": scan, **asdict(pair), "model_sd": sd})
        self._overlaps += [{"scan": scan, **asdict(overlap)} for overlap in overlaps]
        self._slices += [{"scan": scan, **asdict(one)} for one in slices]
        self.kept.append(number)

    def result(self, warnings: Iterable[str] = (), **more: Any) -> Compared:
        """The tables of `Compared`; ``more`` are its other fields."""
        names = [name for name in GROUPINGS if name != "trial"]
        scans = add_group_columns(self.measurements, self.options.age_bands)
        scans["trained_on"] = self.trained_on
        overlap = pd.DataFrame(self._overlaps, columns=["scan", *_names(ScanOverlap)])
        for name in ("dice", "hd95_mm", "assd_mm"):
            overlap[name] = pd.to_numeric(overlap[name]).astype(float)
        order = sorted(self.exclusions, key=lambda e: (e.trial, e.participant_id, e.visit, e.code))
        return Compared(
            scans=scans[[*KEYS, "status", "arm", "trained_on", *names]]
            .iloc[self.kept]
            .reset_index(drop=True),
            pairs=pd.DataFrame(self._pairs, columns=["scan", *_names(ScanPair)]),
            overlaps=overlap,
            slices=pd.DataFrame(self._slices, columns=["scan", *_names(SliceCounts)]),
            exclusions=tuple(order),
            scans_in=self.scans_in,
            training_known=self.training_known,
            warnings=(*self.warnings, *warnings),
            **more,
        )


def _names(row: type[Any]) -> list[str]:
    return [field.name for field in fields(row)]


def _with_reported(comparison: _Comparison) -> Compared:
    """The model's measures against the trials' own."""
    rows = comparison.measurements
    both = [m.name for m in MEASURES if {m.name, f"reported_{m.name}"} <= set(rows.columns)]
    if not both:
        raise InputError(
            "measurements.csv has no reported_ column of a measure.",
            hint="Give the trials' own values as reported_lv_ef_percent … in the table of scans.",
        )
    for number in range(len(rows)):
        row = rows.iloc[number]
        values = [(n, float(row[n]), float(row[f"reported_{n}"])) for n in both]
        known = [
            ScanPair(measure=n, scope="reported", model=a, reference=b)
            for n, a, b in values
            if np.isfinite(a) and np.isfinite(b)
        ]
        if known:
            comparison.add(number, known)
        else:
            comparison.exclude(number, "no-reported")
    used = rows.iloc[comparison.kept]
    words = used.get("reported_papillary", pd.Series(None, index=used.index, dtype=object))
    # Trials whose own values follow the other papillary convention.
    stated = words.notna()
    other = sorted(
        {
            (str(trial), str(word))
            for trial, word in zip(used["trial"][stated], words[stated], strict=True)
            if word != PAPILLARY
        }
    )
    return comparison.result(
        papillary=dict(
            Counter(word if isinstance(word, str) and word else "not stated" for word in words)
        ),
        warnings=(
            f"{trial}: the reported values count papillary muscles as {word}, the model as "
            f"{PAPILLARY}: part of a bias in volumes and mass is due to this convention."
            for trial, word in other
        ),
    )


def _with_labels(comparison: _Comparison, request: EvaluateRequest, watch: Watch) -> Compared:
    """The model's masks and measures against a reader's labels."""
    assert request.labels is not None
    keys = comparison.keys
    # Failed scans too: their labels are known, and a folder that could be theirs is ambiguous.
    labels = find_labels(request.labels, [*keys, *comparison.failed])
    watch.planned(sum(key in labels for key in keys))
    read: dict[int, tuple[SegmentedScan, ManualScan]] = {}
    votes: Counter[str] = Counter()
    for number, key in enumerate(keys):
        files = labels.get(key)
        if files is None:
            comparison.exclude(number, "no-labels")
            continue
        try:
            if isinstance(files, UnusableError):
                raise files
            scan = read_segmented(request.segmented, key)
            target = ScanTarget(
                key=key,
                grid=scan.grid,
                even=scan.model.even_slices,
                order=request.label_order,
                series_regex=scan.series_regex,
                segmented_frames=scan.segmented_frames,
            )
            manual, orders = read_manual(files, target)
        except UnusableError as error:
            comparison.exclude(number, error.code, error.sentence)
        else:
            read[number] = scan, manual
            votes.update(orders)
        finally:
            watch.read()
    # Labels whose shapes say that LV and RV are swapped.
    order = request.label_order
    against = votes.total() - votes[order]
    if against * 2 > votes.total():
        other = next(name for name in ("acdc", "cardiometa") if name != order)
        raise InputError(
            f"In {against} of {votes.total()} label files the cavity inside the myocardium "
            f"is not the one that --label-order {order} calls the LV.",
            hint=f"Try --label-order {other}.",
        )
    drawn, warnings = _without_undrawn(keys, {n: manual for n, (_, manual) in read.items()})
    for number, (scan, _) in read.items():
        found = list(overlaps(scan.model, drawn[number]))
        if found:
            slices = slice_counts(scan.model, drawn[number])
            comparison.add(number, pairs(scan.model, drawn[number]), found, slices)
        else:
            comparison.exclude(number, "nothing-to-compare")
    kept = comparison.kept
    warnings += _scan_warnings([read[n] for n in kept], request.options.least)
    return comparison.result(
        warnings=warnings, labels=Counter(d for n in kept for d in drawn[n].sha256)
    )


def _without_undrawn(
    keys: Sequence[ScanKey], manual: Mapping[int, ManualScan]
) -> tuple[dict[int, ManualScan], list[str]]:
    """Without structures that no label of a trial has: they were not drawn there."""
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
    """What a reader of the page must know of some scans; small counts are not shown."""
    found = {
        "have contours: they are compared on the contoured slices only, and structures that were "
        "not contoured (the RV) are not compared.": sum(m.kind == "contours" for _, m in read),
        "have irregular gaps between slices: their overlap is compared, their volumes are "
        "not.": sum(not scan.model.even_slices for scan, _ in read),
        "were corrected by a reader: the model's own masks and measures are compared, not the "
        "corrected ones.": sum(scan.corrected for scan, _ in read),
    }
    return [
        f"{f'{count} scans' if count >= least else 'Some scans'} {words}"
        for words, count in found.items()
        if count
    ]


# ------------------------------------------------------------------ files


def render(result: EvaluationResult, inputs: Mapping[str, str]) -> dict[str, bytes | str]:
    """Every file of the output but its record, by name."""
    from ..reports.checklist import checklist_files
    from ..reports.figures.evaluation import figures_of
    from ..reports.page import words
    from ..reports.pages.evaluation import REFERENCES, evaluation_facts, evaluation_page
    from ..reports.references import paper_files

    compared, options = result.compared, result.options
    contents: dict[str, bytes | str] = {}
    tables: list[tuple[str, type, Sequence[Any]]] = []
    if options.against is not None:
        tables += [
            ("agreement", AgreementRow, result.agreement),
            ("grades", GradeRow, result.grades),
            ("equivalence", EquivalenceRow, result.equivalence),
            ("large_errors", LargeErrorRow, result.large_errors),
            ("interval_coverage", CoverageRow, result.coverage),
        ]
        contents["pairs.csv"] = _scans_csv(compared, compared.pairs, ScanPair)
    if options.against == "labels":
        tables.append(("overlap_summary", OverlapSummary, result.overlap))
        tables.append(("slice_errors", SliceErrorRow, result.slices))
        contents["overlap.csv"] = _scans_csv(compared, compared.overlaps, ScanOverlap)
    if options.repeat_visits is not None:
        tables.append(("repeatability", RepeatabilityRow, result.repeatability))
    for name, kind, rows in tables:
        cells = [list(flat(kind, row).values()) for row in rows]
        contents[f"{name}.csv"] = csv_text(list(flat(kind)), cells)
    contents["exclusions.csv"] = records_csv(Exclusion, compared.exclusions)
    figures = figures_of(result)
    contents |= {f"figures/{name}.svg": str(figure.svg) for name, figure in figures.items()}
    contents["evaluation.json"] = canonical_json(document(result, inputs))
    contents["report.html"] = evaluation_page(result, figures)
    methods = words("evaluation", "methods", options=options)
    contents |= paper_files(methods)
    facts = evaluation_facts(result, REFERENCES[options.against], methods)
    contents |= checklist_files("claim", result.name, facts)
    return contents


def _scans_csv(compared: Compared, frame: pd.DataFrame, row: type) -> str:
    joined = frame.join(compared.scans[[*KEYS, "status", "trained_on"]], on="scan")
    return frame_csv(joined[[*KEYS, "status", "trained_on", *_names(row)]])


def document(result: EvaluationResult, inputs: Mapping[str, str]) -> dict[str, Any]:
    """``evaluation.json``: sources of the numbers, counts of scans, and the main results."""
    compared = result.compared
    reasons = Counter(e.code for e in compared.exclusions)
    tables = (
        ("agreement", result.agreement),
        ("overlap", result.overlap),
        ("grades", result.grades),
        ("slice_errors", result.slices),
        ("large_errors", result.large_errors),
        ("interval_coverage", result.coverage),
    )
    headline: dict[str, list[dict[str, Any]]] = {
        name: [flat(type(row), row) for row in rows if row.group_by == ALL] for name, rows in tables
    }
    headline["equivalence"] = [flat(type(row), row) for row in result.equivalence]
    headline["repeatability"] = [flat(type(row), row) for row in result.repeatability]
    return {
        "format_version": FORMAT_VERSION,
        "cardiometa_version": version(),
        "notice": notice_for(result.model.get("licence", "")),
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
        KEY: None if result.error is None else result.error.document(),
    }
