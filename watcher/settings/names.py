"""Names and defaults that a verb needs before it knows whether there are any settings. Never imports pydantic."""

from __future__ import annotations

import os
from typing import Final

DEFAULT_FILE: Final = "ckptwatch.toml"
DEFAULT_DEVICE: Final = "auto"
PREFIX = "CKPTWATCH_"


def any_settings(file: os.PathLike[str] | None) -> bool:
    """Is there a settings file, or a variable that may be a setting? If not, every setting has its default."""
    return file is not None or any(name.startswith(PREFIX) for name in os.environ)
