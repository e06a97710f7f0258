"""Which Chromium the browser's tests and pictures use."""

from __future__ import annotations

import shutil


def chromium() -> str | None:
    """Its path; None where none is installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
