"""``pool-trials`` from a table to a folder: read, pool, draw, write once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from ..cohort.models import TableFormat, TableOptions
from ..cohort.read_table import SUFFIXES, read_any_table, table_header
from ..errors import UsageError
from ..files import (
    check_output,
    csv_text,
    read_json,
    sha256_bytes,
    sha256_file,
    write_all,
)
from ..manifest import (
    FORMAT_VERSION,
    RunRecord,
    library_versions,
    model_of,
    notice_for,
    run_block,
    version,
    write_output,
)
from ..pooling.endpoint.endpoint import CLUSTER
from ..pooling.federated.pool import pool_sites
from ..pooling.federated.site import read_site
from ..pooling.first_stage.first_stage import IMP, first_stage
from ..pooling.integrity import TrialFacts
from ..pooling.options import PoolingOptions, Presentation
from ..pooling.pool import SummaryTable, pool_summaries, pool_trials
from ..pooling.published_tables import form_of_table
from ..pooling.results import (
    ArmCount,
    ComparisonRow,
    DeltaRow,
    EffectRow,
    ErrorRow,
    HeterogeneityRow,
    InfluenceRow,
    IntegrityRow,
    PoolingResult,
    ProportionalRow,
    RegressionRow,
    RestrictedMeanRow,
    SplineRow,
    SurvivalRow,
    cells_of,
    columns_of,
    documents_of,
)
from ..privacy.characteristics import Characteristic
from ..privacy.suppression import suppressed_counts
from ..records import Exclusion, SeriousWarning, serious_first, severity
from ..reports.checklist import checklist_files, pooling_facts
from ..reports.export import (
    INTERNAL,
    SCRIPTS,
    baseline_tables,
    export_files,
    export_names,
    need_export,
    scripts,
)
from ..reports.figures.pooling import PoolingFigure, draw_figures, is_pooled
from ..reports.pages.pooling import (
    by_arm_table,
    heterogeneity_table,
    interactions_table,
    page_title,
    pooled_table,
    pooling_brief,
    pooling_page,
    pooling_text,
    subgroups_table,
    trials_table,
)
from ..reports.references import paper_files
from ..reports.style import Drawing
from .error_input import error_document, error_of_sites, error_of_table
from .pooling_input import read_rows, rows_options

COMMAND = "pool-trials"
# Tables in their order; those after the second are written only where they have rows.
_TABLES: Mapping[str, tuple[str, type[Any]]] = {
    "effects": ("effects", EffectRow),
    "heterogeneity": ("heterogeneity", HeterogeneityRow),
    "influence": ("influence", InfluenceRow),
    "spline": ("spline", SplineRow),
    "meta_regression": ("regression", RegressionRow),
    "delta_adjusted": ("delta", DeltaRow),
    "compare_reported": ("comparison", ComparisonRow),
    "proportional_hazards": ("proportional", ProportionalRow),
    "rmst": ("rmst", RestrictedMeanRow),
    "survival": ("survival", SurvivalRow),
    "error_adjusted": ("error_adjusted", ErrorRow),
}
# Of participants' rows only, and then always.
_ROW_TABLES: Mapping[str, tuple[str, type[Any]]] = {
    "participants_by_arm": ("by_arm", ArmCount),
    "table1": ("table1", Characteristic),
    "integrity": ("integrity", IntegrityRow),
    "exclusions": ("exclusions", Exclusion),
}


# ------------------------------------------------------------------ the request and the result


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRequest:
    """What is pooled, how, and how to read the tables (one per trial, or one of all).

    ``tables`` may be files of `summarise` (``*.json``), for which ``asked`` are the options that
    the user gave although these files decide them; ``plan_sha256`` is of the file given with
    --config, ``departures`` the options that differ from it, in words.
    """

    tables: tuple[Path, ...]
    options: PoolingOptions
    table_options: TableOptions
    also_summaries: Path | None = None
    error_model: str | None = None
    presentation: Presentation = field(default_factory=Presentation)
    asked: tuple[str, ...] = ()
    plan_sha256: str | None = None
    departures: tuple[str, ...] = ()

    @classmethod
    def of_rows(
        cls,
        tables: Sequence[Path],
        options: PoolingOptions,
        columns: TableOptions,
        **others: Any,
    ) -> PoolRequest:
        """The request for tables: the outcome defaults to the event, and columns are named."""
        options = replace(options, outcome=options.outcome or options.event or "")
        columns = rows_options(options, columns)
        return cls(tables=tuple(tables), options=options, table_options=columns, **others)

    @property
    def sites(self) -> tuple[Path, ...]:
        """Files of `summarise` in place of tables."""
        is_sites = all(path.suffix.lower() == ".json" for path in self.tables)
        return self.tables if is_sites else ()

    def document(self) -> dict[str, Any]:
        """Everything that decides the result; no path, because it may contain a name."""
        also = self.also_summaries
        return {
            **self.options.document(),
            **self.table_options.document(),
            "sites": sorted(map(sha256_file, self.sites)),
            "also_summaries": None if also is None else sha256_file(also),
            **self.presentation.document(),
            **error_document(self.error_model),
            "plan_sha256": self.plan_sha256,
        }


@dataclass(frozen=True, kw_only=True)
class PooledEffect:
    """A pooled treatment effect: ``summary()``, tables as data frames, figures, files."""

    request: PoolRequest
    result: PoolingResult
    inputs: Mapping[str, str]

    @property
    def effects(self) -> pd.DataFrame:
        """The rows of ``effects.csv``: trials, pooled effects, subgroups, interactions."""
        return self.table("effects")

    @property
    def heterogeneity(self) -> pd.DataFrame:
        """The rows of ``heterogeneity.csv``: tau², I² and H² with their intervals."""
        return self.table("heterogeneity")

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know before the result is used."""
        return serious_first(self.result.warnings)

    def table(self, name: str) -> pd.DataFrame:
        """One of `tables` by the name of its CSV; empty where there is nothing to report."""
        attribute, record = {**_TABLES, **_ROW_TABLES}[name]
        rows = [cells_of(row) for row in getattr(self.result, attribute)]
        return pd.DataFrame(rows, columns=list(columns_of(record)))

    def summary(self, *, verbose: bool = False, width: int = 80) -> str:
        """What the command prints: a screen of text, with ``verbose`` all tables and methods."""
        serious = [w for w in serious_first(self.warnings) if severity(w) == "serious"]
        return "\n".join(
            [*(f"Warning: {w}\n" for w in serious), self.text(verbose=verbose, width=width)]
        )

    def text(self, *, verbose: bool, width: int) -> str:
        """The summary without its serious warnings, which the command prints on stderr."""
        return pooling_text(self.result) if verbose else pooling_brief(self.result, width)

    @cached_property
    def figures(self) -> list[PoolingFigure]:
        """Every figure of the report."""
        return draw_figures(self.result)

    def forest(self, arm: str | None = None) -> Drawing:
        """The forest plot of an arm (default: the first): ``.svg`` and ``.png``."""
        arm = arm or self.result.arms[0]
        return next(f.drawing for f in self.figures if (f.kind, f.arm) == ("forest", arm))

    def to_csv(self, folder: str | Path) -> list[Path]:
        """Write the tables as the command does; the paths of the files."""
        write_all(Path(folder), _csv_files(self.result))
        return [Path(folder) / name for name in _csv_files(self.result)]

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.summary())}</pre>{self.forest().svg}"

    def document(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        result, account = self.result, self.result.accounting
        released = None
        if account is not None:
            excluded = account.participants - account.analysed
            released = {
                "participants": account.participants,
                "analysed": account.analysed,
                "excluded": suppressed_counts(account.excluded, excluded, result.options.min_cell),
            }
        findings = [row for row in result.integrity if row.result == "review"]
        return {
            "command": COMMAND,
            "format_version": FORMAT_VERSION,
            "cardiometa_version": version(),
            "options": self.request.document(),
            "inputs": self.inputs,
            "participants_by_arm": documents_of(result.by_arm),
            "integrity": documents_of(findings),
            "accounting": released,
            "methods": result.methods,
            "one_stage_checks": documents_of(result.checks),
            **{
                name: documents_of(getattr(result, attribute))
                for name, (attribute, _) in _TABLES.items()
            },
            "warnings": serious_first(result.warnings),
            "serious_warnings": [w for w in result.warnings if severity(w) == "serious"],
        }

    def files(self) -> dict[str, bytes | str]:
        """Every file of the output but its record, by name."""
        contents: dict[str, bytes | str] = dict(_csv_files(self.result))
        contents |= figure_files(self.result.arms, self.figures)
        contents["report.html"] = pooling_page(self.result, self.figures, self._facts())
        contents |= paper_files(self.result.methods)
        request = self.request
        asked = pooling_facts(self.result, request.plan_sha256, request.departures)
        contents |= checklist_files("prisma_ipd", self.result.name, asked)
        if is_pooled(self.result):
            contents |= scripts(self.result.options)
        return contents

    def exported(self, formats: Sequence[str]) -> dict[str, bytes | str]:
        """The tables of a paper in each of the formats ``docx``, ``xlsx`` and ``tex``."""
        result = self.result
        parts = (trials_table, pooled_table, heterogeneity_table, interactions_table)
        tables = [*baseline_tables(result.table1, "arm"), by_arm_table(result)]
        tables += [part(result, arm) for arm in result.arms for part in (*parts, subgroups_table)]
        title = page_title(result)
        notice = notice_for("; ".join(result.conventions.get("model_licence", ())))
        return export_files(tables, formats, title, notice)

    def _facts(self) -> dict[str, str]:
        """What was done, by name; no setting of a model that the result has not."""
        request, result, options = self.request, self.result, self.result.options
        facts = {"Endpoint": result.endpoint, "Effect": options.effect}
        if any(row.deaths_recorded for row in result.by_arm):
            facts["Estimand"] = options.estimand
        facts["Reference arm"] = result.control
        if any(row.model == "one-stage" for row in result.effects):
            facts |= {
                "Models": options.model,
                "Residual variance of the one-stage model": options.residual,
                "Random effects of the one-stage model": options.random_effects,
            }
        if is_pooled(result):
            facts |= {
                "Estimator of τ²": options.tau2,
                "Headline interval": f"{options.headline_ci}, {options.level:g} %",
                "Prediction interval": f"t with {options.pi_df} degrees of freedom",
            }
        if result.conventions.get("model_id"):
            facts["Segmentation model"] = ", ".join(result.conventions["model_id"])
        facts["Least cell shown"] = str(options.min_cell)
        facts["SHA-256 of the table"] = self.inputs["table"]
        if request.plan_sha256:
            facts["SHA-256 of the plan"] = request.plan_sha256
            facts["Departures from the plan"] = "; ".join(request.departures) or "none"
        return {**facts, "cardiometa": version()}


def run_pool_trials(
    request: PoolRequest, out: Path, *, overwrite: bool = False, export: Sequence[str] = ()
) -> PooledEffect:
    """Read, pool, draw, write. Nothing is written where anything fails before the end.

    ``export``: formats of `export_files` for the tables of a paper, and ``analysis``.

    Raises UsageError (exit 2), InputError (3) and EstimationError (5).
    """
    formats = [name for name in export if name != "analysis"]
    need_export(formats)
    options = request.document()
    check_output(out, command=COMMAND, options=options, overwrite=overwrite)
    pooled = pool_effect(request)
    # Figures and tables that an earlier run with other options had.
    optional = [f"{name}.csv" for name in (*_TABLES, *_ROW_TABLES)]
    kinds = ("forest", "funnel", "regression", "spline", "error")
    drawn = [f"figures/{p.name}" for kind in kinds for p in (out / "figures").glob(f"{kind}*")]
    record = RunRecord(
        command=COMMAND,
        options=options,
        inputs=pooled.inputs,
        model=model_of(pooled.result.conventions),
        run=run_block(libraries=library_versions("numpy", "scipy", "pandas", "matplotlib")),
    )
    rows: dict[str, bytes | str] = {}
    if "analysis" in export:
        rows = analysis_files(request, pooled.result)
        warnings = (SeriousWarning(ROWS_WARNING), *pooled.result.warnings)
        pooled = replace(pooled, result=replace(pooled.result, warnings=warnings))
    contents = pooled.files() | pooled.exported(formats) | rows
    names = (*export_names(), *SCRIPTS, *INTERNAL, "checklist_prisma_ipd.docx")
    old = (*drawn, *optional, *names)
    write_output(out, contents, record, overwrite=overwrite, old=old)
    return pooled


ROWS_WARNING = (
    "The folder internal/ has a row for each analysed participant (--export analysis): it is not "
    "for release. Remove it before the output leaves those who may see these rows."
)


def analysis_files(request: PoolRequest, result: PoolingResult) -> dict[str, bytes | str]:
    """The analysed rows (trial, arm, outcome and the columns of the model) and their scripts.

    There is no id in them, but they are participants' rows: their folder is not for release.
    """
    known = request.options.effect in ("mean-difference", "change", "follow-up")
    if not known or request.options.missing_outcome == "impute" or request.options.cluster:
        raise UsageError(
            "--export analysis is for differences of a complete outcome in trials that "
            "randomised persons: it has no script for this analysis."
        )
    if request.sites or result.accounting is None:
        raise UsageError("--export analysis needs participants' rows, not summaries.")
    table, options, output = read_rows(request.tables, request.options, request.table_options)
    stage = first_stage(table, options, output.roster(request.table_options), with_rows=True)
    if IMP in table.rows or any(CLUSTER in trial.rows for trial in stage.trials):
        raise UsageError("--export analysis has no script for imputed outcomes or clusters.")
    rows = [
        pd.concat(
            [trial.rows[["arm", "outcome"]], trial.nuisance],
            axis=1,
        ).assign(trial=trial.trial)
        for trial in stage.trials
    ]
    found = pd.concat(rows).set_index("trial").reset_index()
    cells = found.astype(object).where(found.notna(), None).itertuples(index=False)
    return {
        INTERNAL[0]: csv_text([str(name) for name in found], cells),
        **scripts(options, result.control),
    }


# ------------------------------------------------------------------ read and pool


def pool_effect(request: PoolRequest) -> PooledEffect:
    """Read and pool; nothing is written. Raises UsageError, InputError and EstimationError."""
    found = _pooled(request)
    trials = {row.trial for row in found.result.effects if row.analysis == "trial"}
    unknown = sorted(request.presentation.trial_names.keys() - trials)
    if unknown:
        raise UsageError(
            f"--forest-labels: no trial is called {', '.join(unknown)}.",
            hint=f"The trials are {', '.join(sorted(trials))}.",
        )
    return replace(found, result=replace(found.result, presentation=request.presentation))


def _pooled(request: PoolRequest) -> PooledEffect:
    options, also = request.options, request.also_summaries
    if request.sites:
        result, inputs = _pool_sites(request)
        return PooledEffect(request=request, result=result, inputs=inputs)
    first, form = request.tables[0], request.table_options
    # Decided by the header alone, so that a large table of participants is not read twice.
    alone = len(request.tables) == 1 and first.is_file() and first.suffix.lower() in SUFFIXES
    if alone and form_of_table(table_header(first, form)):
        if also is not None:
            raise UsageError(
                "The table is one of summaries; --also-summaries adds to participants' rows.",
                hint="Put all summaries into one table.",
            )
        if request.error_model is not None:
            raise UsageError("--error-model needs participants' rows or site files.")
        inputs = {"table": sha256_file(first)}
        result = pool_summaries(_summaries(first, form), options)
        return PooledEffect(request=request, result=result, inputs=inputs)
    table, options, output = read_rows(request.tables, options, request.table_options)
    inputs = {"table": table.sha256}
    roster = output.roster(request.table_options)
    facts: dict[str, TrialFacts] = {}
    if output.roster_file is not None:
        inputs["participants"] = sha256_file(output.roster_file)
        facts = {name: TrialFacts.of(stated) for name, stated in output.trials.items()}
    if also is not None:
        inputs["summaries"] = sha256_file(also)
    summaries = None if also is None else _summaries(also)
    error = None
    if request.error_model is not None:
        error = error_of_table(request.error_model, first, table, options.outcome)
    result = pool_trials(
        table, options, roster=roster, summaries=summaries, facts=facts, error=error
    )
    if roster is not None and result.flow is not None:
        trials, participants = output.sought("trials"), output.sought("participants")
        flow = replace(result.flow, sought_trials=trials, sought_participants=participants)
        result = replace(result, flow=flow)
    return PooledEffect(request=request, result=result, inputs=inputs)


def _pool_sites(request: PoolRequest) -> tuple[PoolingResult, dict[str, str]]:
    if request.options.meta_regression or request.options.spline:
        raise UsageError("--meta-regression and --spline need participants' rows, not summaries.")
    if request.also_summaries is not None:
        raise UsageError("--also-summaries cannot be combined with site summaries.")
    hashes = [sha256_file(path) for path in request.sites]
    documents = [(path.name, read_json(path)) for path in request.sites]
    sites = [read_site(document, name) for name, document in documents]
    inputs = {f"site-{number}": value for number, value in enumerate(hashes, start=1)}
    inputs["table"] = sha256_bytes("".join(sorted(hashes)).encode())
    error = None
    if request.error_model is not None:
        error = error_of_sites(request.error_model, sites)
    result = pool_sites(sites, request.options, asked=request.asked, error=error)
    accepted = [
        SeriousWarning(f"{name}: {text}")
        for name, document in documents
        for text in map(str, document.get("accepted", ()))
    ]
    return replace(result, warnings=(*accepted, *result.warnings)), inputs


def _summaries(path: Path, form: TableFormat | None = None) -> SummaryTable:
    return SummaryTable(rows=read_any_table(path, form=form), name=path.name)


# ------------------------------------------------------------------ files


def _csv_files(result: PoolingResult) -> dict[str, str]:
    wanted = {
        name: table
        for name, table in _TABLES.items()
        if name in ("effects", "heterogeneity") or getattr(result, table[0])
    }
    if result.accounting is not None:
        wanted |= _ROW_TABLES
    return {
        f"{name}.csv": csv_text(columns_of(record), map(cells_of, getattr(result, attribute)))
        for name, (attribute, record) in wanted.items()
    }


def figure_files(arms: Sequence[str], figures: Iterable[PoolingFigure]) -> dict[str, bytes | str]:
    """The SVG and PNG of each figure by the name of its file."""
    names = _figure_names(arms)
    files: dict[str, bytes | str] = {}
    for one in figures:
        stem = names[one.arm]
        if one.kind in ("funnel", "regression", "spline", "error", "survival", "incidence"):
            stem = stem.replace("forest", one.kind, 1)
        stem += {"levels": "-by", "reported": "-reported"}.get(one.kind, "")
        stem += f"-{_letters(one.name)}" if one.name else ""
        files[f"figures/{stem}.svg"] = one.drawing.svg
        files[f"figures/{stem}.png"] = one.drawing.png
    return files


def _figure_names(arms: Sequence[str]) -> dict[str, str]:
    """``forest`` for the only arm, else ``forest-<arm>`` in letters that any system can save."""
    if len(arms) == 1:
        return {arms[0]: "forest"}
    names: dict[str, str] = {}
    for number, arm in enumerate(arms, start=1):
        plain = _letters(arm)
        name = f"forest-{plain or number}"
        names[arm] = name if name not in names.values() else f"{name}-{number}"
    return names


def _letters(text: str) -> str:
    """A name in letters that any system can save."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40]
