"""Prometheus' text format, version 0.0.4. Pure: families of samples in, text out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass
class Family:
    """One metric: name, help, type (gauge | counter) and its samples (labels, value). A value of None is left out."""

    name: str
    help: str
    kind: str = "gauge"
    samples: list[tuple[Mapping[str, object], float | None]] = field(default_factory=list)

    def add(self, value: float | None, **labels: object) -> None:
        self.samples.append((labels, value))


def exposition(families: Iterable[Family]) -> str:
    """Families without a sample are left out."""
    lines: list[str] = []
    for family in families:
        samples = [(labels, value) for labels, value in family.samples if value is not None]
        if not samples:
            continue
        lines.append(f"# HELP {family.name} {_escaped(family.help, quotes=False)}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        for labels, value in samples:
            inner = ",".join(f'{key}="{_escaped(str(text))}"' for key, text in labels.items())
            lines.append(f"{family.name}{{{inner}}} {_number(value)}" if inner else f"{family.name} {_number(value)}")
    return "\n".join(lines) + "\n" if lines else ""


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(float(value)) if isinstance(value, float) else str(value)


def _escaped(text: str, quotes: bool = True) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quotes else text
