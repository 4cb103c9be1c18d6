"""The options of an evaluation and of reading packages: declared, grouped and checked once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, ClassVar, Final, Literal

from ..cohort.models import TableOptions
from ..errors import UsageError
from ..measurement.measures import MEASURES
from ..options import Conflict, Needs, Option, Options, is_given

Against = Literal["labels", "reported"]
AGE_BANDS: Final = (18.0, 30.0, 40.0, 50.0, 60.0, 70.0)
_ANALYSIS = "Analysis"
_READING = "Blinded reading"

USER: Final = "set by --margin"
# Of differences in Dice between groups; there is no default, for want of a published one.
DICE: Final = "dice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """The largest bias that does not matter: in the measure's unit, or ``percent`` of the mean."""

    value: float
    percent: bool
    source: str

    def of(self, mean_reference: float) -> float:
        """The margin in the measure's unit, given the mean of the reference values."""
        return abs(mean_reference) * self.value / 100 if self.percent else self.value

    def __str__(self) -> str:
        """Where the margin comes from, as ``margin_source`` has it."""
        return f"{self.value:g}% of the mean, {self.source}" if self.percent else self.source


# What a second scan of the same heart changes. Volumes and mass: the upper end of the interstudy
# coefficients of variability of 20 healthy people, 20 with heart failure and 20 with hypertrophy
# (Grothues 2002, Am J Cardiol 90:29), for the right ventricle Grothues 2004 (Am Heart J 147:218),
# in per cent of the reference mean. Ejection fractions: 3 points, half of the reader-to-reader
# difference of Suinesiaputra 2015 (J Cardiovasc Magn Reson 17:63: 4.6 to 7.5 points), rounded.
DEFAULT_MARGINS: Final[Mapping[str, Margin]] = MappingProxyType(
    {
        name: Margin(value=value, percent=not name.endswith("_percent"), source=source)
        for name, value, source in (
            ("lv_edv_ml", 4.9, "Grothues 2002"),
            ("lv_esv_ml", 9.2, "Grothues 2002"),
            ("lv_mass_g", 4.8, "Grothues 2002"),
            ("lv_ef_percent", 3.0, "Suinesiaputra 2015"),
            ("rv_edv_ml", 6.2, "Grothues 2004"),
            ("rv_esv_ml", 14.1, "Grothues 2004"),
            ("rv_ef_percent", 3.0, "Suinesiaputra 2015"),
        )
    }
)


def margins_of(texts: Sequence[str], known: Sequence[str]) -> dict[str, Margin]:
    """The default margins with those of ``["lv_ef_percent=3", "lv_edv_ml=5%"]`` in their place.

    Raises UsageError for anything else.
    """
    margins = dict(DEFAULT_MARGINS)
    for text in texts:
        name, sign, number = text.partition("=")
        name = name.strip()
        percent = number.strip().endswith("%")
        try:
            value = float(number.strip().removesuffix("%"))
        except ValueError:
            value = -1.0
        if not sign or not 0 < value < float("inf"):
            raise UsageError(
                f"--margin {text} is not MEASURE=NUMBER.",
                hint="For example --margin lv_ef_percent=3, or --margin lv_edv_ml=5% of the mean.",
            )
        if name not in known:
            raise UsageError(
                f"--margin names the unknown measure {name}.", hint=f"Known: {', '.join(known)}."
            )
        margins[name] = Margin(value=value, percent=percent, source=USER)
    return margins


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOptions(Options):
    """Options of `evaluate`; ``against`` None where only repeat visits are compared.

    ``ci_level`` is of every interval but those of the equivalence tests, whose level is 90 (two
    one-sided tests at 5 %). ``min_cell`` does not apply with ``internal``.
    """

    against: Annotated[
        Against | None, Option(help="Compare with readers' labels or reported values.")
    ] = None
    repeat_visits: Annotated[
        tuple[str, ...] | None, Option(help="Two visits of the same heart (scan and rescan): A,B.")
    ] = None
    margin: Annotated[
        tuple[str, ...],
        Option(
            help="Equivalence margin, MEASURE=VALUE or MEASURE=PERCENT% of the mean; dice=0.02 for "
            "differences in Dice between groups.",
            group=_ANALYSIS,
            repeat=True,
        ),
    ] = ()
    age_bands: Annotated[
        tuple[float, ...],
        Option(help="Lower ends of age bands in years; the last is open.", group=_ANALYSIS),
    ] = AGE_BANDS
    min_cell: Annotated[
        int, Option(help="Suppress counts below this number.", group=_ANALYSIS, minimum=1)
    ] = 10
    ci_level: float = 95.0
    bootstrap: Annotated[
        int, Option(help="Bootstrap samples of participants.", group=_ANALYSIS, minimum=0)
    ] = 2000
    seed: Annotated[int, Option(help="Random seed.", group=_ANALYSIS, minimum=0)] = 1
    internal: Annotated[
        bool,
        Option(
            help="Include individual-level data in the report (marked as internal).",
            group=_ANALYSIS,
        ),
    ] = False

    RULES: ClassVar[tuple[Conflict | Needs, ...]] = ()

    def other_problems(self) -> list[str]:
        """Visits and age bands."""
        problems, pair, bands = [], self.repeat_visits, self.age_bands
        if pair is not None and (len(pair) != 2 or pair[0] == pair[1]):
            problems.append(
                f"--repeat-visits {','.join(pair)} is not two visits. For example scan1,scan2."
            )
        if (
            not bands
            or any(b <= a for a, b in pairwise(bands))
            or not all(map(math.isfinite, bands))
        ):
            problems.append("--age-bands must be increasing ages. For example 18,30,40,50.")
        return problems

    @property
    def margins(self) -> Mapping[str, Margin]:
        """The margins, the user's in place of the defaults; UsageError."""
        return margins_of(self.margin, [*(measure.name for measure in MEASURES), DICE])

    @property
    def least(self) -> int:
        """Fewest participants about whom a number is released."""
        return 1 if self.internal else self.min_cell


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingOptions(Options):
    """Readers' labels, and blinded reading packages."""

    out: Annotated[Path | None, Option(help="Folder for the results.", metavar="FOLDER")] = None
    labels: Annotated[
        Path | None,
        Option(
            help="Folder (trial/participant/visit, or participant) or CSV of readers' labels.",
            exists="any",
        ),
    ] = None
    label_order: Annotated[
        Literal["cardiometa", "acdc"],
        Option(help="cardiometa: 1 LV, 2 myocardium, 3 RV; acdc: 1 RV, 3 LV."),
    ] = "cardiometa"
    missing: Annotated[
        tuple[str, ...],
        Option(help="Codes for missing values: -99,999 (or COLUMN=999).", metavar="CODES"),
    ] = ()
    accept: Annotated[
        tuple[str, ...],
        Option(help="Continue over these checks of the input; the report says so."),
    ] = ()
    export_for_reading: Annotated[
        Path | None,
        Option(help="Export a blinded reading package.", group=_READING, metavar="FOLDER"),
    ] = None
    cohort: Annotated[
        Path | None,
        Option(help="Cohort with the images of the package.", group=_READING, exists="any"),
    ] = None
    key: Annotated[
        Path | None,
        Option(help="key.csv of a package, kept outside it.", group=_READING, metavar="FILE"),
    ] = None
    share: Annotated[
        float, Option(help="Percent of scans without flags to read as well.", group=_READING)
    ] = 5.0
    without_masks: Annotated[
        bool, Option(help="Export images without the model's masks.", group=_READING)
    ] = False
    import_reading: Annotated[
        Path | None,
        Option(
            help="Import a completed reading package.",
            group=_READING,
            exists="any",
            metavar="FOLDER",
        ),
    ] = None
    import_review: Annotated[
        Path | None,
        Option(
            help="Decisions and masks of `review`: rates by group, agreement of the readers.",
            group=_READING,
            exists="folder",
            metavar="FOLDER",
        ),
    ] = None

    RULES: ClassVar[tuple[Conflict | Needs, ...]] = (
        Conflict({"export_for_reading": is_given}, {"import_reading": is_given}),
        Needs({"export_for_reading": is_given}, ("key", "cohort")),
        Needs({"import_reading": is_given}, ("key", "out")),
        Conflict({"import_review": is_given}, {"export_for_reading": is_given}),
        Conflict({"import_review": is_given}, {"import_reading": is_given}),
        Needs({"import_review": is_given}, ("out",)),
    )

    @property
    def table(self) -> TableOptions:
        """How the table of OUT is read."""
        return TableOptions(missing=self.missing, accept=self.accept)
