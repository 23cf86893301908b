"""The room on the disk under the state of one machine: asked before the start, and every second afterwards.

A full disk stops no process, so that nobody would say anything: no intent and no order event can be stored, and
nothing new is sent. Besides, nats-server takes nothing more once a write has failed, not even when there is room
again; who watches it has to start it anew (docs/decisions/0200).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tickmesh.domain.errors import ConfigError

MB = 1_000_000
LEAST_TO_START = 128 * MB
"""An empty state takes about 70 MB, most of it Postgres' own."""
LOW = 64 * MB
_REFUSED = b"no space left on device"


def free_bytes(folder: Path) -> int:
    """What may still be written where ``folder`` is, by anybody but root."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def demand_room(folder: Path) -> None:
    """Raises ConfigError when there is too little room to start."""
    free = free_bytes(folder)
    if free < LEAST_TO_START:
        raise ConfigError(
            f"only {free // MB} MB are free on the disk of {folder}, a start takes {LEAST_TO_START // MB} MB; "
            f"free space there or choose another place with --data-dir"
        )


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look brought: ``sentence`` when it is news, ``trouble`` as long as it lasts."""

    sentence: str = ""
    trouble: str = ""
    restart_nats: bool = False


class Room:
    """Watches the disk of one run."""

    def __init__(self, folder: Path, nats_log: Path, free: Callable[[Path], int] = free_bytes) -> None:
        self._folder = folder
        self._nats_log = nats_log
        self._free = free
        self._low = False
        self._was_low = False
        self._read_to = 0

    def look(self) -> Sight:
        """Once a second."""
        free = self._free(self._folder)
        if free < LOW:
            news, self._low, self._was_low = not self._low, True, True
            return Sight(
                f"the disk of {self._folder} has {free // MB} MB left: free space there; "
                "when it is full nothing new can be recorded, and no order is sent" if news else "",
                f"disk: {free // MB} MB left",
            )  # fmt: skip
        news, self._low = self._low, False
        if news:
            self._read_to = self._size()
            return Sight(f"the disk of {self._folder} has room again: {free // MB} MB")
        if self._was_low and self._nats_refuses():
            self._was_low = False
            return Sight("nats still refuses what comes, as it does after a full disk; starting it anew", "", True)
        return Sight()

    def _size(self) -> int:
        try:
            return self._nats_log.stat().st_size
        except OSError:
            return 0

    def _nats_refuses(self) -> bool:
        """Whether its log told of a refused write since there is room."""
        try:
            with self._nats_log.open("rb") as log:
                log.seek(self._read_to)
                said = log.read()
        except OSError:
            return False
        self._read_to += len(said)
        return _REFUSED in said.lower()
