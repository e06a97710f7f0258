"""One finding of `ckptwatch doctor`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """level: ok | note | warning | problem. fix: what to do, for all but ok."""

    check: str
    level: str
    words: str
    fix: str = ""
