"""A signal that comes at any moment ends the wait, and never hangs the process that it comes to."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

from watcher.state.wake import Wake

#: 4,000 signals, a tenth of a millisecond apart, against a thread that does nothing but what the handler does, too.
FLOOD = """
    import signal, threading
    from watcher.state.wake import Wake
    wake, handled = {made}, 0
    def handler(*_):
        global handled
        handled += 1
        wake.set()
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
    while handled < 4000:
        wake.set()
        wake.clear()
        wake.wait(1e-5)
    signal.setitimer(signal.ITIMER_REAL, 0)
    print("over")
"""


def flood(made: str, within_s: float) -> str:
    code = textwrap.dedent(FLOOD.format(made=made))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=within_s)
    return done.stdout.strip()


def test_row_236_a_signal_handler_that_comes_within_wait_set_or_clear_does_not_wait_for_itself():
    assert flood("Wake()", 120) == "over"


def test_the_event_of_the_standard_library_does_wait_for_itself():
    """The reason for Wake: should this fail, `threading.Event` can take its place."""
    try:
        assert flood("threading.Event()", 3) != "over"  # a stack of handlers that ended the process
    except subprocess.TimeoutExpired:
        pass  # hung


def test_a_wait_ends_by_a_call_before_it_and_by_a_signal_in_it():
    wake = Wake()
    assert not wake.wait(0.001)
    wake.set()
    wake.set()
    assert wake.wait(60)
    wake.set()
    wake.clear()
    assert not wake.wait(0.001)
    before = signal.signal(signal.SIGALRM, lambda *_: wake.set())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert wake.wait(60)
    finally:
        signal.signal(signal.SIGALRM, before)
