"""Does a process still have a file open for writing, or mapped so that it can write?

A stat does not show it: writes through a shared mapping change neither mtime nor ctime once the page is dirty. The
kernel refuses a read lease while there is a writer. Never waits, and never keeps the lease.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal


def is_open_for_writing(path: str) -> bool | None:
    """None where it cannot be known: another owner's file, or a file system without leases. Raises OSError of open."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)  # if someone opens it right now; SIGIO would end the daemon
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    finally:
        os.close(fd)  # this gives the lease back
    return False
