"""How measures grow with body size, as the page shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..records import Table
from .names import measure_name
from .numbers import DASH, shown, shown_count, shown_interval

if TYPE_CHECKING:
    from ..reference.records import ReferenceResult

_SIZES: Final = {
    "height": "height, m",
    "weight": "weight, kg",
    "bsa_mosteller": "surface (Mosteller), m²",
    "bsa_dubois": "surface (DuBois), m²",
}


def indexing_table(result: ReferenceResult) -> Table:
    """The exponent of each measure on each body size with its interval."""
    few = f"<{result.options.min_cell}"
    adjusted = any(row.adjusted_for for row in result.indexing)
    return Table(
        title="Body size: the power of it that each measure grows with.",
        columns=("Measure", "Body size", "n", "Exponent", "SE", "Interval"),
        rows=tuple(
            (
                measure_name(row.measure),
                _SIZES[row.size],
                few if row.n is None else shown_count(row.n),
                shown(row.exponent, 2),
                shown(row.se, 3),
                DASH if row.ci_low is None else shown_interval(row.ci_low, row.ci_high, 2),
            )
            for row in result.indexing
        ),
        caption=(
            "Least squares of log measure on log size"
            + (", a level for each sex" if adjusted else "")
            + f"; {result.options.ci_level:g}% interval. Dividing by a power far from the exponent"
            " leaves an index that still depends on size. Names of indices for --measure are "
            "in indexing.csv."
        ),
    )
