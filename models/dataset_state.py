"""The states of a dataset, and where its files came from."""

from enum import StrEnum


class DatasetStatus(StrEnum):
    CHECKING = "checking"  #: waits for a light worker, or is read by one
    READY = "ready"  #: every file was read and decoded; jobs may use it
    FAILED = "failed"  #: it cannot be trained on; `problems` and the error say why


class Source(StrEnum):
    UPLOAD = "upload"  #: an archive that was sent here; its files are ours, and go with it
    PATH = "path"  #: a folder below the data root, which stays as it is
    BUILTIN = "builtin"  #: one of torchvision's, whose files all tenants share


#: What light workers are in the table of workers and in the names of queues, beside `cpu` and `cuda`.
LIGHT = "light"
