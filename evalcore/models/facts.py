"""What is known about each family: how it is recognised, what is exact, and which original it was compared with.

Owns the form of these facts. Each family's file owns its own; `evalcore.models.FAMILIES` gathers them, and
docs/reference/formats.md is made from that.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Proof:
    """One comparison: the original's class wrote a file with random weights and computed its own float32 loss.

    difference: the largest relative difference of the loss over the variants named.
    """

    repository: str
    commit: str
    variants: str
    difference: float


@dataclass(frozen=True)
class Facts:
    """name: what people call it. recognised_by: names in the file. configuration: where its sizes come from.

    step: which key or file gives it. exact: what the forward pass covers. asked: what the user has to say, or "".
    """

    name: str
    recognised_by: str
    configuration: str
    step: str
    exact: str
    proofs: tuple[Proof, ...]
    asked: str = ""
