"""The records of a cohort: its definition, options, what was read, tables."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from ..errors import Problem, nearest
from ..options import Conflict, Needs, Option, Options, is_given, options_of
from ..records import ScanKey, ScanSource
from ..validation import STRICT, Count, Text

if TYPE_CHECKING:
    import pandas as pd


Papillary = Literal["blood-pool", "myocardium"]
_IDS = "Images and ids"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnRule:
    """How one harmonised column is made from a column of the user's.

    ``map`` turns codes into harmonised values, None being "unknown"; ``unit`` is the unit the
    column is in (None: the one in the harmonised name); ``scheme`` names a set of ethnic groups.
    """

    __pydantic_config__ = STRICT

    name: str
    column: str
    map: Mapping[str, Any] | None = None
    unit: str | None = None
    scheme: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialDefinition:
    """One trial of a cohort, as its definition states it; None is "not said", never guessed.

    ``scans`` None: the scans are found in folders ``participant/visit/images`` below ``root``.
    """

    __pydantic_config__ = STRICT

    name: str
    root: Path = Path()
    participants: Path | None = None
    scans: Path | None = None
    randomised: bool | None = None
    papillary: Papillary | None = None
    carry: tuple[str, ...] = ()
    healthy_rule: Text | None = None
    columns: Mapping[str, ColumnRule] = field(default_factory=dict)
    registry_id: Text | None = None
    design: Text | None = None
    n_sought: Count | None = None
    n_randomised: Count | None = None
    cluster: Text | None = None
    strata: tuple[str, ...] = ()
    permission: Text | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotObtained:
    """A trial that was sought but not obtained."""

    __pydantic_config__ = STRICT

    trial: Text
    reason: Text
    n_participants: Count | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortDefinition:
    """The content of a cohort.toml; ``sha256`` is of its bytes."""

    name: str
    trials: tuple[TrialDefinition, ...]
    not_obtained: tuple[NotObtained, ...] = ()
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortOptions(Options):
    """How to read a cohort: ``roots`` are ``TRIAL=DIR``, the three ids name a single scan."""

    roots: Annotated[
        tuple[str, ...],
        Option(
            flag="--root",
            help="TRIAL=DIR: where the image paths of a trial start.",
            group=_IDS,
            repeat=True,
        ),
    ] = ()
    trial_id: Annotated[
        str | None, Option(help="Trial id of a single scan (default: single).", group=_IDS)
    ] = None
    participant_id: Annotated[
        str | None, Option(help="Participant id of a single scan (default: scan-1).", group=_IDS)
    ] = None
    visit_id: Annotated[
        str | None, Option(help="Visit of a single scan (default: baseline).", group=_IDS)
    ] = None
    ids_are_pseudonyms: Annotated[
        bool, Option(help="Confirm that folder names are pseudonyms.", group=_IDS)
    ] = False
    pseudonymise_key: Annotated[
        Path | None,
        Option(
            flag="--pseudonymise",
            help="Key file: ids are replaced by a keyed HMAC.",
            group=_IDS,
            metavar="FILE",
        ),
    ] = None

    @property
    def root_overrides(self) -> dict[str, Path]:
        """The folder in which a trial's image paths start, by trial."""
        return {trial: Path(folder) for trial, _, folder in (r.partition("=") for r in self.roots)}

    def other_problems(self) -> list[str]:
        """Roots that are not ``TRIAL=DIR``."""
        return [
            f"--root {text} is not TRIAL=DIR. For example --root ALPHA=/images."
            for text in self.roots
            if not all(text.partition("="))
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortScan:
    """One scan to segment; ``reported`` has the trial's own ``reported_*`` values."""

    key: ScanKey
    source: ScanSource
    visit_day: float | None = None
    reported: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """A pooled dataset, checked: every id is safe as a path and every scan has a participant.

    ``participants``: one row per participant, sorted, columns `PARTICIPANT_COLUMNS` then
    ``carried``; unknown is NaN (numbers), None (text, booleans). ``visits_without_images``: rows
    of a scans table whose image cells are blank. ``input_sha256`` has each table's hash, by
    ``<trial>.participants``. ``notes``: lines for the log; ``warnings``: sentences to look at.
    ``key_check`` tells the key of ``--pseudonymise`` from another without telling it, None without
    one; ``withdrawn`` counts participants erased from the output, who have no rows here.
    ``same_person``: scans of several participants whose headers name one person.
    """

    name: str
    trials: tuple[TrialDefinition, ...]
    participants: pd.DataFrame
    scans: tuple[CohortScan, ...]
    visits_without_images: tuple[ScanKey, ...] = ()
    not_obtained: tuple[NotObtained, ...] = ()
    carried: tuple[str, ...] = ()
    reported: tuple[str, ...] = ()
    input_sha256: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    key_check: str | None = None
    withdrawn: int = 0
    same_person: tuple[tuple[ScanKey, ...], ...] = ()


@dataclass(slots=True, kw_only=True)
class ReadingLog:
    """What is found while a cohort is read: ``notes`` for the log, ``warnings`` to look at.

    ``without_images`` are visits whose image cells are blank, ``reported`` the names of columns.
    With ``names_persons`` folders are named after persons: no message may contain an id.
    """

    scans: list[CohortScan] = field(default_factory=list)
    without_images: list[ScanKey] = field(default_factory=list)
    reported: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    names_persons: bool = False


PARTICIPANT_COLUMNS = (
    "trial",
    "participant_id",
    "age_years",
    "sex",
    "ethnicity",
    "height_cm",
    "weight_kg",
    "arm",
    "randomised",
    "healthy",
    "death_day",
    "withdrawal_day",
    "reason_no_scan",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortTables:
    """The joined tables of ``segment``: three frames in the contract's column order, and the flow.

    ``measurements`` one row per scan, ``participants`` one row per participant, ``exclusions``
    (stage, trial, participant_id, visit, code, sentence); ``flow`` is the value of flow.json;
    ``segments`` one row per scan and AHA segment, None where it is not made.
    """

    measurements: pd.DataFrame
    participants: pd.DataFrame
    exclusions: pd.DataFrame
    flow: Mapping[str, Mapping[str, int | None]]
    segments: pd.DataFrame | None = None


# The checks of a table's values (`plausibility`) with the codes of --accept.
CHECKS: Mapping[str, str] = {
    "missing-code": "numbers that look like codes for a missing value are used as values",
    "ambiguous-missing": "a code declared with --missing is also an ordinary value of the column",
    "impossible-value": "values that the measure cannot have are used",
    "unit": "the values do not fit the measure's unit",
    "units-differ": "the unit seems to differ between trials",
    "esv-above-edv": "end-systolic volumes are above end-diastolic ones",
    "spelling": "names that differ only in spelling are taken as different",
    "visit-order": "follow-up scans are dated before the baseline scan",
    "two-people": "the sex, or the age by decades, changes within a participant",
    "after-death": "scans or events are later than the participant's death",
    "modified-input": "the input was changed after a command had written it",
}
_COLUMNS = "Columns of the table"
_FORMAT = "Format of the table"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFormat(Options):
    """How the cells of a file are to be read; None is found out from the file, and reported."""

    decimal: Annotated[
        Literal[".", ","] | None,
        Option(help="Decimal sign of numbers (default: found in the cells).", group=_FORMAT),
    ] = None
    encoding: Annotated[
        str | None,
        Option(help="Encoding of a text file, such as utf-8 or cp1252.", group=_FORMAT),
    ] = None
    separator: Annotated[
        str | None, Option(help="Sign between the cells of a text file, or tab.", group=_FORMAT)
    ] = None
    sheet: Annotated[str | None, Option(help="Sheet of a spreadsheet.", group=_FORMAT)] = None

    def other_problems(self) -> list[str]:
        """An encoding that Python does not know, a separator of several signs."""
        problems = []
        if self.encoding is not None:
            try:
                codecs.lookup(self.encoding)
            except LookupError:
                problems.append(f"--encoding {self.encoding} is not known. For example utf-8.")
        if self.separator is not None and len(self.separator) != 1 and self.separator != "tab":
            problems.append(f"--separator {self.separator} is not a single sign, or tab.")
        return problems


@dataclass(frozen=True, slots=True, kw_only=True)
class TableOptions(TableFormat):
    """How to read a table for the statistics commands.

    ``trial`` … ``visit_day`` name the user's columns (None: the harmonised name or a usual one,
    where exactly one column fits); ``columns`` is the ``[columns]`` table of ``--config``;
    ``numeric`` are further columns that the command needs as numbers (covariates, ``--baseline``,
    ``--time``); ``status`` ``ok`` excludes the rows marked for review.

    ``needed`` are the columns that the analysis uses, by harmonised or own name; None is all of
    them. A recognised column that is not among them is left out, with a notice, where its cells
    cannot be understood. Where ``trial`` is needed, a table without a trial column is refused
    unless ``single_trial`` names its trial. ``baseline_visit`` and ``time`` (a column of days) are
    for the checks of `plausibility`, which are made of what is ``needed`` (``check_all``: of all);
    ``roles`` are the measures of columns whose names do not say them (``--baseline``).
    """

    trial: Annotated[str | None, Option(help="Column of the trial.", group=_COLUMNS)] = None
    single_trial: Annotated[
        str | None, Option(help="All rows are of this one trial.", group=_COLUMNS, metavar="NAME")
    ] = None
    participant: Annotated[
        str | None, Option(help="Column of the participant id.", group=_COLUMNS)
    ] = None
    age: Annotated[str | None, Option(help="Column of the age in years.", group=_COLUMNS)] = None
    sex: Annotated[str | None, Option(help="Column of the sex.", group=_COLUMNS)] = None
    ethnicity: Annotated[str | None, Option(help="Column of the ethnicity.", group=_COLUMNS)] = None
    arm: Annotated[str | None, Option(help="Column of the randomised arm.", group=_COLUMNS)] = None
    visit: Annotated[str | None, Option(help="Column of the visit.", group=_COLUMNS)] = None
    visit_day: Annotated[
        str | None,
        Option(help="Column of the day of the visit from randomisation.", group=_COLUMNS),
    ] = None
    missing: Annotated[
        tuple[str, ...],
        Option(
            help="Codes for missing values: -99,999 (or LVEF=999 for one column).",
            group=_COLUMNS,
            metavar="CODES",
        ),
    ] = ()
    accept: Annotated[
        tuple[str, ...],
        Option(help="Continue over these checks of the input; the report says so.", group=_COLUMNS),
    ] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)
    numeric: tuple[str, ...] = ()
    status: Literal["all", "ok"] = "all"
    needed: tuple[str, ...] | None = None
    check_all: bool = False
    baseline_visit: str = "baseline"
    time: str | None = None
    roles: Mapping[str, str] = field(default_factory=dict)

    RULES: ClassVar[tuple[Conflict | Needs, ...]] = (
        Conflict({"trial": is_given}, {"single_trial": is_given}),
    )

    def other_problems(self) -> list[str]:
        """Those of the format, and codes of --accept that no check has."""
        unknown = [code for code in self.accept if code not in CHECKS]
        known = [f"--accept {code} is not known. {nearest(code, CHECKS)}" for code in unknown]
        return [*TableFormat.other_problems(self), *known]

    def document(self) -> dict[str, Any]:
        """What decides how the table is read, for the record of a run."""
        names = [one.field for one in options_of(type(self))]
        given = {name: getattr(self, name) for name in names}
        return {
            "columns": self.columns,
            "column_names": {n: value for n, value in given.items() if value not in (None, ())},
        }
