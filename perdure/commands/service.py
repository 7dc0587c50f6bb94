"""up, api, worker, migrate, demo, doctor: the service itself."""

# ruff: noqa: PLC0415 - the HTTP client is imported when a command needs it, not for `perdure --help`

from pathlib import Path
from typing import Annotated

import typer

from perdure import parts
from perdure import terminal as t
from perdure.commands.options import AsJson
from perdure.local import Options, Service

Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda.", show_default="auto")]
DEVICES = ("auto", "cpu", "cuda")


def up(
    home: Annotated[
        Path, typer.Option(envvar="PERDURE_HOME", help="Everything is kept here.", show_default="~/.perdure")
    ] = Path("~/.perdure"),
    host: Annotated[
        str, typer.Option(envvar="PERDURE_HOST", help="Others than loopback need API keys.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="PERDURE_PORT", min=0, max=65_535, help="0 takes a free one.")
    ] = 8000,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="How many.", show_default="one per GPU, or 1")
    ] = None,
    device: Annotated[str, typer.Option(envvar="PERDURE_DEVICE", help="auto, cpu or cuda.")] = "auto",
    data_root: Annotated[
        Path | None, typer.Option(help="Datasets lie below it.", show_default="HOME/data")
    ] = None,
    drills: Annotated[
        bool, typer.Option("--drills", help="Let [bold]perdure drill[/] break running jobs on purpose.")
    ] = False,
) -> None:
    """Run the whole service on this machine until Ctrl-C.

    An embedded broker, SQLite, the API, the workers and a light one that checks datasets; a part that dies is
    started again.
    PERDURE_DATABASE_URL and PERDURE_BROKER_URL are honoured if they are set.
    """
    _check_device(device)
    out = t.console()
    service = Service(
        Options(home, host, port, workers, device, data_root, drills),
        say=lambda line: out.print(line, soft_wrap=True),
    )
    out.print(f"Starting Perdure on [bold]{t.plain(service.home.root)}[/]", soft_wrap=True)
    service.run()


def api(
    host: Annotated[str | None, typer.Option(help="Where to listen.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, show_default="8000")] = None,
) -> None:
    """Run the API alone, configured by the environment (production)."""
    parts.become("api", host=host, port=port)


def worker(
    device: Device = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.", show_default="all cores")] = None,
    light: Annotated[
        bool, typer.Option("--light", help="Check datasets instead of training; needs no device.")
    ] = False,
) -> None:
    """Run one worker alone, configured by the environment (production)."""
    if device is not None:
        _check_device(device)
    parts.become("worker", *(["--light"] if light else []), device=device, threads=threads)


def migrate() -> None:
    """Bring the database up to date; run again, it changes nothing."""
    parts.become("models.migrate")


def demo(
    home: Annotated[
        Path, typer.Option(help="Where the demo keeps its files.", show_default="~/.perdure/demo")
    ] = Path("~/.perdure/demo"),
    quick: Annotated[bool, typer.Option("--quick", help="Fewer images and epochs: under a minute.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train on real photographs, kill -9 what trains, and prove that the result is the same.

    Two runs of one job: in the first the trainer is killed once and the whole worker once, the second is left
    alone. Exit code 1 unless both end with the same weights, bit for bit.
    """
    from perdure.demo import run_demo

    raise typer.Exit(run_demo(home, quick=quick, as_json=as_json))


def doctor(
    home: Annotated[
        Path, typer.Option(envvar="PERDURE_HOME", help="The home to look at.", show_default="~/.perdure")
    ] = Path("~/.perdure"),
    as_json: AsJson = False,
) -> None:
    """Check this machine and the server, and say what to do about what is wrong."""
    from perdure.doctor import examine

    raise typer.Exit(examine(home, as_json=as_json))


def _check_device(device: str) -> None:
    if device not in DEVICES:
        raise typer.BadParameter(f"must be one of {', '.join(DEVICES)}", param_hint="--device")
