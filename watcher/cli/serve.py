"""`ckptwatch serve`: the dashboard in a process of its own, with or without a daemon."""

from __future__ import annotations

import click

from watcher.cli.options import Globals, database_url, db_option, examples, say


@click.command("serve", epilog=examples("ckptwatch serve --port 8745          # then open http://127.0.0.1:8745/"))
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 picks a free one.  [default: 8745]")
@click.option("--allow-remote", is_flag=True, help="Allow a --host other than loopback; there is no authentication.")
@db_option
@click.pass_obj
def command(flags: Globals, host: str | None, port: int | None, allow_remote: bool, db: str | None) -> int:
    """Serve the dashboard: live curves, checkpoints, queue, failures. Read-only.

    Also /api/results, /metrics for Prometheus, /healthz, /readyz; every page as JSON with ?format=json.
    """
    from watcher.log import Log
    from watcher.pipeline.dashboard import make_server
    from watcher.settings.load import load_settings
    from watcher.state.folder import StateFolder

    settings = load_settings(flags.settings_file())
    given = {"host": host, "port": port, "allow_remote": True if allow_remote else None}
    web = settings.web.model_copy(update={key: value for key, value in given.items() if value is not None})
    url = database_url(flags, db)
    state = StateFolder.of_database(url, settings.store.state_dir)
    server = make_server(web, url, state, Log(), settings.model)
    if not flags.quiet:
        say(f"dashboard at {server.url} (Ctrl-C stops it)")
    return server.run()
