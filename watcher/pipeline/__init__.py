"""The stages of the daemon: intake, dispatch, reaping, recording, recovery, delivery, status."""
