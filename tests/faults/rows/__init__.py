"""The rows of the fault matrix that the first outside trial added, one file per room; each room has 20 numbers."""

from __future__ import annotations

from tests.faults.rows import (
    command_line,
    daemon,
    data,
    detect,
    families,
    identity,
    launch_and_settings,
    models,
    originals,
    page,
    reading,
    reports_and_sinks,
    siblings,
    tasks,
    unclear_inputs,
)

Row = tuple[str, str, tuple[str, ...] | str]
FILES = (
    reading,
    models,
    data,
    identity,
    daemon,
    detect,
    launch_and_settings,
    reports_and_sinks,
    command_line,
    tasks,
    families,
    unclear_inputs,
    originals,
    siblings,
    page,
)
FOUND_BY_OUTSIDERS: dict[int, Row] = {number: row for file in FILES for number, row in file.ROWS.items()}
