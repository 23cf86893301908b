"""Who waits for whom when the cores are few: background processes give way to those between a tick and its order.

In: a process that was just started. Out: its scheduling class. A background process gets SCHED_BATCH, which never
preempts another when it wakes, and a nice value, which is its share under load. A hot one asks for a short slice
(Linux 6.12), which lets it preempt whoever has a longer one the moment it wakes; without it a message waits for the
end of somebody's slice, up to 3 ms. Neither needs a privilege. Threads inherit from the thread that makes them, so
the first moment of a process decides for all of it. Decision record 0100.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct
from pathlib import Path

_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
_ATTRIBUTES = struct.Struct("=IIQiIQQQII")


def step_back(pid: int, nice: int) -> None:
    """Make every thread of ``pid`` a background thread, ``nice`` steps below this process; 0 only keeps our own nice.

    A child leads a session of its own, and where the kernel schedules by session (autogroup) a thread's nice value
    counts only inside of it: the session's has to be set as well. A system without these calls, or that refuses
    them, runs it as any other process: only latency suffers.
    """
    absolute = min(19, os.getpriority(os.PRIO_PROCESS, 0) + nice)
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(absolute), encoding="ascii")
    if not nice:
        return
    for thread in _threads(pid):
        with contextlib.suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, thread, absolute)
            os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))


def shorten_slice(pid: int, slice_us: int) -> bool:
    """Ask for turns of ``slice_us`` for every thread of ``pid``; 0 leaves the system's own. Whether it was granted."""
    number = _SCHED_SETATTR.get(platform.machine())
    if not slice_us or number is None or platform.system() != "Linux":
        return False
    call = ctypes.CDLL(None, use_errno=True).syscall
    granted = True
    for thread in _threads(pid):
        with contextlib.suppress(OSError):
            nice = os.getpriority(os.PRIO_PROCESS, thread)
            # size, policy SCHED_OTHER, flags, nice, priority, runtime (the slice), deadline, period, clamps
            attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, 0, 0, nice, 0, slice_us * 1000, 0, 0, 0, 0)
            granted = call(number, thread, ctypes.c_char_p(attributes), 0) == 0 and granted
    return granted


def _threads(pid: int) -> list[int]:
    try:
        return [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return [pid]
