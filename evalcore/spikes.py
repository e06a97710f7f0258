"""The windows with the highest loss of one evaluation, and the documents behind them, as the outcome carries them.

Standard library only: the daemon stores them and the page shows them. Never decides which windows they are.
"""

from __future__ import annotations

from dataclasses import dataclass

from evalcore.message_json import from_json, to_json


@dataclass(frozen=True)
class SpikeDocument:
    """The part of one document in one window.

    document: its number in the data, from 1. first: the document's tokens before this part. targets: scored targets.
    """

    document: int
    first: int
    targets: int
    nats: float


@dataclass(frozen=True)
class Spike:
    """One window with a high loss.

    window: its number, from 0. first: the position in the stream of its first target. n_documents: documents with
    targets in it; None where the documents are not known. documents: those with the most nats, in the data's order.
    text: the targets of the passage with the most nats, decoded; empty where no tokenizer is known. text_first,
    text_tokens, text_nats: of that passage.
    """

    window: int
    first: int
    targets: int
    nats: float
    n_documents: int | None
    text_first: int
    text_tokens: int
    text_nats: float
    documents: tuple[SpikeDocument, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class _Spikes:
    spikes: tuple[Spike, ...]


def spikes_text(spikes: tuple[Spike, ...]) -> str:
    """As JSON, for the database."""
    return to_json(_Spikes(spikes))


def spikes_of(text: str) -> tuple[Spike, ...]:
    """Read back what `spikes_text` wrote. Raises ContractError on anything else."""
    return from_json(_Spikes, text).spikes
