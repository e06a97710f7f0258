"""`python -m bench NAME [flags]`: one of the benchmarks below, or all of them."""

from __future__ import annotations

import argparse

from bench import (
    backlog,
    burst,
    core,
    exactness,
    idle,
    lanes,
    loading,
    others,
    page,
    rescue,
    scale,
    scaling,
    scan,
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
    "loading": loading,
    "exactness": exactness,
    "lanes": lanes,
    "scaling": scaling,
    "scale": scale,
    "page": page,
    "simulate": simulate,
    "startup": startup,
    "tasks": tasks,
    "scan": scan,
    "idle": idle,
    "burst": burst,
    "rescue": rescue,
}


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = whole.add_subparsers(dest="name", required=True)
    for name, module in BENCHES.items():
        assert module.__doc__ is not None
        module.add_flags(names.add_parser(name, help=module.__doc__.splitlines()[0], description=module.__doc__))
    names.add_parser("all", help="every one with its defaults")
    return whole


def main() -> None:
    options = parser().parse_args()
    if options.name != "all":
        BENCHES[options.name].run(options)
        return
    for name, module in BENCHES.items():
        module.run(parser().parse_args([name]))


if __name__ == "__main__":
    main()
