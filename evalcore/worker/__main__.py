"""The worker: `python -m evalcore.worker FOLDER` drains a launch folder; under torchrun every rank runs this.

Owns the life of a launch: first acts, the order of items, the end. Never talks to a database or to the daemon.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from evalcore.launch_folder import LaunchFolder
from evalcore.messages import ContractError, Item, LaunchSpec, from_json
from evalcore.progress import write_progress
from evalcore.worker.process_setup import (
    die_with_parent,
    end_on,
    keep_freed_memory,
    leave_no_core,
    share_the_cpu,
    uncollected,
)

if TYPE_CHECKING:
    from evalcore.measure.process_group import ProcessGroup
    from evalcore.worker.launch_io import LaunchFolderIO


def main(arguments: list[str] | None = None) -> int:
    """Drain the launch folder named by the only argument. Exit status 0 even where outcomes are failures."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1:
        os.write(2, b"usage: python -m evalcore.worker FOLDER\n")
        return 2
    die_with_parent()
    leave_no_core()
    share_the_cpu()
    keep_freed_memory()
    folder = LaunchFolder(Path(arguments[0]))
    end_on(folder.cancel)
    try:
        spec: LaunchSpec = from_json(LaunchSpec, folder.spec.read_text(encoding="utf-8", errors="surrogateescape"))
    except (OSError, ContractError) as error:
        os.write(2, f"ckptwatch worker: {folder.spec} cannot be used: {error}\n".encode(errors="replace"))
        return 7
    return _drain(folder, spec)


def _drain(folder: LaunchFolder, spec: LaunchSpec) -> int:
    from evalcore.progress import ProgressReporter

    rank = int(os.environ.get("RANK", "0"))
    reporter = ProgressReporter(partial(write_progress, folder.progress) if rank == 0 else None)
    reporter.report("importing", force=True)
    with uncollected():
        import torch

        from evalcore.measure.process_group import ProcessGroupBroken, start_process_group
        from evalcore.worker.evaluate_item import ItemEvaluator
        from evalcore.worker.launch_io import LaunchFolderIO

    if spec.threads:
        torch.set_num_threads(spec.threads)
    try:
        with reporter.while_working("joining"):
            group = start_process_group(spec.device)
    except (RuntimeError, ValueError) as error:
        os.write(2, f"ckptwatch worker: rank {rank}: {error}\n".encode(errors="replace"))
        return 7
    launch_io = LaunchFolderIO(folder, spec.linger_s)
    evaluator = ItemEvaluator(spec, group, launch_io, reporter)
    try:
        for item in _items(launch_io, group):
            evaluator.evaluate_item(item)
    except (
        ProcessGroupBroken
    ) as error:  # no outcome: the attempt in hand is charged by its started mark, the rest is not
        os.write(2, f"ckptwatch worker: rank {rank}: {error}\n".encode(errors="replace"))
        os._exit(1)  # taking the group down in order would wait for the ranks that are gone
    finally:
        evaluator.close()
    group.close()
    return 0


def _items(launch_io: LaunchFolderIO, group: ProcessGroup) -> Iterator[Item]:
    """The same items in the same order on every rank: rank 0 takes them and broadcasts."""
    from evalcore.measure.process_group import ProcessGroupBroken

    while True:
        try:
            message = group.broadcast(launch_io.next() if group.is_main else None)
        except ProcessGroupBroken:
            if group.is_main or not launch_io.folder.closed.exists():
                raise
            return  # rank 0 closed the launch and left first
        if message is None:
            return
        if message:
            yield from_json(Item, message)


if __name__ == "__main__":
    sys.exit(main())
