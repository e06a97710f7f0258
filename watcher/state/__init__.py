"""The state folder: its place and names, locks, the inbox of commands, status file, sd_notify."""
