"""Generated texts as people see them: settings in words, lines with control characters escaped. Pure."""

from __future__ import annotations

from typing import Any

from watcher.domain.checkpoint import printable

Row = dict[str, Any]
TEXT_MAX = 20_000  # characters of one text on a page or in a terminal


def settings_words(row: Row) -> str:
    """`greedy, at most 64 tokens`; `temperature 0.8, top_k 200, seed 1, at most 64 tokens`."""
    parts = ["greedy"]
    if row["mode"] != "greedy":
        parts = [f"temperature {row['temperature']:g}"]
        parts += [f"{name} {row[name]:g}" for name in ("top_k", "top_p") if row[name] is not None]
        parts.append(f"seed {row['seed']}")
    return ", ".join([*parts, f"at most {row['max_new_tokens']} tokens"])


def lines_of(text: str) -> list[str]:
    """The text's lines, fit for a terminal."""
    return [printable(line) for line in cut(text).split("\n")]


def shown(text: str) -> str:
    """The text with its line breaks and tabs; other control characters and bidi marks are escaped."""
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in cut(text).split("\n"))


def cut(text: str) -> str:
    return text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}\u2026 ({len(text) - TEXT_MAX:,} more characters)"
