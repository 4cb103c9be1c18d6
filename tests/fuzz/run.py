"""Mutated files into every reader: ``python -m tests.fuzz.run --cases 100000 --seed 1``.

Each target's cases run in a process of their own, so that a crash or a hang of a decoder is a
finding as well and the next case goes on. One case again, with its traceback:
``python -m tests.fuzz.run --target nifti --seed 1 --case 4711 --keep FILE``.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.target import Target, case, outcome

_STARTING = -1  # in place of a case's number while the libraries are imported
SLOW_SHARE = 0.2  # a slow target gets this many cases for one of a fast one


def targets() -> tuple[Target, ...]:
    from tests.fuzz import documents, images, tables

    return (*images.TARGETS, *tables.TARGETS, *documents.TARGETS)


def target_of(name: str) -> Target:
    """The target of this name; only the module that has it is imported."""
    from importlib import import_module

    for module in ("images", "tables", "documents"):
        for target in import_module(f"tests.fuzz.{module}").TARGETS:
            if target.name == name:
                return target
    raise SystemExit(f"no target {name}")


@dataclass(slots=True)
class Report:
    """What became of a target's cases."""

    target: str
    cases: int = 0
    taken: int = 0
    refused: int = 0
    crashes: int = 0  # of a decoder's C library
    seconds: float = 0.0
    findings: list[dict] = field(default_factory=list)

    def line(self) -> str:
        return (
            f"{self.target:<20}{self.cases:>8}{self.taken:>8}{self.refused:>8}{self.crashes:>8}"
            f"{len(self.findings):>9}{self.seconds:>9.1f}"
        )


def campaign(target: str, *, seed: int, first: int, cases: int, seconds: float) -> Report:
    """All cases of one target, started again behind each that killed its process."""
    report, begun = Report(target), time.monotonic()
    end, number = begun + seconds, first
    while number < first + cases and time.monotonic() < end:
        left = first + cases - number
        number = _part(report, seed, number, left, end - time.monotonic())
    report.cases, report.seconds = number - first, time.monotonic() - begun
    return report


def _part(report: Report, seed: int, first: int, cases: int, seconds: float) -> int:
    """Run until the end or a crash; the number of the next case."""
    with tempfile.TemporaryDirectory() as folder:
        progress = Path(folder, "progress")
        progress.write_bytes(struct.pack("<qqq", _STARTING, 0, 0))
        command = [sys.executable, "-m", "tests.fuzz.worker", "--target", report.target]
        command += ["--seed", str(seed), "--first", str(first), "--cases", str(cases)]
        command += ["--seconds", str(seconds), "--progress", str(progress)]
        errors = Path(folder, "stderr")
        with errors.open("wb") as stderr:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=_quiet()
            )
            hung = not _wait(process, progress)
            out = process.communicate()[0]
        number, taken, refused = struct.unpack("<qqq", progress.read_bytes())
        number = first if number == _STARTING else number
        report.findings += [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        report.taken += taken
        report.refused += refused
        if process.returncode or hung:
            kind = "Hang" if hung else f"Exit {process.returncode}"
            text = errors.read_text(errors="replace")
            if number == first and "Traceback" in text:
                raise SystemExit(f"{report.target} cannot be run:\n{text}")
            if target_of(report.target).decodes and process.returncode < 0 and not hung:
                report.crashes += 1
            else:
                line = {"case": number, "kind": kind, "text": text[-300:], "place": ""}
                report.findings.append(line)
            return number + 1
        return number


def _wait(process: subprocess.Popen[str], progress: Path) -> bool:
    """Wait for the end; False where one case took so long that the process was killed."""
    last, since = b"", time.monotonic()
    while True:
        try:
            process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            now = progress.read_bytes()
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > (
                300 if struct.unpack_from("<q", now)[0] == _STARTING else 60
            ):
                process.kill()
                return False
            continue
        return True


def _quiet() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def shares(chosen: list[Target], cases: int) -> dict[str, int]:
    """How many of the cases each target gets."""
    weights = {target.name: SLOW_SHARE if target.slow else 1.0 for target in chosen}
    total = sum(weights.values())
    return {name: -int(-cases * weight // total) for name, weight in weights.items()}


def once(name: str, seed: int, number: int, keep: Path | None) -> None:
    """One case in this process, with its traceback."""
    target = target_of(name)
    data = case(target, target.seeds(), seed, number)
    if keep is not None:
        keep.write_bytes(data)
    with tempfile.TemporaryDirectory() as folder:
        print(f"{len(data)} bytes: {outcome(target, data, Path(folder))}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3600, help="at most, of each target")
    parser.add_argument("--target", action="append", help="only these")
    parser.add_argument("--case", type=int, help="one case again")
    parser.add_argument("--keep", type=Path, help="write that case's bytes here")
    options = parser.parse_args()
    if options.case is not None:
        once(options.target[0], options.seed, options.case, options.keep)
        return 0
    chosen = [t for t in targets() if not options.target or t.name in options.target]
    names = ("cases", "taken", "refused", "crashes")
    head = "".join(f"{name:>8}" for name in names)
    print(f"{'target':<20}{head}{'findings':>9}{'seconds':>9}")
    total: Counter[str] = Counter()
    found: list[str] = []
    for name, cases in shares(chosen, options.cases).items():
        report = campaign(
            name, seed=options.seed, first=options.first, cases=cases, seconds=options.seconds
        )
        print(report.line(), flush=True)
        for key in names:
            total[key] += getattr(report, key)
        kinds: dict[tuple[str, str], list[dict]] = {}
        for one in report.findings:
            kinds.setdefault((one["kind"], one["place"]), []).append(one)
        for (kind, place), items in kinds.items():
            first = items[0]
            found.append(
                f"{name} case {first['case']} ({len(items)}x) {kind} {place}: {first['text']}"
            )
            print("   " + found[-1], flush=True)
    counts = ", ".join(f"{total[name]} {name}" for name in names)
    print(f"{counts}; {len(found)} kinds of finding")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
