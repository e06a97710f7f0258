"""The files in deploy/ for containers: valid for the API's own schemas, and as locked down as the how-to says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from watcher.settings.schema import Settings

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


def documents(file: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(file.read_text()) if document]


def sidecars() -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(file, pod, container) of every ckptwatch container."""
    found = []
    for file in MANIFESTS:
        for document in documents(file):
            pod = document.get("spec", {}).get("template", {}).get("spec") or {}
            for container in (*pod.get("containers", ()), *pod.get("initContainers", ())):
                if container["name"] == "ckptwatch":
                    found.append((file.name, pod, container))
    return found


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.name)
def test_every_manifest_follows_the_schema_of_the_kubernetes_api_strictly(file):
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    for document in documents(file):
        validate.validate(document, validate.latest_version(), strict=True)
    broken = documents(file)[-1]
    broken["spec"]["replcias"] = 1
    with pytest.raises(validate.ValidationError):
        validate.validate(broken, validate.latest_version(), strict=True)


def test_there_is_a_sidecar_and_a_deployment():
    assert [name for name, _, _ in sidecars()] == ["deployment.yaml", "sidecar-job.yaml"]


@pytest.mark.parametrize(
    ("name", "pod", "container"), sidecars(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_the_container_is_locked_down_and_sees_checkpoints_read_only(name, pod, container):
    security = container["securityContext"]
    assert security["runAsUser"] == 10001
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert mounts["/checkpoints"]["readOnly"] is True
    assert not mounts["/data"].get("readOnly")
    assert {"/tmp", "/dev/shm"} <= set(mounts)
    assert {mount["name"] for mount in mounts.values()} <= {volume["name"] for volume in pod["volumes"]}
    assert "status" in str(container["livenessProbe"])
    assert container["resources"]["limits"]["memory"]


def test_a_deployment_never_runs_two_daemons_on_one_database():
    spec = documents(DEPLOY / "kubernetes/deployment.yaml")[0]["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_the_settings_in_the_config_map_are_valid_settings():
    import tomllib

    text = documents(DEPLOY / "kubernetes/sidecar-job.yaml")[0]["data"]["ckptwatch.toml"]
    settings = Settings.model_validate(tomllib.loads(text))
    assert str(settings.run[0].dir) == "/checkpoints"


def test_the_compose_file_gives_the_sidecar_the_trainers_volume_read_only():
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    ours = services["ckptwatch"]
    assert "checkpoints:/checkpoints:ro" in ours["volumes"]
    assert "checkpoints:/checkpoints" in services["trainer"]["volumes"]
    assert (ours["read_only"], ours["cap_drop"]) == (True, ["ALL"])
