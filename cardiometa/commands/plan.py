"""``plan``: trials from a table or an output of ``pool-trials``; power and width to a folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..cohort.read_table import read_any_table
from ..cohort.recode import as_numbers, text_of
from ..errors import InputError, Problems, TableError, UsageError
from ..files import check_output, records_csv, sha256_file
from ..manifest import (
    FORMAT_VERSION,
    RunRecord,
    library_versions,
    read_run_record,
    refuse_modified,
    run_block,
    version,
    write_output,
)
from ..pooling.options import DIFFERENCES, PlanInput, PlanOptions
from ..pooling.plan import (
    TREATMENT,
    PlannedTrial,
    PlanRow,
    TrialRow,
    plan_rows,
    trial_rows,
)
from ..records import Table
from ..reports.page import page_html, section
from ..reports.pages.pooling import text_table
from ..reports.style import shown
from ..statistics.measurement_error import read_measurement_error

COMMAND = "plan"
_NEEDED = ("trial", "n_control", "n_active", "sd")
_NUMBERS = ("n_control", "n_active", "sd", "correlation", "tau", "modifier_sd", "modifier_share")
_FILES = ("effects.csv", "heterogeneity.csv", "participants_by_arm.csv")
_INTERVALS = {
    "hksj-truncated": "HKSJ, truncated",
    "kenward-roger": "Kenward-Roger (one-stage)",
    "wald": "Wald",
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Power and width of each set of trials, what each trial gives, and what to know."""

    options: PlanOptions
    tau: float
    trials: tuple[PlannedTrial, ...]
    inputs: Mapping[str, str]
    contrast: str = ""
    warnings: tuple[str, ...] = ()

    @cached_property
    def rows(self) -> list[PlanRow]:
        """The rows of ``plan.csv``."""
        return plan_rows(self.trials, self.tau, self.options)

    @property
    def trial_rows(self) -> list[TrialRow]:
        """The rows of ``plan_trials.csv``."""
        return trial_rows(self.trials, self.tau, self.options)

    def tables(self) -> list[Table]:
        """The tables of the page, as they are printed too."""
        rows, simulated = self.rows, any(row.simulations for row in self.rows)
        several = {row.set for row in rows} != {"planned"}
        errors = {row.error for row in rows} != {"without"}
        heads = [
            *(["Trials are"] if several else []),
            "Term",
            *(["Model's error"] if errors else []),
            *("Interval", "Trials", "n", "Assumed", "Power, %", "Expected width"),
            "Found with 80 %",
            *(["Simulated power, %", "Simulated width"] if simulated else []),
        ]
        cells = [
            (
                *([row.set] if several else []),
                row.term.replace("treatment:modifier", "interaction"),
                *([row.error] if errors else []),
                _INTERVALS[row.ci_method] + " (headline)" * row.headline,
                *(str(row.k), str(row.n), f"{row.assumed:g}"),
                *(shown(row.power_percent, 1), shown(row.width, 2), shown(row.detectable_80, 2)),
                *([shown(row.simulated_power_percent, 1), shown(row.simulated_width, 2)]
                  if simulated else []),
            )
            for row in rows
        ]  # fmt: skip
        of = f" Interaction: {self.contrast}." if self.contrast else ""
        power = Table(
            title="Power and expected width",
            columns=tuple(heads),
            rows=tuple(cells),
            caption=f"τ {self.tau:g}; {self.options.level:g} % intervals, their full width in the "
            "outcome's unit. Found with 80 %: the effect that has a power of 80 %. As a design, "
            f"not given the results of finished trials.{of}",
        )
        with_error = "with" if self.options.error_sd else "without"
        trials = Table(
            title="What each trial gives",
            columns=("Trial", "State", "n control", "n active", "Term", "SE", "Weight, %"),
            rows=tuple(
                (
                    row.trial,
                    "finished" if row.existing else "planned",
                    *(str(row.n_control), str(row.n_active)),
                    row.term.replace("treatment:modifier", "interaction"),
                    *(shown(row.se, 2), shown(row.weight_percent, 1)),
                )
                for row in self.trial_rows
                if row.error == with_error
            ),
            caption="All trials together"
            + (", with the model's error." if self.options.error_sd else "."),
        )
        return [power, trials]

    def document(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        names = [list(row.__slots__) for row in (PlanRow, TrialRow)]
        return {
            "command": COMMAND,
            "format_version": FORMAT_VERSION,
            "cardiometa_version": version(),
            "tau": self.tau,
            "inputs": self.inputs,
            "plan": [{n: getattr(row, n) for n in names[0]} for row in self.rows],
            "trials": [{n: getattr(row, n) for n in names[1]} for row in self.trial_rows],
            "warnings": self.warnings,
        }


def run_plan(
    source: Path, options: PlanOptions, read: PlanInput, out: Path, *, overwrite: bool = False
) -> Plan:
    """Read, compute, write; nothing is written where anything fails.

    ``source`` is a table of trials, or a folder that ``pool-trials`` wrote. Raises UsageError
    (exit 2) and InputError (3: every problem of the input at once).
    """
    # Everything that decides the result; no path, because it may contain a name.
    document = {name: getattr(options, name) for name in PlanOptions.__slots__}
    document |= {name: getattr(read, name) for name in ("arm", "by", "measure")}
    check_output(out, command=COMMAND, options=document, overwrite=overwrite)
    plan = make_plan(source, options, read)
    contents: dict[str, bytes | str] = {
        "plan.csv": records_csv(PlanRow, plan.rows),
        "plan_trials.csv": records_csv(TrialRow, plan.trial_rows),
        "report.html": _page(plan),
    }
    record = RunRecord(
        command=COMMAND,
        options=document,
        inputs=plan.inputs,
        run=run_block(libraries=library_versions("numpy", "scipy", "pandas")),
    )
    write_output(out, contents, record, overwrite=overwrite)
    return plan


def make_plan(source: Path, options: PlanOptions, read: PlanInput) -> Plan:
    """The plan without writing anything."""
    warnings: list[str] = []
    inputs = {}
    if read.error_from is not None:
        if options.error_sd is not None:
            raise UsageError("--error-sd and --error-from both give the model's error: use one.")
        inputs["error"] = sha256_file(read.error_from)
        options = replace(options, error_sd=_error_of(read.error_from, read.measure or ""))
    contrast = ""
    if source.is_dir():
        found = _Finished.read(source, read, options)
        options, contrast = found.options, found.contrast
        inputs |= {"effects": sha256_file(source / _FILES[0])}
        tau = options.tau if options.tau is not None else found.tau
        trials = list(found.trials)
        if read.add is None:
            trials.append(found.one_more())
        else:
            inputs["added"] = sha256_file(read.add)
            more, _ = _read_trials(read.add, options, known=[trial.trial for trial in trials])
            trials += more
        warnings += found.warnings
        if options.simulate:
            warnings.append("Finished trials are not simulated: --simulate is for a table.")
    else:
        wrong = {"--add": read.add, "--arm": read.arm, "--by": read.by}
        given = [name for name, value in wrong.items() if value is not None]
        if given:
            raise UsageError(f"{', '.join(given)} need an output folder of pool-trials.")
        inputs["table"] = sha256_file(source)
        trials, stated = _read_trials(source, options)
        tau = options.tau if options.tau is not None else stated
    if tau is None:
        raise UsageError(
            "How much the effect differs between trials is not known.",
            hint="Give --tau NUMBER, or a column tau with one value.",
        )
    if len(trials) < 5:
        warnings.append(
            f"{len(trials)} trials: the interval has {len(trials) - 1} degree"
            f"{'s' * (len(trials) > 2)} of freedom and Kenward-Roger is not planned with; more "
            "trials help more than more participants."
        )
    silent = [t.trial for t in trials if not t.existing and not t.modifier_variance]
    if options.interaction is not None and silent:
        warnings.append(f"{', '.join(silent)} tell nothing of the interaction: no modifier.")
    return Plan(
        options=options,
        tau=tau,
        trials=tuple(trials),
        inputs=inputs,
        contrast=contrast,
        warnings=tuple(warnings),
    )


# ------------------------------------------------------------------ a table of planned trials


def _read_trials(
    path: Path, options: PlanOptions, known: Sequence[str] = ()
) -> tuple[list[PlannedTrial], float | None]:
    """The planned trials and their common tau; TableError with every problem of the table."""
    frame = read_any_table(path)
    problems = Problems(path.name)
    needs_correlation = options.effect != "follow-up"
    needed = [*_NEEDED, *(["correlation"] if needs_correlation else [])]
    absent = [name for name in needed if name not in frame.columns]
    if absent:
        raise TableError(
            f"{path.name} has no column {', '.join(absent)}.",
            hint=f"A plan needs {', '.join(needed)}; with --interaction also modifier_sd or "
            "modifier_share (of yes and no); tau is optional.",
        )
    values: dict[str, pd.Series[float]] = {}
    for name in _NUMBERS:
        if name in frame.columns:
            values[name], wrong = as_numbers(frame[name])
            for row in frame.index[wrong]:
                problems.add(f"{name} is {frame.loc[row, name]!r}", at=f"row {row}",
                             fix="Give a number.")  # fmt: skip
    names = [text_of(value) for value in frame["trial"]]
    trials = []
    for place, row in enumerate(frame.index):
        cells = {name: float(column.iloc[place]) for name, column in values.items()}
        before = {*names[:place], *known}
        trial = _planned(names[place], cells, before, problems, f"row {row}", options)
        trials += [trial] if trial is not None else []
    if not known and len(frame) < 2:
        problems.add("it has fewer than two trials", fix="A pooled analysis needs two or more.")
    if options.interaction is not None and not any(t.modifier_variance for t in trials):
        problems.add(
            "no trial has a modifier_sd or a modifier_share",
            why="--interaction is learnt from the modifier's variation within trials.",
        )
    stated = sorted(set(values["tau"].dropna())) if "tau" in values else []
    if len(stated) > 1 or (stated and stated[0] < 0):
        problems.add(f"tau is {', '.join(f'{v:g}' for v in stated)}",
                     fix="It is one number of 0 or more: that between the trials.")  # fmt: skip
    if problems:
        raise TableError(f"{path.name} cannot be planned with.", problems=problems)
    return trials, stated[0] if stated else None


def _planned(
    name: str,
    cells: Mapping[str, float],
    before: set[str],
    problems: Problems,
    at: str,
    options: PlanOptions,
) -> PlannedTrial | None:
    """One trial, or None after its problems were noted."""
    count = len(problems)
    if not name:
        problems.add("trial is empty", at=at)
    elif name in before:
        problems.add(f"trial {name} is there twice", at=at, fix="A trial counts once.")
    for column in ("n_control", "n_active"):
        n = cells[column]
        if not (n >= 4 and float(n).is_integer()):
            problems.add(f"{column} is {n:g}", at=at, fix="Give 4 participants or more.")
    if not cells["sd"] > 0:
        problems.add(f"sd is {cells['sd']:g}", at=at, fix="Give the SD of the outcome, above 0.")
    correlation = cells.get("correlation", 0.0) if options.effect != "follow-up" else 0.0
    if not -1 < correlation < 1:
        problems.add(f"correlation is {correlation:g}", at=at,
                     why="It is that of follow-up and baseline, between -1 and 1.")  # fmt: skip
    sd, share = (cells.get(key, math.nan) for key in ("modifier_sd", "modifier_share"))
    if math.isfinite(sd) and math.isfinite(share):
        problems.add("modifier_sd and modifier_share are both given", at=at, fix="Give one.")
    if sd <= 0:
        problems.add(f"modifier_sd is {sd:g}", at=at, fix="It is above 0, or empty.")
    if math.isfinite(share) and not 0 < share < 1:
        problems.add(f"modifier_share is {share:g}", at=at, fix="It is between 0 and 1.")
    if len(problems) > count:
        return None
    variance = sd**2 if math.isfinite(sd) else share * (1 - share)
    return PlannedTrial(
        trial=name,
        n_control=int(cells["n_control"]),
        n_active=int(cells["n_active"]),
        sd=cells["sd"],
        correlation=correlation,
        modifier_variance=variance if math.isfinite(variance) else None,
        is_share=math.isfinite(share),
    )


# ------------------------------------------------------------------ an output of pool-trials


@dataclass(frozen=True, kw_only=True)
class _Finished:
    """The trials of an output as they were found, for the options of its analysis."""

    trials: tuple[PlannedTrial, ...]
    tau: float | None
    options: PlanOptions
    contrast: str
    warnings: list[str]

    @classmethod
    def read(cls, folder: Path, read: PlanInput, options: PlanOptions) -> _Finished:
        record = read_run_record(folder)
        effect = record["options"].get("effect", "")
        if record["command"] != "pool-trials" or effect not in DIFFERENCES:
            raise InputError(
                f"{folder.name} is not an output of pool-trials with a mean difference.",
                hint=f"A plan is for --effect {', '.join(DIFFERENCES)}; or give a table of trials.",
            )
        options = replace(options, effect=effect)
        missing = [name for name in _FILES[:2] if not (folder / name).is_file()]
        if missing:
            raise InputError(f"{folder.name} has no {', '.join(missing)}.")
        warnings = [*refuse_modified([folder / name for name in _FILES], read.accept)]
        effects = pd.read_csv(folder / _FILES[0], dtype={"trial": str, "level": str, "arm": str})
        effects = effects[effects["source"] == "harmonised"]
        own = effects[(effects["analysis"] == "trial") & effects["trial"].notna()]
        arms = sorted(own["arm"].unique())
        if (read.arm or arms[0]) not in arms or (read.arm is None and len(arms) > 1):
            raise UsageError(f"Which arm is planned for? The output has {', '.join(arms)}.",
                             hint="Say --arm NAME.")  # fmt: skip
        arm = read.arm or arms[0]
        own = own[own["arm"] == arm].set_index("trial")
        unknown = [str(name) for name in own.index[own["se"].isna() | own["n_active"].isna()]]
        if unknown:
            warnings.append(f"Without an estimate in the output, left out: {', '.join(unknown)}.")
        own = own.drop(index=unknown)
        interactions, contrast = _interactions(effects, arm, read.by, options)
        spreads: dict[str, float] = {}  # the SD of the outcome within the arms, where it is shown
        if (folder / _FILES[2]).is_file():
            rows = pd.read_csv(folder / _FILES[2], dtype={"trial": str, "arm": str})
            both = [arm, record["options"].get("control", "control")]
            rows = rows[rows["arm"].isin(both) & rows["outcome_sd"].notna()]
            squares = (rows["outcome_sd"] ** 2).groupby(rows["trial"])
            whole = squares.mean()[squares.size() == 2]
            spreads = {str(name): math.sqrt(value) for name, value in whole.items()}
        trials = [
            _finished_trial(str(name), row, interactions.get(str(name)), spreads, options)
            for name, row in own.to_dict("index").items()
        ]
        if not trials:
            raise InputError(f"{folder.name} has no trial with an estimate.")
        spread = pd.read_csv(folder / _FILES[1], dtype={"arm": str})
        tau = spread.loc[(spread["arm"] == arm) & spread["headline"], "tau"]
        return cls(
            trials=tuple(trials),
            tau=float(tau.iloc[0]) if len(tau) else None,
            options=options,
            contrast=contrast,
            warnings=warnings,
        )

    def one_more(self) -> PlannedTrial:
        """A planned trial like the median of these."""
        variances = [dict(trial.fixed) for trial in self.trials]
        modifier = [one["modifier"] for one in variances if "modifier" in one]
        return PlannedTrial(
            trial="one more",
            n_control=round(np.median([trial.n_control for trial in self.trials])),
            n_active=round(np.median([trial.n_active for trial in self.trials])),
            sd=float(np.median([trial.sd for trial in self.trials])),
            correlation=float(np.median([trial.correlation for trial in self.trials])),
            modifier_variance=float(np.median(modifier)) if modifier else None,
        )


def _interactions(
    effects: pd.DataFrame, arm: str, by: str | None, options: PlanOptions
) -> tuple[dict[str, float], str]:
    """The variance of each trial's interaction with ``by``, and what it is per."""
    if options.interaction is None:
        return {}, ""
    rows = effects[(effects["analysis"] == "interaction") & (effects["arm"] == arm)]
    rows = rows[rows["trial"].notna() & rows["se"].notna() & (rows["model"] == "two-stage")]
    known = sorted({str(term).partition(":")[2] for term in rows["term"]})
    name = by or (known[0] if len(known) == 1 else "")
    rows = rows[rows["term"] == f"treatment:{name}"]
    levels = sorted(set(rows["level"]))
    if len(levels) != 1:
        which = f"{name} has the contrasts {', '.join(levels)}" if levels else "no such modifier"
        raise UsageError(
            f"--interaction needs one modifier with one contrast: {which}.",
            hint=f"--by one of: {', '.join(known) or 'none in this output'}.",
        )
    variances = dict(zip(rows["trial"].map(str), rows["se"] ** 2, strict=True))
    return variances, f"{name}, {levels[0]}"


def _finished_trial(
    name: str,
    row: Mapping[Any, Any],
    interaction: float | None,
    spreads: Mapping[str, float],
    options: PlanOptions,
) -> PlannedTrial:
    """A finished trial: its variances as found, its SD and correlation without model error.

    InputError where the model's error would explain more than all of the residual variance.
    """
    n = int(row["n_control"]), int(row["n_active"])
    each = 1 / n[0] + 1 / n[1]
    measured, error = row["se"] ** 2 / each, (options.error_sd or 0.0) ** 2
    sd, correlation = math.sqrt(measured), 0.0
    if options.effect == "change":
        true, correlation = measured - 2 * error, 0.5
        sd = math.sqrt(max(true, 0.0))
    elif options.effect == "follow-up" or name not in spreads:
        true = measured - error
        sd = math.sqrt(max(true, 0.0))
    else:
        whole = max(spreads[name] ** 2, measured)
        slope = math.sqrt(1 - measured / whole) * whole  # the covariance of both visits
        own = whole - error
        true = own - slope**2 / own if own > 0 else -1.0
        sd, correlation = math.sqrt(max(own, 0.0)), slope / own if own > 0 else 0.0
    if true <= 0:
        raise InputError(
            f"An error SD of {options.error_sd:g} is larger than what is left of the outcome in "
            f"{name} (residual SD {math.sqrt(measured):.3g}).",
            hint="Is it in the outcome's unit, and of one measurement?",
        )
    fixed = [(TREATMENT, row["se"] ** 2)]
    if interaction is not None:
        fixed += [("treatment:modifier", interaction), ("modifier", row["se"] ** 2 / interaction)]
    return PlannedTrial(
        trial=name,
        n_control=n[0],
        n_active=n[1],
        sd=sd,
        correlation=correlation,
        fixed=tuple(fixed),
        error_ratio=true / measured if error else 1.0,
        existing=True,
    )


def _error_of(path: Path, measure: str) -> float:
    """The SD of the error of ``measure``: from ``evaluation.json``, or a column ``MEASURE_sd``.

    Of an evaluation that of all hearts about the reader's line.
    """
    found = None
    if path.suffix == ".json":
        errors = read_measurement_error(path).of(measure)
        line = None if errors is None else errors.line()
        found = None if line is None else line.residual_sd
    else:
        table = read_any_table(path)
        if f"{measure}_sd" in table.columns:
            values = as_numbers(table[f"{measure}_sd"])[0].dropna().to_numpy(dtype=float)
            found = float(np.sqrt(np.mean(values**2))) if len(values) else None
    if not found:
        raise InputError(
            f"{path.name} has no error of {measure}.",
            hint="Give --error-sd NUMBER, evaluation.json of `cardiometa evaluate`, or a table "
            f"with the column {measure}_sd.",
        )
    return found


def _page(plan: Plan) -> str:
    options = plan.options
    assumed = {
        "Analysis of each trial": options.effect,
        "Assumed effect": f"{options.difference:g}",
        "SD of the effect between trials (τ)": f"{plan.tau:g}",
        "Assumed interaction": "" if options.interaction is None else f"{options.interaction:g}",
        "SD of the interaction between trials": f"{options.tau_interaction:g}"
        * (options.interaction is not None),
        "SD of the model's error": f"{options.error_sd:g}" if options.error_sd else "",
    }
    facts = Table(
        title="What is assumed",
        columns=("Quantity", "Value"),
        rows=tuple((name, value) for name, value in assumed.items() if value),
        caption="SD and correlation in a table are of the outcome within an arm, without the "
        "model's error; errors of the two visits are taken as independent.",
    )
    return page_html(
        "Planned pooled analysis",
        "Power and expected width",
        [
            section("Power and width", "power", plan.tables()[0], _METHODS, *plan.warnings),
            section("Trials", "trials", plan.tables()[1], facts),
        ],
    )


_METHODS = (
    "By formula: a trial counts with 1 / (its variance + τ²), its variance being that of its own "
    "model, of an interaction divided by the variance of the modifier within the trial (Ensor et "
    "al. 2018; Riley et al. 2022). Power and width are averages over the τ² that analyses of such "
    "trials estimate by REML, so that few trials cost what they cost in the analysis. Simulated "
    "numbers, where asked for, are analyses of simulated participants by the code of pool-trials."
)


def plan_text(plan: Plan) -> str:
    """What the command prints."""
    return "\n\n".join(text_table(table) for table in plan.tables()) + "\n"
