"""Sends an alert: to a command with the event on stdin, to a webhook, to an Apprise URL. Decides nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from watcher.alerts.best_file import keep_best
from watcher.errors import DeliveryError, EnvironmentProblem
from watcher.settings.schema import AlertSettings

Event = dict[str, Any]


def send_alert(alert: AlertSettings, event: Event, memory: Path) -> None:
    """event: an Alert as JSON; of a `best` also `dir` (the watched folder), `source` (its file), size and mtime_ns.

    memory: a folder for the record of what the best link shows. Raises DeliveryError.
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
        raise DeliveryError(f"the alert command {command[0]} cannot be started: {error.strerror}") from None
    try:
        _, stderr = process.communicate(json.dumps(event).encode(), timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise DeliveryError(f"the alert command {command[0]} took longer than {timeout_s:g} s and was killed") from None
    if process.returncode != 0:
        last = "".join(stderr.decode(errors="backslashreplace").strip().splitlines()[-1:])[:300]
        raise DeliveryError(f"the alert command {command[0]} ended with status {process.returncode}: {last}")


def post(url: str, event: Event, timeout_s: float) -> None:
    """A JSON POST; anything but 2xx is an error. Redirects are not followed: they would turn the POST into a GET."""
    headers = {"Content-Type": "application/json", "User-Agent": "ckptwatch"}
    request = urllib.request.Request(url, json.dumps(event).encode(), headers, method="POST")
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=timeout_s) as answer:
            answer.read(1024)
    except urllib.error.HTTPError as error:
        raise DeliveryError(f"the webhook {_shown(url)} answered {error.code} {error.reason}") from None
    except (OSError, ValueError) as error:
        raise DeliveryError(f"the webhook {_shown(url)} cannot be reached: {getattr(error, 'reason', error)}") from None


def notify(url: str, event: Event) -> None:
    try:
        import apprise
    except ModuleNotFoundError as error:
        raise EnvironmentProblem(
            f"[[alert]] apprise needs a library that is not installed: {error.name}",
            hint="in a clone of ckptwatch: pip install '.[apprise]'",
        ) from None
    channel = apprise.Apprise()
    if not channel.add(url):
        raise DeliveryError("[[alert]] apprise: not a URL that Apprise knows")
    if not channel.notify(title=f"ckptwatch: {event['kind']}", body=event["text"]):
        raise DeliveryError(f"Apprise could not deliver to {url.split('://')[0]}://...")


def _shown(url: str) -> str:
    """Without what may be a secret: webhooks carry their token in the path."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.split('/')[0].split('@')[-1]}/..."


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        return None
