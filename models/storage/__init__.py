"""The checkpoint store: whole, durable, verified objects under immutable names.

Bytes first, record second: an object exists for Perdure only once a database row points at it.
"""

from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from models.errors import SpecInvalid
from models.storage.local import LocalStorage
from models.storage.protocol import CHUNK, TEMPORARY, HashingWriter, Storage, StoredObject, sha256_of
from models.storage.removal import remove_job_files
from models.storage.s3 import S3Storage

__all__ = [
    "CHUNK",
    "TEMPORARY",
    "HashingWriter",
    "LocalStorage",
    "S3Storage",
    "Storage",
    "StoredObject",
    "remove_job_files",
    "sha256_of",
    "storage_from_url",
]


def storage_from_url(url: str) -> Storage:
    """The store behind ``file:///path`` or ``s3://bucket/prefix``; nothing is connected yet.

    Raises SpecInvalid for what is not supported here.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and not parts.netloc:
        return LocalStorage(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        if find_spec("boto3") is None:
            raise SpecInvalid(
                "PERDURE_STORAGE_URL is on S3; install what that takes: pip install 'perdure[s3]'."
            )
        return S3Storage(parts.netloc, parts.path.strip("/"))
    raise SpecInvalid(
        f"PERDURE_STORAGE_URL must look like file:///path or s3://bucket/prefix, not {parts.scheme}://…"
    )
