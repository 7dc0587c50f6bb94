"""Checkpoints in a bucket of S3 or of a store that speaks like it.

An object appears whole or not at all, since a multipart upload has no name before it is completed, and
completed it is on the condition that the name is free. Size and SHA-256 as the server holds them are
compared with what was sent; the bytes need not come back over the network for that.
"""

import contextlib
import io
import threading
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, TYPE_CHECKING, cast
from urllib.parse import quote, unquote

from models.errors import StorageFailed
from models.storage.protocol import TEMPORARY, HashingWriter, OnBytes, StoredObject, nobody, sha256_of
from models.storage.s3_client import error_code, new_client, worded
from models.storage.s3_reading import BUFFER_BYTES, ObjectReader
from models.storage.s3_upload import Upload

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


class S3Storage:
    """Below a prefix of a bucket; threads may share it, processes may not."""

    def __init__(self, bucket: str, prefix: str = "") -> None:
        self.bucket, self.prefix = bucket, prefix
        self._connecting = threading.Lock()
        self._connected: S3Client | None = None

    def write(
        self, key: str, produce: Callable[[HashingWriter], object], on_bytes: OnBytes = nobody
    ) -> StoredObject:
        upload = Upload(self._client, self.bucket, self._name(key), on_bytes)
        try:
            with worded(f"Writing {key}"):
                upload.fill(produce)
            self._finish(upload, key)
        except BaseException:
            upload.abort()
            raise
        on_bytes(upload.size_bytes)
        return StoredObject(key, upload.size_bytes, upload.sha256)

    def open(self, key: str) -> IO[bytes]:
        get = partial(self._client.get_object, Bucket=self.bucket, Key=self._name(key))
        return cast(IO[bytes], io.BufferedReader(ObjectReader(key, get), BUFFER_BYTES))

    def delete(self, key: str) -> None:
        name = self._name(key)
        with worded(f"Deleting {key}"):
            if (unfinished := _unfinished(name)) is not None:
                name, upload_id = unfinished
                self._abort(name, upload_id)
            else:
                self._client.delete_object(Bucket=self.bucket, Key=name)

    def keys(self, prefix: str) -> Iterator[str]:
        folder = self._name(prefix.rstrip("/")).rstrip("/")
        below = f"{folder}/" if folder else ""
        start = len(self.prefix) + 1 if self.prefix else 0
        with worded(f"Listing {prefix or 'everything'}"):
            for page in self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=below
            ):
                for found in page.get("Contents", []):
                    yield found["Key"][start:]
            for uploads in self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.bucket, Prefix=below
            ):
                for upload in uploads.get("Uploads", []):
                    yield _leftover(upload["Key"], upload["UploadId"])[start:]

    def free_bytes(self) -> int | None:
        return None

    def seems_away(self, key: str) -> bool:
        return False  # a bucket that is missing is told apart from an object by every request

    def probe(self) -> None:
        name = self._name(f"probe-{uuid.uuid4().hex}")
        with worded("Writing a few bytes"):
            client = new_client(hasty=True)
            upload = Upload(client, self.bucket, name, nobody)
            upload.write(b"probe")
            upload.finish()
            client.head_object(Bucket=self.bucket, Key=name)
            client.delete_object(Bucket=self.bucket, Key=name)

    # -- Details -----------------------------------------------------------------------------------

    @property
    def _client(self) -> "S3Client":
        with self._connecting:
            if self._connected is None:
                self._connected = new_client()
            return self._connected

    def _name(self, key: str) -> str:
        if key.startswith("/") or ".." in key.split("/"):
            raise ValueError(f"{key!r} leads out of the store")
        return f"{self.prefix}/{key}" if self.prefix else key

    def _finish(self, upload: Upload, key: str) -> None:
        """Complete the upload and see what is there then. Raises StorageFailed."""
        try:
            with worded(f"Writing {key}"):
                upload.finish()
        except StorageFailed:
            # The reply may be lost of a request that was granted, and a retry of it is refused since the
            # name is taken, by us. What is there decides.
            with contextlib.suppress(StorageFailed):
                if self._holds(upload, key):
                    return
            raise
        if not self._holds(upload, key):
            with contextlib.suppress(StorageFailed):
                self.delete(key)
            raise StorageFailed(f"{key} reads back differently from what was written; another try may do.")

    def _holds(self, upload: Upload, key: str) -> bool:
        """Whether the store has what was sent, by its own account of size and checksum."""
        try:
            with worded(f"Verifying {key}"):
                found = self._client.head_object(
                    Bucket=self.bucket, Key=self._name(key), ChecksumMode="ENABLED"
                )
        except FileNotFoundError:
            return False
        if found["ContentLength"] != upload.size_bytes:
            return False
        checksum = found.get("ChecksumSHA256")
        if checksum is None:  # a store that keeps none: the bytes themselves must tell
            with self.open(key) as stream:
                return sha256_of(stream) == upload.sha256
        return checksum.partition("-")[0] == upload.checksum

    def _abort(self, name: str, upload_id: str) -> None:
        try:
            self._client.abort_multipart_upload(Bucket=self.bucket, Key=name, UploadId=upload_id)
        except self._client.exceptions.ClientError as error:
            if error_code(error) not in {"NoSuchUpload", "404"}:
                raise


def _leftover(name: str, upload_id: str) -> str:
    """An unfinished upload as a key. No dot is left in its id, so that the two can be told apart again."""
    return f"{name}.{quote(upload_id, safe='').replace('.', '%2E')}{TEMPORARY}"


def _unfinished(name: str) -> tuple[str, str] | None:
    """The object's name and the upload's id, if it is the key of an unfinished upload."""
    rest, dot, upload_id = name.removesuffix(TEMPORARY).rpartition(".")
    return (rest, unquote(upload_id)) if name.endswith(TEMPORARY) and dot else None
