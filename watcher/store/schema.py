"""The schema in one place: its revision, and every table of `tables/`. The views are in views.py.

Uniqueness and legal states are constraints here; the columns' comments are the reference documentation. Times are
ISO-8601 UTC text.
"""

from __future__ import annotations

from watcher.store.tables.averages import average_members as average_members
from watcher.store.tables.averages import averages as averages
from watcher.store.tables.base import metadata as metadata
from watcher.store.tables.outgoing import events as events
from watcher.store.tables.outgoing import exports as exports
from watcher.store.tables.page import annotation_rows as annotation_rows
from watcher.store.tables.page import samples as samples
from watcher.store.tables.results import results as results
from watcher.store.tables.results import windows as windows
from watcher.store.tables.tasks import task_items as task_items
from watcher.store.tables.watched import candidates as candidates
from watcher.store.tables.watched import checkpoints as checkpoints
from watcher.store.tables.watched import eval_sets as eval_sets
from watcher.store.tables.watched import runs as runs
from watcher.store.tables.work import OPEN_ATTEMPT as OPEN_ATTEMPT
from watcher.store.tables.work import attempts as attempts
from watcher.store.tables.work import jobs as jobs
from watcher.store.tables.work import launches as launches

REVISION = "0003"  # the newest of migrations/versions
APPLICATION_ID = 0x636B7077  # "ckpw": SQLite's PRAGMA application_id
