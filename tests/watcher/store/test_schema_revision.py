"""The schema's number in the code is the newest migration's; a database that is current needs no Alembic."""

from __future__ import annotations

import subprocess
import sys

from watcher.store.migrate import known_revisions, open_for_writing, revision_of
from watcher.store.schema import REVISION


def test_the_revision_in_the_code_is_the_newest_migration(tmp_path):
    store = open_for_writing(str(tmp_path / "a.db"))
    with store.read() as connection:
        assert revision_of(connection) == REVISION
    store.close()
    assert REVISION == max(known_revisions())


def test_opening_a_current_database_does_not_load_alembic(tmp_path):
    open_for_writing(str(tmp_path / "a.db")).close()
    code = "import sys, watcher.daemon; from watcher.store.migrate import open_for_writing, open_for_reading\n"
    code += f"open_for_writing({str(tmp_path / 'a.db')!r}); open_for_reading({str(tmp_path / 'a.db')!r})\n"
    code += "print('alembic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
