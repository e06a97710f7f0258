"""From an item to a model: one checkpoint, or the mean of several.

Owns the error of a member, which names the member. Decides nothing about attempts.
"""

from __future__ import annotations

import os

from evalcore.archive.container.source import ReportBytes
from evalcore.loading.checkpoint import CheckpointError, LoadedModel, load_checkpoint, load_mean, open_checkpoint
from evalcore.loading.mean import OpenedMember
from evalcore.loading.reading import LoadOptions, Opened, OpenOptions
from evalcore.messages import Item, LaunchSpec, Member


def load_item(item: Item, spec: LaunchSpec, options: LoadOptions, report: ReportBytes) -> LoadedModel:
    """Raises CheckpointError, OSError."""
    if item.members:
        return load_mean(_opened(item.members, spec, report), options)
    return load_checkpoint(
        os.fsencode(item.path),
        spec=options.spec,
        device=options.device,
        verify=options.verify,
        require_zip=spec.require_zip,
        reuse=options.reuse,
        expect_digest=item.digest or None,
        expect_size_bytes=item.size_bytes if item.digest else None,
        path=item.beside or None,
        report=report,
        linear_dtype=options.linear_dtype,
    )


def _opened(members: tuple[Member, ...], spec: LaunchSpec, report: ReportBytes) -> list[OpenedMember]:
    opened: list[OpenedMember] = []
    done: dict[int, int] = {}
    try:
        for number, member in enumerate(members):

            def passed(so_far: int, total: int, number: int = number) -> None:
                done[number] = so_far
                report(sum(done.values()), total * len(members))

            name = member.shown_path or member.path
            opened.append(OpenedMember(name, _open(member, spec, passed), member.weight))
    except BaseException:
        for each in opened:
            each.opened.close()
        raise
    return opened


def _open(member: Member, spec: LaunchSpec, report: ReportBytes) -> Opened:
    name = member.shown_path or member.path
    try:
        return open_checkpoint(
            os.fsencode(member.path),
            OpenOptions(
                spec.model,
                spec.verify,
                spec.require_zip,
                expect_digest=member.digest or None,
                expect_size_bytes=member.size_bytes if member.digest else None,
                path=member.beside or None,
                report=report,
            ),
        )
    except FileNotFoundError as error:
        hint = 'set run.pin = "always", so that members are kept until their means are evaluated'
        raise CheckpointError("vanished", f"{name}, a member of the mean, is gone", hint) from error
    except CheckpointError as error:
        raise CheckpointError(error.kind, f"{name}, a member of the mean: {error.reason}", error.hint) from error
