"""Runs cases of one target under limits, one line of JSON a finding; started by `run`."""

from __future__ import annotations

import argparse
import json
import mmap
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

SECONDS = 10  # of one case; a C library cannot be interrupted, the parent waits twice as long
EXTRA_MEMORY = 3 * 1024**3  # of address space above that of the start
MOST_GROWTH = 400 * 1024  # KiB of resident memory that one case of a few KiB may take


class TooSlowError(BaseException):
    """A case that took too long; no `except Exception` may catch it."""


def _alarm(*_: object) -> None:
    raise TooSlowError


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if sys.platform == "linux" else 0
    if pages:
        most = pages * mmap.PAGESIZE + EXTRA_MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _place(error: BaseException) -> str:
    """File and line of our own code that was reached last: findings are told apart by it."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "cardiometa" in f.filename]
    last = frames[-1] if frames else traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(last.filename).name}:{last.lineno}"


def run(options: argparse.Namespace) -> None:
    from tests.fuzz.run import target_of
    from tests.fuzz.target import case, outcome

    warnings.simplefilter("error")
    target = target_of(options.target)
    seeds = target.seeds()
    folder = Path(
        tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
    )
    with Path(options.progress).open("r+b") as file, mmap.mmap(file.fileno(), 24) as shared:
        counts = {"taken": 0, "refused": 0}
        # Sound files are taken; this also loads what is imported late.
        taken = {outcome(target, data, folder) for data in seeds}
        assert taken == {"taken"} or not target.sound, f"{target.name}: a sound file is refused"
        _limit_memory()
        signal.signal(signal.SIGALRM, _alarm)
        end = time.monotonic() + options.seconds
        number = options.first
        try:
            while number < options.first + options.cases and time.monotonic() < end:
                struct.pack_into("<qqq", shared, 0, number, counts["taken"], counts["refused"])
                data = case(target, seeds, options.seed, number)
                before = _resident()
                signal.setitimer(signal.ITIMER_REAL, SECONDS)
                try:
                    counts[outcome(target, data, folder)] += 1
                except Exception as error:  # noqa: BLE001 - every one is a finding
                    _tell(number, type(error).__name__, str(error), _place(error))
                except TooSlowError as error:
                    _tell(number, "TooSlow", f"more than {SECONDS} s", _place(error))
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                grown = _resident() - before
                if grown > MOST_GROWTH:
                    _tell(number, "MuchMemory", f"{grown // 1024} MiB for {len(data)} bytes", "")
                number += 1
                struct.pack_into("<qqq", shared, 0, number, counts["taken"], counts["refused"])
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _tell(number: int, kind: str, text: str, place: str) -> None:
    line: dict[str, Any] = {"case": number, "kind": kind, "text": text[:300], "place": place}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--cases", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--progress", required=True)
    run(parser.parse_args())
