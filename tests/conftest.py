"""For every test: threads that wait sleep. Set before anything imports torch; a busy machine is slow enough."""

import os
import signal

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A shell that starts the tests in the background has them ignore Ctrl-C, and every child would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
