"""A `.pt` read as inert data: its zip directory, records and CRCs, and its pickle without anything being called.

Standard library only; the daemon imports this package, so it must never import torch or numpy.
"""

from evalcore.archive.container.records import read_records
from evalcore.archive.container.source import ReportBytes
from evalcore.archive.errors import LIMITS, ArchiveError, Limits
from evalcore.archive.meaning.folder_kinds import (
    FolderKind,
    holds_state_alone,
    kind_at,
    recognise,
    version_from,
    version_of,
)
from evalcore.archive.summary import Probe, Summary, probe, summarise

__all__ = [
    "LIMITS", "ArchiveError", "FolderKind", "Limits", "Probe", "ReportBytes", "Summary", "holds_state_alone", "kind_at",
    "probe", "read_records", "recognise", "summarise", "version_from", "version_of",
]  # fmt: skip
