"""Reports an unexpected exception in one sentence and writes its traceback to the file that the sentence names.

Never decides an exit status beyond the error's own, and never hides a traceback: where no file can be written it goes
to stderr.
"""

from __future__ import annotations

import errno
import os
import re
import sys

from watcher.errors import CkptwatchError, ConfigError, EnvironmentProblem

_HOME_HINT = "set HOME, or name the folders: --db FILE, [store] state_dir"


def refuse_deleted_folder() -> None:
    """Raise EnvironmentProblem where the working folder is gone: relative paths and the default database need it."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise EnvironmentProblem("the working folder was deleted", hint="cd to a folder that exists") from None
    except OSError as error:
        raise EnvironmentProblem(f"the working folder cannot be read: {error.strerror}", hint="cd elsewhere") from None


def as_error(error: Exception) -> CkptwatchError:
    """The error to show: a known condition of the machine by its name, anything else with its traceback's file."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None:
        return EnvironmentProblem("cannot write: no space left on the device", hint="df -h . ; see where stdout goes")
    if isinstance(error, RuntimeError) and "home directory" in str(error):
        if os.path.expanduser("~") == "~":
            return EnvironmentProblem(f"user id {os.getuid()} has no home folder here", hint=_HOME_HINT)
        return ConfigError("a path begins with ~ and the name of no user", hint="write the path from / on")
    if isinstance(error, KeyError) and "uid not found" in str(error):
        return EnvironmentProblem(f"user id {os.getuid()} is not in the user database", hint=_HOME_HINT)
    first_line = next(iter(str(error).splitlines()), "")
    cause = f"unexpected {type(error).__name__}: {first_line[:300]}"
    file = write_traceback(error)
    where = f"the traceback is in {file}" if file else "the traceback is above; no file could be written for it"
    return CkptwatchError(
        f"{cause}; {where}",
        hint="`ckptwatch doctor` checks this machine; for a defect of ckptwatch, report it with that traceback",
    )


def write_traceback(error: Exception) -> str | None:
    """The file that now holds command line, versions and traceback; None where only stderr could be written.

    Under systemd the traceback goes to the journal as well: the service has a /tmp of its own.
    """
    import platform
    import tempfile
    import traceback
    from importlib import metadata

    trace = "".join(traceback.format_exception(error))
    if "JOURNAL_STREAM" in os.environ:
        sys.stderr.write(trace)
    try:
        head = f"ckptwatch {metadata.version('ckptwatch')}, Python {platform.python_version()}, {platform.platform()}\n"
        words = " ".join(re.sub(r"://[^@/\s]*@", "://***@", word) for word in sys.argv)
        handle, file = tempfile.mkstemp(prefix="ckptwatch-error-", suffix=".txt")
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as out:
            out.write(f"{head}{words}\n\n{trace}")
        return file
    except Exception:  # whatever is broken here, the first error must be seen
        sys.stderr.write(trace)
        return None
