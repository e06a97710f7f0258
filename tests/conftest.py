"""For every test: threads that wait sleep. Set before anything imports torch; a busy machine is slow enough."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
