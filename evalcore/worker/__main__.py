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
from evalcore.worker.process_setup import die_with_parent, end_on, keep_freed_memory, leave_no_core, share_the_cpu

if TYPE_CHECKING:
    from evalcore.measure.process_group import Team
    from evalcore.worker.launch_io import Desk


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
    from evalcore.measure.process_group import TeamBroken, start_team
    from evalcore.progress import Pulse

    rank = int(os.environ.get("RANK", "0"))
    pulse = Pulse(partial(write_progress, folder.progress) if rank == 0 else None)
    pulse.beat("importing", force=True)
    import torch

    if spec.threads:
        torch.set_num_threads(spec.threads)
    with pulse.while_working("joining"):
        team = start_team(spec.device)
    from evalcore.worker.evaluate_item import Appraiser
    from evalcore.worker.launch_io import Desk

    desk = Desk(folder, spec.linger_s)
    appraiser = Appraiser(spec, team, desk, pulse)
    try:
        for item in _items(desk, team):
            appraiser.appraise(item)
    except TeamBroken as error:  # no outcome: the attempt in hand is charged by its started mark, the rest is not
        os.write(2, f"ckptwatch worker: rank {rank}: {error}\n".encode(errors="replace"))
        os._exit(1)  # taking the group down in order would wait for the ranks that are gone
    finally:
        appraiser.close()
    team.close()
    return 0


def _items(desk: Desk, team: Team) -> Iterator[Item]:
    """The same items in the same order on every rank: rank 0 decides and tells."""
    from evalcore.measure.process_group import TeamBroken

    while True:
        try:
            said = team.broadcast(desk.next() if team.is_main else None)
        except TeamBroken:
            if team.is_main or not desk.folder.closed.exists():
                raise
            return  # rank 0 had nothing more to say and was quicker to leave
        if said is None:
            return
        if said:
            yield from_json(Item, said)


if __name__ == "__main__":
    sys.exit(main())
