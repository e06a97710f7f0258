"""Pure decisions: checkpoints, job transitions, order, health, timestamps. No clock, disk or process."""
