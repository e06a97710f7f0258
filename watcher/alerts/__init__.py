"""Alerts: rules that decide, channels that send (command, webhook, Apprise, best link)."""
