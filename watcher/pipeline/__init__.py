"""What carries work between rooms: intake, dispatch, reaping, recording, recovery, delivery, status."""
