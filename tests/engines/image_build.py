"""Building and running the image without a container engine's daemon: buildah over a stand-in for the base image.

The base is a minimal Debian with its own Python, made by debootstrap: base images cannot be pulled everywhere.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
BASE = "localhost/python:standin"
IMAGE = "localhost/ckptwatch:test"
BASE_PYTHON = "3.11"  # Debian bookworm's


class Builder:
    """All layers lie in a folder of its own, which `close` removes."""

    def __init__(self) -> None:
        for name in ("buildah", "debootstrap"):
            assert shutil.which(name), f"{name} is not installed: tests/engines/install.sh image"
        self.place = Path(tempfile.mkdtemp(prefix="ckptwatch-image-", dir="/var/tmp"))
        storage = ["--root", str(self.place / "storage"), "--runroot", str(self.place / "run")]
        self._buildah = ["buildah", *storage, "--storage-driver", "vfs"]
        self._containers: list[str] = []

    def base(self) -> None:
        """The stand-in, under BASE."""
        root = self.place / "root"
        packages = "python3,python3-venv,ca-certificates"
        self.call("debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(root), _mirror())
        container = self.buildah("from", "scratch").strip()
        self.buildah("add", "-q", container, str(root), "/")
        self.buildah("commit", "-q", container, BASE)
        self.buildah("rm", container)
        shutil.rmtree(root)

    def wheels(self) -> Path:
        """Everything that the build installs, so that it needs no network itself."""
        folder = self.place / "wheels"
        project = tomllib.loads((REPO / "pyproject.toml").read_text())
        extras = project["project"]["optional-dependencies"]
        wanted = [*project["build-system"]["requires"], *project["project"]["dependencies"], *extras["web"]]
        constraints = self.place / "constraints.txt"  # pip download takes no hashes beside names without
        locked = re.findall(r"^[a-z0-9][^=\s]*==[^\s;]+", (REPO / "locks/dev.txt").read_text(), re.MULTILINE)
        constraints.write_text("\n".join([*locked, (REPO / "locks/torch.txt").read_text()]))
        download = (sys.executable, "-m", "pip", "download", "-q", "-d", str(folder), "--only-binary=:all:")
        self.call(*download, "-c", str(constraints), "--python-version", BASE_PYTHON, *wanted)
        self.call(*download, "--python-version", BASE_PYTHON, "--require-hashes", "-r", str(REPO / "locks/uv.txt"))
        return folder

    def build(self, wheels: Path) -> None:
        arguments = {"BASE": BASE, "DEVICE": "cpu", "EXTRAS": "web", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
        given = [part for name, value in arguments.items() for part in ("--build-arg", f"{name}={value}")]
        how = ("--isolation", "chroot", "--pull-never", "--network", "host", "--format", "docker")
        self.buildah("build", *how, *given, "--volume", f"{wheels}:/wheels:ro", "-t", IMAGE, str(REPO))

    def container(self) -> str:
        name = self.buildah("from", "--pull-never", IMAGE).strip()
        self._containers.append(name)
        return name

    def run(
        self, container: str, *command: str, binds: dict[Path, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        volumes = [part for source, target in (binds or {}).items() for part in ("--volume", f"{source}:{target}")]
        whole = [
            *self._buildah,
            "run",
            "--isolation",
            "chroot",
            "--network",
            "host",
            *volumes,
            container,
            "--",
            *command,
        ]
        return subprocess.run(whole, capture_output=True, text=True, timeout=240)

    def buildah(self, *arguments: str) -> str:
        return self.call(*self._buildah, *arguments)

    def call(self, *command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=os.environ)
        assert done.returncode == 0, f"{' '.join(command)[:300]}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def close(self) -> None:
        for container in self._containers:
            subprocess.run([*self._buildah, "rm", container], capture_output=True)
        shutil.rmtree(self.place, ignore_errors=True)


def _mirror() -> str:
    """The mirror that this machine's own apt uses."""
    said = subprocess.run(["apt-get", "indextargets", "--format", "$(SITE)"], capture_output=True, text=True).stdout
    sites = [line.strip() for line in said.splitlines() if "debian" in line and "security" not in line]
    return sites[0] if sites else "http://deb.debian.org/debian"
