"""The parts of the service as commands: which interpreter, which module, which environment.

They live beside this package in a checkout or an image, not in the wheel, and are only started as processes.
"""

import os
import sys
from pathlib import Path

from perdure.errors import LocalStackError

#: Where `api`, `worker` and `models` lie if this is a checkout.
CHECKOUT = Path(__file__).resolve().parent.parent

_NEEDED = {
    "api": "api/__main__.py",
    "worker": "worker/__main__.py",
    "models.migrate": "models/migrate.py",
    "models.keys": "models/keys.py",
}


def command(module: str) -> list[str]:
    """The argument list that starts a part. Raises LocalStackError where only the client is installed."""
    if not (CHECKOUT / _NEEDED[module]).is_file():
        raise LocalStackError(
            "Only the light client is installed here, not the service: clone the repository and run "
            "`make setup`, or `pip install -e '.[all]'` in it."
        )
    # -P: a folder called `api` where the user happens to stand must not be taken for ours.
    return [sys.executable, "-P", "-m", module]


def program() -> list[str]:
    """The argument list that starts this very command line again."""
    return [sys.executable, "-P", "-m", "perdure"]


def environment(**settings: str | int | Path | None) -> dict[str, str]:
    """This process's environment with ``settings`` added under their PERDURE_ names."""
    result = dict(os.environ)
    # First on the path, for the same reason: `models` in site-packages may be somebody else's.
    paths = [str(CHECKOUT), *filter(None, [result.get("PYTHONPATH")])]
    result["PYTHONPATH"] = os.pathsep.join(paths)
    result["PYTHONSAFEPATH"] = "1"  # like -P above, for the processes that the parts start themselves
    result["PYTHONUNBUFFERED"] = "1"
    for name, value in settings.items():
        if value is not None:
            result[f"PERDURE_{name.upper()}"] = str(value)
    return result


def become(module: str, *arguments: str, **settings: str | int | Path | None) -> None:
    """Turn this process into a part, so that signals reach it and its exit code is ours."""
    argv = [*command(module), *arguments]
    sys.stdout.flush()
    os.execve(argv[0], argv, environment(**settings))  # noqa: S606 - no shell is wanted
