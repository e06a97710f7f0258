"""Rendezvous of the ranks of one evaluation: each rank waits for the others, with a message and a timeout.

Owns the store through which they meet. torch alone would wait in silence, for as long as a collective may take.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from datetime import timedelta

import torch.distributed as dist

#: Seconds to wait for the other ranks under a launcher, which starts all of them, and without one.
LAUNCHED_JOIN_S = 300.0
BARE_JOIN_S = 60.0
_FIRST_MESSAGE_S = 5.0
_MESSAGE_S = 30.0
_POLL_S = 0.05


class RanksMissing(RuntimeError):
    """Some ranks did not come within the limit, or the environment holds no address at which to meet them."""

    def __init__(self, reason: str, world_size: int) -> None:
        super().__init__(reason)
        self.hint = (
            "for one process: env -u RANK -u WORLD_SIZE -u LOCAL_RANK python -m evalcore ...; "
            f"for {world_size}: torchrun --nproc-per-node={world_size} -m evalcore ..."
        )


def join_store(rank: int, world_size: int, join_s: float | None) -> dist.Store:
    """The store of these ranks, once all of them have come. join_s: limit in seconds. Raises RanksMissing."""
    by_agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    limit_s = join_s if join_s is not None else LAUNCHED_JOIN_S if by_agent else BARE_JOIN_S
    host, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT", "")
    if not host or not port.isdigit():
        raise RanksMissing(
            f"RANK={rank} and WORLD_SIZE={world_size} are set, but MASTER_ADDR and MASTER_PORT are not", world_size
        )
    deadline_s = time.monotonic() + limit_s
    where = f"{host}:{port}"
    connecting = threading.Timer(_FIRST_MESSAGE_S, _say, (f"rank {rank} of {world_size} connects to {where}", limit_s))
    connecting.daemon = True
    connecting.start()
    try:
        store = _connect(host, int(port), rank, world_size, by_agent, timedelta(seconds=limit_s))
    except (RuntimeError, ValueError) as error:
        cause = str(error).splitlines()[0][:200]
        raise RanksMissing(
            f"rank {rank} of {world_size} cannot meet the others at {where}: {cause}", world_size
        ) from None
    finally:
        connecting.cancel()
    _await_all(store, rank, world_size, where, deadline_s, limit_s)
    return dist.PrefixStore("evalcore", store)


def _connect(host: str, port: int, rank: int, world_size: int, by_agent: bool, limit: timedelta) -> dist.Store:
    if by_agent:  # torchrun's agent serves the store; its prefix tells restarts apart
        return next(iter(dist.rendezvous("env://", rank, world_size, timeout=limit)))[0]
    return dist.TCPStore(host, port, world_size, is_master=rank == 0, timeout=limit, wait_for_workers=False)


def _await_all(store: dist.Store, rank: int, world_size: int, where: str, deadline_s: float, limit_s: float) -> None:
    store.set(f"joined/{rank}", "1")
    message_s = time.monotonic() + _FIRST_MESSAGE_S
    while missing := [other for other in range(world_size) if not store.check([f"joined/{other}"])]:
        names = f"rank(s) {', '.join(map(str, missing[:8]))}{', ...' if len(missing) > 8 else ''} of {world_size}"
        if time.monotonic() >= deadline_s:
            raise RanksMissing(f"{names} did not come to {where} within {limit_s:.0f} s", world_size)
        if time.monotonic() >= message_s:
            _say(f"rank {rank} waits for {names} at {where}", limit_s)
            message_s = time.monotonic() + _MESSAGE_S
        time.sleep(_POLL_S)


def _say(what: str, limit_s: float) -> None:
    sys.stderr.write(f"evalcore: {what} (at most {limit_s:.0f} s)\n")
    sys.stderr.flush()
