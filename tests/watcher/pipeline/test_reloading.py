"""A change of the settings is all or nothing, and is tried again while the database is locked."""

from __future__ import annotations

import io
from types import SimpleNamespace

from watcher.errors import ConfigError, StoreUnavailable
from watcher.log import Log
from watcher.pipeline import watching
from watcher.pipeline.isolation import Isolation
from watcher.pipeline.reloading import RETRY_S, Reloading
from watcher.settings.schema import Settings


def reloading() -> tuple[Reloading, io.StringIO]:
    stream = io.StringIO()
    log = Log(1, stream)
    return Reloading(SimpleNamespace(log=log, isolation=Isolation(log))), stream  # type: ignore[arg-type]


def test_settings_that_cannot_be_applied_yet_leave_everything_as_it_was_and_are_tried_again(monkeypatch):
    answers: list[object] = [StoreUnavailable("the database is locked"), "fresh"]

    def begin(settings, tools, at_s):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(watching, "begin", begin)
    changing, stream = reloading()
    changing.request(Settings(), 0.0)
    assert changing.attempt(0.0) is None
    assert (changing.pending, changing.waits) == (True, "the database is locked")
    assert "not reloaded yet" in stream.getvalue()
    assert changing.attempt(RETRY_S - 0.1) is None and len(answers) == 1
    assert changing.attempt(RETRY_S) == "fresh"
    assert (changing.pending, changing.waits) == (False, None)


def test_wrong_settings_and_unforeseen_errors_are_refused_and_logged(monkeypatch):
    for error, words in ((ConfigError("no such file"), "no such file"), (ValueError("made up"), "Traceback")):

        def begin(settings, tools, at_s, error=error):
            raise error

        monkeypatch.setattr(watching, "begin", begin)
        changing, stream = reloading()
        changing.request(Settings(), 0.0)
        assert changing.attempt(0.0) is None and not changing.pending
        assert "the old ones stay" in stream.getvalue() and words in stream.getvalue()
