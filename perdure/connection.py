"""What every command that talks to a server shares: the client and the endings that are not success."""

# ruff: noqa: PLC0415 - the HTTP client is imported when a command needs it, not for `perdure --help`

import os
from typing import TYPE_CHECKING

from perdure.errors import (
    LocalStackError,
    PerdureAPIError,
    PerdureClientError,
    ServerUnreachableError,
    UsageError,
)
from perdure.terminal import console, plain, plain_lines

if TYPE_CHECKING:
    from perdure.client import Perdure

#: The exit codes that `perdure --help` promises.
EXIT_JOB_FAILED = 1
EXIT_USAGE = 2
EXIT_API_ERROR = 3
EXIT_UNREACHABLE = 4
EXIT_INTERRUPTED = 130

#: Long enough for a server that is just being restarted, short enough for a person to wait.
RETRY_SECONDS = 2.0


def connect(retry_seconds: float = RETRY_SECONDS) -> "Perdure":
    """The client that PERDURE_URL and PERDURE_API_KEY describe."""
    import stamina.instrumentation

    from perdure.client import Perdure

    # By default stamina logs each retry, with structlog to stdout: that is no place for it under --json.
    stamina.instrumentation.set_on_retry_hooks([])
    return Perdure(retry_seconds=retry_seconds)


def explain(error: PerdureClientError) -> int:
    """Say on stderr what went wrong and what to do; the exit code that fits."""
    err = console(stderr=True)
    if isinstance(error, ServerUnreachableError):
        err.print(f"[red]✗[/] {plain(error)}")
        if os.environ.get("PERDURE_URL"):
            err.print("  PERDURE_URL says where to look. Is it right, and does the server run?")
        else:
            err.print("  Start one on this machine with [bold]perdure up[/], or set PERDURE_URL to another.")
        return EXIT_UNREACHABLE
    if isinstance(error, PerdureAPIError):
        err.print(
            f"[red]✗[/] {plain(error.detail or error.title)} [dim]({error.status} {plain(error.code)})[/]"
        )
        if len(error.errors) > 1:  # a single one is what the sentence above says
            for entry in error.errors:
                err.print(f"  {plain(entry.get('field') or 'request')}: {plain(entry.get('message', ''))}")
        if error.status == 401:
            err.print("  Set PERDURE_API_KEY to a key that this server knows.")
        if error.request_id and error.status >= 500:
            err.print(f"  [dim]request {plain(error.request_id)}: the server's log has more[/]")
        return EXIT_API_ERROR
    err.print(f"[red]✗[/] {plain_lines(error)}")
    return EXIT_USAGE if isinstance(error, LocalStackError | UsageError) else EXIT_API_ERROR
