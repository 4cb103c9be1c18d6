"""Every write fails once, every run is killed: ``python -m tests.fuzz.faults --help``.

After each break: finished outputs are whole, nothing half-written has a final name, exit code and
message are right, no process is left; the same command again gives what an undisturbed run gives.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.commands import (
    Command,
    Ended,
    Run,
    contents,
    leftovers,
    make,
    state,
)

ERRORS = ("ENOSPC", "EACCES", "EIO")
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")
RECORD = "cardiometa.json"


@dataclass(slots=True)
class Tally:
    """What the breaks of one command and kind came to."""

    cases: int = 0
    codes: Counter[int] = field(default_factory=Counter)
    whole: int = 0  # ended as if nothing had been
    findings: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Bench:
    """One command, its undisturbed output, and a place to break it."""

    command: Command
    folder: Path
    wanted: dict = field(default_factory=dict)
    seconds: float = 0.0
    calls: int = 0

    def words(self, out: Path, *more: str) -> list[str]:
        return [*self.command.words, "--out", str(out), *more]

    def run(self, out: Path, *more: str, fault: dict[str, str] | None = None) -> Ended:
        return Run(self.words(out, *more), self.folder / "log", fault).wait()

    def fault(self, out: Path, at: int, kind: str, *, stays: bool = False) -> dict[str, str]:
        count = self.folder / "count"
        count.unlink(missing_ok=True)
        found = {"FAULT_UNDER": str(out), "FAULT_AT": str(at), "FAULT_KIND": kind}
        found["FAULT_COUNT"] = str(count)
        return {**found, "FAULT_STAYS": "1"} if stays else found

    def learn(self) -> None:
        """Two undisturbed runs: what they agree on, how long one takes, how many calls it makes."""
        out, known = self.folder / "good", self.folder / "learned.json"
        if known.exists():
            self.wanted = contents(out)
            self.seconds, self.calls = json.loads(known.read_text())
            return
        ended = self.run(out)
        assert ended.code == self.command.code, ended.text
        self.wanted = contents(out)
        again = self.folder / "again"
        begun = time.monotonic()
        ended = self.run(again, fault=self.fault(again, 0, "EIO"))
        self.seconds = time.monotonic() - begun
        assert ended.code == self.command.code, ended.text
        differing = [k for k, v in contents(again).items() if v != self.wanted.get(k)]
        assert not differing, f"two undisturbed runs differ in {differing}"
        self.calls = int((self.folder / "count").read_text())
        shutil.rmtree(again)
        known.write_text(json.dumps([self.seconds, self.calls]))

    # -------------------------------------------------------------- one break

    def check(self, out: Path, ended: Ended, kind: str, tally: Tally) -> None:
        """What must hold after a break, and after the same command again."""
        problems = list(self._at_once(out, ended, kind))
        before = self._finished(out)
        again = self.run(out)
        if again.code != self.command.code:
            problems.append(f"the resumed run ends with {again.code}: {again.text[-400:]}")
        elif (found := contents(out)) != self.wanted:
            names = sorted(k for k in {*found, *self.wanted} if found.get(k) != self.wanted.get(k))
            problems.append(f"the resumed output differs in {names}")
        if leftovers(out):
            problems.append(f"temporary files are left: {leftovers(out)}")
        redone = [
            name for name, stamp in self._finished(out).items() if before.get(name, stamp) != stamp
        ]
        if redone:
            problems.append(f"finished scans were done again: {redone}")
        if again.orphans:
            problems.append(f"{again.orphans} processes of the resumed run are left")
        tally.cases += 1
        tally.codes[ended.code] += 1
        tally.whole += ended.code == self.command.code
        tally.findings += [f"{kind}: {problem}" for problem in problems]

    def _at_once(self, out: Path, ended: Ended, kind: str) -> Iterator[str]:
        if "Traceback" in ended.text or "Exception ignored" in ended.text:
            yield f"a traceback: {ended.text[-600:]}"
        if ended.orphans:
            yield f"{ended.orphans} processes are left"
        allowed = {self.command.code}
        if kind in ERRORS:
            allowed.add(1)
            if ended.code == 1 and "cannot be written" not in ended.text:
                yield f"no reason is said: {ended.text[-300:]}"
        elif kind == "SIGKILL":
            allowed.add(-signal.SIGKILL)
        else:
            # Before the program has begun to listen, the system ends it.
            allowed |= {130, -getattr(signal, kind)}
            if ended.code == 130 and "Stopped." not in ended.text:
                yield f"it does not say that it was stopped: {ended.text[-300:]}"
        if ended.code not in allowed:
            yield f"exit {ended.code}: {ended.text[-300:]}"
        if not out.exists():
            return
        try:
            found = contents(out)
        except (ValueError, KeyError) as error:
            yield f"a half-written file: {error}"
            return
        for name, value in found.items():
            unfinished = name == RECORD and state(out) in ("running", "writing")
            if name in self.wanted and value != self.wanted[name] and not unfinished:
                yield f"{name} is not what it should be"
            if name not in self.wanted:
                yield f"an unknown file {name}"
        if state(out) == "complete" and found != self.wanted:
            yield "an unfinished output says that it is complete"

    def _finished(self, out: Path) -> dict[str, int]:
        """The records of finished scans, with what changes when one is written again."""
        return {str(p): p.stat().st_ino for p in out.glob("scans/*/*/*/result.json")}

    # -------------------------------------------------------------- kinds of break

    def break_call(self, at: int, kind: str, tally: Tally, *, stays: bool = False) -> None:
        """The call number ``at`` fails, or the run is struck there."""
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        ended = self.run(out, fault=self.fault(out, at, kind, stays=stays))
        self.check(out, ended, kind, tally)

    def break_moment(self, after: float, kind: str, tally: Tally) -> None:
        """The run is struck ``after`` seconds."""
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        run = Run(self.words(out), self.folder / "log")
        time.sleep(after)
        run.strike(getattr(signal, kind))
        self.check(out, run.wait(), kind, tally)

    def break_overwrite(self, at: int, kind: str, tally: Tally) -> None:
        """A whole output is replaced by one of other options, and call ``at`` of that breaks.

        Then it is the old one, the new one, or says that it is unfinished.
        """
        out, new = self.folder / "out", self.folder / "other"
        if not new.exists():
            ended = self.run(new, *self.command.other)
            assert ended.code == self.command.code, ended.text
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(self.folder / "good", out)
        more = (*self.command.other, "--overwrite")
        ended = self.run(out, *more, fault=self.fault(out, at, kind))
        tally.cases += 1
        tally.codes[ended.code] += 1
        tally.whole += ended.code == self.command.code
        if state(out) == "complete" and contents(out) not in (self.wanted, contents(new)):
            tally.findings.append(f"{kind} at {at}: a mixed output says that it is complete")
        if "Traceback" in ended.text:
            tally.findings.append(f"{kind} at {at}: {ended.text[-400:]}")
        again = self.run(out, *more)
        if again.code != self.command.code or contents(out) != contents(new):
            tally.findings.append(f"{kind} at {at}: not the new output after the second try")


# ------------------------------------------------------------------ campaigns


def plan(bench: Bench, options: argparse.Namespace) -> Iterator[tuple[str, dict]]:
    """Each break: its method and its arguments."""
    rng = random.Random(f"{options.seed}:{bench.command.name}")
    calls = list(range(1, bench.calls + 1))
    if options.every > 1:
        calls = calls[rng.randrange(options.every) :: options.every]
    if "call" in options.what:
        for number in calls:
            for kind in options.errors or [ERRORS[number % 3]]:
                yield "break_call", {"at": number, "kind": kind}
            yield "break_call", {"at": number, "kind": "SIGKILL"}
    if "full" in options.what:
        for number in calls:
            yield "break_call", {"at": number, "kind": "ENOSPC", "stays": True}
    if "moment" in options.what:
        for number in range(options.moments):
            after = rng.uniform(0, 1.1 * bench.seconds)
            yield "break_moment", {"after": after, "kind": SIGNALS[number % 3]}
    if "overwrite" in options.what and bench.command.other:
        for number in calls:
            yield "break_overwrite", {"at": number, "kind": ("SIGKILL", "EIO")[number % 2]}


def campaign(command: Command, folder: Path, options: argparse.Namespace) -> dict[str, Tally]:
    bench = Bench(command=command, folder=folder)
    bench.learn()
    tallies: dict[str, Tally] = {}
    end, last, last_planned = time.monotonic() + options.seconds, options.first - 1, -1
    for number, (method, arguments) in enumerate(plan(bench, options)):
        last_planned = number
        if number < options.first or time.monotonic() > end:
            continue
        last = number
        what = method.removeprefix("break_") + (" on" if arguments.get("stays") else "")
        tally = tallies.setdefault(f"{what} {arguments['kind']}", Tally())
        known = len(tally.findings)
        getattr(bench, method)(tally=tally, **arguments)
        for finding in tally.findings[known:]:
            print(f"  {command.name} break {number} {arguments}: {finding}", flush=True)
    done = f"breaks {options.first} to {last} of {last_planned}"
    print(f"{command.name}: {bench.calls} calls, {bench.seconds:.1f} s undisturbed; {done}")
    for name, tally in tallies.items():
        codes = ", ".join(f"{code}: {n}" for code, n in sorted(tally.codes.items()))
        print(
            f"  {name:<22}{tally.cases:>5} breaks, {tally.whole:>4} ended whole, "
            f"{len(tally.findings):>3} findings; exit codes {codes}",
            flush=True,
        )
    return tallies


def warm() -> None:
    """Import what every run needs, so that each forked one starts at once."""
    import matplotlib.figure
    import pandas as pd
    import scipy.optimize
    import scipy.stats

    import cardiometa.cli.main
    import cardiometa.cli.pool_trials
    import cardiometa.cli.reference_ranges
    import cardiometa.cli.segment
    import cardiometa.commands.pool_trials
    import cardiometa.commands.reference_ranges
    import cardiometa.reports.pages.pooling

    del matplotlib, pd, scipy, cardiometa


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--command", action="append", help="only these commands")
    parser.add_argument("--what", default="call,full,moment,overwrite")
    parser.add_argument("--every", type=int, default=1, help="only each Nth call")
    parser.add_argument("--errors", type=lambda text: text.split(","), help="default: by turns")
    parser.add_argument("--moments", type=int, default=70, help="random moments of each command")
    parser.add_argument("--first", type=int, default=0, help="go on at this break")
    parser.add_argument("--seconds", type=float, default=1e9, help="at most, of each command")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, help="keep inputs and good outputs here")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.what = options.what.split(",")
    # In memory where there is such a place: hundreds of runs wait for the disk otherwise.
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as scratch:
        top = options.work or Path(scratch)
        warm()
        commands = make(top / "input")
        total = {}
        for name in options.command or commands:
            (top / name).mkdir(exist_ok=True)
            total[name] = campaign(commands[name], top / name, options)
    findings = sum(len(t.findings) for one in total.values() for t in one.values())
    cases = sum(t.cases for one in total.values() for t in one.values())
    print(f"{cases} breaks, {findings} findings")
    if options.json:
        print(json.dumps({"breaks": cases, "findings": findings}))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
