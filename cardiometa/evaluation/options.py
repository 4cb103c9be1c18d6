"""The options of an evaluation: declared, grouped and checked once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal

from ..options import Conflict, Needs, Option, Options

if TYPE_CHECKING:
    from .agreement import Bootstrap, Margin

Against = Literal["labels", "reported"]
AGE_BANDS: Final = (18.0, 30.0, 40.0, 50.0, 60.0, 70.0)
_ANALYSIS = "Analysis"


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
