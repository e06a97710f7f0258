"""Many runs, few devices: how late results come and how long the queue gets, by order and load. No file is touched."""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
import statistics
from dataclasses import dataclass, field

from watcher.domain.order import next_to_fill


@dataclass
class Run:
    """One training run as the queue sees it. Times in seconds; steps count saves."""

    every_s: float
    waiting: dict[int, float] = field(default_factory=dict)  # step -> when it was saved
    done: set[int] = field(default_factory=set)
    saved: int = 0


@dataclass(frozen=True)
class Outcome:
    """lag_s: from save to result. largest_gap: saves between two neighbours of a curve, the median run's widest."""

    lag_s: list[float]
    largest_backlog: int
    left: int
    largest_gap: float


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--every-s", type=float, default=600.0, help="seconds between two saves of a run")
    parser.add_argument("--evaluation-s", type=float, default=25.0, help="seconds on one device, all sets together")
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--backlog", type=int, default=0, help="saves of each run that lie there already")
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2])


def run(options: argparse.Namespace) -> None:
    load = options.runs * options.evaluation_s / options.every_s
    every = f"a save every {options.every_s:g} s, {options.evaluation_s:g} s an evaluation, {options.hours:g} h"
    print(f"# simulate: {options.runs} runs, {every}: {load:.2f} devices' worth of work")
    print("| devices | load | order | lag, median | lag, 95 % | longest queue | left | widest gap |")
    print("|---|---|---|---|---|---|---|---|")
    work = (options.runs, options.every_s, options.evaluation_s, options.hours * 3600)
    for devices in options.devices:
        for order in ("newest", "oldest", "fill"):
            outcome = simulate(*work, devices, order, options.backlog)
            lag = f"{_words(statistics.median(outcome.lag_s))} | {_words(_part(outcome.lag_s))}"
            queue = f"{outcome.largest_backlog} | {outcome.left} | {outcome.largest_gap:.0f}"
            print(f"| {devices} | {load / devices:.0%} | {order} | {lag} | {queue} |")


def simulate(
    runs: int,
    every_s: float,
    evaluation_s: float,
    until_s: float,
    devices: int,
    order: str,
    backlog: int = 0,
    seed: int = 1,
) -> Outcome:
    """Saves at regular intervals with a tenth of jitter; evaluations that vary by a fifth; devices that never fail."""
    chance = random.Random(seed)
    old = {step: (step - backlog) * every_s for step in range(backlog)}
    fleet = [Run(every_s, dict(old), saved=backlog) for _ in range(runs)]
    events = [(chance.uniform(0, every_s), number, "save", number, 0) for number in range(runs)]
    heapq.heapify(events)
    serial, free, largest = runs, devices, 0
    lag: list[float] = []
    while events and events[0][0] <= until_s:
        now_s, _, what, number, step = heapq.heappop(events)
        this = fleet[number]
        if what == "save":
            this.waiting[this.saved] = now_s
            this.saved += 1
            serial += 1
            heapq.heappush(events, (now_s + every_s * chance.uniform(0.9, 1.1), serial, "save", number, 0))
        else:
            free += 1
            saved_s = this.waiting.pop(~step)
            this.done.add(step)
            lag.append(now_s - saved_s)
        while free and (chosen := _choose(fleet, order, serial)) is not None:
            which, step = chosen
            fleet[which].waiting[~step] = fleet[which].waiting.pop(step)  # in work: kept under another key
            free, serial = free - 1, serial + 1
            took_s = evaluation_s * chance.uniform(0.8, 1.2)
            heapq.heappush(events, (now_s + took_s, serial, "done", which, step))
        largest = max(largest, sum(step >= 0 for each in fleet for step in each.waiting))
    gaps = [max(b - a for a, b in itertools.pairwise(sorted(each.done | {-1, each.saved}))) for each in fleet]
    left = sum(step >= 0 for each in fleet for step in each.waiting)
    return Outcome(lag, largest, left, statistics.median(gaps))


def _choose(fleet: list[Run], order: str, turn: int) -> tuple[int, int] | None:
    """Which run's which step is next, as the daemon decides: by time of saving, or runs in turn and coarse to fine."""
    waiting = [
        (saved_s, number, step) for number, r in enumerate(fleet) for step, saved_s in r.waiting.items() if step >= 0
    ]
    if not waiting:
        return None
    if order != "fill":
        _, number, step = min(waiting) if order == "oldest" else max(waiting)
        return number, step
    have = {number for _, number, _ in waiting}
    number = next(n % len(fleet) for n in range(turn, turn + len(fleet)) if n % len(fleet) in have)
    this = fleet[number]
    return number, next_to_fill((step for step in this.waiting if step >= 0), this.done)


def _part(values: list[float], share: float = 0.95) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


def _words(value_s: float) -> str:
    return (
        f"{value_s:.0f} s"
        if value_s < 120
        else f"{value_s / 60:.0f} min"
        if value_s < 7200
        else f"{value_s / 3600:.1f} h"
    )
