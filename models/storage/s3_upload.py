"""One object on its way to S3: parts as they fill up, each with its SHA-256; visible at the end or never."""

import base64
import contextlib
import hashlib
from typing import TYPE_CHECKING, Any

from models.storage.protocol import HashingWriter, OnBytes

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import CompletedPartTypeDef

#: S3 takes 10 000 parts of at least 5 MiB, so an object may have 80 GiB. One part is kept in memory.
PART_BYTES = 8 * 2**20


class Upload(HashingWriter):
    """What fits into one part is put at once; what does not is a multipart upload."""

    def __init__(self, client: "S3Client", bucket: str, key: str, on_bytes: OnBytes) -> None:
        super().__init__()
        self._client = client
        self._target: dict[str, Any] = {"Bucket": bucket, "Key": key}
        self._on_bytes = on_bytes
        self._buffer = bytearray()
        self._id: str | None = None
        self._parts: list[CompletedPartTypeDef] = []
        self._digests = b""
        self._sent_bytes = 0

    def _take(self, view: memoryview) -> None:
        while view:
            room = PART_BYTES - len(self._buffer)
            self._buffer += view[:room]
            view = view[room:]
            if len(self._buffer) == PART_BYTES:
                self._send_part()

    def finish(self) -> None:
        """Give the object its name, unless something has it already."""
        if self._id is None:
            self._client.put_object(
                **self._target,
                Body=bytes(self._buffer),
                IfNoneMatch="*",
                ChecksumAlgorithm="SHA256",
                ChecksumSHA256=self.checksum,
            )
            self._on_bytes(self.size_bytes)
            return
        if self._buffer:
            self._send_part()
        self._client.complete_multipart_upload(
            **self._target, UploadId=self._id, IfNoneMatch="*", MultipartUpload={"Parts": self._parts}
        )

    def abort(self) -> None:
        """Let go of the parts that were sent. Where that fails they are a leftover, to be swept."""
        if self._id is not None:
            with contextlib.suppress(Exception):
                self._client.abort_multipart_upload(**self._target, UploadId=self._id)

    @property
    def checksum(self) -> str:
        """As S3 computes it: of the bytes, or of the digests of all parts."""
        if self._id is None:
            return _base64(bytes.fromhex(self.sha256))
        return _base64(hashlib.sha256(self._digests).digest())

    def _send_part(self) -> None:
        if self._id is None:
            begun = self._client.create_multipart_upload(**self._target, ChecksumAlgorithm="SHA256")
            self._id = begun["UploadId"]
        digest = hashlib.sha256(self._buffer).digest()
        number = len(self._parts) + 1
        # The server hashes what arrives and refuses a part that differs.
        sent = self._client.upload_part(
            **self._target,
            UploadId=self._id,
            PartNumber=number,
            Body=bytes(self._buffer),
            ChecksumAlgorithm="SHA256",
            ChecksumSHA256=_base64(digest),
        )
        self._parts.append({"PartNumber": number, "ETag": sent["ETag"], "ChecksumSHA256": _base64(digest)})
        self._digests += digest
        self._sent_bytes += len(self._buffer)
        self._buffer.clear()
        self._on_bytes(self._sent_bytes)


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
