"""Set-up of a machine: discovery for `init`, the checks of `doctor`, systemd units."""
