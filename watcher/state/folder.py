"""The state folder: the one rule for which folder belongs to a database, and the names of what is in it."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from watcher.domain.database import DEFAULT_DATABASE, sqlite_file
from watcher.errors import EnvironmentProblem
from watcher.state import lock


def user_state_folder() -> Path:
    """XDG_STATE_HOME/ckptwatch."""
    try:
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError:  # a user id without a name, as in many containers
        raise EnvironmentProblem(
            f"no home folder is known for user {os.getuid()}", hint="set HOME, or name the database with --db FILE"
        ) from None
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
    def beside(cls, url: str) -> StateFolder:
        """`<database>.state`; for a database server a folder of the user's state."""
        name = sqlite_file(url)
        if name is None:
            return cls(user_state_folder() / "server.state")
        file = Path(name).resolve()  # a link to a database is that database
        return cls(file.with_name(file.name + ".state"))

    @classmethod
    def of_database(cls, url: str, chosen: Path | None = None) -> StateFolder:
        """The folder that the database's daemon uses. Every verb asks here, so that orders reach that daemon.

        While a daemon runs, the folder that it named in the lock beside the database; else `[store] state_dir`
        (chosen), else the folder beside the database.
        """
        default = cls.beside(url)
        if lock.is_held(default.lock) and (folder := lock.holder(default.lock).state_dir) is not None:
            return cls(folder)
        return default if chosen is None else cls(Path(os.path.abspath(chosen)))

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
    def sinks(self) -> Path:
        return self.root / "sinks"

    @property
    def token_cache(self) -> Path:
        return self.root / "tokens"

    @property
    def data_digests(self) -> Path:
        return self.root / "data_digests.json"

    @property
    def health(self) -> Path:
        return self.root / "health.json"

    @property
    def paused(self) -> Path:
        """There while the queue is paused by a user."""
        return self.root / "paused"

    @property
    def log(self) -> Path:
        return self.root / "daemon.log"

    def identity(self) -> str:
        """The instance id: a name for this folder that no other host's has; made once. Only the lock's holder calls."""
        file = self.root / "identity"
        if not file.exists():
            temporary = self.root / ".identity.new"
            temporary.write_text(secrets.token_hex(16))
            os.replace(temporary, file)
        return file.read_text().strip()

    def create(self) -> None:
        """Raises EnvironmentProblem where the folder cannot be made."""
        for folder in (self.root, self.launches, self.inbox, self.spool, self.token_cache):
            try:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError as error:
                raise EnvironmentProblem(
                    f"the state folder {folder} cannot be created: {error.strerror}",
                    hint="name another with `[store] state_dir`, or another database with --db FILE",
                ) from None
