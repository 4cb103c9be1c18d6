"""Worker processes and the scans they have in hand: who does what, who hangs, who died of what.

A scan that takes too long has its process ended and fails alone. When a process dies, the scans
that it was working on are tried once more, one at a time at the end, so that the blame is certain;
what kills its process twice has failed. The scans beside it go on in a new process.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import EngineError
from ..files import remove_leftovers
from ..records import ScanResult
from .engine import EngineSetup, absolute, available_cores
from .process_factory import Nursery, Process
from .process_scan import Failure, ScanJob, write_failure
from .result_file import KILLED_CODE, TIMEOUT_CODE, scan_folder, slim
from .scan_pipeline import Event
from .worker import WorkerSetup

_START_S = 300.0  # torch from a slow network file system
_TICK_S = 0.5
_MAX_IDLE_DEATHS = 3


@dataclass(slots=True, kw_only=True, eq=False)
class _Flight:
    """A scan in a worker's hands: since when it is worked on (None: it waits), and how long yet."""

    job: ScanJob
    since: float | None = None
    spent_s: float = 0.0

    def seconds(self, now: float) -> float:
        return self.spent_s + (0.0 if self.since is None else now - self.since)


@dataclass(slots=True, kw_only=True, eq=False)
class _Hand:
    """One worker process."""

    process: Process
    begun: float
    device: str = ""
    alone: bool = False
    flights: dict[int, _Flight] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        return bool(self.device)


def processes_for(workers: int, scans: int) -> tuple[int, int]:
    """Processes, and batches side by side in each, on ``workers`` cores."""
    processes = max(1, min(workers, scans))
    return processes, max(1, workers // processes)


class Crew:
    """Worker processes on this machine; an `Engine`. Example in `segment_run`."""

    def __init__(self, setup: EngineSetup, nursery: Nursery | None = None) -> None:
        self.notes: Sequence[str] = ()
        self._setup = setup
        self._workers = setup.workers or available_cores()
        self._nursery = nursery
        self._own_nursery = nursery is None
        self._closed = False
        self._hands: list[_Hand] = []
        self._events: queue.Queue[tuple[_Hand, Event | None]] = queue.Queue()
        self._idle_deaths = 0
        self._next_ticket = 0

    def warm(self) -> None:
        """Load the libraries meanwhile; where OUT is there, all may be done already."""
        if self._setup.out.exists():
            return
        if self._nursery is None:
            self._nursery = Nursery(network=True)
        self._nursery.warm()

    def run(
        self, jobs: Sequence[ScanJob], on_result: Callable[[ScanResult], None]
    ) -> list[ScanResult]:
        """See `Engine.run`; raises EngineError where no worker can be kept alive."""
        if not jobs:
            return []
        if self._nursery is None:
            self._nursery = Nursery(network=_needs_network(jobs))
        shift = _Shift(self, [absolute(job) for job in jobs], on_result)
        try:
            return shift.work()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End every process."""
        self._closed = True
        hands = list(self._hands)
        for hand in hands:
            hand.process.kill()
        for hand in hands:
            self.dismiss(hand)
        if self._nursery is not None and self._own_nursery:
            self._nursery.close()

    # ---------------------------------------------------------- hands

    @property
    def hands(self) -> Sequence[_Hand]:
        """The workers at hand."""
        return self._hands

    def staff(self, jobs: Sequence[ScanJob], *, left: int) -> None:
        """Start workers until there is one for each process wanted, the first one by itself.

        It tells the device: an accelerator is given one process, which reads ahead.
        """
        if self._closed:
            raise EngineError("The run was ended.", hint="Scans finished so far stay.")
        processes, threads = processes_for(self._workers, len(jobs))
        devices = {hand.device for hand in self._hands if hand.ready}
        if devices != {"cpu"}:
            processes = 1
        while len(self._hands) < min(processes, left):
            self._hands.append(self._start(jobs, threads))

    def _start(self, jobs: Sequence[ScanJob], threads: int) -> _Hand:
        assert self._nursery is not None
        model = self._setup.model
        hand = _Hand(process=self._nursery.start(), begun=time.monotonic())
        setup = WorkerSetup(
            out=self._setup.out.absolute(),
            model=model,
            eager=_needs_network(jobs),
            device=self._setup.device,
            batch=self._setup.batch,
            threads=threads,
            readers=self._workers,
        )
        threading.Thread(target=self._listen, args=(hand,), daemon=True).start()
        with contextlib.suppress(OSError):  # it died already: the listener tells
            hand.process.channel.send(setup)
        return hand

    def _listen(self, hand: _Hand) -> None:
        with contextlib.suppress(EOFError, OSError, ValueError):
            while True:
                self._events.put((hand, hand.process.channel.receive()))
        self._events.put((hand, None))

    def events(self) -> Iterator[tuple[_Hand, Event | None]]:
        """What workers still at hand have told, after waiting a while for the first."""
        wait_s: float = _TICK_S
        with contextlib.suppress(queue.Empty):
            while True:
                hand, event = self._events.get(block=wait_s > 0, timeout=wait_s or None)
                wait_s = 0
                if hand in self._hands:
                    yield hand, event

    def dismiss(self, hand: _Hand) -> str:
        """End a worker and say how it ended."""
        with contextlib.suppress(ValueError):  # another thread may close the crew
            self._hands.remove(hand)
        hand.process.kill()
        how = hand.process.ended()
        hand.process.channel.close()
        return how

    def died_idle(self, how: str) -> None:
        """Count a worker that died with nothing to do; raises EngineError after a few in a row."""
        self._idle_deaths += 1
        if self._idle_deaths >= _MAX_IDLE_DEATHS:
            raise EngineError(
                f"Workers end before they begin ({how}).",
                hint="Often too little memory: try --workers 1. `cardiometa doctor` tells more. "
                "Scans finished so far stay.",
            )

    def tickets(self, count: int) -> int:
        """The first of so many numbers that no scan of this crew has had."""
        self._next_ticket += count
        return self._next_ticket - count

    def worked(self) -> None:
        """A worker brought a result: those that died before it died of something else."""
        self._idle_deaths = 0

    def depth(self, hand: _Hand, pending: int) -> int:
        """How many scans a worker may have at once: one, and some ahead while many are left."""
        if hand.alone:
            return 1
        if hand.device != "cpu":
            return self._workers + 2
        return 2 if pending > len(self._hands) else 1

    @property
    def setup(self) -> EngineSetup:
        """What the crew works with."""
        return self._setup


class _Shift:
    """One call of `Crew.run`: its scans on their way through the crew."""

    def __init__(
        self, crew: Crew, jobs: Sequence[ScanJob], on_result: Callable[[ScanResult], None]
    ) -> None:
        self._crew, self._jobs, self._on_result = crew, jobs, on_result
        self._pending = deque(enumerate(jobs, start=crew.tickets(len(jobs))))
        self._suspects: deque[tuple[int, ScanJob]] = deque()
        self._kills: Counter[int] = Counter()
        self._results: list[ScanResult] = []

    def work(self) -> list[ScanResult]:
        while len(self._results) < len(self._jobs):
            left = len(self._jobs) - len(self._results)
            self._crew.staff(self._jobs, left=left)
            self._feed()
            for hand, event in self._crew.events():
                self._handle(hand, event)
            self._end_late_ones()
        return self._results

    def _finish(self, result: ScanResult) -> None:
        self._results.append(result)
        self._on_result(result)

    def _feed(self) -> None:
        ready = [hand for hand in self._crew.hands if hand.ready]
        for hand in sorted(ready, key=lambda hand: len(hand.flights)):
            while self._pending and len(hand.flights) < self._crew.depth(hand, len(self._pending)):
                self._give(hand, *self._pending.popleft())
        if self._pending:
            return
        # Who may have killed a process works alone, when all others are done.
        for hand in ready:
            if self._suspects and not hand.flights:
                hand.alone = True
                self._give(hand, *self._suspects.popleft())

    def _give(self, hand: _Hand, ticket: int, job: ScanJob) -> None:
        hand.flights[ticket] = _Flight(job=job)
        with contextlib.suppress(OSError):  # it died just now: its listener tells
            hand.process.channel.send((ticket, job))

    def _handle(self, hand: _Hand, event: Event | None) -> None:
        if event is None:
            self._mourn(hand)
        elif event.kind == "ready":
            hand.device = event.device
        elif event.kind == "fatal":
            assert event.error is not None
            raise event.error
        elif event.ticket in hand.flights:
            flight = hand.flights[event.ticket]
            now = time.monotonic()
            if event.kind == "busy":
                flight.since = now
            elif event.kind == "pause":
                flight.spent_s, flight.since = flight.seconds(now), None
            else:
                assert event.result is not None
                del hand.flights[event.ticket]
                hand.alone = False
                self._crew.worked()
                self._finish(event.result)

    def _mourn(self, hand: _Hand) -> None:
        how = self._crew.dismiss(hand)
        at_work = {t: f for t, f in hand.flights.items() if f.since is not None}
        if not at_work:
            self._crew.died_idle(how)
        self._clean(hand)
        for ticket, flight in hand.flights.items():
            if ticket not in at_work:
                self._pending.appendleft((ticket, flight.job))
                continue
            self._kills[ticket] += 1
            if self._kills[ticket] < 2:
                self._suspects.append((ticket, flight.job))
                continue
            sentence = (
                f"The process that worked on this scan died of it twice ({how}): a file that "
                "crashes its decoder, or too little memory. It is tried again next time."
            )
            self._fail(flight.job, KILLED_CODE, sentence)

    def _end_late_ones(self) -> None:
        limit, now = self._crew.setup.timeout_s, time.monotonic()
        for hand in list(self._crew.hands):
            if not hand.ready and now - hand.begun > _START_S:
                self._crew.dismiss(hand)
                self._crew.died_idle(f"not ready after {_START_S:.0f} s")
                continue
            late = {t for t, f in hand.flights.items() if 0 < limit < f.seconds(now)}
            if not late:
                continue
            self._crew.dismiss(hand)
            self._clean(hand)
            for ticket, flight in hand.flights.items():
                if ticket in late:
                    sentence = f"It was not finished after {limit:g} s (--timeout) and was ended."
                    self._fail(flight.job, TIMEOUT_CODE, sentence)
                else:
                    self._pending.appendleft((ticket, flight.job))

    def _clean(self, hand: _Hand) -> None:
        for flight in hand.flights.values():
            remove_leftovers(scan_folder(self._crew.setup.out, flight.job.key))

    def _fail(self, job: ScanJob, code: str, sentence: str) -> None:
        run: dict[str, Any] = {"timeout_s": self._crew.setup.timeout_s}
        failure = Failure(job=job, code=code, sentence=sentence)
        self._finish(slim(write_failure(self._crew.setup.out, failure, run=run)))


def _needs_network(jobs: Sequence[ScanJob]) -> bool:
    return any(job.stored is None for job in jobs)
