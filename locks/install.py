"""Makes a virtual environment from a lock file: with uv where it is there or can be installed, else with pip.

`python3 locks/install.py VENV LOCK`: every package but torch by hash, then torch of the version in torch.txt: from a
local folder of wheels, else a CPU build, else the build on the package index. With `--extras`, only what the project
and these extras need, in the versions of the lock, and the project as a copy. Needs Python's own library only.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TORCH = ROOT / "locks/torch.txt"
#: Of torch 2.13.0 for Linux x86_64 with the CUDA libraries that it requires, in GB.
CUDA_DOWNLOAD_GB, CUDA_DISK_GB = 2.7, 5.5
#: pip's setting -> uv's variable, and what separates several values there
CARRIED = {
    "find-links": ("UV_FIND_LINKS", ","),
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "cert": ("SSL_CERT_FILE", " "),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("venv", type=Path)
    parser.add_argument("lock", type=Path)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="which build of torch")
    parser.add_argument("--extras", help="extras of the project, with commas; needs uv on the PATH")
    parser.add_argument("--no-uv", action="store_true", help="use pip")
    given = parser.parse_args()
    given.venv, given.lock = given.venv.absolute(), given.lock.absolute()
    if given.extras is not None and shutil.which("uv") is None:
        parser.error("--extras needs uv: pip install -r locks/uv.txt")
    started_s = time.monotonic()
    installer: Uv | Pip
    uv = None if given.no_uv else find_uv()
    if uv is None and not given.no_uv:
        make_venv(given.venv)
        uv = bootstrap_uv(given.venv)
    if uv is None:
        say("uv is not at hand: installing with pip, which takes several minutes")
        make_venv(given.venv)
        installer = Pip(given.venv)
    else:
        installer = Uv(uv, given.venv)
    try:
        if given.extras is None:
            installer.install("--require-hashes", "--no-deps", "-r", str(given.lock))
            install_torch(installer, given.device)
            installer.install("--no-deps", "--no-build-isolation", "-e", str(ROOT))
        else:
            install_torch(installer, given.device)
            lock = str(given.lock)
            # uv checks the hashes of constraints; pip cannot where one requirement is a folder
            installer.install("-c", lock, "-c", str(TORCH), "--build-constraints", lock, f"{ROOT}[{given.extras}]")
    except subprocess.CalledProcessError as error:
        say(f"failed with status {error.returncode}: {shlex.join(map(str, error.cmd))}")
        return 1
    say(f"{given.venv} is ready after {time.monotonic() - started_s:.0f} s ({installer.name}, {given.lock.name})")
    return 0


def install_torch(installer: Uv | Pip, device: str) -> None:
    """The pinned torch: a local wheel, a CPU build, or the build on the package index."""
    version = TORCH.read_text().split("==")[1].strip()
    cpu = device == "cpu" or (device == "auto" and not has_gpu())
    pinned = ("-r", str(TORCH))
    if installer.has_torch(version):
        return
    if cpu and installer.tries("--no-index", "--no-deps", *pinned):
        say(f"torch {version}: a local wheel")
    elif cpu and installer.tries_cpu_index(*pinned):
        say(f"torch {version}: the CPU build")
    else:
        if cpu:
            say(
                f"torch {version}: no CPU build within reach (PIP_FIND_LINKS names a folder of wheels); taking the "
                f"package index's build with CUDA, {CUDA_DOWNLOAD_GB} GB to download, {CUDA_DISK_GB} GB on disk"
            )
        installer.install(*pinned)


class Uv:
    """uv, which gets what pip's configuration says."""

    name = "uv"

    def __init__(self, uv: str, venv: Path) -> None:
        self.venv = venv
        self.environment = uv_environment()
        if not right_python(venv):
            subprocess.run([uv, "venv", "-q", "--clear", "--python", sys.executable, str(venv)], check=True)
        self._call = [uv, "pip", "install", "-q", "--python", str(venv / "bin/python"), *uv_flags()]

    def install(self, *arguments: str) -> None:
        subprocess.run([*self._call, *arguments], check=True, env=self.environment, cwd=ROOT)

    def tries(self, *arguments: str) -> bool:
        environment = {"UV_HTTP_RETRIES": "0", **self.environment}
        done = subprocess.run([*self._call, *arguments], env=environment, cwd=ROOT, capture_output=True, check=False)
        return done.returncode == 0

    def tries_cpu_index(self, *arguments: str) -> bool:
        return self.tries("--torch-backend", "cpu", "--no-deps", *arguments)

    def has_torch(self, version: str) -> bool:
        return has_torch(self.venv, version)


class Pip:
    """pip of the environment itself."""

    name = "pip"

    def __init__(self, venv: Path) -> None:
        self.venv = venv
        self._call = [str(venv / "bin/python"), "-m", "pip", "--disable-pip-version-check", "install", "-q"]

    def install(self, *arguments: str) -> None:
        subprocess.run([*self._call, *arguments], check=True, cwd=ROOT)

    def tries(self, *arguments: str) -> bool:
        done = subprocess.run([*self._call, *arguments], cwd=ROOT, capture_output=True, check=False)
        return done.returncode == 0

    def tries_cpu_index(self, *arguments: str) -> bool:
        return False  # pip has no switch for it

    def has_torch(self, version: str) -> bool:
        return has_torch(self.venv, version)


def has_torch(venv: Path, version: str) -> bool:
    return any(venv.glob(f"lib/python3*/site-packages/torch-{version}*.dist-info"))


def find_uv() -> str | None:
    """uv on the PATH, or in an environment that was made here before."""
    beside = [ROOT / name / "bin/uv" for name in (".venv", ".venv-demo")]
    return shutil.which("uv") or next((str(path) for path in beside if os.access(path, os.X_OK)), None)


def bootstrap_uv(venv: Path) -> str | None:
    """Install uv into the environment with its pip; None where that fails."""
    call = [str(venv / "bin/python"), "-m", "pip", "--disable-pip-version-check", "install", "-q", "--require-hashes"]
    done = subprocess.run([*call, "-r", str(ROOT / "locks/uv.txt")], capture_output=True, check=False)
    return str(venv / "bin/uv") if done.returncode == 0 else None


def make_venv(venv: Path) -> None:
    if not right_python(venv) or not (venv / "bin/pip").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)


def right_python(venv: Path) -> bool:
    """Is there an environment whose Python has this interpreter's version?"""
    python = venv / "bin/python"
    if not os.access(python, os.X_OK):
        return False
    told = subprocess.run([str(python), "-V"], capture_output=True, text=True, check=False).stdout
    return told.split()[-1:] == [".".join(map(str, sys.version_info[:3]))]


def uv_environment() -> dict[str, str]:
    """This environment with pip's configuration in uv's variables; uv reads none of pip's. uv's own win."""
    environment = dict(os.environ)
    settings = pip_settings()
    for key, (name, separator) in CARRIED.items():
        if key in settings:
            environment.setdefault(name, separator.join(settings[key].split()))
    if "UV_INDEX" in environment:
        environment.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")  # as pip does: all indexes count alike
    return environment


def uv_flags() -> list[str]:
    """What pip's configuration says and uv has no variable for."""
    return ["--no-index"] if pip_settings().get("no-index", "").lower() in ("1", "true", "yes", "on") else []


def pip_settings() -> dict[str, str]:
    """pip's settings, from its files and variables; none where pip is not there."""
    call = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    told = subprocess.run(call, capture_output=True, text=True, check=False).stdout
    found: dict[str, str] = {}
    # later sections win, as in pip: global, then install, then variables
    for section in ("global", "install", ":env:"):
        for key, value in re.findall(rf"^{section}\.([a-z-]+)='(.*)'$", told, re.MULTILINE):
            if value:
                found[key] = value.replace("\\n", " ")
    return found


def has_gpu() -> bool:
    """Is there an NVIDIA device in this machine?"""
    return os.path.exists("/dev/nvidiactl") or shutil.which("nvidia-smi") is not None


def say(words: str) -> None:
    sys.stderr.write(f"setup: {words}\n")


if __name__ == "__main__":
    sys.exit(main())
