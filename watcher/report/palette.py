"""The colours of runs: 24 told apart, in light and dark, the same for a run on every page and in every plot. Pure.

Colour and dash follow from the run's number in the database, so that neither filtering nor a new run changes them.
"""

from __future__ import annotations

#: At least 3:1 against the card; any two 0.07 apart in OKLab (told apart from 0.02), the first eight also as seen with
#: protanopia and deuteranopia (Machado, Oliveira and Fernandes, 2009).
LIGHT = (
    *("#2563c9", "#d9600f", "#8c1737", "#3c9baa", "#5021b5", "#2c4d7d", "#1d8ef5", "#9c585b"),
    *("#dc5dd4", "#0c7219", "#4da424", "#990f94", "#fb4f84", "#8b5cee", "#9a8b62", "#5a4c24"),
    *("#8e72ab", "#477a6c", "#cd142a", "#c21977", "#70306c", "#7e6e2a", "#6c44a4", "#ce78a5"),
)
DARK = (
    *("#6ea8ff", "#ffa35c", "#cb7488", "#9eedfb", "#858ec3", "#9bbcd5", "#6b89f9", "#f3572a"),
    *("#fc82f3", "#45961f", "#abf95f", "#c362e0", "#fed2ce", "#e3b6ff", "#b28c39", "#ecc914"),
    *("#ba8cea", "#09d895", "#f399ad", "#ff64ad", "#b79ab4", "#b6be82", "#acaffc", "#f04e7f"),
)
#: Dash patterns in pixels: run 25 has the colour of run 1 and another line.
DASHES = ((), (7, 4), (2, 3), (9, 3, 2, 3))
MEAN_DASH = (1, 4)  # of a mean of checkpoints, whatever its run


def place_of(run_id: int) -> tuple[int, int]:
    """(place of the colour, place of the dash) of the run with this number, from 1."""
    number = max(run_id, 1) - 1
    return number % len(LIGHT), number // len(LIGHT) % len(DASHES)


def stylesheet() -> str:
    """The colours as CSS: `--k0` and on for scripts, `.k0` and `.d0` and on for the swatches of tables."""
    light, dark = ("".join(f"--k{place}:{colour};" for place, colour in enumerate(each)) for each in (LIGHT, DARK))
    rules = [f":root{{{light}}}", f':root[data-theme="dark"]{{{dark}}}']
    rules += [f".k{place}{{color:var(--k{place})}}" for place in range(len(LIGHT))]
    for place, dash in enumerate(DASHES):
        pattern = " ".join(map(str, dash)) or "none"
        rules.append(f".d{place}{{stroke-dasharray:{pattern}}}")
    return "\n".join(rules) + "\n"
