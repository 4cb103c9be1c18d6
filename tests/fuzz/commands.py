"""The three commands on small inputs, each run in a process that can be broken and killed."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import signal
import sys
import time
import traceback
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHIM = Path(__file__).parent / "shim"
MARK = (
    "CARDIOMETA_FUZZ_MARK"  # in the environment of every process of a run: orphans are found by it
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command line without --out, the exit code of a good run, its other options."""

    name: str
    words: tuple[str, ...]
    code: int
    other: tuple[str, ...] = ()


def make(folder: Path) -> dict[str, Command]:
    """The inputs of all three commands below ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    people, trials = folder / "people.csv", folder / "trials.csv"
    from tests.kit.pooling_tables import simulate_wide
    from tests.kit.reference_tables import people_frame

    people_frame(500).to_csv(people, index=False)
    simulate_wide(4, people=40).to_csv(trials, index=False)
    measures = ("--measure", "lv_edv_ml", "--method", "strata", "--bootstrap", "200")
    pooled = ("--outcome", "lv_ef_percent", "--baseline", "lv_ef_baseline")
    return {
        "segment": Command(
            name="segment",
            words=("segment", str(_hearts(folder / "cohort")), "--workers", "2", "--quiet"),
            code=4,
            other=("--bsa", "dubois"),
        ),
        "reference-ranges": Command(
            name="reference-ranges",
            words=("reference-ranges", str(people), *measures),
            code=0,
            other=("--by", "sex"),
        ),
        "pool-trials": Command(
            name="pool-trials",
            words=("pool-trials", str(trials), *pooled),
            code=0,
            other=("--tau2", "dl"),
        ),
    }


def _hearts(top: Path) -> Path:
    """Two phantoms, one as DICOM and one as NIfTI, and a folder that holds no image."""
    from cardiometa.phantom.image import CineGrid, HeartPhantom, render
    from cardiometa.phantom.write import dicom_files, nifti_4d
    from tests.kit.tiny_dicom import put

    grid = CineGrid(slices=9, frames=8, rows=96, columns=96)
    for person, edv in (("P001", 160.0), ("P002", 200.0)):
        cine = render(HeartPhantom(lv_edv_ml=edv, lv_ef_percent=55, rv_edv_ml=edv, seed=3), grid)
        put(top / "ALPHA" / person, dicom_files(cine) if person == "P001" else nifti_4d(cine))
    put(top / "ALPHA" / "P003", {"notes.dcm": b"this is no image"})
    return top


# ------------------------------------------------------------------ running


@dataclass(slots=True)
class Ended:
    """How a run ended: its exit code (below 0: the signal), what it said, what it left behind."""

    code: int
    text: str
    orphans: int = 0


class Run:
    """One run in a forked process, which has its own session as a terminal would give it."""

    def __init__(
        self, words: Sequence[str], log: Path, fault: Mapping[str, str] | None = None
    ) -> None:
        self._log, self._mark = log, uuid.uuid4().hex
        self.pid = os.fork()
        if self.pid == 0:
            _child([*words], log, {**(fault or {}), MARK: self._mark})

    def wait(self) -> Ended:
        """Wait for the end, and some seconds for the processes that it had started."""
        _, status = os.waitpid(self.pid, 0)
        end = time.monotonic() + 10
        while (left := _marked(self._mark)) and time.monotonic() < end:
            time.sleep(0.1)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        text = self._log.read_text(errors="replace")
        return Ended(os.waitstatus_to_exitcode(status), text, len(left))

    def strike(self, number: int) -> None:
        """Send a signal; Ctrl-C goes to all processes of a terminal, the others to the first."""
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGINT:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)


def _marked(mark: str) -> list[int]:
    """Processes that have the mark in their environment."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if wanted in Path(entry.path, "environ").read_bytes():
                    found.append(int(entry.name))
    return found


def _child(words: list[str], log: Path, environment: dict[str, str]) -> None:
    code: Any = 70
    try:
        os.setsid()
        # A campaign in the background of a shell ignores Ctrl-C; the run must not.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb", closefd=False), write_through=True)
        sys.stderr = io.TextIOWrapper(os.fdopen(2, "wb", closefd=False), write_through=True)
        os.environ.update(environment)
        if "FAULT_UNDER" in environment:
            os.environ["FAULT_PID"] = str(os.getpid())
            os.environ["PYTHONPATH"] = os.pathsep.join([str(SHIM), *sys.path[:1]])
            sys.path.insert(0, str(SHIM))
            import importlib.util

            spec = importlib.util.spec_from_file_location("shim", SHIM / "sitecustomize.py")
            assert spec is not None
            assert spec.loader is not None
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
        from cardiometa.cli.main import main

        sys.argv = ["cardiometa", *words]
        main()
        code = 0
    except SystemExit as error:
        code = 0 if error.code is None else error.code
    except BaseException:  # noqa: BLE001 - whatever passed the command line's own border
        traceback.print_exc()
    finally:
        os._exit(code if isinstance(code, int) else 1)


# ------------------------------------------------------------------ what an output holds


def _without_run(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_run(item) for key, item in value.items() if key != "run"}
    return [_without_run(item) for item in value] if isinstance(value, list) else value


def _stable(path: Path) -> Any:
    """What of a file is the same in every run: all but seconds, workers and the time of day."""
    if path.suffix == ".json":
        return _without_run(json.loads(path.read_text(encoding="utf-8")))
    if path.name == "measurements.csv":
        with path.open(newline="", encoding="utf-8") as stream:
            return [{k: v for k, v in r.items() if k != "seconds"} for r in csv.DictReader(stream)]
    if path.suffix == ".parquet":
        import pandas as pd

        return pd.read_parquet(path).drop(columns="seconds").to_csv()
    return path.read_bytes()


def contents(out: Path) -> dict[str, Any]:
    """Every file of an output by its name; one that is cut off cannot be read and raises."""
    return {
        str(path.relative_to(out)): _stable(path)
        for path in sorted(out.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def leftovers(out: Path) -> list[str]:
    """Temporary files and locks: a killed run may leave them, the next one takes them away."""
    return [path.name for path in out.rglob(".*") if path.is_file()]


def state(out: Path) -> str:
    """``complete``, ``running``, ``writing`` or, without a record, ``none``."""
    record = out / "cardiometa.json"
    if not record.exists():
        return "none"
    run = json.loads(record.read_text(encoding="utf-8"))["run"]
    return str(run.get("state", "complete"))
