"""What a log is told of a database that is away: once when it goes, once when it is back."""

import structlog

from models.errors import DatabaseUnavailable

_log = structlog.get_logger()


class Outages:
    """For a loop that looks again and again, and has nothing to add each time. Threads may share it: at
    worst a line is there twice.
    """

    def __init__(self, who: str) -> None:
        self._who = who
        self._told = ""

    def away(self, error: DatabaseUnavailable) -> None:
        """It did not answer, or not as this version needs it."""
        if error.code != self._told:
            self._told = error.code
            _log.warning(f"{self._who}.database_away", code=error.code, error=error.reason)

    def over(self) -> None:
        """It answered."""
        if self._told:
            self._told = ""
            _log.info(f"{self._who}.database_back")
