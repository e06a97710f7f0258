"""The delivery process: `python -m watcher.pipeline.delivery_worker FOLDER`. Sends the rows of one request.

Reads FOLDER/request.json, sends, writes FOLDER/result.json. It never opens the database: the daemon put the rows into
the request and applies the result, so there is one writer at any time. Trackers' libraries are loaded here only.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from watcher.errors import CkptwatchError, DeliveryError
from watcher.settings.schema import AlertSettings, SinkSettings
from watcher.sinks.delivery_folder import Request, Result, exclusive_delivery, read_request, write_result
from watcher.sinks.protocol import send_missing
from watcher.sinks.registry import make_sink


def deliver(folder: Path, request: Request) -> Result:
    """Send the rows that the sink does not have yet, or the alerts to their channels."""
    ids = [export_id for export_id, _ in request.rows]
    try:
        with exclusive_delivery(folder):
            if request.alert is not None:
                return _send_alerts(folder, request)
            section = SinkSettings.model_validate(request.sink)
            sink = make_sink(request.name, section, folder)
            send_missing(sink, [row for _, row in request.rows], unsure=request.unsure)
            return Result(done=ids, torn=getattr(sink, "torn", False))
    except BlockingIOError:
        return Result(failed=ids, error="an earlier delivery is still running", busy=True)
    except CkptwatchError as error:
        return Result(failed=ids, error=f"{error.cause}; {error.hint}" if error.hint else error.cause)
    except Exception as error:  # whatever a tracker's library raises: kept, shown, retried
        return Result(failed=ids, error=f"{type(error).__name__}: {error}")


def _send_alerts(folder: Path, request: Request) -> Result:
    """One by one: an alert that was sent counts as sent, even if the next one fails."""
    from watcher.alerts.channels import send_alert

    result, section = Result(), AlertSettings.model_validate(request.alert)
    for export_id, event in request.rows:
        try:
            send_alert(section, event, folder)
            result.done.append(export_id)
        except DeliveryError as error:
            result.failed.append(export_id)
            result.error = f"{error.cause}; {error.hint}" if error.hint else error.cause
    return result


def main(arguments: Sequence[str]) -> int:
    folder = Path(arguments[0])
    os.nice(5)
    result = deliver(folder, read_request(folder))
    write_result(folder, result)
    return 1 if result.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
