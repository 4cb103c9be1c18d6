"""A part of a cohort, what a dry run estimates, and a log that names no participant."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from cardiometa.commands.merge import run_merge
from cardiometa.commands.show import describe
from cardiometa.commands.withdraw import run_withdraw
from cardiometa.errors import UsageError
from cardiometa.files import LOCK_PREFIX, RECORD_NAME, canonical_json, read_json
from cardiometa.locking import LEASE_S
from tests.kit.pairs import cardiometa
from tests.kit.small_runs import run, table


@pytest.mark.usefixtures("no_network")
def test_a_part_has_tables_of_its_own_and_says_so(cohort: Path, out: Path) -> None:
    with pytest.raises(UsageError, match="other options"):
        run(cohort, out, participants=("P001",))
    done = run(cohort, out, participants=("P001", "ALPHA/P003"), trials=("ALPHA",), overwrite=True)
    assert (done.scans, done.already_done) == (2, 2)
    assert set(table(out)) == {"P001", "P003"}
    assert done.flow["participants"]["obtained"] == 2
    part = "Only a part of the cohort: 2 of 3 participants and 2 of 3 scans"
    assert any(str(one).startswith(part) for one in done.warnings)
    assert part in (out / "report.html").read_text()
    options = read_json(out / RECORD_NAME)["options"]
    assert re.fullmatch(r"[0-9a-f]{64}", options["part"])
    # The same two by another order are the same part; all of the cohort is another.
    assert run(cohort, out, participants=("P003", "P001")).already_done == 2
    with pytest.raises(UsageError, match="other options"):
        run(cohort, out)
    assert run_merge(out).scans == 2  # as after shards of the part


@pytest.mark.usefixtures("no_network")
def test_a_part_stays_the_same_part_after_a_withdrawal(cohort: Path, out: Path) -> None:
    chosen = ("P001", "P003")
    run(cohort, out, participants=chosen, overwrite=True)
    run_withdraw(out, ["ALPHA/P003"])
    assert run(cohort, out, participants=chosen).already_done == 1
    assert set(table(out)) == {"P001"}


def test_what_the_cohort_lacks_is_named_before_anything_is_written(
    cohort: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as found:
        run(cohort, tmp_path / "new", trials=("ALPHE",), participants=("P009", "BETA/P001"))
    text = str(found.value)
    assert "--trial ALPHE: Did you mean 'ALPHA'?" in text
    assert "--participant P009: the cohort has no such participant." in text
    assert "--participant BETA/P001" in text
    assert not (tmp_path / "new").exists()


@pytest.mark.usefixtures("no_network")
def test_a_participant_is_named_by_the_source_where_ids_are_replaced(
    cohort: Path, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("a key of the site, long enough for every purpose\n")
    key.chmod(0o600)
    call = ("segment", cohort, "--out", tmp_path / "new", "--pseudonymise", key, "--dry-run")
    done = cardiometa(*call, "--participant", "P002", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["scans"] == 1
    refused = cardiometa(*call, "--participant", "P-secret")
    assert refused.returncode == 2
    assert "--participant (withheld)" in refused.stderr
    assert "P-secret" not in refused.stderr


@pytest.mark.usefixtures("no_network")
def test_a_dry_run_estimates_time_and_disk(cohort: Path, out: Path, tmp_path: Path) -> None:
    new = run(cohort, tmp_path / "new", dry_run=True, workers=1).estimate
    assert new is not None
    assert (new.scans, new.measured, new.cores) == (3, 0, 1)
    assert new.images == 3 * 9 * 8
    assert new.seconds == pytest.approx(4 + new.images * 8 / 240)
    assert new.disk_bytes == 3 * 627_000
    assert not (tmp_path / "new").exists()
    # One scan is gone: the rates are those of the two others, 72 images each.
    (out / "scans/ALPHA/P001/baseline/result.json").unlink()
    left = run(cohort, out, dry_run=True).estimate
    assert left is not None
    assert (left.scans, left.images) == (1, 72)
    assert left.measured == 2
    runs = [read_json(path)["run"] for path in out.glob("scans/*/*/*/result.json")]
    assert left.seconds == pytest.approx(4 + sum(one["seconds"] for one in runs) / 2)
    printed = cardiometa("segment", cohort, "--out", tmp_path / "new", "--dry-run").stderr
    assert "dry run: 3 scans to segment, about 216 images" in printed
    assert re.search(r"time: about \d+ s on \d cores?, at the rate of examples/scale.md", printed)
    assert re.search(r"disk: about 2 MB in .*, where [\d,]+ MB are free", printed)


@pytest.mark.usefixtures("no_network")
def test_a_log_has_times_and_codes_but_no_id_and_no_path(
    cohort: Path, out: Path, tmp_path: Path
) -> None:
    log = tmp_path / "run.log"
    run(cohort, out, log_file=log, dry_run=True)
    assert log.read_text().endswith("dry run: nothing was done\n")
    run(cohort, out, log_file=log)
    with pytest.raises(UsageError):
        run(cohort, out, log_file=log, trials=("BETA",))
    lines = log.read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00 ", line) for line in lines)
    text = "\n".join(lines)
    assert "segment, Python" in text
    assert "3 scans, 3 already done" in text
    assert "done: " in text
    assert lines[-1].endswith("ended by UsageError, exit code 2")
    for secret in ("ALPHA", "P00", "BETA", cohort.name, str(out), str(tmp_path)):
        assert secret not in text
    with pytest.raises(UsageError, match="must not be in the folder"):
        run(cohort, out, log_file=out / "run.log")


def test_an_output_whose_run_has_ended_is_interrupted(tmp_path: Path) -> None:
    record = {"command": "segment", "options": {}, "inputs": {}, "run": {"state": "running"}}
    (tmp_path / RECORD_NAME).write_text(canonical_json(record))
    assert describe(tmp_path)["state"] == "interrupted"
    lock = tmp_path / f"{LOCK_PREFIX}folder.lock"
    lock.write_text("")
    assert describe(tmp_path)["state"] == "running"
    old = lock.stat().st_mtime - LEASE_S
    os.utime(lock, (old, old))
    assert describe(tmp_path)["state"] == "interrupted"
    assert "rerun the command that wrote it" in cardiometa("show", tmp_path).stdout
