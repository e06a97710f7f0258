"""Where things lie: the database, the state folder beside it, and what is in it. Only names; creates nothing."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from watcher.settings.schema import DEFAULT_DATABASE


def user_state_folder() -> Path:
    """XDG_STATE_HOME/ckptwatch."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "ckptwatch"


def default_database(url: str, watched: Path | list[Path]) -> str:
    """The database's URL; the default one moves to the user's state folder where it would lie in a watched folder."""
    if url != DEFAULT_DATABASE:
        return url
    here = Path.cwd().resolve()
    for folder in [watched] if isinstance(watched, Path) else watched:
        inside = folder.expanduser().resolve()
        if here == inside or inside in here.parents:
            return str(user_state_folder() / inside.name / DEFAULT_DATABASE)
    return url


@dataclass(frozen=True)
class StateFolder:
    """All names in the state folder."""

    root: Path

    @classmethod
    def beside(cls, url: str, chosen: Path | None = None) -> StateFolder:
        """The chosen folder, or `<database>.state`; for a database server a folder of the user's state."""
        if chosen is not None:
            return cls(chosen.absolute())
        if "://" in url and not url.startswith("sqlite"):
            return cls(user_state_folder() / "server.state")
        file = Path(url.removeprefix("sqlite:///")).resolve()  # a link to a database is that database
        return cls(file.with_name(file.name + ".state"))

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def launches(self) -> Path:
        return self.root / "launches"

    @property
    def inbox(self) -> Path:
        return self.root / "inbox"

    @property
    def spool(self) -> Path:
        return self.root / "spool"

    @property
    def token_cache(self) -> Path:
        return self.root / "tokens"

    @property
    def health(self) -> Path:
        return self.root / "health.json"

    @property
    def log(self) -> Path:
        return self.root / "daemon.log"

    def identity(self) -> str:
        """A name for this folder that no other host's has; made once. Only who holds the lock may call it."""
        file = self.root / "identity"
        if not file.exists():
            temporary = self.root / ".identity.new"
            temporary.write_text(secrets.token_hex(16))
            os.replace(temporary, file)
        return file.read_text().strip()

    def create(self) -> None:
        for folder in (self.root, self.launches, self.inbox, self.spool, self.token_cache):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
