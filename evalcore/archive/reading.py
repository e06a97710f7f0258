"""A payload understood: its state dicts, configuration, family and notes. Reads no weights, needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from evalcore.archive.container.source import OpenFile
from evalcore.archive.errors import shown
from evalcore.archive.meaning.config import FoundConfig, config_in, corrected
from evalcore.archive.meaning.config_fields import Resolve
from evalcore.archive.meaning.config_files import config_beside
from evalcore.archive.meaning.dcp_folder import DcpFolder
from evalcore.archive.meaning.family import assumed_for, assumption_note, family_of
from evalcore.archive.meaning.indirect_weights import notes_on_weights, weight_lists
from evalcore.archive.meaning.modules import with_modules
from evalcore.archive.meaning.prefixes import likeliest_first, models_in
from evalcore.archive.meaning.sidecars import Sidecar, sidecars_of
from evalcore.archive.meaning.state_dicts import State, choose_state, find_states
from evalcore.archive.meaning.step import contradictions_in
from evalcore.archive.meaning.trainer import optimizer_notes, trainer_of
from evalcore.archive.payload import Payload, read_payload


@dataclass(frozen=True)
class Reading:
    """A payload understood: what a summary shows and a loader needs. state is None where there is none.

    assumed: fields of the configuration that the file leaves open. notes: what contradicts itself.
    """

    payload: Payload
    states: dict[str, State]
    state: State | None
    trainer: str | None
    family: str
    config: FoundConfig | None
    sidecars: list[Sidecar]
    assumed: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def understand(
    file: OpenFile, *, path: str | None = None, wanted: str | None = None, settings: dict[str, Any] | None = None
) -> Reading:
    """Read the payload and find its state dicts, configuration and family.

    path: where sidecars are looked for. settings: configuration given by the user, for what the payload lacks.
    """
    payload = read_payload(file)
    sidecars = sidecars_of(path if path is not None else file.path)
    return reading_of(payload, sidecars, wanted, settings, lambda value: payload.scalar(file, value))


def understand_dcp(folder: DcpFolder, *, wanted: str | None = None, settings: dict[str, Any] | None = None) -> Reading:
    """The same for a DCP folder, whose files that describe the model are in it."""
    reading = reading_of(folder.payload, folder.sidecars, wanted, settings)
    if folder.refusal is None:
        return reading
    notes = (*reading.notes, f"{folder.refusal.reason}; {folder.refusal.hint}")
    return replace(reading, trainer="megatron", family="megatron", assumed={}, notes=notes)


def reading_of(
    payload: Payload, sidecars: list[Sidecar], wanted: str | None, settings: dict[str, Any] | None,
    resolve: Resolve = lambda value: value,
) -> Reading:  # fmt: skip
    """Find the payload's state dicts, configuration and family. resolve: reads a tensor of one element."""
    states = likeliest_first(models_in(find_states(payload.root)))
    state = choose_state(states, wanted, list(weight_lists(payload.root))) if states or wanted is not None else None
    trainer = trainer_of(payload.root, payload.names)
    found = config_in(payload.root, resolve) or config_beside(sidecars)
    config = corrected(with_modules(found, payload.root, state), settings)
    values = config.values if config else None
    family = family_of(trainer, state, values, config.cls if config else None)
    assumed = assumed_for(family, trainer, state, values)
    notes = (*(config.notes if config else ()), *contradictions_in(payload.root, trainer, resolve))
    notes = (*notes, *optimizer_notes(payload.root), *notes_on_weights(payload.root, state))
    return Reading(payload, states, state, trainer, family, config, sidecars, assumed, notes)


def notes_of(reading: Reading) -> list[str]:
    """What is unusual about the file, in words for a result's note."""
    notes = []
    if reading.payload.unverified:
        notes.append("unverified: the file carries no checksums")
    notes += [assumption_note(name, value) for name, value in reading.assumed.items()]
    notes += reading.notes
    if reading.state is not None and reading.state.aside:
        aside = reading.state.aside
        notes.append(f"beside the model: {', '.join(shown(name) for name in aside[:5])}{' ...' * (len(aside) > 5)}")
    cls = reading.config.cls if reading.config else None
    custom = [name for name in reading.payload.custom_names if name != cls]
    if custom:
        more = f" and {len(custom) - 5} more" if len(custom) > 5 else ""
        notes.append(f"read as data, not called: {', '.join(custom[:5])}{more}")
    return notes
