"""The options of an evaluation and of reading packages: declared, grouped and checked once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal

from ..options import Conflict, Needs, Option, Options, is_given

if TYPE_CHECKING:
    from .agreement import Bootstrap, Margin

Against = Literal["labels", "reported"]
AGE_BANDS: Final = (18.0, 30.0, 40.0, 50.0, 60.0, 70.0)
_ANALYSIS = "Analysis"
_READING = "Blinded reading"


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
        """The margins of `agreement`, the user's in place of the defaults; UsageError."""
        from ..measurement.measures import MEASURES
        from .agreement import DICE, margins_of

        return margins_of(self.margin, [*(measure.name for measure in MEASURES), DICE])

    @property
    def least(self) -> int:
        """Fewest participants about whom a number is released."""
        return 1 if self.internal else self.min_cell

    @property
    def draws(self) -> Bootstrap:
        """How intervals are bootstrapped."""
        from .agreement import Bootstrap

        return Bootstrap(samples=self.bootstrap, seed=self.seed, level=self.ci_level)


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
    accept: Annotated[
        tuple[Literal["modified-input"], ...],
        Option(help="Continue with a table that was changed by hand."),
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

    RULES: ClassVar[tuple[Conflict | Needs, ...]] = (
        Conflict({"export_for_reading": is_given}, {"import_reading": is_given}),
        Needs({"export_for_reading": is_given}, ("key", "cohort")),
        Needs({"import_reading": is_given}, ("key", "out")),
    )
