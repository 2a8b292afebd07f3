"""Whether a server answers commands sooner one by one than in a flight.

A server that leaves Nagle's algorithm on and writes each reply separately holds the second reply
back until the first is acknowledged. If the client's system delays that and can't be told otherwise
(drive/acks.py), or a proxy's does, each flight costs 40 to 200 ms. Commands that are sent one by
one carry the acknowledgement of the reply before.

The symptom is that the replies to flights repeatedly come far apart. But the server may also take
long for each recipient; so one transaction is then sent sequentially, and timed. If that is faster,
the host gets sequential commands as long as the process lasts; if not, the next try comes after
twice as many flights.
"""

from __future__ import annotations

import math

# Between two replies to one flight. Systems delay acknowledgements by 40 ms or more.
_SUSPICIOUS_SECONDS = 0.03

# Flights in a row whose replies come so far apart, before the first try.
_PATIENCE = 2

# Sequential commands are kept if they take less than this share of the wait that they save.
_SHARE = 0.8


class Pace:
    """The pace of a host, as far as it is known."""

    __slots__ = ("_commands", "_flights_left", "_patience", "_step", "_wait")

    def __init__(self) -> None:
        # Seconds for one command by itself; None while nothing has shown that sequential commands
        # are faster.
        self._step: float | None = None
        self._patience = _PATIENCE
        self._begin()

    def _begin(self) -> None:
        """Counts flights from here on."""
        self._flights_left = self._patience
        # Of the slow flights: the shortest gap, and the most commands.
        self._wait = math.inf
        self._commands = 0

    def is_sequential_faster(self, commands: int) -> bool:
        """Return whether sequential commands have proved faster with this host."""
        return self._step is not None and self._is_faster(self._step, commands)

    def is_sequential_due(self, commands: int) -> bool:
        """Return whether so many commands are to be sent sequentially: because that is faster, or
        to see whether it is."""
        if self._step is None:
            # A transaction shorter than the slow ones could be faster just because it is short.
            return self._flights_left <= 0 and commands >= self._commands
        return self._is_faster(self._step, commands)

    def learn_flight(self, commands: int, gap: float) -> None:
        """Takes note of a flight, and of the longest wait between two replies to it, in seconds."""
        if gap >= _SUSPICIOUS_SECONDS:
            self._wait = min(self._wait, gap)
            self._commands = max(self._commands, commands)
            self._flights_left -= 1
        elif self._step is None and self._commands:
            self._begin()

    def learn_sequence(self, commands: int, seconds: float) -> None:
        """Takes note of commands that were sent one by one, and how long all of them took."""
        step = seconds / commands
        if self._step is not None:
            self._step = min(self._step, step)
        elif self._flights_left <= 0 and commands >= self._commands:
            if self._is_faster(step, self._commands):
                self._step = step
            else:
                self._patience *= 2
                self._begin()

    def _is_faster(self, step: float, commands: int) -> bool:
        # The flight's own round trip is left out: what a server takes for the commands themselves
        # is in both.
        return commands * step < _SHARE * self._wait
