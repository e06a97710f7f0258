"""Commands of a shell run by one process that has everything imported: a `ckptwatch` for PATH that costs milliseconds.

A client hands its arguments, folder, environment and standard streams over a socket; the server forks, and the child is
`ckptwatch ARGUMENTS`, or the worker of a launch in the place of torchrun. Everything else is the product's own: shells,
pipes, settings, daemon, launch folders. torchrun itself is run by the tests of README and tutorial.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import socket
import struct
import sys
import threading
from pathlib import Path

#: Stands in PATH as `ckptwatch`: standard library only, so that it starts at once.
CLIENT = """#!{python} -IS
import json, os, socket, struct, sys
conversation = socket.socket(socket.AF_UNIX)
conversation.connect({address!r})
message = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode("utf-8", "surrogateescape")
socket.send_fds(conversation, [struct.pack("I", len(message))], [0, 1, 2])
conversation.sendall(message)
status = conversation.recv(1)
os._exit(status[0] if status else 99)
"""

#: What the children do not import again.
IMPORTED = (
    "evalcore.data.sniffing", "evalcore.loading.mean", "evalcore.worker.evaluate_item", "watcher.cli.evaluate",
    "watcher.cli.run", "watcher.daemon", "watcher.pipeline.overview",
)  # fmt: skip


def main(address: str, client: str) -> None:
    """Serve until the process is ended. client: the path of the executable that is written."""
    for name in IMPORTED:
        importlib.import_module(name)
    from watcher.launch import core_command, datafiles, foreground

    server = socket.socket(socket.AF_UNIX)
    server.bind(address)
    server.listen()
    text = CLIENT.format(python=sys.executable, address=address)
    Path(client).write_text(text)
    Path(client).chmod(0o755)
    core_command.sys = datafiles.sys = foreground.sys = Executable(client)  # launches take CKPTWATCH_LAUNCH_PYTHON
    while True:
        conversation, _ = server.accept()
        length, fds, _, _ = socket.recv_fds(conversation, 4, 3)
        message = b""
        while len(message) < struct.unpack("I", length)[0]:
            message += conversation.recv(1 << 16)
        child = os.fork()
        if child == 0:
            server.close()
            conversation.close()
            os._exit(run(*json.loads(message.decode("utf-8", "surrogateescape")), fds))
        for fd in fds:
            os.close(fd)
        threading.Thread(target=answer, args=(child, conversation), daemon=True).start()


class Executable:
    """`sys` with the client as `executable`: what verbs start that need torch or numpy."""

    def __init__(self, client: str) -> None:
        self.executable = client

    def __getattr__(self, name: str) -> object:
        return getattr(sys, name)


def answer(child: int, conversation: socket.socket) -> None:
    _, status = os.waitpid(child, 0)
    conversation.sendall(bytes([os.waitstatus_to_exitcode(status) & 255]))
    conversation.close()


def run(arguments: list[str], folder: str, environment: dict[str, str], fds: list[int]) -> int:
    """In the child: the status of the command."""
    for target, fd in enumerate(fds):
        os.dup2(fd, target)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdin, sys.stdout, sys.stderr = open(0, closefd=False), open(1, "w", closefd=False), open(2, "w", closefd=False)
    try:
        status = called(arguments)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 99
    sys.stdout.flush()
    sys.stderr.flush()
    return int(status or 0)


def called(arguments: list[str]) -> int | None:
    """`ckptwatch ARGUMENTS`, or what `python -m MODULE ARGUMENTS` would do; torchrun's is its worker, in one rank."""
    from watcher.cli import main as ckptwatch

    if arguments[:2] == ["-m", "evalcore.worker.torchrun"]:
        arguments = ["-m", *arguments[-2:]]
    if arguments[:1] != ["-m"]:
        return ckptwatch(arguments)
    sys.argv = arguments[1:]
    runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    main(*sys.argv[1:])
