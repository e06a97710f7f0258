"""What one set of settings makes: resolved eval sets, watched runs, launch settings, delivery. Replaced as a whole.

`begin` builds all of it and starts the watches, or raises and leaves nothing started: the caller swaps only then.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from evalcore.messages import EvalSetSpec
from evalcore.progress import Progress
from watcher.detect.spool import Spool
from watcher.launch.local import LocalLauncher
from watcher.launch.protocol import Launcher
from watcher.launch.slurm import SlurmLauncher
from watcher.log import Log
from watcher.pipeline.averaging import Averaging
from watcher.pipeline.delivery import Delivery
from watcher.pipeline.dispatch import DispatchSettings
from watcher.pipeline.intake import Intake
from watcher.pipeline.isolation import Isolation
from watcher.pipeline.refused import revive_refused
from watcher.pipeline.stored_names import with_stored_names
from watcher.settings.eval_sets import launch_spec, resolve_model, resolve_sets
from watcher.settings.samples import resolve_samples
from watcher.settings.schema import Settings
from watcher.sinks.delivery_process import DeliveryProcesses
from watcher.state.folder import StateFolder
from watcher.store.engine import Store


@dataclass(frozen=True)
class Tools:
    """What outlives a change of the settings. report: progress of long work; patient: incomplete files are awaited."""

    store: Store
    state: StateFolder
    log: Log
    isolation: Isolation
    wake: Callable[[], None]
    deliveries: DeliveryProcesses
    report: Callable[[Progress], None]
    patient: bool = True


@dataclass(frozen=True)
class Watching:
    """All that follows from one set of settings."""

    settings: Settings
    specs: tuple[EvalSetSpec, ...]
    intakes: tuple[Intake, ...]
    dispatch: DispatchSettings
    delivery: Delivery | None
    averaging: Averaging

    def stop(self) -> None:
        for intake in self.intakes:
            intake.stop()


def resolve_launches(
    settings: Settings, tools: Tools
) -> tuple[tuple[EvalSetSpec, ...], list[tuple[EvalSetSpec, str]], DispatchSettings]:
    """The eval sets, each with its digest, and what launches need. Raises ConfigError."""
    state = tools.state
    sets = resolve_sets(settings.eval, state.data_digests, tools.report, settings.suite)
    specs = (*sets, *resolve_samples(settings.sample, state.data_digests, [spec.name for spec in sets]))
    model = resolve_model(settings.model)
    spec = launch_spec(settings.launch, specs, model, state.token_cache)
    runs = {run.name: run for run in settings.run}
    dispatch = DispatchSettings(make_launcher(settings), settings.launch, runs, spec, settings.store.keep_launches)
    return specs, [(spec, spec.digest()) for spec in specs], dispatch


def begin(settings: Settings, tools: Tools, at_s: float) -> Watching:
    """Raises ConfigError, StoreUnavailable. at_s: seconds since the epoch."""
    settings = with_stored_names(tools.store, settings, tools.log)
    specs, digests, dispatch = resolve_launches(settings, tools)
    spool = Spool(tools.state.spool, settings.store.spool_max_bytes)
    with ExitStack() as undo:
        delivery = None
        if settings.sink or settings.alert:
            names = list(dispatch.runs)
            delivery = Delivery(
                *(tools.store, tools.log, tools.isolation, settings.sink, settings.alert, names, tools.deliveries)
            )
            delivery.adopt(at_s)
        intakes: list[Intake] = []
        for run in settings.run:
            intake = Intake.begin(
                *(run, tools.store, spool, tools.log, tools.wake, dispatch.spec.model, digests),
                patient=tools.patient,
                report=tools.report,
            )
            undo.callback(intake.stop)
            intakes.append(intake)
            revive_refused(tools.store, run, spool, dispatch.spec.model, intake.sets, tools.log)
        undo.pop_all()
    by_name = {intake.run.name: intake for intake in intakes}
    unavailable = Unavailability(by_name)
    dispatch = DispatchSettings(**{**dispatch.__dict__, "unavailable": unavailable})
    averaging = Averaging(tools.store, tools.log, tuple(section.spec for section in settings.average))
    return Watching(settings, specs, tuple(intakes), dispatch, delivery, averaging)


@dataclass(frozen=True)
class Unavailability:
    """Why the files of a run can be neither read nor called gone now; None while its folder is there."""

    intakes: dict[str, Intake]

    def __call__(self, run: str) -> str | None:
        intake = self.intakes.get(run)
        if intake is None:
            return None
        return intake.dir_missing or (intake.away() if intake.registered else None)


def make_launcher(settings: Settings) -> Launcher:
    if settings.launch.executor == "slurm":
        return SlurmLauncher(settings.launch.slurm, settings.launch.env)
    return LocalLauncher(settings.launch.env)
