"""The program from Python: the options, checks and numbers of the commands.

::

    import cardiometa as cm

    effect = cm.pool_trials("trials.csv", outcome="lv_ef_percent", by=["sex", "age"])
    print(effect.summary())
    effect.effects  # a data frame
    effect.forest().svg

Options have the names of the command line (``--followup-day`` is ``followup_day``), lists are
Python lists. Every error is one of `cardiometa.errors`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from .cohort.analysis_table import read_analysis_table
from .cohort.load import load_cohort
from .cohort.models import Cohort, CohortOptions, TableOptions
from .commands.apply_reference import AdaptOutcome, run_adapt, run_score
from .commands.pool_trials import PooledEffect, PoolRequest, pool_effect
from .commands.reference_ranges import (
    ReferenceRequest,
    draw_figures,
    estimate_ranges,
    render,
)
from .errors import InputError, UsageError
from .files import RECORD_NAME, canonical_json, read_json, write_all, write_text
from .options import split
from .pipeline.options import SegmentOptions
from .pipeline.segment import Watch, run_segment
from .pooling.options import PoolingOptions, Presentation
from .reference.model import reference_model
from .reference.options import AdaptOptions, ReferenceOptions, ScoreOptions
from .reference.results import ReferenceRanges as RangesResult

Table = str | Path | pd.DataFrame
Tables = Table | Sequence[str | Path]
_IDS = {"trial": str, "participant_id": str, "visit": str}


@contextmanager
def _as_files(tables: Tables) -> Iterator[list[Path]]:
    """The paths of tables; a data frame is a CSV, so that it is read and checked like any table."""
    if not isinstance(tables, pd.DataFrame):
        yield [Path(one) for one in ([tables] if isinstance(tables, str | Path) else tables)]
        return
    if tables.columns.has_duplicates:
        raise UsageError("The data frame has two columns of the same name.")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        write_text(path, tables.to_csv(index=False, lineterminator="\n"))
        yield [path]


def pool_trials(
    table: Tables,
    *,
    columns: Mapping[str, Any] | None = None,
    also_summaries: str | Path | None = None,
    error_model: str | Path | None = None,
    **options: Any,
) -> PooledEffect:
    """Pool a randomised treatment effect over trials: `pool-trials` without writing files.

    ``table`` is a data frame, a path (table, output of `segment`, cohort.toml without images), or
    the paths of tables, one per trial; ``columns`` the ``[columns]`` table of a ``--config``;
    ``options`` those of the command, such as ``outcome="lv_ef_percent", baseline="ef0",
    by=["sex"], trial="STUDY"``.
    """
    chosen, named, shown = split((PoolingOptions, TableOptions, Presentation), options)
    with _as_files(table) as paths:
        return pool_effect(
            PoolRequest.of_rows(
                paths,
                PoolingOptions.of(chosen),
                TableOptions.of(named, columns=columns or {}),
                presentation=Presentation.of(shown),
                also_summaries=None if also_summaries is None else Path(also_summaries),
                error_model=None if error_model is None else str(error_model),
            )
        )


def reference_ranges(
    table: Tables,
    *,
    columns: Mapping[str, Any] | None = None,
    error_model: str | Path | None = None,
    **options: Any,
) -> ReferenceRanges:
    """Estimate reference ranges: `reference-ranges` without writing files.

    ``options`` are those of the command: ``measure=["lv_edv_ml"], by=["sex", "ethnicity"]``.
    """
    chosen, named = split((ReferenceOptions, TableOptions), options)
    record = ReferenceOptions.of(chosen)
    with _as_files(table) as paths:
        request = ReferenceRequest(
            tables=tuple(paths),
            options=record,
            table_options=TableOptions.of(named, columns=columns or {}),
            error_model=None if error_model is None else str(error_model),
        )
        return ReferenceRanges(estimate_ranges(request))


class Reference:
    """A portable reference: it scores new participants, and is adapted to a site."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document

    def score(
        self, table: Table, *, columns: Mapping[str, Any] | None = None, **options: Any
    ) -> pd.DataFrame:
        """``table`` with ``<measure>_z``, ``_centile`` and ``_score_note``, as by `score`."""
        measures = options.pop("measure", None)
        if isinstance(measures, str):
            measures = [measures]
        chosen, named = split((ScoreOptions, TableOptions), options)
        with self._files(table) as (reference, path, folder):
            run_score(
                reference,
                path,
                folder / "scores.csv",
                ScoreOptions.of(chosen),
                TableOptions.of(named, columns=columns or {}),
                measures=None if measures is None else tuple(measures),
            )
            scored = pd.read_csv(folder / "scores.csv", dtype=_IDS)
        if not isinstance(table, pd.DataFrame):
            return scored
        new = [name for name in scored.columns if name not in table.columns]
        return table.assign(**{name: scored[name].to_numpy() for name in new})

    def adapt(
        self, table: Table, *, columns: Mapping[str, Any] | None = None, **options: Any
    ) -> AdaptedReference:
        """The reference adapted to the healthy controls of a site, as by `adapt`."""
        chosen, named = split((AdaptOptions, TableOptions), options)
        with self._files(table) as (reference, path, folder):
            outcome = run_adapt(
                reference,
                path,
                folder / "adapted.json",
                AdaptOptions.of(chosen),
                TableOptions.of(named, columns=columns or {}),
            )
            return AdaptedReference(read_json(folder / "adapted.json"), outcome)

    @contextmanager
    def _files(self, table: Table) -> Iterator[tuple[Path, Path, Path]]:
        """The reference and the table as files, and a folder for what is made of them."""
        with TemporaryDirectory() as folder, _as_files(table) as (path,):
            reference = Path(folder) / "reference.json"
            write_text(reference, canonical_json(self.document))
            yield reference, path, Path(folder)


class AdaptedReference(Reference):
    """A reference adapted to a site: ``moved`` is a data frame of how far each measure moved."""

    def __init__(self, document: Mapping[str, Any], outcome: AdaptOutcome) -> None:
        super().__init__(document)
        self.outcome = outcome
        self.warnings = outcome.warnings

    @cached_property
    def moved(self) -> pd.DataFrame:
        """One row per measure: shift of level and spread with intervals, miscalibration left."""
        return pd.DataFrame(self.outcome.document()["measures"])

    def to_json(self, path: str | Path) -> Path:
        """Write the portable reference, which scores like any other."""
        write_text(Path(path), canonical_json(self.document))
        return Path(path)


def read_reference(path: str | Path) -> Reference:
    """A reference that `reference-ranges` or `adapt` wrote (``reference_ranges.json``)."""
    reference_model(document := read_json(Path(path)), Path(path).name)  # or InputError
    return Reference(document)


class ReferenceRanges(Reference):
    """Reference ranges: ``limits`` as a data frame, figures, scores of new participants."""

    def __init__(self, result: RangesResult) -> None:
        super().__init__(result.model)
        self.result = result

    @cached_property
    def limits(self) -> pd.DataFrame:
        """The rows of ``reference_ranges.csv``."""
        return self.result.limits

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know before the ranges are used."""
        return tuple(self.result.warnings)

    def plot(self, measure: str) -> Svg:
        """The figure of a measure: its limits by age band and its curves."""
        figures = draw_figures(self.result)
        if measure not in figures:
            known = ", ".join(figures) or ", ".join(self.result.measures)
            raise UsageError(f"There is no figure of {measure}.", hint=f"Known are {known}.")
        return Svg(figures[measure])

    def to_csv(self, folder: str | Path) -> list[Path]:
        """Write the tables and the portable model as the command does; the paths of the files."""
        files = {k: v for k, v in render(self.result).items() if k.endswith((".csv", ".json"))}
        write_all(Path(folder), files)
        return [Path(folder) / name for name in files]

    def _repr_html_(self) -> str:
        return f"<p>{escape(self.result.title)}</p>{self.limits.to_html(max_rows=40)}"


@dataclass(frozen=True)
class Svg:
    """A figure that notebooks show; ``svg`` is its text."""

    svg: str

    def _repr_svg_(self) -> str:
        return self.svg


# ------------------------------------------------------------------ images


@dataclass(frozen=True, kw_only=True)
class OpenCohort:
    """A checked cohort and where it was read: ``participants`` is a data frame."""

    path: Path
    options: CohortOptions
    cohort: Cohort

    @property
    def participants(self) -> pd.DataFrame:
        """One row per participant, harmonised."""
        return self.cohort.participants

    @property
    def scans(self) -> pd.DataFrame:
        """One row per scan: trial, participant_id, visit."""
        keys = [(s.key.trial, s.key.participant, s.key.visit) for s in self.cohort.scans]
        return pd.DataFrame(keys, columns=list(_IDS))

    def _repr_html_(self) -> str:
        heading = f"{escape(self.cohort.name)}: {len(self.cohort.scans)} scans"
        return f"<p>{heading}</p>{self.participants.to_html(max_rows=20)}"


def read_cohort(path: str | Path, **options: Any) -> OpenCohort:
    """Read and check a cohort.toml, a folder of trials or one scan; CohortError lists problems.

    ``options`` are ``root``, ``trial_id``, ``participant_id``, ``visit_id``, ``ids_are_pseudonyms``
    and ``pseudonymise``.
    """
    (chosen,) = split((CohortOptions,), options)
    record = CohortOptions.of(chosen)
    return OpenCohort(path=Path(path), options=record, cohort=load_cohort(Path(path), record))


def segment(cohort: OpenCohort | str | Path, out: str | Path, **options: Any) -> Segmentation:
    """Segment every scan of a cohort into the folder ``out``, as the command does.

    Scans that are done are not repeated. ``options`` are those of the command, and
    ``dicom_seg="scrub"`` or ``"keep"``.
    """
    extra = {k: options.pop(k) for k in ("dicom_seg", "overwrite") if k in options}
    chosen, about = split((SegmentOptions, CohortOptions), options)
    if isinstance(cohort, OpenCohort):
        if about:
            raise UsageError("Options of the cohort are given to read_cohort.")
        path, source = cohort.path, cohort.options
    else:
        path, source = Path(cohort), CohortOptions.of(about)
    quiet = Watch(planned=lambda _total, _done: None, finished=lambda _scan: None)
    run_segment(path, Path(out), source, SegmentOptions.of(chosen, **extra), quiet)
    return Segmentation(Path(out))


# ------------------------------------------------------------------ outputs on disk


class OutputFolder:
    """An output of any command: its record, its tables as data frames, its report."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / RECORD_NAME).is_file():
            raise InputError(f"{folder.name} is not an output folder: it has no {RECORD_NAME}.")
        self.record: Mapping[str, Any] = read_json(folder / RECORD_NAME)

    @property
    def command(self) -> str:
        """The command that wrote it."""
        return str(self.record["command"])

    @property
    def report(self) -> Path:
        """The page of the output."""
        return self.folder / "report.html"

    @property
    def tables(self) -> list[str]:
        """The names of its tables, for `table`."""
        return sorted(path.stem for path in self.folder.glob("*.csv"))

    def table(self, name: str) -> pd.DataFrame:
        """A table by its name, ids as text: ``table("effects")``."""
        if name not in self.tables:
            raise UsageError(f"No such table: {name}.", hint=f"Known are {', '.join(self.tables)}.")
        return pd.read_csv(self.folder / f"{name}.csv", dtype=_IDS)

    def _repr_html_(self) -> str:
        return f"<p>{escape(self.command)}: {escape(str(self.folder))}</p>"


class Segmentation(OutputFolder):
    """An output of `segment`."""

    @cached_property
    def measures(self) -> pd.DataFrame:
        """The rows of ``measurements.csv``: one per scan."""
        return self.table("measurements")

    @property
    def failures(self) -> pd.DataFrame:
        """The scans without measures; their flags say why."""
        return self.measures[self.measures["status"] == "failed"]


def load(folder: str | Path) -> OutputFolder:
    """An output that a command wrote earlier."""
    output = OutputFolder(Path(folder))
    return Segmentation(Path(folder)) if output.command == "segment" else output


def read_table(
    table: Tables, *, columns: Mapping[str, Any] | None = None, **options: Any
) -> pd.DataFrame:
    """A table with harmonised columns, codes and units, as the commands read it.

    ``options`` name columns: ``trial="STUDY", age="AGE"``. TableError lists every problem.
    """
    (named,) = split((TableOptions,), options)
    # What the commands refuse in the columns they use is refused in all of them here.
    chosen = TableOptions.of(named, columns=columns or {}, check_all=True)
    with _as_files(table) as paths:
        return read_analysis_table(paths, chosen).rows
