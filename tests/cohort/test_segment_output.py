"""What lies next to a table of segment: participants with arms, the trials' facts, the flow."""

from __future__ import annotations

import pytest

from cardiometa.cohort.models import TableOptions
from cardiometa.cohort.segment_output import SegmentOutput
from cardiometa.errors import InputError
from cardiometa.files import canonical_json
from tests.kit.cohorts import write

ROSTER = "trial,participant_id,arm,TRT\nA,1,control,P\nA,2,active,V\nA,3,,V\n"


@pytest.fixture
def out(tmp_path):
    """An output, as far as the statistics commands look at it."""
    write(tmp_path / "measurements.csv", "trial,participant_id\nA,1\n")
    write(tmp_path / "participants.csv", ROSTER)
    write(tmp_path / "cardiometa.json", "{}")
    return tmp_path


def arms(output, **options):
    roster = output.roster(TableOptions(**options))
    return roster["arm"].where(roster["arm"].notna(), None).tolist()


def test_the_folder_and_its_table_are_the_same_output(out):
    for given in (out, out / "measurements.csv"):
        output = SegmentOutput.of([given])
        assert output.folder == out
        assert output.read_files == (out / "measurements.csv", out / "participants.csv")
        assert arms(output) == ["control", "active", None]


def test_a_copied_or_an_unfinished_table_has_no_roster(out, tmp_path):
    other = write(tmp_path / "elsewhere" / "own.csv", "trial\nA\n")
    for given in ([other], [out / "measurements.csv", other]):
        output = SegmentOutput.of(given)
        assert output.folder is None
        assert output.roster(TableOptions()) is None
        assert output.trials == {}
        assert output.sought("trials") is None
        assert output.read_files == tuple(given)
    (out / "cardiometa.json").unlink()
    assert SegmentOutput.of([out]).roster(TableOptions()) is None


def test_arms_of_the_roster_follow_the_rule_of_the_table(out):
    output = SegmentOutput.of([out])
    words = {"column": "TRT", "map": {"P": "placebo", "V": "verum"}}
    assert arms(output, columns={"arm": words}) == ["placebo", "verum", "verum"]
    assert arms(output, arm="TRT") == ["P", "V", "V"]
    # --arm wins over the column of --config, whose map stays.
    codes = {"column": "TRT", "map": {"control": "usual care", "active": "drug"}}
    assert arms(output, arm="arm", columns={"arm": codes}) == ["usual care", "drug", None]
    # A column that the roster lacks is that of the table of measures alone.
    assert arms(output, arm="ACTARM") == ["control", "active", None]


def test_a_code_that_the_map_lacks_is_an_error(out):
    rule = {"column": "TRT", "map": {"P": "placebo"}}
    with pytest.raises(InputError, match=r"participants\.csv cannot be used") as caught:
        SegmentOutput.of([out]).roster(TableOptions(columns={"arm": rule}))
    assert "'V' (2)" in str(caught.value.problems[0])


def test_a_roster_without_its_columns_is_an_error(out):
    write(out / "participants.csv", "trial,participant_id\nA,1\n")
    with pytest.raises(InputError, match="lacks trial, participant_id or arm"):
        SegmentOutput.of([out]).roster(TableOptions())


@pytest.mark.parametrize(
    ("flow", "wanted"),
    [
        ({"participants": {"sought": 120}}, 120),
        ({"participants": {"sought": None}}, None),
        ({"participants": {"sought": "120"}}, None),
        ({"participants": 3}, None),
        ([], None),
    ],
)
def test_what_was_sought(out, flow, wanted):
    write(out / "flow.json", canonical_json(flow))
    assert SegmentOutput.of([out]).sought("participants") == wanted


def test_facts_of_trials_that_are_no_tables_are_left_out(out):
    trials = {"A": {"design": "parallel"}, "B": "x"}
    write(out / "measurements.json", canonical_json({"trials": trials}))
    assert SegmentOutput.of([out]).trials == {"A": {"design": "parallel"}}
