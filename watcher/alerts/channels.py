"""Telling an alert: a command with the event on stdin, a webhook, an Apprise URL; and the `best` link or copy."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from evalcore.launch_folder import write_atomically
from watcher.settings.schema import AlertSettings
from watcher.sinks.protocol import SinkError, library

Event = dict[str, Any]


def tell(alert: AlertSettings, event: Event, memory: Path) -> None:
    """event: an Alert as JSON; of a `best` also `dir` (the watched folder), `source` (its file), size and mtime_ns.

    Raises SinkError.
    memory: a folder in which the best link remembers what it shows.
    """
    if event["kind"] == "best" and (alert.best_link or alert.best_copy):
        keep_best(alert, event, memory)
    shown = {key: value for key, value in event.items() if key not in ("source", "size_bytes", "mtime_ns", "dir")}
    if alert.command:
        run_command(alert.command, shown, alert.timeout_s)
    if alert.webhook:
        post(alert.webhook, shown, alert.timeout_s)
    if alert.apprise:
        notify(alert.apprise, shown)


def run_command(command: tuple[str, ...], event: Event, timeout_s: float) -> None:
    """The program gets the event as JSON on stdin. What outlives its time is killed with all that it started."""
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, process_group=0
        )
    except OSError as error:
        raise SinkError(f"the alert command {command[0]} cannot be started: {error.strerror}") from None
    try:
        _, words = process.communicate(json.dumps(event).encode(), timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise SinkError(f"the alert command {command[0]} took longer than {timeout_s:g} s and was killed") from None
    if process.returncode != 0:
        last = words.decode(errors="backslashreplace").strip().splitlines()[-1:]
        raise SinkError(f"the alert command {command[0]} ended with status {process.returncode}: {''.join(last)[:300]}")


def post(url: str, event: Event, timeout_s: float) -> None:
    """A JSON POST; anything but 2xx is an error. Redirects are not followed: they would turn the POST into a GET."""
    headers = {"Content-Type": "application/json", "User-Agent": "ckptwatch"}
    request = urllib.request.Request(url, json.dumps(event).encode(), headers, method="POST")
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=timeout_s) as answer:
            answer.read(1024)
    except urllib.error.HTTPError as error:
        raise SinkError(f"the webhook {_shown(url)} answered {error.code} {error.reason}") from None
    except (OSError, ValueError) as error:
        raise SinkError(f"the webhook {_shown(url)} cannot be reached: {getattr(error, 'reason', error)}") from None


def notify(url: str, event: Event) -> None:
    apprise = library("apprise", "apprise")
    told = apprise.Apprise()
    if not told.add(url):
        raise SinkError("[[alert]] apprise: not a URL that Apprise knows")
    if not told.notify(title=f"ckptwatch: {event['kind']}", body=event["text"]):
        raise SinkError(f"Apprise could not deliver to {url.split('://')[0]}://...")


def keep_best(alert: AlertSettings, event: Event, memory: Path) -> None:
    """Point the link at (or copy) the checkpoint, by temporary name and rename. A worse one that comes late is left."""
    kept, loss = memory / "best.json", event["result"]["loss"]
    known = _read(kept)
    if known is not None and known["loss"] <= loss:
        return
    source = Path(event["source"])
    _refuse_changed(source, event["size_bytes"], event["mtime_ns"])
    for target, act in ((alert.best_link, os.symlink), (alert.best_copy, _copy)):
        if target is None:
            continue
        _refuse_inside(target, Path(event["dir"]), alert.inside_dir)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.unlink(missing_ok=True)
            act(source, temporary)
            os.replace(temporary, target)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise SinkError(f"{target} cannot be made from {source}: {error.strerror}") from None
    write_atomically(kept, json.dumps({"loss": loss, "checkpoint": event["checkpoint"], "step": event["step"]}))


def _refuse_changed(source: Path, size_bytes: int, mtime_ns: int) -> None:
    """The file must still be the version that was evaluated."""
    try:
        status = source.stat()
    except OSError as error:
        raise SinkError(f"the best checkpoint {source} is gone: {error.strerror}") from None
    if (status.st_size, status.st_mtime_ns) != (size_bytes, mtime_ns):
        raise SinkError(f"the best checkpoint {source} was overwritten since it was evaluated")


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    with open(target, "rb") as file:
        os.fsync(file.fileno())


def _refuse_inside(target: Path, watched: Path, allowed: bool) -> None:
    inside = target.parent.resolve().is_relative_to(watched.resolve())
    if inside and not allowed:
        raise SinkError(
            f"{target} lies in the watched folder {watched}; set inside_dir = true in [[alert]] to allow it"
        )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _shown(url: str) -> str:
    """Without what may be a secret: webhooks carry their token in the path."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.split('/')[0].split('@')[-1]}/..."


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        return None
