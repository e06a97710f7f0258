"""Writes train.txt and val.txt anew: the log of an invented harbour, from a small grammar and a fixed seed.

usage: python -m evalcore.demo.make_text FOLDER
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

SHIPS = (
    *("Amaranth", "Brindle", "Cormorant", "Dunlin", "Evenstar", "Fulmar"),
    *("Gannet", "Halcyon", "Ibis", "Juniper", "Kestrel", "Linnet"),
)
CARGO = ("salt", "timber", "wool", "copper", "barley", "slate", "rope", "tar", "glass", "lime", "paper", "tea")
PORTS = ("Arle", "Bresk", "Corvane", "Dunmere", "Eskholm", "Farrow", "Gellan", "Hythe")
WINDS = ("north", "northeast", "east", "southeast", "south", "southwest", "west", "northwest")
TROUBLES = {
    "a torn sail": "the sailmaker",
    "a sprung plank": "the carpenter",
    "a fouled anchor": "the diver",
    "a cracked mast": "the shipwright",
    "a sick hand": "the doctor",
}


def day(number: int, chance: random.Random, moored: dict[str, str]) -> str:
    """One day's paragraph; ships that came in stay in `moored` with their cargo until they leave."""
    wind = chance.choice(WINDS)
    strength = chance.choice(["light", "fresh", "strong"])
    lines = [f"Day {number}. Wind from the {wind}, {strength}."]
    for ship in chance.sample(SHIPS, 2):
        if ship in moored:
            port = chance.choice(PORTS)
            lines.append(f"The {ship} left for {port} with {moored.pop(ship)}.")
        else:
            moored[ship] = chance.choice(CARGO)
            lines.append(f"The {ship} came in from {chance.choice(PORTS)} with {moored[ship]}.")
    if moored and chance.random() < 0.5:
        ship = chance.choice(sorted(moored))
        trouble, helper = chance.choice(sorted(TROUBLES.items()))
        lines.append(f"The {ship} had {trouble}, and we sent for {helper}.")
    count = len(moored)
    lines.append(f"{count} {'ship lies' if count == 1 else 'ships lie'} at the quay tonight.")
    return " ".join(lines)


def log(days: int, seed: int) -> str:
    chance = random.Random(seed)
    moored: dict[str, str] = {}
    return "\n".join(day(number, chance, moored) for number in range(1, days + 1)) + "\n"


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    (folder / "train.txt").write_text(log(1500, seed=1))
    (folder / "val.txt").write_text(log(120, seed=2))
