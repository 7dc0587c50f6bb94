"""What a dataset was when its job began: every file with size, time and hash, its class and its split."""

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

from models.errors import DatasetChanged
from models.storage import Storage, StoredObject

Split = Literal["train", "val"]

#: A manifest and a difference in it name so many files at most.
NAMED_AT_MOST = 10


@dataclass(frozen=True, slots=True)
class ManifestFile:
    path: str  #: below the dataset's folder, with forward slashes
    size: int  #: bytes
    mtime_ns: int
    sha256: str
    label: int  #: index into the classes
    split: Split | None  #: None in the list of a registered dataset, which each job splits by its own seed


@dataclass(frozen=True)
class Manifest:
    """Files in the order of their paths; an index into them names a sample for good."""

    classes: list[str]
    files: list[ManifestFile]

    @cached_property
    def digest(self) -> str:
        """Of names, bytes, classes and splits. Times are left out: a copy elsewhere is the same data."""
        digest = hashlib.sha256(json.dumps(self.classes).encode())
        for file in self.files:
            digest.update(json.dumps([file.path, file.sha256, file.label, file.split]).encode())
        return digest.hexdigest()

    def indices(self, split: Split) -> list[int]:
        return [index for index, file in enumerate(self.files) if file.split == split]

    def write(self, storage: Storage, key: str) -> StoredObject:
        content = {"digest": self.digest, "classes": self.classes, "files": [asdict(f) for f in self.files]}
        return storage.write(key, lambda sink: sink.write(json.dumps(content).encode()))

    @classmethod
    def read(cls, storage: Storage, key: str) -> Self | None:
        """The stored manifest, or None if it is missing or damaged."""
        try:
            with storage.open(key) as stream:
                content = json.loads(stream.read())
            manifest = cls(content["classes"], [ManifestFile(**fields) for fields in content["files"]])
            return manifest if manifest.digest == content["digest"] else None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None


def hash_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def expect_bytes(file: ManifestFile, content: bytes) -> None:
    """Raises DatasetChanged unless these are the bytes that the manifest recorded."""
    if len(content) != file.size or hashlib.sha256(content).hexdigest() != file.sha256:
        raise DatasetChanged(
            f"{file.path!r} changed while the job was training; restore it and retry, "
            "or submit a new job for the new data."
        )
