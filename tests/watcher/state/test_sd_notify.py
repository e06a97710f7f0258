"""systemd's protocol: one datagram per message, and no text of ours can begin another field."""

from __future__ import annotations

import socket

from watcher.state.sd_notify import Notifier


def test_a_newline_in_the_status_cannot_begin_another_field(tmp_path, monkeypatch):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "notify"))
    listener.settimeout(10)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    notifier = Notifier()
    notifier.status("degraded: attempt of ckpt\nWATCHDOG=trigger.pt failed")
    assert listener.recv(4096).decode() == "STATUS=degraded: attempt of ckpt\\nWATCHDOG=trigger.pt failed"
    listener.close()
