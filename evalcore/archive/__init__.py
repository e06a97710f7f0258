"""A `.pt` read as inert data: its zip directory, records and CRCs, and its pickle without anything being called.

Standard library only; the daemon imports this package, so it must never import torch or numpy.
"""

from evalcore.archive.container.records import read_records
from evalcore.archive.container.source import Report
from evalcore.archive.errors import LIMITS, ArchiveError, Limits
from evalcore.archive.summary import Probe, Summary, probe, summarise

__all__ = ["LIMITS", "ArchiveError", "Limits", "Probe", "Report", "Summary", "probe", "read_records", "summarise"]
