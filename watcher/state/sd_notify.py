"""systemd's notification protocol: READY, STATUS, WATCHDOG, RELOADING, STOPPING. Does nothing outside systemd."""

from __future__ import annotations

import os
import socket
import time

from watcher.domain.checkpoint import printable

STATUS_MAX = 1000  # characters


class Notifier:
    """Writes to $NOTIFY_SOCKET, and removes it from the environment so that no job can notify in the daemon's name."""

    def __init__(self) -> None:
        address = os.environ.pop("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        pid = os.environ.pop("WATCHDOG_PID", "")
        interval = os.environ.pop("WATCHDOG_USEC", "")
        ours = not pid or pid == str(os.getpid())
        #: how often to ping, half of what systemd allows; None where it does not ask
        self.watchdog_s = int(interval) / 2e6 if interval.isdigit() and int(interval) > 0 and ours else None
        self._pinged_s = 0.0
        self._status = ""
        self._is_ready = False

    def ready(self) -> None:
        """Sent once, and once more after each reload."""
        if not self._is_ready:
            self._is_ready = True
            self._send("READY=1")

    def reloading(self) -> None:
        self._is_ready = False
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """The status line. A newline in it (from a file name, say) would begin another field of the protocol."""
        text = printable(text)[:STATUS_MAX]
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def ping(self) -> None:
        """Called by the main loop, and between the steps of its long work: a loop that hangs does not ping."""
        now_s = time.monotonic()
        if self.watchdog_s is not None and now_s - self._pinged_s >= self.watchdog_s:
            self._pinged_s = now_s
            self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.sendto(message.encode(), self._address)
        except OSError:
            self._address = ""  # systemd is gone
