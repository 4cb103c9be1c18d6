"""The lock on an output: who is let in, who is taken over, what cannot happen."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cardiometa.errors import EngineError, UsageError
from cardiometa.locking import Claim, OutputLock, Pace, writing

QUICK = Pace(beat_s=0.2, stale_s=3.0)
ALL = Claim(command="segment")


def shard(number: int, of: int) -> Claim:
    return Claim(command="segment", shard=(number, of))


def locks(out: Path) -> list[Path]:
    return sorted(out.glob(".cardiometa.*.lock"))


def foreign(out: Path, **changes: object) -> Path:
    """The lock of a run on another machine, which gives no further sign of life."""
    with OutputLock(out, ALL, QUICK) as lock:
        owner = json.loads(lock.path.read_text())
    out.mkdir(exist_ok=True)
    path = out / ".cardiometa.0123456789ab.lock"
    path.write_text(json.dumps({**owner, "machine": "another", **changes}))
    return path


def test_a_second_run_is_refused_and_says_who_holds_it(tmp_path: Path) -> None:
    with OutputLock(tmp_path, shard(3, 16)):
        with pytest.raises(UsageError, match=r"being written by another run \(`segment --shard 3/"):
            OutputLock(tmp_path, ALL).__enter__()
        assert len(locks(tmp_path)) == 1
    assert not locks(tmp_path)
    with OutputLock(tmp_path, ALL):
        pass


def test_nothing_in_it_names_anybody(tmp_path: Path) -> None:
    import getpass
    import platform

    with OutputLock(tmp_path, ALL) as lock:
        text = lock.path.read_text() + lock.path.name
    assert platform.node() not in text
    assert getpass.getuser() not in text


def test_shards_of_one_split_run_together_and_no_others(tmp_path: Path) -> None:
    with OutputLock(tmp_path, shard(1, 4)), OutputLock(tmp_path, shard(2, 4)):
        with pytest.raises(UsageError, match="being written"):
            OutputLock(tmp_path, shard(2, 4)).__enter__()
        with pytest.raises(UsageError, match="another number of shards"):
            OutputLock(tmp_path, shard(2, 5)).__enter__()
        with pytest.raises(UsageError):
            OutputLock(tmp_path, Claim(command="gather")).__enter__()


def test_a_killed_run_on_this_machine_frees_the_folder_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, os, signal\nfrom pathlib import Path\n"
        "from cardiometa.locking import *\n"
        "lock = OutputLock(Path(sys.argv[1]), Claim(command='segment')).__enter__()\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert len(locks(tmp_path)) == 1
    begun = time.monotonic()
    with OutputLock(tmp_path, ALL):
        assert time.monotonic() - begun < 5
        assert len(locks(tmp_path)) == 1


def test_a_silent_run_elsewhere_is_watched_and_then_taken_over(tmp_path: Path) -> None:
    path = foreign(tmp_path, state="held")
    with pytest.raises(UsageError):
        OutputLock(tmp_path, ALL).__enter__()  # by the usual pace it was alive just now
    time.sleep(4 * QUICK.beat_s)
    with OutputLock(tmp_path, ALL, QUICK):
        assert not path.exists()


def test_a_run_elsewhere_that_beats_again_is_left_alone(tmp_path: Path) -> None:
    path = foreign(tmp_path, state="held")
    time.sleep(4 * QUICK.beat_s)
    late = threading.Timer(0.3, path.touch)
    late.start()
    with pytest.raises(UsageError):
        OutputLock(tmp_path, ALL, QUICK).__enter__()
    late.join()
    assert path.exists()


def test_who_lost_the_lock_is_told(tmp_path: Path) -> None:
    with OutputLock(tmp_path, ALL, QUICK) as lock:
        lock.check()
        lock.path.unlink()
        time.sleep(5 * QUICK.beat_s)
        with pytest.raises(EngineError, match="taken away"):
            lock.check()


def test_of_many_that_begin_together_never_two_get_it(tmp_path: Path) -> None:
    inside, most, entered, guard = 0, 0, 0, threading.Lock()
    start = threading.Barrier(6)

    def try_it() -> None:
        nonlocal inside, most, entered
        start.wait()
        try:
            with OutputLock(tmp_path, ALL):
                with guard:
                    inside += 1
                    entered += 1
                    most = max(most, inside)
                time.sleep(0.05)
                with guard:
                    inside -= 1
        except UsageError:
            pass

    threads = [threading.Thread(target=try_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert entered >= 1
    assert not locks(tmp_path)


def test_a_folder_that_was_not_there_is_not_left_empty(tmp_path: Path) -> None:
    with OutputLock(tmp_path / "new", ALL):
        assert (tmp_path / "new").is_dir()
    assert not (tmp_path / "new").exists()


def test_two_commands_that_end_together_do_not_mix_their_files(tmp_path: Path) -> None:
    said = {"a": 1}
    record = {"command": "pool-trials", "options": said}
    out = tmp_path / "out"
    with writing(out, command="pool-trials", options=said, overwrite=False):
        (out / "cardiometa.json").write_text(json.dumps(record))
        with pytest.raises(UsageError, match="being written"):
            writing(out, command="pool-trials", options=said, overwrite=False).__enter__()
    with (
        pytest.raises(UsageError, match="other options"),
        writing(out, command="pool-trials", options={"a": 2}, overwrite=False),
    ):
        pytest.fail("what came meanwhile is seen")
    assert not locks(out)
