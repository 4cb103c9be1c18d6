"""The tables of the segment report, made from the cohort's frames."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..records import Table
from .flow_figure import STAGE_NAMES, STAGES, UNITS, Flow
from .names import ABBREVIATIONS, measure_label
from .numbers import DASH, shown, shown_count

if TYPE_CHECKING:
    import pandas as pd

    from ..cohort.records import Cohort
    from ..segmentation.card import ModelCard
    from .gallery import FlagCount

# Contract, 4: nothing is told about fewer people than this.
MIN_CELL: Final = 10

SUMMARY_MEASURES: Final = (  # column, unit, decimals
    ("age_years", "years", 0),
    ("lv_edv_ml", "mL", 0),
    ("lv_esv_ml", "mL", 0),
    ("lv_ef_percent", "%", 1),
    ("lv_mass_g", "g", 0),
    ("rv_edv_ml", "mL", 0),
    ("rv_esv_ml", "mL", 0),
    ("rv_ef_percent", "%", 1),
)


def flow_table(flow: Flow) -> Table:
    """The counts of flow.json; a dash where nobody stated one."""
    return Table(
        title="Trials, participants and scans at each stage.",
        columns=("", *(unit.capitalize() for unit in UNITS)),
        rows=tuple(
            (STAGE_NAMES[stage], *(shown_count(flow.get(unit, {}).get(stage)) for unit in UNITS))
            for stage in STAGES
        ),
    )


def summary_table(measurements: pd.DataFrame) -> Table:
    """Mean ± SD of the main measures by trial and visit, failed scans left out."""
    rows = measurements[measurements["status"] != "failed"]
    shown_measures = [
        entry for entry in SUMMARY_MEASURES if entry[0] in rows and _numbers(rows[entry[0]]).size
    ]
    lines = [
        _summary_line(str(trial), str(visit), group, shown_measures)
        for (trial, visit), group in rows.groupby(["trial", "visit"], sort=True)
    ]
    if len(rows["trial"].unique()) > 1:
        lines += [
            _summary_line("all trials", str(visit), group, shown_measures)
            for visit, group in rows.groupby("visit", sort=True)
        ]
    return Table(
        title="Main measures by trial and visit.",
        columns=(
            "Trial",
            "Visit",
            "Scans",
            "Female",
            *(measure_label(name, unit) for name, unit, _ in shown_measures),
        ),
        rows=tuple(lines),
        caption=(
            "Mean ± standard deviation of the scans whose status is ok or review; the number of "
            "scans with a value stands in brackets where it is smaller. Female: number (percent) "
            f"of those whose sex is known. {ABBREVIATIONS}"
        ),
    )


def _numbers(column: pd.Series[Any]) -> Any:
    import pandas as pd

    values = pd.to_numeric(column, errors="coerce").astype(float).to_numpy()
    return values[values == values]  # noqa: PLR0124 - NaN is the value that differs from itself


def _summary_line(
    trial: str, visit: str, group: pd.DataFrame, measures: Sequence[tuple[str, str, int]]
) -> tuple[str, ...]:
    sexes = [sex for sex in group["sex"] if sex in ("male", "female")] if "sex" in group else []
    female = sexes.count("female")
    share = f"{female} ({100 * female / len(sexes):.0f}%)" if sexes else DASH
    cells = []
    for name, _, decimals in measures:
        values = _numbers(group[name])
        if not len(values):
            cells.append(DASH)
            continue
        spread = f" ± {shown(float(values.std(ddof=1)), decimals)}" if len(values) > 1 else ""
        fewer = f" [{len(values)}]" if len(values) < len(group) else ""
        cells.append(f"{shown(float(values.mean()), decimals)}{spread}{fewer}")
    return (trial, visit, shown_count(len(group)), share, *cells)


def status_table(measurements: pd.DataFrame) -> Table:
    """How many scans are ok, for review and failed, by trial, arm, sex and ethnicity."""
    lines = [_status_line("All scans", "", measurements)]
    for column, name in (
        ("trial", "Trial"),
        ("arm", "Arm"),
        ("sex", "Sex"),
        ("ethnicity", "Ethnicity"),
        ("vendor", "Vendor"),
    ):
        values = _levels(measurements, column)
        if values is not None:
            lines += [
                _status_line(name, str(level), group)
                for level, group in measurements.groupby(values, sort=True)
            ]
    return Table(
        title="Scans by status.",
        columns=("Group", "", "Scans", "ok", "review", "failed"),
        rows=tuple(lines),
        caption="Rates that differ between arms or groups can bias what is computed from them.",
    )


def _status_line(group: str, level: str, rows: pd.DataFrame) -> tuple[str, ...]:
    total = len(rows)
    counts = [int((rows["status"] == status).sum()) for status in ("ok", "review", "failed")]
    shares = [f"{n} ({100 * n / total:.1f}%)" if total else "0" for n in counts]
    return (group, level, shown_count(total), *shares)


def correction_table(measurements: pd.DataFrame) -> Table | None:
    """Scans corrected by a reader and scans that failed, by arm, sex and ethnicity.

    None where no scan was corrected. A group of fewer than `MIN_CELL` people has no numbers.
    """
    if not corrected_rows(measurements).any():
        return None
    lines = [_correction_line("All scans", "", measurements)]
    for column, name in (("arm", "Arm"), ("sex", "Sex"), ("ethnicity", "Ethnicity")):
        values = _levels(measurements, column)
        if values is not None:
            lines += [
                _correction_line(name, str(level), group)
                for level, group in measurements.groupby(values, sort=True)
            ]
    return Table(
        title="Scans corrected by a reader, and failed ones, by group.",
        columns=("Group", "", "Scans", "Corrected", "95 % CI", "Failed", "Note"),
        rows=tuple(lines),
        caption=(
            "Corrected: the measures are those of a mask that a reader changed; number (percent) "
            "with Wilson's interval. Where readers mend one group more often than another, a "
            "difference between them may be one between readers and model. "
            f"Groups of fewer than {MIN_CELL} people are not told."
        ),
    )


def _levels(measurements: pd.DataFrame, column: str) -> pd.Series[Any] | None:
    """The values of a column with ``unknown`` for missing ones; None where all are alike."""
    if column not in measurements:
        return None
    values = measurements[column].astype(object)
    values = values.where(values.notna() & (values != ""), "unknown").astype(str)
    return values if len(values.unique()) > 1 else None


def corrected_rows(rows: pd.DataFrame) -> pd.Series[Any]:
    """True for the rows of ``measurements.csv`` that stand on a reader's mask."""
    if "flags" not in rows:
        return rows["status"] == ""
    return rows["flags"].map(lambda text: "corrected" in str(text or "").split(";")).astype(bool)


def _correction_line(group: str, level: str, rows: pd.DataFrame) -> tuple[str, ...]:
    people = len(rows[["trial", "participant_id"]].drop_duplicates())
    if people < MIN_CELL:
        return (group, level, "", "", "", "", f"n<{MIN_CELL}")
    total = len(rows)
    corrected, failed = int(corrected_rows(rows).sum()), int((rows["status"] == "failed").sum())
    low, high = wilson_percent(corrected, total)
    return (
        group,
        level,
        shown_count(total),
        f"{corrected} ({100 * corrected / total:.1f}%)",
        f"{shown(low, 1)} to {shown(high, 1)}",
        f"{failed} ({100 * failed / total:.1f}%)",
        "",
    )


def wilson_percent(count: int, total: int) -> tuple[float, float]:
    """95 % score interval of a proportion, in percent (Wilson 1927, JASA 22:209)."""
    z2 = 1.959963984540054**2
    share = count / total
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = math.sqrt(z2 * (share * (1 - share) / total + z2 / (4 * total**2))) / (1 + z2 / total)
    return 100 * max(middle - half, 0.0), 100 * min(middle + half, 1.0)


def flag_table(flags: Iterable[FlagCount], scans: int) -> Table:
    """Flags by code: how many scans, and one sentence as an example."""
    return Table(
        title="Flags.",
        columns=("Code", "Level", "Scans", "Example"),
        rows=tuple(
            (
                flag.code,
                flag.level,
                f"{flag.scans} ({100 * flag.scans / scans:.1f}%)" if scans else str(flag.scans),
                flag.example,
            )
            for flag in flags
        ),
        caption="reject: the scan failed; review: a person should look; info: for the record.",
    )


def exclusion_table(exclusions: pd.DataFrame) -> Table:
    """Exclusions by stage and code: exclusions.csv has each of them."""
    lines = [
        (str(stage), str(code), shown_count(len(group)), str(group["sentence"].iloc[0]))
        for (stage, code), group in exclusions.groupby(["stage", "code"], sort=True)
    ]
    return Table(
        title="Scans and participants that are not analysed.",
        columns=("Stage", "Code", "Number", "Example"),
        rows=tuple(lines),
        caption="Each one is in exclusions.csv.",
    )


def trials_table(cohort: Cohort) -> Table:
    """What the cohort's definition says of each trial."""

    def yes(value: bool | None) -> str:  # noqa: FBT001 - a cell's value
        return DASH if value is None else "yes" if value else "no"

    rows = [
        (
            trial.name,
            trial.registry_id or DASH,
            trial.design or DASH,
            yes(trial.randomised),
            shown_count(trial.n_randomised),
            trial.papillary or DASH,
            trial.healthy_rule or DASH,
            trial.permission or DASH,
        )
        for trial in cohort.trials
    ]
    columns = (
        "Trial",
        "Registry",
        "Design",
        "Randomised",
        "Number randomised",
        "Papillary muscles in reported values",
        "Rule for healthy",
        "Permission",
    )
    stated = [at for at in range(len(columns)) if any(row[at] != DASH for row in rows)]
    return Table(
        title="Trials as the cohort's definition states them.",
        columns=tuple(columns[at] for at in stated),
        rows=tuple(tuple(row[at] for at in stated) for row in rows),
    )


def card_facts(card: ModelCard, model_sha256: str) -> tuple[tuple[str, str], ...]:
    """What the model's card says, as names and values."""
    document: Mapping[str, Any] = card.document
    training = document.get("training") or {}
    held_out = training.get("held_out") or ()
    accuracy = document.get("accuracy") or {}
    dice = ", ".join(
        f"{name} {accuracy[key]:.3f}"
        for key, name in (("lv_mean", "LV"), ("myo_mean", "myocardium"), ("rv_mean", "RV"))
        if isinstance(accuracy.get(key), int | float)
    )
    facts = [
        ("Model", card.model_id),
        ("SHA-256 of the model file", model_sha256),
        ("Description", str(document.get("description", ""))),
        ("Use", str(document.get("intended_use", ""))),
        ("Licence of the weights", str(document.get("licence", ""))),
        ("Training data", "; ".join(str(line) for line in training.get("data") or ())),
        ("Held out, never trained on", f"{len(held_out)} patients" if held_out else ""),
        ("Dice on those held out", f"{dice} (mean of ED and ES)" if dice else ""),
        ("Vendors with RV evidence", ", ".join(card.rv_vendors) or "none"),
    ]
    return tuple((name, value) for name, value in facts if value)
