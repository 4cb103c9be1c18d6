"""What a user may choose of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from .agreement import Bootstrap
from .equivalence import DEFAULT_MARGINS, Margin

Against = Literal["labels", "reported"]
AGE_BANDS: Final = (18.0, 30.0, 40.0, 50.0, 60.0, 70.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOptions:
    """Options of `evaluate`; ``against`` None where only repeat visits are looked at.

    ``ci_level`` is of every interval but those of the equivalence tests, whose level is 90 (two
    one-sided tests at 5 %). ``min_cell`` does not bind with ``internal``.
    """

    against: Against | None = None
    repeat_visits: tuple[str, str] | None = None
    margins: Mapping[str, Margin] = field(default_factory=lambda: dict(DEFAULT_MARGINS))
    age_bands: tuple[float, ...] = AGE_BANDS
    min_cell: int = 10
    ci_level: float = 95.0
    bootstrap: int = 2000
    seed: int = 1
    internal: bool = False

    @property
    def least(self) -> int:
        """Fewest people about whom a number is given."""
        return 1 if self.internal else self.min_cell

    @property
    def draws(self) -> Bootstrap:
        """How intervals are bootstrapped."""
        return Bootstrap(samples=self.bootstrap, seed=self.seed, level=self.ci_level)
