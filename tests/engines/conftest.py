"""Tests on real engines run only where their marker is asked for (`make test-systemd`, ...): they install and boot."""

from __future__ import annotations

import pytest

ENGINES = ("systemd", "image", "slurm", "postgres")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    asked = config.option.markexpr or ""
    for item in items:
        for engine in ENGINES:
            wanted = engine in asked and f"not {engine}" not in asked
            if item.get_closest_marker(engine) and not wanted:
                item.add_marker(pytest.mark.skip(reason=f"starts a real engine: make test-{engine}"))
