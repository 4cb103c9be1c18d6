"""Shards: who does what, that together they are one run, that nothing is gathered half."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiometa.cohort.load import load_cohort
from cardiometa.cohort.models import Cohort
from cardiometa.cohort.tables import build_tables
from cardiometa.errors import InputError, UsageError
from cardiometa.locking import OutputLock
from cardiometa.pipeline.cohort_snapshot import read_snapshot, snapshot_text
from cardiometa.pipeline.merge import frame_csv
from cardiometa.pipeline.options import Shard, shard_number
from cardiometa.records import ScanKey, ScanResult
from cardiometa.segmentation.model import load_model
from tests.kit.pairs import cardiometa, pairs_cohort, same_tables

NAMES = st.text("abcXYZ0123456789-_", min_size=1, max_size=12)
KEYS = st.builds(ScanKey, trial=NAMES, participant=NAMES, visit=NAMES)


@settings(max_examples=200, deadline=None)
@given(keys=st.sets(KEYS, max_size=20), of=st.integers(1, 40))
def test_each_scan_is_in_one_shard(keys: set[ScanKey], of: int) -> None:
    for key in keys:
        shards = [n for n in range(1, of + 1) if Shard(number=n, of=of).has(key)]
        assert shards == [shard_number(key, of)]


def test_the_split_never_changes() -> None:
    """Outputs that were begun with one version must be gone on with by the next."""
    keys = [ScanKey(trial="ALPHA", participant=f"P{n:03d}", visit="baseline") for n in range(8)]
    assert [shard_number(key, 16) for key in keys] == [11, 6, 13, 5, 5, 12, 10, 11]


def test_shards_are_nearly_equal() -> None:
    keys = [ScanKey(trial="A", participant=f"{n}", visit="v") for n in range(16_000)]
    sizes = Counter(shard_number(key, 16) for key in keys).values()
    # Within five standard deviations of a fair deal.
    assert min(sizes) > 1000 - 5 * 31
    assert max(sizes) < 1000 + 5 * 31


@pytest.mark.parametrize("text", ["0/4", "5/4", "3", "a/b", "3/0", "-1/4", "1/4/2", ""])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--shard"):
        Shard.parse(text)
    assert str(Shard.parse(" 3 / 16")) == "3/16"


# ------------------------------------------------------------------ the whole way


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pairs, one folder of garbage, people with sizes, one without a scan."""
    top = tmp_path_factory.mktemp("cohort")
    pairs_cohort(top / "images", 4)
    garbage = top / "images" / "ALPHA" / "P004"
    garbage.mkdir()
    (garbage / "notes.dcm").write_text("this is no image")
    rows = ["participant_id,age,sex,height_cm,weight_kg,centre,score"]
    rows += [f"P00{n},{50 + n}.5,{'male' if n % 2 else ''},17{n},7{n}.25,C{n},-{n}" for n in (0, 1)]
    rows += ["P002,,female,,,,", "P003,61,female,160,60,C9,5", "P004,70,male,180,90,C1,1"]
    rows += ["P005,55,male,171,80,C2,2"]
    (top / "people.csv").write_text("\n".join(rows))
    scans = ["participant_id,visit,images,visit_day,reported_lv_edv_ml"]
    scans += [f"P00{n},baseline,P00{n},{n or ''},{100 + n}.5" for n in range(5)]
    scans += ["P005,baseline,,,"]
    (top / "scans.csv").write_text("\n".join(scans))
    (top / "cohort.toml").write_text(
        """
name = "shards"
[trials.ALPHA]
participants = "people.csv"
scans = "scans.csv"
root = "images/ALPHA"
randomised = false
papillary = "myocardium"
carry = ["centre", "score"]
n_sought = 9
healthy_rule = "none"
[trials.ALPHA.columns]
age_years = "age"
[[not_obtained]]
trial = "OMEGA"
n_participants = 210
reason = "no reply"
"""
    )
    return top / "cohort.toml"


@pytest.fixture(scope="module")
def whole(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    done = cardiometa("segment", cohort, "--out", out, "--quiet")
    assert done.returncode == 4, done.stderr
    return out


@pytest.fixture(scope="module")
def sharded(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards 1 and 2 of 3 are done, the last with one scan or more is not."""
    out = tmp_path_factory.mktemp("sharded") / "out"
    for number in (1, 2):
        done = cardiometa("segment", cohort, "--out", out, "--shard", f"{number}/3")
        assert done.returncode in (0, 4), done.stderr
        assert f"shard {number}/3 is done" in done.stderr
        assert not (out / "measurements.csv").exists()
    return out


def test_a_gathered_run_is_the_one_machines_run(
    cohort: Path, whole: Path, sharded: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(sharded, tmp_path / "out"))
    undone = cardiometa("merge", out)
    assert undone.returncode == 3, undone.stderr
    missing = [s.key for s in load_cohort(cohort).scans if Shard(number=3, of=3).has(s.key)]
    assert missing
    assert f"{len(missing)} scan" in undone.stderr
    assert all(f"{key}: it is not done" in undone.stderr for key in missing)
    assert not (out / "measurements.csv").exists()
    last = cardiometa("segment", cohort, "--out", out, "--shard", "3/3", "--quiet")
    assert last.returncode in (0, 4), last.stderr
    gathered = cardiometa("merge", out, "--json")
    assert gathered.returncode == 4, gathered.stderr
    told = json.loads(gathered.stdout)
    assert told["scans"] == 5
    assert told["failed"] == 1
    assert "1 failed" in gathered.stderr
    assert "failed: ALPHA/P004/baseline: " in gathered.stderr
    same_tables(whole, out)
    mine, theirs = (json.loads((o / "cardiometa.json").read_text()) for o in (out, whole))
    assert mine.pop("run")["state"] == theirs.pop("run")["state"] == "complete"
    assert mine == theirs


def test_a_whole_run_can_be_gathered_again(whole: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    for name in ("measurements.csv", "report.html", "flow.json"):
        (out / name).unlink()
    assert cardiometa("merge", out, "--quiet").returncode == 4
    same_tables(whole, out)
    assert (out / "measurements.csv").read_bytes() == (whole / "measurements.csv").read_bytes()


def test_what_does_not_fit_is_named_and_nothing_is_written(whole: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    before = (out / "measurements.csv").read_bytes()
    record = out / "scans/ALPHA/P001/baseline/result.json"
    document = json.loads(record.read_text())
    document["options"]["height_cm"] = 150.0
    record.write_text(json.dumps(document))
    (out / "scans/ALPHA/P002/baseline/overlay.png").unlink()
    (out / "scans/ALPHA/P003/baseline/result.json").write_text("{")
    refused = cardiometa("merge", out)
    assert refused.returncode == 3
    assert "P001/baseline: it was done with other options, body size" in refused.stderr
    assert "P002/baseline: files that its record names are missing" in refused.stderr
    assert "P003/baseline: it is not done" in refused.stderr
    assert (out / "measurements.csv").read_bytes() == before
    assert cardiometa("merge", tmp_path).returncode == 2


def test_no_gathering_while_a_shard_runs(whole: Path) -> None:
    with OutputLock(whole, (3, 16)):
        refused = cardiometa("merge", whole)
    assert refused.returncode == 2
    assert "Another run is writing to the folder out in 16 shards" in refused.stderr


def test_a_shard_with_other_options_is_refused(cohort: Path, sharded: Path) -> None:
    refused = cardiometa("segment", cohort, "--out", sharded, "--shard", "3/3", "--bsa", "dubois")
    assert refused.returncode == 2
    assert "other options (bsa)" in refused.stderr


def test_the_snapshot_is_the_cohort(cohort: Path, tmp_path: Path) -> None:
    read, model = load_cohort(cohort), load_model()
    text = snapshot_text(read, model.card, model.sha256)
    (tmp_path / "cohort.json").write_text(text)
    back = read_snapshot(tmp_path)
    assert snapshot_text(back.cohort, back.card, back.model_sha256) == text
    assert back.cohort.participants.equals(read.participants)
    assert list(back.cohort.participants.dtypes) == list(read.participants.dtypes)
    assert back.cohort.name == read.name
    assert str(cohort.parent) not in text
    assert "people.csv" not in json.dumps({**json.loads(text), "notes": [], "warnings": []})
    assert tables(back.cohort) == tables(read)
    (tmp_path / "cohort.json").write_text(text[:-40])
    with pytest.raises(InputError):
        read_snapshot(tmp_path)


def tables(cohort: Cohort) -> list[str]:
    results = [
        ScanResult(
            key=scan.key, status="ok", measures={"lv_edv_ml": 1.5}, facts={}, flags=(), document={}
        )
        for scan in cohort.scans
    ]
    made = build_tables(cohort, results)
    return [frame_csv(t) for t in (made.measurements, made.participants, made.exclusions)]
