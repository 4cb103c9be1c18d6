"""What `segment` wrote next to its table: participants, the trials' facts, the flow, healthy rules.

A table of another name, or one that was copied away, is the user's own and has none of these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import InputError, Problems
from ..files import RECORD_NAME, read_json
from ..measurement.radiomics import TABLE_NAME as RADIOMICS_NAME
from .analysis_table import MEASUREMENTS_NAME, column_rules, joined_rules
from .models import ColumnRule, TableOptions
from .read_table import read_any_table
from .recode import harmonise

PARTICIPANTS_NAME = "participants.csv"
_FLOW_NAME = "flow.json"
_DICTIONARY_NAME = "measurements.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentOutput:
    """The files of the statistics commands' input; ``folder`` None where no command wrote them."""

    files: tuple[Path, ...]
    folder: Path | None

    @classmethod
    def of(cls, tables: Sequence[Path]) -> SegmentOutput:
        """The output of which ``tables`` is the folder or the table."""
        files = tuple(path / MEASUREMENTS_NAME if path.is_dir() else path for path in tables)
        is_output = len(files) == 1 and files[0].name == MEASUREMENTS_NAME
        return cls(files=files, folder=files[0].parent if is_output else None)

    def roster(self, options: TableOptions) -> pd.DataFrame | None:
        """``participants.csv`` with its arms harmonised; None for any other table."""
        if self.roster_file is None:
            return None
        roster = read_any_table(self.roster_file)
        if not {"trial", "participant_id", "arm"} <= set(roster.columns):
            raise InputError(
                f"{PARTICIPANTS_NAME} of the output lacks trial, participant_id or arm.",
                hint="Make it again with `cardiometa segment`, or copy the table to another "
                "folder.",
            )
        # Its arms by the same rule as the table's, where --config or --arm has one.
        rules = column_rules(options, Problems("--config"))
        rule = rules.get("arm", ColumnRule(name="arm", column="arm"))
        problems = Problems(PARTICIPANTS_NAME)
        arms = roster[rule.column if rule.column in roster.columns else "arm"]
        values = harmonise(arms, rule, problems)
        if problems:
            raise InputError(f"{PARTICIPANTS_NAME} cannot be used.", problems=problems)
        return roster.assign(arm=values)

    @property
    def roster_file(self) -> Path | None:
        """``participants.csv`` of a finished output."""
        if self.folder is None or not (self.folder / RECORD_NAME).is_file():
            return None
        path = self.folder / PARTICIPANTS_NAME
        return path if path.is_file() else None

    @property
    def read_files(self) -> tuple[Path, ...]:
        """Every file that decides a result."""
        features = [] if self.folder is None else [self.folder / RADIOMICS_NAME]
        return (
            *self.files,
            *filter(None, [self.roster_file]),
            *(p for p in features if p.is_file()),
        )

    @property
    def trials(self) -> dict[str, Mapping[str, Any]]:
        """What the cohort's definition states of each trial."""
        trials = self._document(_DICTIONARY_NAME).get("trials")
        if not isinstance(trials, dict):
            return {}
        return {str(name): facts for name, facts in trials.items() if isinstance(facts, dict)}

    @property
    def healthy_rule(self) -> str:
        """The trials' own healthy rules, one for all or one by trial."""
        stated = {name: facts.get("healthy_rule") for name, facts in self.trials.items()}
        rules = {name: rule for name, rule in stated.items() if isinstance(rule, str)}
        return joined_rules(rules, len(rules))

    def sought(self, unit: str) -> int | None:
        """Trials or participants sought."""
        counts = self._document(_FLOW_NAME).get(unit)
        count = counts.get("sought") if isinstance(counts, dict) else None
        return count if isinstance(count, int) else None

    def _document(self, name: str) -> dict[str, Any]:
        path = None if self.folder is None else self.folder / name
        document = read_json(path) if path is not None and path.is_file() else None
        return document if isinstance(document, dict) else {}
