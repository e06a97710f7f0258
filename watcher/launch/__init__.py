"""Starting torchrun, on this machine or through Slurm, and ending every process of a launch."""
