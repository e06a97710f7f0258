"""Validation data: files on disk -> one stream of token ids -> windows.

Owns what an eval set's files mean. Never loads a model, never writes outside the token cache.
"""

from evalcore.data.errors import DataError
from evalcore.data.opening import open_stream
from evalcore.data.sniffing import Sniffed, sniff
from evalcore.data.stream import ReportPhase, TokenStream
from evalcore.data.windows import Window, plan_windows

__all__ = ["DataError", "ReportPhase", "Sniffed", "TokenStream", "Window", "open_stream", "plan_windows", "sniff"]
