"""Settings as plain data for a person, with passwords, tokens and secret addresses masked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

MASK = "***"
_SECRET_KEY = re.compile(r"token|secret|password|api_?key", re.IGNORECASE)
_PASSWORD = re.compile(r"(?<=:)(?!//)[^/]*(?=@)")
#: Values of these keys may be an address that is itself the secret.
_SECRET_ADDRESSES = ("webhook", "apprise")


def shown(settings: BaseModel) -> dict[str, Any]:
    """Settings as plain data, masked."""
    return masked(settings.model_dump(mode="json"))


def masked(value: Any, key: str = "") -> Any:
    """A value of the settings as it may be printed."""
    if isinstance(value, dict):
        return {name: masked(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [masked(item, key) for item in value]
    if isinstance(value, str) and value:
        if key in _SECRET_ADDRESSES or (_SECRET_KEY.search(key) and key not in ("tokenizer", "token_dtype")):
            return MASK
        return without_password(value)
    return value


def without_password(text: str) -> str:
    """An URL (a broken one too) with its password masked; anything else as it is."""
    if "://" not in text:
        return text
    return _PASSWORD.sub(MASK, text)
