"""Do one job at a time, the latest: what was asked for before it is told to stop."""

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

__all__ = ["Job", "Runner", "threads_show"]


@dataclass(eq=False)
class Job:
    """A number that grows with each job, and the event that ends this one."""

    number: int
    stop: threading.Event = field(default_factory=threading.Event)


Work: TypeAlias = Callable[[Job], None]


def threads_show() -> bool:
    """Tell whether what a thread sets on a widget is shown at once; in Colab it is not."""
    return "google.colab" not in sys.modules


class Runner:
    """Run the latest job in a thread that lives while there is work, or in the foreground.

    A new job stops the one before it and waits until that has ended; of several that wait, only the
    last is done. In the foreground a job has to end before the next can be asked for.
    """

    def __init__(self, threaded: bool = True) -> None:
        self.threaded = threaded
        self._lock = threading.Lock()
        self._job = Job(0)
        self._waiting: tuple[Job, Work] | None = None
        self._working = False
        self._thread: threading.Thread | None = None

    def start(self, work: Work) -> Job:
        """Ask for a job, in the place of all before it."""
        with self._lock:
            self._job.stop.set()
            self._job = job = Job(self._job.number + 1)
            self._waiting = job, work
            idle, self._working = not self._working, True
        if idle and self.threaded:
            self._thread = threading.Thread(target=self._work, name="explorer", daemon=True)
            self._thread.start()
        elif idle:
            self._work()
        return job

    def stop(self) -> None:
        """Tell the job to stop; what it says from now on still counts."""
        self._job.stop.set()

    def forget(self) -> None:
        """Stop the job, and let nothing count that it says from now on."""
        with self._lock:
            self._job.stop.set()
            self._job, self._waiting = Job(self._job.number + 1), None

    def is_latest(self, job: Job) -> bool:
        """Tell whether no newer job has been asked for."""
        return job is self._job

    def join(self, seconds: float = 60) -> bool:
        """Wait until there is nothing left to do; tell whether that came in time."""
        if self._thread:
            self._thread.join(seconds)
        return not self._working

    def _work(self) -> None:
        """Do what waits, until nothing does."""
        while waiting := self._take():
            job, work = waiting
            work(job)

    def _take(self) -> tuple[Job, Work] | None:
        with self._lock:
            waiting, self._waiting = self._waiting, None
            self._working = waiting is not None
            return waiting
