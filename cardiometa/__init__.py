"""cardiometa: individual-participant-data meta-analysis of cardiac MRI.

The public functions are those of `cardiometa.api`, imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import (
        load,
        pool_trials,
        read_cohort,
        read_reference,
        read_table,
        reference_ranges,
        segment,
    )

    __version__: str

__all__ = [
    "__version__",
    "load",
    "pool_trials",
    "read_cohort",
    "read_reference",
    "read_table",
    "reference_ranges",
    "segment",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from .manifest import version

        return version()
    if name in __all__:
        from . import api

        return getattr(api, name)
    raise AttributeError(f"module 'cardiometa' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
