"""The `perdure` command. What is heavy is imported when needed: `--help` is for impatient people."""

import sys
from collections.abc import Callable
from importlib.metadata import version as version_of

import typer

from perdure.commands import (
    compare,
    datasets,
    download,
    drill,
    editing,
    fleet,
    jobs,
    keys,
    predict,
    reading,
    service,
    submit,
    watch,
    webhooks,
)
from perdure.commands.options import CONTROL, READING, SERVICE
from perdure.connection import explain
from perdure.errors import PerdureClientError

EPILOG = (
    "Exit codes: [bold]0[/] good, [bold]1[/] the job failed, a drill did not end well, or the demo's results "
    "differ, "
    "[bold]2[/] wrong usage, [bold]3[/] the server refused, [bold]4[/] no server answers, "
    "[bold]130[/] Ctrl-C."
    "\n\n"
    "PERDURE_URL (http://127.0.0.1:8000) and PERDURE_API_KEY say which server to talk to."
)

app = typer.Typer(
    name="perdure",
    help="Training jobs that survive kill -9 and end with bit-identical weights.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Show the version.", is_eager=True),
) -> None:
    if version:
        typer.echo(f"perdure {version_of('perdure')}")
        raise typer.Exit


#: A command, or a group of commands.
COMMANDS: dict[str, dict[str, Callable[..., None] | typer.Typer]] = {
    SERVICE: {
        "up": service.up,
        "demo": service.demo,
        "doctor": service.doctor,
        "workers": fleet.workers,
        "drain": fleet.drain,
        "enable": fleet.enable,
        "api": service.api,
        "worker": service.worker,
        "migrate": service.migrate,
        "keys": keys.app,
    },
    CONTROL: {
        "submit": submit.submit,
        "list": jobs.list_jobs,
        "show": jobs.show,
        "watch": watch.watch,
        "cancel": jobs.cancel,
        "pause": jobs.pause,
        "resume": jobs.resume,
        "retry": jobs.retry,
        "extend": jobs.extend,
        "clone": editing.clone,
        "edit": editing.edit,
        "delete": editing.delete,
        "download": download.download,
        "predict": predict.predict,
        "drill": drill.drill,
    },
    READING: {
        "metrics": reading.metrics,
        "events": reading.events,
        "attempts": reading.attempts,
        "logs": reading.logs,
        "compare": compare.compare,
    },
}
#: Commands with commands of their own.
GROUPS = {"datasets": datasets.app, "webhooks": webhooks.app}
for _name, _group in GROUPS.items():
    app.add_typer(_group, name=_name, rich_help_panel=CONTROL)
for _panel, _commands in COMMANDS.items():
    for _name, _command in _commands.items():
        if isinstance(_command, typer.Typer):
            app.add_typer(_command, name=_name, rich_help_panel=_panel)
        else:
            app.command(_name, rich_help_panel=_panel)(_command)


def main() -> None:
    """The console script."""
    try:
        app()
    except PerdureClientError as error:
        sys.exit(explain(error))


if __name__ == "__main__":
    main()
