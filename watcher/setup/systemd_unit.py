"""systemd units as text: for the system manager, per training user, or for the user manager. Pure.

`deploy/*.service` are the defaults; `ckptwatch service print` fills in the real paths.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Restrictions for a unit of the system manager. CUDA needs writable and executable memory, real devices and
#: AF_NETLINK (NCCL and gloo list the interfaces): those stay. `systemd-analyze security` gives 1.5 for the rest.
_HARDENING = """\
UMask=0077
CapabilityBoundingSet=
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateMounts=yes
PrivateUsers=yes
ProtectHostname=yes
ProtectClock=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectProc=invisible
DevicePolicy=closed
DeviceAllow=char-nvidia* rw
RemoveIPC=yes
"""
#: Restrictions that a user manager can apply without privileges.
_HARDENING_FOR_ALL = """\
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
"""


@dataclass(frozen=True)
class Unit:
    """What differs between units. writable: folders besides the state.

    command: program and leading arguments; config: the settings file; both escaped for unit files (`spelled`).
    user: None for a DynamicUser, which can read only world-readable files.
    """

    command: str = "/opt/ckptwatch/bin/ckptwatch"
    config: str = "/etc/ckptwatch/ckptwatch.toml"
    user: str | None = None
    writable: tuple[str, ...] = ()
    state: str = "ckptwatch"
    of_user_manager: bool = False

    def text(self) -> str:
        """The unit file."""
        sections = [self._unit(), self._service(), self._install()]
        return "\n".join(sections)

    def _unit(self) -> str:
        wants = "" if self.of_user_manager else "Wants=network-online.target\nAfter=network-online.target\n"
        name = " (%i)" if "%i" in self.config else ""
        return (
            f"[Unit]\nDescription=ckptwatch: evaluates every checkpoint a trainer saves{name}\n"
            f"{wants}StartLimitIntervalSec=10min\nStartLimitBurst=20\n"
        )

    def _service(self) -> str:
        who = "" if self.of_user_manager else (f"User={self.user}\n" if self.user else "DynamicUser=yes\n")
        place = "%S/ckptwatch" if self.state == "ckptwatch" else f"%S/{self.state}"
        hardening = _HARDENING_FOR_ALL if self.of_user_manager else _HARDENING + _HARDENING_FOR_ALL
        home = "" if self.of_user_manager else f"Environment=HOME={place}\n"
        writable = "".join(f"ReadWritePaths={spelled(folder)}\n" for folder in self.writable)
        return f"""\
[Service]
Type=notify
ExecStart={self.command} -c {self.config} run
ExecReload=/bin/kill -HUP $MAINPID
{who}StateDirectory={self.state}
StateDirectoryMode=0750
WorkingDirectory={place}
{home}EnvironmentFile=-/etc/default/ckptwatch
# On the watchdog's SIGABRT the daemon writes its stack to the journal.
Environment=PYTHONFAULTHANDLER=1

# The first scan of a large folder, and the digests of large validation sets, come before READY.
TimeoutStartSec=15min
WatchdogSec=2min
TimeoutAbortSec=10
# SIGTERM to the daemon, which stops its jobs and requeues them; remaining processes are killed.
KillMode=mixed
TimeoutStopSec=30
Restart=on-failure
RestartSec=2
# 2: usage error, 3: invalid settings. A restart fixes neither.
RestartPreventExitStatus=2 3
SuccessExitStatus=130
# If the kernel kills a job for memory, the daemon keeps running.
OOMPolicy=continue
LimitCORE=0

{hardening}{writable}"""

    def _install(self) -> str:
        target = "default.target" if self.of_user_manager else "multi-user.target"
        return f"[Install]\nWantedBy={target}\n"


def spelled(*words: str) -> str:
    """Words as a unit file has to spell them: quoted where they hold spaces, `%` doubled."""
    return " ".join(_spelled(word) for word in words)


def _spelled(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if any(character.isspace() for character in word) or '"' in word else escaped
