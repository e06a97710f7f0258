"""The Dockerfile, linted, really built, and run as its own user on a checkpoint."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.engines.image_build import IMAGE, REPO, Builder
from tests.support.checkpoints import save_rosellm

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def builder() -> Iterator[Builder]:
    made = Builder()
    try:
        made.base()
        made.build(made.wheels())
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def container(builder) -> str:
    return builder.container()


@pytest.fixture
def folders(builder) -> dict[Path, str]:
    """Checkpoints, read-only; validation data; and a folder of the image's user."""
    place = builder.place / "run-data"
    shutil.rmtree(place, ignore_errors=True)
    for name in ("checkpoints", "validation", "data"):
        (place / name).mkdir(parents=True)
    place.chmod(0o755)
    builder.place.chmod(0o755)
    save_rosellm(place / "checkpoints/step_20.pt", step=20)
    np.save(place / "validation/val.npy", np.random.default_rng(0).integers(0, 64, 500).astype(np.uint16))
    (place / "data/ckptwatch.toml").write_text(
        '[[run]]\nname = "gpt"\ndir = "/checkpoints"\nsettle_s = 0.2\n'
        '[[eval]]\ndata = "/validation/val.npy"\nseq_len = 16\n[launch]\ndevice = "cpu"\nnproc = 2\nthreads = 1\n'
    )
    shutil.chown(place / "data", 10001, 10001)
    return {
        place / "checkpoints": "/checkpoints:ro",
        place / "validation": "/validation:ro",
        place / "data": "/data",
    }


def test_the_linter_finds_nothing_in_the_dockerfile():
    linter = Path(sys.executable).with_name("hadolint")
    program = str(linter) if linter.exists() else shutil.which("hadolint")
    assert program, "hadolint is not installed: make setup"
    done = subprocess.run([program, str(REPO / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_image_declares_user_command_folder_and_healthcheck(builder):
    config = json.loads(builder.buildah("inspect", "--type", "image", IMAGE))["Docker"]["config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["ckptwatch"]
    assert config["Cmd"] == ["run"]
    assert config["WorkingDir"] == "/data"
    assert "ckptwatch status" in " ".join(config["Healthcheck"]["Test"])


def test_no_build_tools_are_left_and_nothing_of_the_program_can_be_written(builder, container):
    found = builder.run(
        container, "sh", "-c", "command -v gcc make git /opt/ckptwatch/bin/pip; id -u; touch /opt/ckptwatch/x"
    )
    assert found.stdout.split() == ["10001"]
    assert "Permission denied" in found.stderr


def test_a_checkpoint_is_evaluated_inside_on_two_ranks_and_the_row_stands_outside(builder, container, folders):
    done = builder.run(container, "ckptwatch", "run", "--once", "--json", binds=folders)
    assert done.returncode == 0, done.stderr[-3000:]
    row = json.loads(done.stdout)[0]
    assert (row["step"], row["tokens"], row["world_size"]) == (20, 499, 2)
    data = next(source for source, target in folders.items() if target == "/data")
    assert (data / "ckptwatch.db").stat().st_uid == 10001


def test_the_healthcheck_tells_a_container_without_a_daemon_from_a_healthy_one(builder, container, folders):
    config = json.loads(builder.buildah("inspect", "--type", "image", IMAGE))["Docker"]["config"]
    check = config["Healthcheck"]["Test"][3] if config["Healthcheck"]["Test"][0] == "CMD" else ""
    assert builder.run(container, "sh", "-c", check, binds=folders).returncode != 0
    script = f"""
        ckptwatch run 2> /data/log & daemon=$!
        for _ in $(seq 100); do if {{ {check}; }} 2> /dev/null; then healthy=yes; break; fi; sleep 0.3; done
        kill $daemon; wait $daemon; echo "healthy=$healthy status=$?"
    """
    said = builder.run(container, "sh", "-c", script, binds=folders)
    assert "healthy=yes status=0" in said.stdout, said.stdout + said.stderr
