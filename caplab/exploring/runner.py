"""Run one job at a time, the latest: earlier ones are told to stop."""

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
    """Check whether a widget shows at once what a thread sets; in Colab it does not."""
    return "google.colab" not in sys.modules


class Runner:
    """Run the latest job, in a thread that lives while there is work, or in the foreground.

    A new job stops the present one and waits for its end; of several that wait, only the last is
    run. In the foreground a job ends before the next can be asked for.
    """

    def __init__(self, threaded: bool = True) -> None:
        self.threaded = threaded
        self._lock = threading.Lock()
        self._job = Job(0)
        self._waiting: tuple[Job, Work] | None = None
        self._working = False
        self._thread: threading.Thread | None = None

    def start(self, work: Work) -> Job:
        """Ask for a job; it replaces all earlier ones."""
        with self._lock:
            self._job.stop.set()
            self._job = job = Job(self._job.number + 1)
            self._waiting = job, work
            idle, self._working = not self._working, True  # a thread at work will take it
        if idle and self.threaded:
            self._thread = threading.Thread(target=self._work, name="explorer", daemon=True)
            self._thread.start()
        elif idle:
            self._work()
        return job

    def stop(self) -> None:
        """Tell the job to stop; its remaining messages still count."""
        self._job.stop.set()

    def forget(self) -> None:
        """Tell the job to stop, and ignore its remaining messages."""
        with self._lock:
            self._job.stop.set()
            self._job, self._waiting = Job(self._job.number + 1), None

    def is_latest(self, job: Job) -> bool:
        """Check that no newer job has been asked for."""
        return job is self._job

    def join(self, seconds: float = 60) -> bool:
        """Wait until no work is left; return whether that was in time."""
        if self._thread:
            self._thread.join(seconds)
        return not self._working

    def _work(self) -> None:
        """Run the waiting job, and the next, until none waits."""
        while waiting := self._take():
            job, work = waiting
            work(job)

    def _take(self) -> tuple[Job, Work] | None:
        """Take the waiting job; under the lock, so that `start` knows if this thread ends."""
        with self._lock:
            waiting, self._waiting = self._waiting, None
            self._working = waiting is not None
            return waiting
