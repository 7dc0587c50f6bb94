"""Settings of every process of the service, read from ``PERDURE_…`` variables."""

from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from models.errors import SettingsInvalid

Seconds = Annotated[float, Field(gt=0.0, le=86_400.0, allow_inf_nan=False)]

_DATABASES = ("sqlite:///", "postgresql://", "postgresql+psycopg://")
_BROKERS = ("redis://", "rediss://", "redis+socket://", "sentinel://")


class Settings(BaseSettings):
    """Each field is the variable of the same name in capitals, after ``PERDURE_``."""

    model_config = SettingsConfigDict(env_prefix="PERDURE_", env_ignore_empty=True, extra="ignore")

    home: Path = Field(default_factory=lambda: Path.home() / ".perdure")
    database_url: str = ""
    broker_url: str = ""
    storage_url: str = ""
    data_root: Path | None = None
    uploads_root: Path | None = None
    max_upload_bytes: Annotated[int, Field(ge=1, le=2**50)] = 10_000_000_000
    api_keys: Annotated[tuple[str, ...], NoDecode] = ()
    webhook_allow_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    downloads: bool = True
    drills: bool = False

    # Quotas, the same for each tenant
    max_queued_jobs: Annotated[int, Field(ge=1, le=10**9)] | None = None
    max_stored_bytes: Annotated[int, Field(ge=1, lt=2**63)] | None = None
    requests_per_minute: Annotated[int, Field(ge=1, le=100_000)] | None = None

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000

    lease_seconds: Seconds = 15.0
    heartbeat_seconds: Seconds = 5.0
    reconcile_seconds: Seconds = 2.0
    stall_seconds: Seconds | None = None
    stop_seconds: Seconds = 20.0
    store_patience_seconds: Seconds = 300.0

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    loading_workers: Annotated[int, Field(ge=0, le=64)] = 0
    start_method: Literal["auto", "fork", "spawn"] = "auto"

    @field_validator("api_keys", "webhook_allow_hosts", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    # Said here, since what opens these addresses would say it late, in a stack trace, and with the password.
    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str) -> str:
        if value and not value.startswith(_DATABASES):
            raise ValueError("must look like sqlite:////path/to/file or postgresql://user:password@host/name")
        if value.startswith("postgresql") and find_spec("psycopg") is None:
            raise ValueError("PostgreSQL needs its driver: pip install -e '.[postgres]'")
        return value

    @field_validator("broker_url")
    @classmethod
    def _known_broker(cls, value: str) -> str:
        if value and not value.startswith(_BROKERS):
            raise ValueError("must look like redis://host:6379/0 or redis+socket:///path")
        return value

    @model_validator(mode="after")
    def _defaults_below_home(self) -> Self:
        self.home = self.home.expanduser().absolute()
        self.data_root = (self.data_root or self.home / "data").expanduser().absolute()
        self.uploads_root = (self.uploads_root or self.data_root / ".uploads").expanduser().absolute()
        self.database_url = self.database_url or f"sqlite:///{self.home / 'perdure.db'}"
        self.storage_url = self.storage_url or (self.home / "storage").as_uri()
        self.broker_url = self.broker_url or "redis://127.0.0.1:6379/0"
        if self.heartbeat_seconds * 2 > self.lease_seconds:
            raise ValueError("PERDURE_HEARTBEAT_SECONDS must be at most half of PERDURE_LEASE_SECONDS")
        return self

    @cached_property
    def data_folder(self) -> Path:
        """The data root, never None."""
        assert self.data_root is not None  # noqa: S101 - set by the validator above
        return self.data_root

    @cached_property
    def uploads_folder(self) -> Path:
        """Where uploaded datasets lie, never None; no path of a user leads there."""
        assert self.uploads_root is not None  # noqa: S101 - set by the validator above
        return self.uploads_root

    @property
    def park_after_seconds(self) -> float:
        """Without a heartbeat for so long a trainer parks, before its lease can have expired."""
        return 0.8 * self.lease_seconds


def load_settings() -> Settings:
    """The settings of this process. Raises SettingsInvalid with a sentence that names each variable."""
    try:
        return Settings()
    except ValidationError as error:
        found = "; ".join(
            (f"PERDURE_{str(e['loc'][0]).upper()}: " if e["loc"] else "")
            + e["msg"].removeprefix("Value error, ")
            for e in error.errors()
        )
        raise SettingsInvalid(f"The settings are not valid. {found}") from error
