"""Means of checkpoints: their names, their weights, and which checkpoints a mean takes. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from evalcore.mean_weights import ema_weights, equal_weights


@dataclass(frozen=True)
class AverageSpec:
    """What is averaged: the `last` checkpoints, or all with decay `ema`; only steps that are multiples of `every`."""

    last: int | None = None
    ema: float | None = None
    every: int = 1

    @property
    def name(self) -> str:
        """`mean5`, `ema0.99`, `mean5/1000` with every = 1000: what results.weights says."""
        kind = f"mean{self.last}" if self.ema is None else f"ema{self.ema:g}"
        kind += f"of{self.last}" if self.ema is not None and self.last is not None else ""
        return kind if self.every == 1 else f"{kind}/{self.every}"

    @property
    def fewest(self) -> int:
        """A mean of fewer checkpoints is not made."""
        return self.most if self.last is not None else 2

    @property
    def most(self) -> int:
        """Older checkpoints have no weight."""
        return self.last if self.ema is None and self.last is not None else len(self.weights(self.last or 1_000_000))

    def weights(self, count: int) -> list[float]:
        """Weights of at most `count` checkpoints, the newest first; they add up to 1."""
        return equal_weights(count) if self.ema is None else ema_weights(self.ema, count)

    def takes(self, step: int | None) -> bool:
        return self.every == 1 or (step is not None and step % self.every == 0)


@dataclass(frozen=True)
class MemberVersion:
    """One registered version that a mean may take. readable: it is at its path, or a copy of it is pinned."""

    id: int
    path: str
    digest: str
    step: int | None
    readable: bool


def joined(members: Sequence[MemberVersion], new: MemberVersion) -> list[MemberVersion]:
    """The members, newest first, with a new one in front: a second file of one step takes the place of the first.

    The same content under another name changes nothing.
    """
    if any(member.digest == new.digest for member in members):
        return list(members)
    return [new, *(member for member in members if new.step is None or member.step != new.step)]


def members_digest(members: Sequence[MemberVersion], weights: Sequence[float]) -> str:
    """`sha256:...` of the members' digests and weights, in order."""
    parts = [[member.digest, weight] for member, weight in zip(members, weights, strict=True)]
    return "sha256:" + hashlib.sha256(b"ckptwatch mean 1\n" + json.dumps(parts).encode()).hexdigest()
