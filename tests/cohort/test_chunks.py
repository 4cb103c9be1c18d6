"""A table in parts has the cells of the table read whole, or says that it must be read whole."""

import csv
import io

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiometa.cohort import chunks
from cardiometa.cohort.chunks import Columns, NotPlainError, header_of, read_chunks, rows_of
from cardiometa.cohort.read_table import read_any_table
from cardiometa.errors import TableError

COLUMNS = Columns(categories=("trial",), texts=("id",), numbers=("y",))
cells = st.text(alphabet="ab0 ,;\"'\n\té\r-.NA", max_size=6)
numbers = st.one_of(st.floats(-1e6, 1e6).map(repr), st.sampled_from(["", "NA", ".", "x", "1e3"]))
tables = st.lists(st.tuples(cells, cells, numbers), min_size=1, max_size=30)


@settings(max_examples=80, deadline=None)
@given(
    tables,
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", "\n", '"', "lone\n"]),
)
def test_parts_are_the_whole(tmp_path_factory, rows, quoting, end, tail):
    path = tmp_path_factory.mktemp("t") / "t.csv"
    text = io.StringIO()
    writer = csv.writer(text, quoting=quoting, lineterminator=end)
    writer.writerows([("trial", "id", "y"), *rows])
    path.write_bytes((text.getvalue() + tail).encode())
    problems = []
    before = chunks._BLOCK
    chunks._BLOCK = 17
    try:
        found = list(read_chunks(path, COLUMNS, problems))
    except NotPlainError:
        return
    finally:
        chunks._BLOCK = before
    try:
        whole = read_any_table(path)
    except TableError:
        pytest.fail("the parts were read, the whole is refused")
    parts = pd.concat(found).loc[whole.index]  # empty rows at the end are dropped there
    assert parts["trial"].astype(str).tolist() == whole["trial"].tolist()
    assert parts["id"].tolist() == whole["id"].tolist()
    read = pd.to_numeric(whole["y"].replace(["NA", ".", "x", ""], None))
    assert parts["y"].equals(read.astype(float)) or (parts["y"] - read).abs().max() == 0
    assert bool(problems) == whole["y"].eq("x").any()


def test_rows_are_counted_by_the_first_lines(tmp_path):
    frame = pd.DataFrame({"trial": ["T1"] * 20_000, "id": range(20_000), "y": 1.5})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    assert rows_of(tmp_path / "t.csv") == pytest.approx(20_000, rel=0.1)
    assert rows_of(tmp_path / "t.parquet") == 20_000
    assert header_of(tmp_path / "t.csv") == header_of(tmp_path / "t.parquet")


def test_other_kinds_are_not_plain(tmp_path):
    path = tmp_path / "t.dta"
    path.write_bytes(b"x")
    with pytest.raises(NotPlainError):
        header_of(path)
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1 no")
    with pytest.raises(NotPlainError):
        header_of(path)
