"""Which CPUs clients and servers run on.

Left to the scheduler, a client that waits for each reply is two to three times as fast in some runs
as in others: it depends on whether it shares a CPU with its server, when nobody has to be woken on
another one. Apart, as on two machines, is what is measured.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

CPUs = frozenset[int]


@dataclass(frozen=True)
class Placement:
    """The CPUs of clients and of servers."""

    clients: CPUs
    servers: CPUs


def placement(*, apart: bool) -> Placement:
    """Return one half of the CPUs for clients and the other for servers; all for both where they
    need not be apart, or there is only one.
    """
    cpus = sorted(os.sched_getaffinity(0))
    if not apart or len(cpus) < 2:
        return Placement(frozenset(cpus), frozenset(cpus))
    half = len(cpus) // 2
    return Placement(frozenset(cpus[:half]), frozenset(cpus[half:]))


@contextmanager
def children_on(cpus: CPUs) -> Iterator[None]:
    """Have the processes that are started in the block run on these CPUs."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)
