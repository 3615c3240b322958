"""Concurrency with bounded queues that keeps the order."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def ahead(
    pool: Executor, function: Callable[[A], B], items: Iterable[A], depth: int
) -> Iterator[B]:
    """``map(function, items)`` in order, with at most ``depth`` items begun and not yet taken.

    What ``function`` raises is raised where its result would have come.
    """
    waiting: deque[Future[B]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def prefetched(items: Iterable[A], size: int) -> Iterator[A]:
    """The same items, drawn by a thread of its own that is at most ``size`` ahead.

    Closing the iterator ends the thread; an error in ``items`` is raised here.
    """
    ready: queue.Queue[tuple[bool, A | BaseException | None]] = queue.Queue(size)
    closed = threading.Event()
    thread = threading.Thread(target=_draw, args=(items, ready, closed), name="prefetch")
    thread.start()
    try:
        while True:
            more, value = ready.get()
            if more:
                yield value  # type: ignore[misc]
            elif value is not None:
                raise value  # type: ignore[misc]
            else:
                return
    finally:
        closed.set()
        while thread.is_alive():  # it may wait for a place in the queue
            while not ready.empty():
                ready.get_nowait()
            thread.join(0.01)


def _draw(
    items: Iterable[A],
    ready: queue.Queue[tuple[bool, A | BaseException | None]],
    closed: threading.Event,
) -> None:
    last: BaseException | None = None
    source = iter(items)
    try:
        for item in source:
            ready.put((True, item))
            if closed.is_set():
                break
    except BaseException as error:  # noqa: BLE001 - raised again by the consumer
        last = error
    finally:
        close = getattr(source, "close", None)
        if close is not None:
            close()
        ready.put((False, last))


def chunks(items: Iterable[A], size: int) -> Iterator[list[A]]:
    """Lists of ``size`` items, the last one shorter."""
    chunk: list[A] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
