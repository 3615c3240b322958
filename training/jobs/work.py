"""The process of one run: ``python -m training.jobs.work FOLDER``, started by the queue.

It does what ``python -m training fit`` (or ``calibrate`` and ``evaluate``) does, and says in
``status.json`` how it ended. When it ends it starts the next run of the queue, but not where it was
ended by a signal that nobody of the queue sent.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from core.errors import CascadeError, of_disk
from core.settings import Settings
from training import status
from training.data import confined
from training.jobs.datasets import allowed
from training.jobs.queue import LOCK_VARIABLE, Queue
from training.jobs.record import Job

log = logging.getLogger("training.jobs")
NICE = 10  # whoever reads radiographs on this machine comes first


def main(arguments: Sequence[str] | None = None) -> int:
    folder = Path((sys.argv[1:] if arguments is None else arguments)[0])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    lock = int(os.environ.pop(LOCK_VARIABLE))
    os.set_inheritable(lock, False)  # what this process starts does not hold the queue
    own = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, max(own, NICE))
    queue = Queue(folder.parent)
    job = queue.started(folder)
    code = _work(folder, job, stop)
    if stop.is_set() and not _asked(folder):
        return code
    if queue.advance(held=lock) is None:
        os.close(lock)
        queue.advance()  # for a run that came while this one still had the lock
    return code


def _asked(folder: Path) -> bool:
    """Whether somebody of the queue told this run to stop. Else the computer goes down, and would
    end the next run as well: that one waits in the queue until somebody opens the page."""
    job = Job.read(folder)
    return job is None or job.wanted != "run" or job.queued > 0  # it may wait again already


def _work(folder: Path, job: Job, stop: threading.Event) -> int:
    """The boundary of a run: what happens is logged with its trace and said in one line."""
    try:
        with confined(allowed(Settings.from_environment())):
            if job.task == "fit":
                _fit(folder, job, stop)
            else:
                _evaluate(folder, job)
    except status.Stopped as pause:
        log.info("%s", pause)
    except Exception as error:
        log.exception("The run failed.")
        status.fail(folder, sentence(error))
        return 1
    return 0


def _fit(folder: Path, job: Job, stop: threading.Event) -> None:
    from core.allocator import keep_large_blocks
    from training import fit

    keep_large_blocks()
    settings: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in job.settings.items()
    }
    fit.Run(fit.Settings(**settings, out=str(folder)), stop.is_set).fit()


def _evaluate(folder: Path, job: Job) -> None:
    """``calibrate`` where there is no whole candidate, then ``evaluate`` on the task's split."""
    from training import candidate, evaluation

    split, writer = job.task.partition(":")[2], status.Status(folder)
    if not candidate.is_whole(folder):
        writer.write("running", 0.0, "calibration")
        candidate.build(folder, release_id(folder))
    writer.write("running", 0.5, f"evaluation on {split}")
    settings = evaluation.Settings(
        data=tuple(job.settings["data"]),
        weights=folder / "candidate",
        split=split,
        device=str(job.settings.get("device", "auto")),
        out=folder / split,
    )
    evaluation.run(settings, print)
    writer.write("finished", 1.0)


def release_id(folder: Path) -> str:
    """``20261128-113000-quick-look`` -> ``2026.11-28-113000-quick-look``."""
    return f"{folder.name[:4]}.{folder.name[4:6]}-{folder.name[6:]}"


def sentence(error: BaseException) -> str:
    """One plain sentence for what ended a run."""
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
            return status.NO_SPACE
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "There was not enough memory; a smaller batch or input size needs less."
    if isinstance(error, OSError) and error.filename:
        return of_disk(error)
    if isinstance(error, CascadeError | FloatingPointError):
        return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"It ended with an unexpected error ({type(error).__name__}); see the log."


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from."""
    seen: list[Any] = []
    at: BaseException | None = error
    while at is not None and at not in seen:
        seen.append(at)
        yield at
        at = at.__cause__ or at.__context__


if __name__ == "__main__":
    sys.exit(main())
