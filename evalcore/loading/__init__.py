"""From an archive to a live model on its device: checkpoints, folders, weights."""
