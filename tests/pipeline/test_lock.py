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
from cardiometa.locking import OutputLock, writing

QUICK = 3.0


def locks(out: Path) -> list[Path]:
    return sorted(out.glob(".cardiometa.*"))


def foreign(out: Path) -> Path:
    """The lock of a run on another machine, which gives no further sign of life."""
    with OutputLock(out, lease_s=QUICK):
        (path,) = locks(out)
        text = path.read_text()
    lines = ["host=another" if line.startswith("host=") else line for line in text.splitlines()]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_second_run_is_refused(tmp_path: Path) -> None:
    with OutputLock(tmp_path, (3, 16)):
        with pytest.raises(UsageError, match=r"Another run is writing to .* in 16 shards"):
            OutputLock(tmp_path).__enter__()
        assert len(locks(tmp_path)) == 1
    assert not locks(tmp_path)
    with OutputLock(tmp_path):
        pass


def test_nothing_in_it_names_the_user_or_the_folder(tmp_path: Path) -> None:
    import getpass

    with OutputLock(tmp_path):
        (path,) = locks(tmp_path)
        text = path.read_text() + path.name
    assert getpass.getuser() not in text
    assert tmp_path.name not in text


def test_shards_of_one_split_run_together_and_no_others(tmp_path: Path) -> None:
    with OutputLock(tmp_path, (1, 4)), OutputLock(tmp_path, (2, 4)):
        with pytest.raises(UsageError, match="Another run is writing"):
            OutputLock(tmp_path, (2, 4)).__enter__()
        with pytest.raises(UsageError, match="in 4 shards"):
            OutputLock(tmp_path, (2, 5)).__enter__()
        with pytest.raises(UsageError):
            OutputLock(tmp_path).__enter__()
        with OutputLock(tmp_path, (3, 4)):
            pass


def test_no_shard_starts_while_the_folder_is_held(tmp_path: Path) -> None:
    with (
        OutputLock(tmp_path),
        pytest.raises(UsageError, match="Another run is writing"),
        OutputLock(tmp_path, (1, 4)),
    ):
        pass
    assert not locks(tmp_path)


def test_a_killed_run_on_this_machine_frees_the_folder_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, os, signal\nfrom pathlib import Path\n"
        "from cardiometa.locking import *\n"
        "shard = eval(sys.argv[2])\n"
        "lock = OutputLock(Path(sys.argv[1]), shard).__enter__()\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    for shard in ("None", "(1, 4)"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path), shard], check=False)
        assert len(locks(tmp_path)) == 1
        begun = time.monotonic()
        with OutputLock(tmp_path):
            assert time.monotonic() - begun < 5
            assert len(locks(tmp_path)) == 1
        assert not locks(tmp_path)


def test_a_silent_run_elsewhere_is_watched_and_then_taken_over(tmp_path: Path) -> None:
    path = foreign(tmp_path)
    begun = time.monotonic()
    with OutputLock(tmp_path, lease_s=QUICK):
        assert time.monotonic() - begun >= QUICK
        assert "another" not in path.read_text()


def test_a_run_elsewhere_that_gives_signs_of_life_is_left_alone(tmp_path: Path) -> None:
    path = foreign(tmp_path)
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(0.2):
            path.touch()

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(UsageError):
            OutputLock(tmp_path, lease_s=QUICK).__enter__()
    finally:
        ended.set()
        thread.join()
    assert path.exists()


def test_a_run_that_lost_the_lock_ends(tmp_path: Path) -> None:
    with OutputLock(tmp_path, lease_s=QUICK) as lock:
        lock.check()
        locks(tmp_path)[0].unlink()
        time.sleep(QUICK / 2)
        with pytest.raises(EngineError, match="lost its lock"):
            lock.check()


def test_of_many_that_begin_together_never_two_get_it(tmp_path: Path) -> None:
    inside, most, entered, guard = 0, 0, 0, threading.Lock()
    start = threading.Barrier(6)

    def try_it() -> None:
        nonlocal inside, most, entered
        start.wait()
        try:
            with OutputLock(tmp_path):
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
    with OutputLock(tmp_path / "new"):
        assert (tmp_path / "new").is_dir()
    assert not (tmp_path / "new").exists()


def test_two_commands_that_end_together_do_not_mix_their_files(tmp_path: Path) -> None:
    said = {"a": 1}
    record = {"command": "pool-trials", "options": said}
    out = tmp_path / "out"
    with writing(out, command="pool-trials", options=said, overwrite=False):
        (out / "cardiometa.json").write_text(json.dumps(record))
        with pytest.raises(UsageError, match="Another run is writing"):
            writing(out, command="pool-trials", options=said, overwrite=False).__enter__()
    with (
        pytest.raises(UsageError, match="other options"),
        writing(out, command="pool-trials", options={"a": 2}, overwrite=False),
    ):
        pytest.fail("what came meanwhile is seen")
    assert not locks(out)
