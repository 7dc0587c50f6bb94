"""How Perdure talks to S3: within which time, and in which words it says what went wrong.

boto3 is imported in here, when it is first needed: installations without the extra work, and no process
makes a client before it forks.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from models.errors import StorageFailed

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

CONNECT_SECONDS = 5.0
#: Three tries of this stay below the minute after which a checkpoint without progress counts as hung.
READ_SECONDS = 15.0
TRIES = 3
#: For probes, which somebody waits for.
HASTY_SECONDS = 2.0
#: As many as an API process answers at once.
CONNECTIONS = 32

_CREDENTIALS = {
    "AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken",
    "RequestTimeTooSkewed", "AllAccessDisabled",
}  # fmt: skip


def new_client(*, hasty: bool = False) -> "S3Client":
    """Endpoint, region and credentials come from the environment, as for every AWS tool.

    Raises StorageFailed when they cannot be meant.
    """
    from boto3.session import Session  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    config = Config(
        connect_timeout=HASTY_SECONDS if hasty else CONNECT_SECONDS,
        read_timeout=HASTY_SECONDS if hasty else READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 1 if hasty else TRIES},
        max_pool_connections=CONNECTIONS,
        # Not every store knows the checksums that botocore adds by default; ours are SHA-256.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    # A session of its own: the default one of boto3 is not made for threads.
    try:
        return Session().client("s3", config=config)
    except ValueError as error:
        raise StorageFailed(f"S3 cannot be used: {error}. Correct the AWS_… variables.") from error


@contextlib.contextmanager
def worded(doing: str) -> Iterator[None]:
    """Raises StorageFailed that says what failed and what to do, FileNotFoundError for a missing object."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    try:
        yield
    except ClientError as error:
        code = error_code(error)
        if code in {"NoSuchKey", "404"}:
            raise FileNotFoundError(f"{doing} failed: there is no such object") from error
        raise StorageFailed(f"{doing} failed: {_refusal(code, error)}") from error
    except BotoCoreError as error:
        reason = f"{type(error).__name__}: {error}".rstrip(".")
        raise StorageFailed(
            f"{doing} failed: {reason}. "
            "See that the S3 endpoint is up and reachable, and that credentials are set."
        ) from error


def error_code(error: Exception) -> str:
    """S3's own word for what went wrong; empty where S3 did not get to say one."""
    response: dict[str, Any] = getattr(error, "response", {})
    return str(response.get("Error", {}).get("Code", ""))


def _refusal(code: str, error: Exception) -> str:
    if code == "NoSuchBucket":
        return "the bucket does not exist. Create it, or correct PERDURE_STORAGE_URL."
    if code in _CREDENTIALS:
        return (
            f"S3 refused us ({code}). Check the AWS_… credentials and the rights that the bucket grants them."
        )
    if code in {"BadDigest", "XAmzContentChecksumMismatch", "InvalidDigest"}:
        return "the bytes arrived damaged and were refused. Check the network; another try may do."
    if code == "PreconditionFailed":
        return "another object has that name, and objects are never overwritten."
    return f"{error}. See what the S3 server says about it."
