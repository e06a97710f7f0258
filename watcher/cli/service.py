"""`ckptwatch service`: print or install a systemd unit for this installation. Starts nothing."""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path
from typing import Any

import click

from watcher.cli.options import Globals, json_option, print_json, say
from watcher.errors import CkptwatchError, UsageError
from watcher.setup.systemd_unit import Unit, spelled

SYSTEM_FOLDER = Path("/etc/systemd/system")
SYSTEM_CONFIG = Path("/etc/ckptwatch/ckptwatch.toml")


@click.group("service", epilog="Example:  ckptwatch -c /etc/ckptwatch/ckptwatch.toml service print --as ada")
def command() -> None:
    """Print or install a systemd unit for the daemon."""


def unit_options(command: Any) -> Any:
    for option in (
        click.option("--user", "for_user", is_flag=True, help="Unit of the user manager (`systemctl --user`)."),
        click.option("--as", "as_user", metavar="USER", help="Run as this user, e.g. the one who trains."),
    ):
        command = option(command)
    return json_option(command)


@command.command("print", epilog="Example:  ckptwatch service print --user > ~/.config/systemd/user/ckptwatch.service")
@unit_options
@click.pass_obj
def print_(flags: Globals, for_user: bool, as_user: str | None, as_json: bool) -> None:
    """Print the unit, with the paths of this installation and of the settings file."""
    unit, file, config = _unit(flags, for_user, as_user)
    if as_json:
        print_json({"path": str(file), "unit": unit.text(), "config": str(config), "user": unit.user})
    else:
        click.echo(unit.text(), nl=False)


@command.command("install", epilog="Example:  ckptwatch service install --user")
@unit_options
@click.option("--force", is_flag=True, help="Replace an existing unit that differs.")
@click.pass_obj
def install(flags: Globals, for_user: bool, as_user: str | None, force: bool, as_json: bool) -> None:
    """Install the unit and print the command that starts it."""
    unit, file, config = _unit(flags, for_user, as_user)
    text = unit.text()
    if file.exists() and file.read_text() != text and not force:
        raise UsageError(f"{file} exists and differs", hint="compare them, then add --force")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    except PermissionError as error:
        hint = "use sudo, or the user manager: ckptwatch service install --user"
        raise UsageError(f"{file} cannot be written: {error.strerror}", hint=hint) from None
    manager = "systemctl --user" if for_user else "systemctl"
    start = f"{manager} daemon-reload && {manager} enable --now {file.name}"
    if as_json:
        print_json({"path": str(file), "config": str(config), "start": start})
        return
    say(f"wrote {file}")
    if not config.exists():
        say(f"write your settings to {config} first: ckptwatch init")
    say(f"start it:     {start}")
    say(f"check it:     {manager} status {file.name};  journalctl {'--user ' * for_user}-u {file.name} -f")
    if for_user:
        say("to keep it running after logout:  loginctl enable-linger")


def _unit(flags: Globals, for_user: bool, as_user: str | None) -> tuple[Unit, Path, Path]:
    """The unit, where it belongs, and the settings file that it names."""
    if for_user and as_user:
        raise UsageError("the user manager runs services as you", hint="omit --as or --user")
    if as_user is not None:
        try:
            pwd.getpwnam(as_user)
        except KeyError:
            raise UsageError(
                f"there is no user {as_user!r} on this machine", hint="--as with a name from `getent passwd`"
            ) from None
    given = flags.settings_file()
    usual = _user_config() / "ckptwatch/ckptwatch.toml" if for_user else SYSTEM_CONFIG
    config = given.absolute() if given is not None else usual
    writable = () if for_user else _written_outside_the_state(config)
    unit = Unit(_program(), spelled(str(config)), as_user, writable, of_user_manager=for_user)
    folder = _user_config() / "systemd/user" if for_user else SYSTEM_FOLDER
    return unit, folder / "ckptwatch.service", config


def _program() -> str:
    """This installation's own command."""
    beside = Path(sys.executable).with_name("ckptwatch")
    return spelled(str(beside)) if beside.exists() else spelled(sys.executable, "-m", "watcher.cli")


def _user_config() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")


def _written_outside_the_state(config: Path) -> tuple[str, ...]:
    """Folders that the settings name for writing: everything else is read-only for the service."""
    from watcher.settings.load import load_settings
    from watcher.settings.schema import DEFAULT_DATABASE
    from watcher.store.engine import sqlite_path

    if not config.exists():
        return ()
    try:
        settings = load_settings(config)
    except CkptwatchError as error:
        say(f"note: {error.cause}")
        return ()
    places = [sink.path.absolute().parent for sink in settings.sink if sink.path is not None]
    database = sqlite_path(settings.store.url)
    if database is not None and settings.store.url != DEFAULT_DATABASE:
        places.append(database.absolute().parent)
    if settings.store.state_dir is not None:
        places.append(settings.store.state_dir.absolute())
    return tuple(dict.fromkeys(str(place) for place in places))
