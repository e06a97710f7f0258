"""A systemd that is really booted, in a container over a copy-on-write view of this machine's root."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.waiting import wait_until

REPO = Path(__file__).resolve().parents[2]
HOME = Path("/opt/ckptwatch")  # where the units expect the installation; readable for every user


class Container:
    """Boots at once; `close` ends every process in it and takes the mounts down again."""

    def __init__(self, place: Path, binds: dict[Path, str]) -> None:
        self._layers = place / "layers"
        self.root = place / "root"
        self._mounted: list[Path] = []
        for folder in (self._layers, self.root):
            folder.mkdir(parents=True)
        self._mount("tmpfs", self._layers, "-o", "size=2g,mode=755", "tmpfs")
        for name in ("upper", "work"):
            (self._layers / name).mkdir()
        layers = f"lowerdir=/,upperdir={self._layers}/upper,workdir={self._layers}/work"
        self._mount("overlay", self.root, "-o", layers, "overlay")
        self._prepare()
        more = {**_install_program(self.root), **binds}
        arguments = [f"--bind-ro={source}:{target}" for source, target in more.items()]
        for target in more.values():
            (self.root / target.lstrip("/")).mkdir(parents=True, exist_ok=True)
        self.log = open(place / "console.log", "wb")
        own = ("--register=no", "--keep-unit", "--console=pipe")
        self._nspawn = subprocess.Popen(
            ["systemd-nspawn", "-D", self.root, *own, *arguments, "--boot", "systemd.unit=basic.target"],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )
        self._leader = wait_until(self._find_leader, why="the container's first process")
        wait_until(lambda: self.systemctl("is-active", "basic.target").stdout.strip() == "active", why="systemd is up")

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        inside = ["nsenter", "-t", str(self._leader), "-m", "-u", "-i", "-n", "-p", "-r", "-w", "--"]
        return subprocess.run([*inside, *map(str, command)], capture_output=True, text=True, timeout=120)

    def systemctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("systemctl", *arguments)

    def show(self, unit: str, name: str) -> str:
        return self.systemctl("show", unit, "--value", "-p", name).stdout.strip()

    def journal(self, unit: str) -> str:
        return self.run("journalctl", "-o", "cat", "--no-pager", "-u", unit).stdout

    def processes_of(self, unit: str) -> list[int]:
        """Pids, as the container counts them, in the unit's control group."""
        group = self.show(unit, "ControlGroup")
        found = self.run(
            "sh", "-c", f"cat /sys/fs/cgroup/systemd{group}/cgroup.procs /sys/fs/cgroup{group}/cgroup.procs"
        )
        return sorted({int(pid) for pid in found.stdout.split()}) if group else []

    def write(self, path: str, text: str) -> Path:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def close(self) -> None:
        if self._nspawn.poll() is None:
            os.kill(self._leader, signal.SIGRTMIN + 3)
            try:
                self._nspawn.wait(30)
            except subprocess.TimeoutExpired:
                os.kill(self._leader, signal.SIGKILL)  # the first process of a pid namespace takes all with it
                self._nspawn.wait(10)
        self.log.close()
        for place in reversed(self._mounted):
            subprocess.run(["umount", "-l", place], check=True)

    def _mount(self, kind: str, place: Path, *arguments: str) -> None:
        done = subprocess.run(["mount", "-t", kind, *arguments, place], capture_output=True, text=True)
        assert done.returncode == 0, f"mounting {kind} needs root and CAP_SYS_ADMIN: {done.stderr}"
        self._mounted.append(place)

    def _prepare(self) -> None:
        """An identity of its own, and none of the host's services."""
        (self.root / "etc/machine-id").write_text("")
        for name in ("systemd-timesyncd", "systemd-resolved", "systemd-networkd", "systemd-firstboot"):
            mask = self.root / f"etc/systemd/system/{name}.service"
            mask.unlink(missing_ok=True)
            mask.symlink_to("/dev/null")

    def _find_leader(self) -> int | None:
        assert self._nspawn.poll() is None, f"systemd-nspawn ended: {Path(self.log.name).read_text()}"
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
        for pid in children:
            if Path(f"/proc/{pid}/comm").read_text().strip() == "systemd":
                return int(pid)
        return None


def _install_program(root: Path) -> dict[Path, str]:
    """Lay out /opt/ckptwatch as `python -m venv` and pip would: the tests' own packages, read-only, and this source.

    Returns what has to be bound. The interpreter must lie where every user can reach it.
    """
    binds: dict[Path, str] = {REPO / name: f"{HOME}/src/{name}" for name in ("watcher", "evalcore", "migrations")}
    base = Path(sys.base_prefix)
    if base != Path("/usr"):
        binds[base] = "/opt/python"
        base = Path("/opt/python")
    folders = {
        Path(importlib.import_module(name).__file__ or "").parents[1] for name in ("torch", "click", "sqlalchemy")
    }
    lines = [f"{HOME}/src"]
    for number, folder in enumerate(sorted(folders)):
        binds[folder] = f"{HOME}/packages/{number}"
        lines.append(f"{HOME}/packages/{number}")
    home = root / str(HOME).lstrip("/")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = home / "lib" / version / "site-packages"
    for folder in (home / "bin", packages):
        folder.mkdir(parents=True, exist_ok=True)
    (home / "pyvenv.cfg").write_text(f"home = {base}/bin\ninclude-system-site-packages = false\n")
    for name in ("python", "python3"):
        (home / "bin" / name).unlink(missing_ok=True)
        (home / "bin" / name).symlink_to(f"{base}/bin/{version}")
    (packages / "here.pth").write_text("\n".join(lines) + "\n")
    program = home / "bin/ckptwatch"
    program.write_text(f"#!{HOME}/bin/python\nimport sys\nfrom watcher.cli import main\nsys.exit(main())\n")
    program.chmod(0o755)
    return binds


def needed_programs() -> list[str]:
    """What is missing on this machine."""
    return [name for name in ("systemd-nspawn", "systemctl", "nsenter", "journalctl") if shutil.which(name) is None]
