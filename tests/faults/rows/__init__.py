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
    reading,
    reports_and_sinks,
    tasks,
    unclear_inputs,
)

Row = tuple[str, str, tuple[str, ...] | str]
FOUND_BY_OUTSIDERS: dict[int, Row] = {
    **reading.ROWS,
    **models.ROWS,
    **data.ROWS,
    **identity.ROWS,
    **daemon.ROWS,
    **detect.ROWS,
    **launch_and_settings.ROWS,
    **reports_and_sinks.ROWS,
    **command_line.ROWS,
    **tasks.ROWS,
    **families.ROWS,
    **unclear_inputs.ROWS,
    **originals.ROWS,
}
