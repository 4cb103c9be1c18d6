"""Numbers of small runs stay what they were, whatever the program is made of inside."""

import json
import math

import pytest
from matplotlib.figure import Figure

from tests.frozen.runs import GOLDEN, RUNS, draw_nothing, numbers_of, write_tables

# Optimisers end at about 1e-8; another processor may add in another order.
REL, ABS = 1e-6, 1e-8


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    write_tables(folder)
    return folder


@pytest.fixture(scope="module")
def golden():
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize("run", RUNS)
def test_numbers_are_the_frozen_ones(run, golden, inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(Figure, "savefig", draw_nothing)
    found = numbers_of(RUNS[run], inputs, tmp_path / "out")
    assert set(golden[run]) <= set(found)
    for table, columns in golden[run].items():
        assert set(columns) <= set(found[table]), table
        for column, want in columns.items():
            cells = [want["all"]] * want["rows"] if isinstance(want, dict) else want
            new = found[table][column]
            assert len(new) == len(cells), (table, column)
            differing = [
                (line, old, now)
                for line, (old, now) in enumerate(zip(cells, new, strict=True), 2)
                if not same(old, now)
            ]
            assert not differing, (table, column, differing[:5])


def same(old, now):
    if isinstance(old, str) or isinstance(now, str):
        # Codes may be spelt with either.
        return str(old).replace("_", "-") == str(now).replace("_", "-")
    return math.isclose(old, now, rel_tol=REL, abs_tol=ABS)


def test_every_run_is_frozen(golden):
    assert set(golden) == set(RUNS)
