"""`ckptwatch service` and the shipped units: what they say, and what systemd's own checkers say of them."""

from __future__ import annotations

import getpass
import shutil
import subprocess
from pathlib import Path

import pytest

from watcher.cli import service
from watcher.setup.systemd_unit import Unit

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
OF_INSTANCE = Unit(config="/etc/ckptwatch/%i.toml", user="%i", state="ckptwatch-%i")
SHIPPED = {"ckptwatch.service": Unit().text(), "ckptwatch@.service": OF_INSTANCE.text()}
needs_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *map(str, arguments)], capture_output=True, text=True, timeout=60)


def test_the_files_in_deploy_are_what_the_program_prints_by_default():
    assert {path.name: path.read_text() for path in DEPLOY.glob("*.service")} == SHIPPED


@needs_analyze
@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_the_exposure_of_a_shipped_unit_is_at_most_one_and_a_half(name):
    judged = analyze("security", "--offline=true", "--threshold=15", DEPLOY / name)
    assert judged.returncode == 0, judged.stdout[-2000:] + judged.stderr


@needs_analyze
def test_a_unit_that_is_weaker_does_not_pass_that_gate(tmp_path):
    weak = tmp_path / "ckptwatch.service"
    weak.write_text((DEPLOY / "ckptwatch.service").read_text().replace("PrivateUsers=yes\n", ""))
    assert analyze("security", "--offline=true", "--threshold=15", weak).returncode != 0


@needs_analyze
@pytest.mark.parametrize("more", [[], ["--user"], ["--as", getpass.getuser()]], ids=["system", "user", "as"])
def test_systemd_finds_no_fault_in_a_printed_unit_even_with_spaces_in_its_paths(ckptwatch, tmp_path, more):
    config = tmp_path / "my runs" / "gpt 100%.toml"
    config.parent.mkdir()
    config.write_text('[[run]]\ndir = "ck"\n[[eval]]\ndata = "v.npy"\n[store]\nurl = "results of mine.db"\n')
    said = ckptwatch("-c", config, "service", "print", *more)
    assert said.status == 0
    (tmp_path / "ckptwatch.service").write_text(said.out)
    verdict = analyze("verify", "--recursive-errors=yes", tmp_path / "ckptwatch.service")
    assert verdict.returncode == 0, verdict.stderr
    assert "gpt 100%%.toml" in said.out


@needs_analyze
def test_that_check_sees_a_misspelt_key(tmp_path):
    (tmp_path / "x.service").write_text(Unit(command="/bin/true").text().replace("WatchdogSec", "WatchdogSeconds"))
    assert analyze("verify", "--recursive-errors=yes", tmp_path / "x.service").returncode != 0


def test_a_database_outside_the_state_folder_stays_writable_for_the_service(ckptwatch, tmp_path):
    settings = '[[run]]\ndir = "ck"\n[[eval]]\ndata = "v.npy"\n[store]\nurl = "db/r.db"\n'
    (tmp_path / "ckptwatch.toml").write_text(settings)
    assert f"ReadWritePaths={tmp_path}/db\n" in ckptwatch("service", "print").out


def test_install_for_oneself_writes_the_unit_and_names_the_next_commands(ckptwatch, tmp_path):
    said = ckptwatch("service", "install", "--user", "--json")
    file = tmp_path / "home/.config/systemd/user/ckptwatch.service"
    assert said.json["path"] == str(file)
    assert "systemctl --user enable --now ckptwatch.service" in said.json["start"].split("&& ")
    assert "WantedBy=default.target" in file.read_text()
    assert "DynamicUser" not in file.read_text()


def test_install_does_not_replace_a_unit_that_a_person_changed(ckptwatch, tmp_path, monkeypatch):
    monkeypatch.setattr(service, "SYSTEM_FOLDER", tmp_path / "system")
    assert ckptwatch("service", "install").status == 0
    file = tmp_path / "system/ckptwatch.service"
    file.write_text(file.read_text() + "# mine\n")
    said = ckptwatch("service", "install")
    assert said.status == 2
    assert "--force" in said.err
    assert file.read_text().endswith("# mine\n")
    assert ckptwatch("service", "install", "--force").status == 0
    assert not file.read_text().endswith("# mine\n")


def test_a_user_who_is_not_there_is_refused(ckptwatch):
    said = ckptwatch("service", "print", "--as", "nobody-of-this-name")
    assert said.status == 2
    assert "nobody-of-this-name" in said.err
