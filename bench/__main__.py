"""`python -m bench NAME [flags]`: one of the benchmarks below, or all of them."""

from __future__ import annotations

import argparse

from bench import (
    backlog,
    core,
    exactness,
    lanes,
    others,
    page,
    scale,
    scaling,
    simulate,
    startup,
    tasks,
    tiny,
    tokenise,
)

BENCHES = {
    "core": core,
    "others": others,
    "tiny": tiny,
    "backlog": backlog,
    "tokenise": tokenise,
    "exactness": exactness,
    "lanes": lanes,
    "scaling": scaling,
    "scale": scale,
    "page": page,
    "simulate": simulate,
    "startup": startup,
    "tasks": tasks,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    verbs = parser.add_subparsers(dest="name", required=True)
    for name, module in BENCHES.items():
        assert module.__doc__ is not None
        module.add_flags(verbs.add_parser(name, help=module.__doc__.splitlines()[0], description=module.__doc__))
    verbs.add_parser("all", help="every one with its defaults")
    said = parser.parse_args()
    for name in BENCHES if said.name == "all" else [said.name]:
        chosen = parser.parse_args([name]) if said.name == "all" else said
        BENCHES[name].run(chosen)


if __name__ == "__main__":
    main()
