"""What the product logs while tests run in its process."""

import structlog


def log_plainly() -> None:
    """Unless told otherwise structlog paints each traceback with all local variables: ten seconds a piece."""
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    )
