"""Run as a script between the daemon and torchrun: sets the death signal and the limits, then becomes torchrun.

Standard library only, and no import of ckptwatch: it starts in milliseconds.
usage: shim.py PARENT_PID NICE -- COMMAND [ARG ...]
"""

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1
FILE_MAX_BYTES = 1 << 36  # no job writes a larger file; the largest that it may have to write is its token cache


def main() -> None:
    parent, nice, dashes, *command = sys.argv[1:]
    assert dashes == "--"
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):  # the daemon died before the line above
        sys.exit(1)
    os.setsid()
    os.nice(int(nice))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_MAX_BYTES, FILE_MAX_BYTES))
    _idle_io()
    for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    os.execv(command[0], command)


def _idle_io() -> None:
    """Best-effort class, lowest level: the trainer's own reads and writes go first."""
    number = {"x86_64": 251, "aarch64": 30}.get(os.uname().machine)
    if number is not None:
        ctypes.CDLL(None).syscall(number, 1, 0, (2 << 13) | 7)


main()
