"""One job at a time, the latest."""

import threading

from caplab.exploring.runner import Runner


def test_of_ten_quick_jobs_the_last_counts():
    runner, begun, gate = Runner(), [], threading.Event()

    def work(job):
        begun.append(job.number)
        gate.wait(10)

    jobs = [runner.start(work) for _ in range(10)]
    gate.set()
    assert runner.join(10)
    assert begun in ([1, 10], [10])
    assert [runner.is_latest(job) for job in jobs] == [False] * 9 + [True]
    assert all(job.stop.is_set() for job in jobs[:-1])
    assert not jobs[-1].stop.is_set()


def test_no_thread_stays_behind():
    runner = Runner()
    runner.start(lambda job: None)
    assert runner.join(10)
    assert "explorer" not in [thread.name for thread in threading.enumerate()]


def test_in_the_foreground_start_waits():
    done, here = [], threading.current_thread()
    Runner(threaded=False).start(lambda job: done.append(threading.current_thread() is here))
    assert done == [True]
