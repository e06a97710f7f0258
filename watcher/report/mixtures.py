"""Were the rows of one curve measured alike? A sentence where they were not. Pure; loads nothing that compares."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]
#: What a curve's rows should have resolved to alike.
RESOLVED = ("seq_len", "stride", "dtype", "device")


def mixtures(rows: Sequence[Row]) -> list[str]:
    """A sentence for each run and set whose standing rows were measured in different ways."""
    ways: dict[tuple[str, str], dict[str, set[Any]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        if row["superseded"]:
            continue
        for key in (*RESOLVED, "eval_digest"):
            ways[(row["run"], row["eval_set"])][key].add(row[key])
    sentences = []
    for (run, name), values in sorted(ways.items()):
        if len(values["eval_digest"]) > 1:
            sentences.append(
                f"{run} / {name} was redefined: rows of {len(values['eval_digest'])} definitions are not one curve"
            )
            continue
        for key in RESOLVED:
            if len(values[key]) > 1:
                mixed = ", ".join(sorted(map(str, values[key])))
                sentences.append(f"{run} / {name} was measured with different {key}: {mixed}")
    return sentences
