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

# Folders whose files share costly runs (fixtures of the session) go to one process as a whole,
# other files one by one (``--dist loadgroup``). What takes minutes begins first, so that none is
# left to a single process at the end.
_TOGETHER = ("pipeline", "reports", "privacy", "review")
_FIRST = ("pipeline/", "real/", "privacy/", "reports/", "fuzz/", "review/", "examples/")
_NEXT = ("statistics/test_coverage", "pooling/", "reference/")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        path = item.path.as_posix()
        parts = enumerate((*_FIRST, *_NEXT))
        return next((i for i, part in parts if f"tests/{part}" in path), len(_FIRST + _NEXT))

    items.sort(key=rank)
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            folder = item.path.parent.name
            group = folder if folder in _TOGETHER else f"{folder}/{item.path.stem}"
            item.add_marker(pytest.mark.xdist_group(group))
