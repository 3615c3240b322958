"""Runs as processes of their own: a queue of them in ``BONE_HOME/runs``, and the truth about each.

A run's folder holds, beside what ``training.fit`` writes, ``job.json`` (what is wanted of it),
``process.json`` (which process works on it) and ``log.txt``. Nothing here imports torch.
"""

from training.jobs.queue import JobRefused, Queue
from training.jobs.record import Job, Record, State

__all__ = ["Job", "JobRefused", "Queue", "Record", "State"]
