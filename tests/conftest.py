"""The order of the test files, and property tests that draw the same examples on every machine."""

import os

import pytest
from hypothesis import settings

# One process a core runs already (pytest-xdist): more threads in each only wait for one another.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# Random examples find new faults: `HYPOTHESIS_PROFILE=default python -m pytest`. A change that has
# nothing to do with them must not fail on them.
settings.register_profile("fixed", derandomize=True, database=None, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

# Files that segment scans or kill runs take minutes each. They begin first, so that none is left
# to a single process at the end.
_LONG = (
    "pipeline/test_segment_run",
    "real/",
    "pipeline/test_engine",
    "privacy/test_nothing_leaves",
    "fuzz/test_faults",
    "pipeline/test_shards",
    "pipeline/test_dask",
    "pipeline/test_equal_bytes",
    "pipeline/",
    "examples/",
    "fuzz/",
    "privacy/",
    "statistics/test_coverage",
    "pooling/",
    "reference/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        path = item.path.as_posix()
        return next((i for i, part in enumerate(_LONG) if f"tests/{part}" in path), len(_LONG))

    items.sort(key=rank)
