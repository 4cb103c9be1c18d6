"""What ``segment`` leaves beside its table: the roster, the account, what the cohort states."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..cohort.records import TableOptions
from ..errors import InputError
from ..files import RECORD_NAME, read_json

if TYPE_CHECKING:
    import pandas as pd

    from ..pooling.stated import TrialFacts

PARTICIPANTS_NAME = "participants.csv"
FLOW_NAME = "flow.json"
DICTIONARY_NAME = "measurements.json"


def roster_path(table: Path) -> Path:
    """Where ``participants.csv`` of an output of ``segment`` lies."""
    return (table if table.is_dir() else table.parent) / PARTICIPANTS_NAME


def roster_of(table: Path, options: TableOptions) -> pd.DataFrame | None:
    """``participants.csv`` beside the measurements of ``segment``; None for any other table."""
    from ..cohort.read_table import read_any_table

    ours = table.is_dir() or table.name == "measurements.csv"
    path = roster_path(table)
    if not (ours and path.is_file() and (path.parent / RECORD_NAME).is_file()):
        return None
    roster = read_any_table(path)
    if not {"trial", "participant_id", "arm"} <= set(roster.columns):
        raise InputError(
            f"{PARTICIPANTS_NAME} beside the measurements lacks trial, participant_id or arm.",
            hint="Make it again with `cardiometa segment`, or give the table alone elsewhere.",
        )
    return roster.assign(arm=_recoded_arm(roster, options))


def _recoded_arm(roster: pd.DataFrame, options: TableOptions) -> pd.Series:
    """The roster's arms by the same rule as the table's, where ``--config`` or --arm has one."""
    from ..cohort.coding import harmonise
    from ..cohort.columns import parse_columns
    from ..cohort.records import ColumnRule

    rules, _ = parse_columns(
        {name: rule for name, rule in options.columns.items() if name == "arm"},
        "--config",
        ("arm",),
    )
    rule = rules.get("arm", ColumnRule(name="arm", column=options.arm or "arm"))
    column = options.arm or rule.column
    if column not in roster.columns:
        column = "arm"
    values, problems = harmonise(roster[column], rule, PARTICIPANTS_NAME)
    if problems:
        raise InputError(f"{PARTICIPANTS_NAME} cannot be used.", problems=problems)
    return values


def facts_of_trials(table: Path) -> dict[str, TrialFacts]:
    """What the cohort's definition stated, where ``segment`` left it beside its table."""
    from ..pooling.stated import TrialFacts

    path = (table if table.is_dir() else table.parent) / DICTIONARY_NAME
    document = read_json(path) if path.is_file() else None
    trials = document.get("trials") if isinstance(document, dict) else None
    found = {}
    for name, stated in trials.items() if isinstance(trials, dict) else ():
        if isinstance(stated, dict):
            design, count = stated.get("design"), stated.get("n_randomised")
            found[str(name)] = TrialFacts(
                design=design if isinstance(design, str) else "",
                n_randomised=count if isinstance(count, int) else None,
            )
    return found


def sought(table: Path) -> tuple[int | None, int | None]:
    """Trials and participants sought, from ``flow.json`` of an output of ``segment``."""
    path = (table if table.is_dir() else table.parent) / FLOW_NAME
    flow = read_json(path) if path.is_file() else None
    found: list[int | None] = []
    for unit in ("trials", "participants"):
        counts = flow.get(unit) if isinstance(flow, dict) else None
        count = counts.get("sought") if isinstance(counts, dict) else None
        found.append(count if isinstance(count, int) else None)
    return found[0], found[1]
