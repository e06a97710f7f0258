"""Reads the next checkpoint of a backlog into the kernel's page cache while the current one is evaluated.

Only advice to the kernel: no tensor is allocated, nothing is verified and no error is reported; the load does all of
that. One file at a time, only what its model needs, and never more than a share of the memory that is free anyway.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

from evalcore.archive.container.directory import Directory, data_offset
from evalcore.archive.container.source import OpenFile
from evalcore.archive.payload import identify
from evalcore.archive.reading import understand
from evalcore.loading.reading import loadable_state
from evalcore.messages import Item, ModelSpec
from evalcore.worker.failpoints import failpoint

SHARE = 0.5  # of the spare memory: the rest stays for the page cache of the trainer
_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


class ReadAhead:
    """At most one file is being read ahead."""

    def __init__(self, model: ModelSpec) -> None:
        self._model = model
        self._thread: threading.Thread | None = None

    def begin(self, item: Item | None) -> None:
        """Start to read the item's file; nothing for None, a mean, a folder, or while another one is being read."""
        if item is None or item.members or (self._thread is not None and self._thread.is_alive()):
            return
        # in a thread: on some file systems the advice waits for the read
        self._thread = threading.Thread(target=self._advise, args=(item,), name="read ahead", daemon=True)
        self._thread.start()

    def _advise(self, item: Item) -> None:
        failpoint("read_ahead")
        try:
            with OpenFile(os.fsencode(item.path)) as file:
                places = list(needed_ranges(file, item.beside or None, self._model))
                if sum(size for _, size in places) <= SHARE * spare_bytes():
                    for offset, size in places:
                        os.posix_fadvise(file.fd, offset, size, os.POSIX_FADV_WILLNEED)
        except Exception:  # whatever is wrong with the file, its own load meets it and reports it
            return


def needed_ranges(file: OpenFile, beside: str | None, model: ModelSpec) -> Iterator[tuple[int, int]]:
    """(offset, bytes) of the records that the model needs; the whole file where there are no records with a CRC.

    Raises ArchiveError, CheckpointError, KeyError.
    """
    directory = identify(file)
    if not isinstance(directory, Directory) or directory.unverified:  # to understand it would read it as a whole
        yield 0, file.size
        return
    state = loadable_state(understand(file, path=beside, wanted=model.state, settings=model.config), model)
    for key in {ref.storage.key for ref in state.tensors.values()}:
        entry = directory.entries[f"data/{key}"]
        yield file.start + data_offset(file, entry, directory.start), entry.size


def spare_bytes(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Memory for new page cache without eviction: of the machine, or less where a control group has a limit."""
    known = [line.split() for line in (proc / "meminfo").read_text().splitlines()]
    spare = [int(fields[1]) << 10 for fields in known if fields[0] == "MemAvailable:"]
    for line in (proc / "self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, names = (groups / "memory", _V1) if controllers else (groups, _V2)
        folder = root / path.lstrip("/")
        for group in (folder, *(parent for parent in folder.parents if parent.is_relative_to(root))):
            if (left := _left_in(group, *names)) is not None:
                spare.append(left)
    return min(spare, default=0)


def _left_in(group: Path, limit: str, usage: str, reclaimable: str) -> int | None:
    """Bytes below the group's limit, with what its page cache would give back; None where it has no limit."""
    try:
        most, used = ((group / name).read_text().strip() for name in (limit, usage))
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return int(most) - int(used) + int(statistics.get(reclaimable, 0)) if most.isdigit() and used.isdigit() else None
