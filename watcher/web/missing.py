"""The one exception of pages: what the address names is not in the database."""

from __future__ import annotations


class NoSuchThing(Exception):
    """Answered with 404 and these words."""
