"""Databases as they are after long use, filled by PostgreSQL itself from one real job."""

from pathlib import Path

from benchmarks.images import draw_images
from models import job_store
from models.database import Database
from models.job_spec import JobSpec
from models.migrate import upgrade
from models.tables import jobs
from tests.servers.postgres import PostgresServer

SPEC = {"dataset": {"path": "images"}, "model": {"weights": None}, "metadata": {"team": "team-0"}}
NUM_EPOCHS = 4
NUM_TEAMS = 20
#: What PostgreSQL has by default, where the tests' server is kept small.
SERVER_OPTIONS = {"shared_buffers": "128MB", "max_wal_size": "1GB", "max_connections": "200"}

#: Each of ten jobs: two wait, one has failed, one was cancelled, six have succeeded.
_STATUS = "(ARRAY['queued', 'queued', 'failed', 'cancelled'])[n % 10 + 1]"
_FILLED = {
    "id": "job_id(n)",
    "name": "'job ' || n % 100",
    "metadata": f"json_build_object('team', 'team-' || n % {NUM_TEAMS})",
    "status": f"coalesce({_STATUS}, 'succeeded')",
    "attempt": "CASE WHEN n % 10 < 2 THEN 0 ELSE 1 END",
    "epochs_done": f"CASE WHEN n % 10 < 2 THEN 0 ELSE {NUM_EPOCHS} END",
    "error_code": "CASE WHEN n % 10 = 2 THEN 'no_progress' END",
    "weights_sha256": "CASE WHEN n % 10 > 3 THEN repeat('ab', 32) END",
    "finished_at": "CASE WHEN n % 10 > 1 THEN now() END",
    "created_at": "now() - interval '30 days' + n * interval '1 second'",
    "queued_at": "now() - interval '10 minutes'",
}
_QUEUED = {
    "id": "job_id(n)",
    "tenant_id": f"'tenant-' || n % {NUM_TEAMS}",
    "priority": f"(ARRAY[0, 0, 0, 5])[n / {NUM_TEAMS} % 4 + 1]",
    "device_class": "'{device_class}'",
    "queued_at": "now() - interval '10 minutes'",
}
_JOB_ID = (
    "CREATE FUNCTION job_id(n bigint) RETURNS text LANGUAGE sql IMMUTABLE AS"
    " $$ SELECT 'job_' || lpad(to_hex(n), 32, '0') $$"
)


class Databases:
    """``with`` them, and no server is left running."""

    def __init__(self) -> None:
        self._server = PostgresServer(**SERVER_OPTIONS)

    def __enter__(self) -> "Databases":
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    @property
    def pid(self) -> int:
        return self._server.pid

    def url(self, name: str) -> str:
        return self._server.url_of(name)

    def make(self, name: str) -> str:
        """Of the present schema, and with one queued job to copy."""
        db = Database(self._server.create_database(name=name))
        upgrade(db)
        job_store.create_job(db, JobSpec.model_validate(SPEC))
        db.close()
        self._execute(name, _JOB_ID)
        return name

    def fill(self, name: str, num_jobs: int, rows_per_job: int) -> None:
        """Jobs in every state of rest, each with so many rows of metrics."""
        self._copy_jobs(name, _FILLED, 1, num_jobs)
        self._execute(
            name,
            "INSERT INTO job_metadata (tenant_id, name, value, job_id)"
            " SELECT tenant_id, 'team', metadata->>'team', id FROM jobs"
            " ON CONFLICT DO NOTHING",
        )
        num_steps = rows_per_job - NUM_EPOCHS
        self._execute(
            name,
            "INSERT INTO step_metrics (job_id, step, epoch, attempt, loss, is_finite, learning_rate,"
            " recorded_at)"
            f" SELECT id, s, 1 + (s - 1) * {NUM_EPOCHS} / {num_steps}, 1, 1.0 / s, true, 0.001, now()"
            f" FROM jobs, generate_series(1, {num_steps}) s",
        )
        self._execute(
            name,
            "INSERT INTO epoch_metrics (job_id, epoch, step, attempt, train_loss, train_accuracy, val_loss,"
            " val_accuracy, learning_rate, images_per_second, duration_seconds, recorded_at)"
            f" SELECT id, e, e * {num_steps} / {NUM_EPOCHS}, 1, 0.5, 0.9, 1.0 / e, 0.8, 0.001, 100, 1, now()"
            f" FROM jobs, generate_series(1, {NUM_EPOCHS}) e",
        )
        self._execute(name, "VACUUM ANALYZE")

    def fill_queue(self, name: str, num_jobs: int, *, behind: int) -> None:
        """Jobs of many tenants and two priorities for GPUs, and ``behind`` them as many for CPUs."""
        self._copy_jobs(name, _QUEUED, 1, num_jobs, device_class="cuda")
        self._copy_jobs(name, _QUEUED, num_jobs + 1, num_jobs + behind, device_class="cpu")
        self._execute(name, "DELETE FROM jobs WHERE device_class = 'any'")
        self._execute(name, "VACUUM ANALYZE")

    def _copy_jobs(
        self, name: str, values: dict[str, str], first: int, last: int, *, device_class: str = "any"
    ) -> None:
        """Whatever a column is not given here, it has from the job that was submitted."""
        columns = [column.name for column in jobs.c]
        filled = ", ".join(
            values[column].replace("{device_class}", device_class) if column in values else f"one.{column}"
            for column in columns
        )
        self._execute(
            name,
            f"INSERT INTO jobs ({', '.join(columns)}) SELECT {filled}"
            f" FROM (SELECT * FROM jobs ORDER BY id DESC LIMIT 1) one, generate_series({first}, {last}) n",
        )

    def _execute(self, name: str, statement: str) -> None:
        self._server.execute(statement, database=name)


def draw_dataset(folder: Path) -> None:
    """What submissions are checked against."""
    draw_images(folder, classes=2, images=8, size=32, seed=0)
