"""`check` looks at everything but the pixels, says all of it, and writes nothing."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from cardiometa.cli.main import app
from cardiometa.cohort.load import check_cohort
from tests.kit.cohorts import cohort_folder, write
from tests.kit.data import shared_data
from tests.kit.tiny_dicom import Shape, files, put, tiny


def whole(tmp_path):
    """A cohort of one trial: a good cine, and a folder without images."""
    put(tmp_path / "images/a", files(tiny(Shape(slices=6, phases=20))))
    write(tmp_path / "images/b/text.dcm", "no image")
    write(tmp_path / "p.csv", "participant_id,sex\na,M\nb,F\n")
    write(tmp_path / "s.csv", "participant_id,visit,images\na,baseline,a\nb,baseline,b\n")
    return write(
        tmp_path / "cohort.toml",
        'name = "x"\n[trials.A]\nparticipants = "p.csv"\nscans = "s.csv"\nroot = "images"\n'
        "randomised = false\n",
    )


def snapshot(folder):
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*")}


def test_headers_are_looked_at_even_where_tables_are_wrong(tmp_path):
    path = whole(tmp_path)
    report = check_cohort(path)
    assert [problem.where for problem in report.problems] == ["A/b/baseline"]
    assert report.summary["scans"] == 2
    write(tmp_path / "p.csv", "participant_id,sex\na,1\nb,F\n")
    report = check_cohort(path)
    assert len(report.problems) == 2
    assert "'1' (1)" in str(report.problems[0])


def test_the_command(tmp_path):
    path = whole(tmp_path)
    before = snapshot(tmp_path)
    done = CliRunner().invoke(app, ["check", str(path)])
    assert done.exit_code == 3
    assert "A/b/baseline" in done.output
    assert "1 problem" in done.output
    assert snapshot(tmp_path) == before


def test_json_and_nothing_else(tmp_path):
    path = whole(tmp_path)
    done = CliRunner().invoke(app, ["check", str(path), "--json"])
    report = json.loads(done.stdout)
    assert report["usable"] is False
    assert report["summary"]["trials"][0]["visits"] == {"baseline": 2}
    assert len(report["problems"]) == 1


def test_a_good_cohort_is_exit_0(tmp_path):
    path = whole(tmp_path)
    write(tmp_path / "s.csv", "participant_id,visit,images\na,baseline,a\n")
    done = CliRunner().invoke(app, ["check", str(path)])
    assert done.exit_code == 0
    assert "No problem found" in done.output


def test_wrong_use_is_exit_2(tmp_path):
    path = whole(tmp_path)
    assert CliRunner().invoke(app, ["check", str(path), "--root", "A"]).exit_code == 2
    assert CliRunner().invoke(app, ["check", str(path), "--root", "B=x"]).exit_code == 2
    assert CliRunner().invoke(app, ["check", str(tmp_path / "none")]).exit_code == 3


def test_real_scans(tmp_path):
    for number in (1, 2, 3):
        report = check_cohort(shared_data() / f"sunnybrook/SCD0000{number}01.zip")
        assert report.problems == ()
        assert report.summary["scans"] == 1


def test_init_prints_writes_and_never_overwrites(tmp_path):
    cohort_folder(tmp_path / "data").unlink()
    printed = CliRunner().invoke(app, ["init", str(tmp_path / "data")])
    assert printed.exit_code == 0
    assert 'name = "data"' in printed.stdout
    out = tmp_path / "cohort.toml"
    assert (
        CliRunner().invoke(app, ["init", str(tmp_path / "data"), "--out", str(out)]).exit_code == 0
    )
    text = out.read_text()
    again = CliRunner().invoke(app, ["init", str(tmp_path / "data"), "--out", str(out)])
    assert again.exit_code == 2
    assert out.read_text() == text
    assert CliRunner().invoke(app, ["init", str(tmp_path / "none")]).exit_code == 3
