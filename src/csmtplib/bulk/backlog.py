"""Tasks that wait for their time: for the next try, or for what their domain's rate allows."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .task import Task


class Backlog:
    """Tasks by the time when they are due, on a monotonic clock. `len()` counts them.

    Those of the same time come in the order in which they were added.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Task]] = []
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, due: float, task: Task) -> None:
        """Has a task wait."""
        heapq.heappush(self._heap, (due, next(self._numbers), task))

    def due(self, now: float) -> Iterator[Task]:
        """Takes out the tasks that are due."""
        while self._heap and self._heap[0][0] <= now:
            yield heapq.heappop(self._heap)[2]

    def due_in(self, now: float) -> float | None:
        """Seconds until one is due; None where there is none."""
        return max(0.0, self._heap[0][0] - now) if self._heap else None

    def clear(self) -> list[Task]:
        """Takes out all."""
        tasks = [task for _, _, task in sorted(self._heap)]
        self._heap.clear()
        return tasks
