"""``cardiometa segment``: a cohort in, OUT with measurements, masks, accounts and a page."""

from __future__ import annotations

import platform
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Self, get_args

from ..cohort.load import load_cohort
from ..cohort.models import Cohort, CohortOptions
from ..cohort.pseudonyms import read_key, refuse_key_inside
from ..errors import CardiometaError, CohortError, UsageError
from ..files import (
    RECORD_NAME,
    append_text,
    check_output,
    create_new,
    read_json,
    remove_leftovers,
    sha256_bytes,
    write_text,
)
from ..imaging.dicom_seg import need_highdicom
from ..locking import OutputLock
from ..manifest import (
    FORMAT_VERSION,
    RunRecord,
    library_versions,
    record_text,
    run_block,
    version,
)
from ..privacy.withdrawal import read_withdrawals, remove_erased
from ..reading.decisions import REVIEW_FOLDER, remove_participants
from ..records import ScanKey, ScanResult, Status
from ..segmentation.model import Model, load_model, need_torch
from .bids import bids_subjects, clear_bids
from .cohort_snapshot import (
    SNAPSHOT_NAME,
    part_of,
    participants_of,
    snapshot_text,
    without_withdrawn,
)
from .corrections import ACCEPTED, CORRECTED, OUTDATED, REJECTED
from .jobs import Correction, Engine, EngineSetup, available_cores
from .merge import failure_reasons, write_tables
from .options import SegmentOptions
from .plan import Estimate, Plan, check_masks, corrections_of, estimate, jobs_of, plan_of
from .result_file import remove_correction, seg_notes, shown_scans
from .workers import WorkerPool


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentOutcome:
    """What a run or a merge did: counts for the print-out, the account, where the time went."""

    scans: int
    already_done: int = 0
    ok: int = 0
    review: int = 0
    failed: int = 0
    failures: Sequence[str] = ()
    flow: Mapping[str, Any] = field(default_factory=dict)
    corrected: int = 0
    notes: Sequence[str]
    warnings: Sequence[str]
    seconds: float
    stages: Mapping[str, float] = field(default_factory=dict)
    estimate: Estimate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What a run reports while it is under way."""

    planned: Callable[[int, int], None]
    finished: Callable[[ScanResult], None]


def run_segment(
    cohort_path: Path,
    out: Path,
    cohort_options: CohortOptions,
    options: SegmentOptions,
    watch: Watch,
) -> SegmentOutcome:
    """Run the whole command; errors are those of `errors`, nothing is written before the checks."""
    with _Log(options.log_file, out) as log:
        log.begin(options)
        outcome = _run_logged(cohort_path, out, cohort_options, options, log.watching(watch), log)
        log.done(outcome)
        return outcome


def _run_logged(
    cohort_path: Path,
    out: Path,
    cohort_options: CohortOptions,
    options: SegmentOptions,
    watch: Watch,
    log: _Log,
) -> SegmentOutcome:
    begun = time.monotonic()
    if options.scheduler is None and not options.dry_run:
        need_torch()  # on a cluster, where the workers are
    if options.dicom_seg is not None:
        need_highdicom()
    if cohort_options.pseudonymise_key is not None:
        refuse_key_inside(cohort_options.pseudonymise_key, out)
    model = load_model(options.model)
    means: dict[str, Any] = {
        name: getattr(options, name) for name in ("device", "batch", "workers", "timeout_s")
    }
    setup = EngineSetup(out=out, model=model, **means)
    with closing(engine_for(setup, options.scheduler)) as engine:
        if not options.dry_run:
            engine.warm()
        cohort = load_cohort(cohort_path, cohort_options)
        if not cohort.scans:
            raise CohortError(
                "The cohort contains no scan.",
                hint="Give a cohort.toml, a folder trial/participant/visit/images, or one scan.",
            )
        pseudonym_key = cohort_options.pseudonymise_key
        key = None if pseudonym_key is None else read_key(pseudonym_key)
        cohort = part_of(cohort, options.trials, options.participants, key)
        if options.bids:
            bids_subjects(scan.key for scan in cohort.scans)
        run = _Run(out=out, cohort=cohort, options=options, model=model, begun=begun, log=log)
        if options.trials or options.participants:
            # No participant's id among the options: one may have been named by the source's.
            chosen = sorted(map("/".join, participants_of(cohort)))
            run = replace(run, part=sha256_bytes("\n".join(chosen).encode()))
        run.check_output()
        run = replace(run, cohort=without_withdrawn(out, cohort))
        if options.dry_run:
            plan, _, outcome = run.planned(watch)
            return replace(outcome, estimate=estimate(out, plan, options))
        shard = options.shard
        with OutputLock(out, (shard.number, shard.of) if shard else None) as lock:
            # What another run wrote since, too.
            run.check_output()
            run = replace(run, cohort=without_withdrawn(out, cohort))
            withdrawals = read_withdrawals(out)
            remove_erased(out, withdrawals)
            if withdrawals.modes:
                review = out / REVIEW_FOLDER
                remove_participants(review, lambda who: withdrawals.mode(who) == "erased")
            return run.work(engine, lock, watch)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One call of `run_segment` whose input is read and whose output may be written.

    ``part`` is the hash of the participants chosen by --trial and --participant, empty for all.
    """

    out: Path
    cohort: Cohort
    options: SegmentOptions
    model: Model
    begun: float
    log: _Log
    part: str = ""

    @property
    def result_options(self) -> dict[str, Any]:
        """The options that matter to the result, for the record."""
        options = self.options
        values: dict[str, Any] = {
            "cohort": self.cohort.name,
            "bsa": options.bsa_formula,
            "frames": options.frames,
            "series_regex": options.series_regex,
            **options.extra,
        }
        if not options.allow_mixed_models:
            values["model_sha256"] = self.model.sha256
        if self.part:
            values["part"] = self.part
        if self.cohort.key_check is not None:
            # With another key all ids would change, and without one be shown.
            values["pseudonymise"] = self.cohort.key_check
        return values

    def check_output(self) -> None:
        """Refuse an OUT that is not this run's; nothing is written."""
        wanted, inputs = self.result_options, dict(self.cohort.input_sha256)
        if (self.out / RECORD_NAME).exists():
            found = read_json(self.out / RECORD_NAME)
            if self.options.allow_mixed_models:
                # The model may differ; everything else must not.
                model = found.get("options", {}).get("model_sha256")
                wanted |= {} if model is None else {"model_sha256": model}
            # Corrections are made of the output itself, and may come and go.
            given = found.get("inputs", {}).items()
            inputs |= {k: v for k, v in given if k.startswith("correction ")}
        check_output(
            self.out,
            command="segment",
            options=wanted,
            overwrite=self.options.overwrite,
            inputs=inputs,
        )

    def planned(self, watch: Watch) -> tuple[Plan, Mapping[ScanKey, Correction], SegmentOutcome]:
        """What there is to do, every corrected mask checked, and the outcome so far."""
        options = self.options
        corrections, problems = corrections_of(self.out, self.cohort, options)
        jobs = jobs_of(self.cohort, options, self.model.sha256, corrections)
        plan = plan_of(self.out, jobs, options)
        check_masks(self.out, plan, options, problems)
        watch.planned(len(jobs), len(plan.done))
        self.log.planned([job.key for job in jobs], len(plan.done))
        outcome = SegmentOutcome(
            scans=len(jobs),
            already_done=len(plan.done),
            notes=self.cohort.notes,
            warnings=self.cohort.warnings,
            seconds=time.monotonic() - self.begun,
        )
        return plan, corrections, outcome

    def work(self, engine: Engine, lock: OutputLock, watch: Watch) -> SegmentOutcome:
        """Do what is left, then the tables; after shards, `merge` makes these."""
        plan, corrections, outcome = self.planned(watch)
        sharded = self.options.shard is not None
        if not sharded:
            remove_leftovers(self.out)
        self._begin(self._record(corrections, {"state": "shards" if sharded else "running"}))
        clear_bids(self.out, begin=self.options.bids)  # written anew with the tables
        for key in plan.uncorrected:
            remove_correction(self.out, key)

        def finished(result: ScanResult) -> None:
            lock.check()
            watch.finished(result)

        if plan.left and not sharded:
            # What the page needs (matplotlib for one), while the workers load the network.
            page = "cardiometa.reports.pages.segment"
            threading.Thread(target=import_module, args=(page,), daemon=True).start()
        fresh = engine.run(plan.left, finished)
        stages = Counter[str]()  # seconds, summed over the scans of this run (stages overlap)
        for result in fresh:
            stages.update(result.document.get("run", {}).get("stages", {}))
        results = sorted([*plan.done, *fresh], key=lambda result: result.key)
        merged, notes = None, [*self.cohort.notes, *engine.notes]
        if not sharded:
            card, sha256 = self.model.card, self.model.sha256
            merged = write_tables(self.out, self.cohort, results, card=card, model_sha256=sha256)
            results = list(merged.results)
            notes += merged.notes
        codes = Counter(code for r in results for code in {flag.code for flag in r.flags})
        if self.options.dicom_seg is not None:
            notes += seg_notes(results)
        notes += _correction_notes(len(corrections), codes, len(plan.uncorrected))
        outcome = replace(
            outcome,
            **status_counts(results),
            failures=failure_reasons(results),
            corrected=codes[CORRECTED],
            flow={} if merged is None else merged.flow,
            notes=notes,
            seconds=time.monotonic() - self.begun,
            stages=dict(stages),
        )
        if merged is not None:
            block = run_block(
                state="complete",
                seconds=outcome.seconds,
                new_scans=len(fresh),
                stages=outcome.stages,
                models=models_of(results),
                facts=merged.facts,
                outputs=merged.outputs,
            )
            write_text(self.out / RECORD_NAME, self._record(corrections, block))
        return outcome

    def _record(self, corrections: Mapping[ScanKey, Correction], run: Mapping[str, Any]) -> str:
        given = {f"correction {key}": one.sha256 for key, one in sorted(corrections.items())}
        return record_text(
            RunRecord(
                command="segment",
                format_version=FORMAT_VERSION,
                options=self.result_options,
                inputs={**self.cohort.input_sha256, **given},
                model={
                    "id": self.model.card.model_id,
                    "sha256": self.model.sha256,
                    "licence": str(self.model.card.document.get("licence", "")),
                },
                run=run,
            )
        )

    def _begin(self, text: str) -> None:
        """Write the record of a run under way and the cohort's snapshot."""
        # Of shards that begin together one makes the record, and the others must fit to it.
        if not create_new(self.out / RECORD_NAME, text.encode()):
            self.check_output()
            write_text(self.out / RECORD_NAME, text)
        snapshot = snapshot_text(self.cohort, self.model.card, self.model.sha256)
        if not create_new(self.out / SNAPSHOT_NAME, snapshot.encode()):
            write_text(self.out / SNAPSHOT_NAME, snapshot)


class _Log:
    """The file of ``--log-file``: versions, counts, status and times, for whoever helps a site.

    It never has an id, a name, a path or the text of a message, which may quote a table: a scan is
    its number in the order of the cohort, which only the site can look up. None writes nothing.
    """

    def __init__(self, path: Path | None, out: Path) -> None:
        if path is not None and path.absolute().is_relative_to(out.absolute()):
            raise UsageError("--log-file must not be in the folder of the results.")
        self._path = path
        self._numbers: Mapping[ScanKey, int] = {}

    def __enter__(self) -> Self:
        """Nothing is written yet."""
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None:
            code = f", exit code {error.exit_code}" if isinstance(error, CardiometaError) else ""
            self.line(f"ended by {type(error).__name__}{code}")

    def line(self, text: str) -> None:
        """One more line with the time; raises OutputError."""
        if self._path is not None:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            append_text(self._path, f"{now} {text}\n")

    def begin(self, options: SegmentOptions) -> None:
        """What runs, on what."""
        if self._path is not None:
            create_new(self._path, b"")
        names = ("torch", "numpy", "scipy", "pandas", "pydicom", "nibabel", "python-gdcm")
        libraries = ", ".join(f"{k} {v}" for k, v in library_versions(*names).items())
        system = f"{platform.system()} {platform.machine()}, {available_cores()} cores"
        self.line(f"cardiometa {version()} segment, Python {platform.python_version()}, {system}")
        self.line(libraries)
        self.line(
            f"frames {options.frames}, device {options.device}, workers {options.workers}, "
            f"timeout {options.timeout_s:g} s, shard {options.shard_text or 'none'}"
        )

    def watching(self, watch: Watch) -> Watch:
        """``watch``, each scan being logged too."""

        def finished(result: ScanResult) -> None:
            codes = " ".join(flag.code for flag in result.flags) or "no flag"
            stages = result.document.get("run", {}).get("stages", {})
            times = "".join(f", {name} {seconds:.1f} s" for name, seconds in stages.items())
            self.line(f"scan {self._numbers[result.key]}: {result.status}, {codes}{times}")
            watch.finished(result)

        return replace(watch, finished=finished)

    def done(self, outcome: SegmentOutcome) -> None:
        """What the run came to."""
        if outcome.estimate is not None:
            self.line("dry run: nothing was done")
            return
        counts = f"{outcome.ok} ok, {outcome.review} to review, {outcome.failed} failed"
        self.line(f"done: {counts}, {outcome.seconds:.1f} s")

    def planned(self, keys: Sequence[ScanKey], done: int) -> None:
        """How many scans there are; they are numbered in this order."""
        self._numbers = {key: number for number, key in enumerate(keys, 1)}
        self.line(f"{len(keys)} scans, {done} already done")


def engine_for(setup: EngineSetup, scheduler: str | None) -> Engine:
    """This machine's processes, or the cluster at an address."""
    if scheduler is None:
        return WorkerPool(setup)
    try:
        from .dask import DaskEngine
    except ImportError:
        raise UsageError(
            "--scheduler needs Dask, which is not installed.",
            hint="pip install 'cardiometa[dask]', here and where the workers run.",
        ) from None
    return DaskEngine(setup, scheduler)


def _correction_notes(given: int, codes: Mapping[str, int], removed: int) -> Iterator[str]:
    if given:
        parts = [f"{shown_scans(codes[CORRECTED])} measured on a reader's mask"]
        for code, text in (
            (ACCEPTED, "accepted"),
            (REJECTED, "rejected"),
            (OUTDATED, "with a decision on another mask, not used"),
        ):
            parts += [f"{codes[code]} {text}"] if codes[code] else []
        yield f"corrections: {', '.join(parts)}"
    if removed:
        yield f"corrections: {shown_scans(removed)} back to the model's own results"


def status_counts(results: Sequence[ScanResult]) -> dict[str, Any]:
    """Scans by status, as `SegmentOutcome` has them."""
    found = Counter(result.status for result in results)
    return {status: found[status] for status in get_args(Status)}


def models_of(results: Sequence[ScanResult]) -> list[str]:
    """The hashes of the models that the scans of OUT were segmented with."""
    known = {result.document.get("model", {}).get("sha256") for result in results}
    return sorted(str(digest) for digest in known if digest)
