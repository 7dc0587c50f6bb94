"""Stacks whose processes reach their servers through proxies, and looks at trainers from outside."""

import shutil
import subprocess
from typing import Any

import psutil
import pytest
from sqlalchemy import Float, cast, func, select

from models import job_store
from models.tables import jobs
from tests.servers.proxy import Proxy
from tests.servers.waiting import until
from tests.stack import Stack, command_line, tree

LEASE_SECONDS = 6.0  #: as in tests/stack.py


def database_through(proxy: Proxy, stack: Stack) -> dict[str, str]:
    """The variable that leads a process to the database by way of the proxy."""
    url = stack.db.engine.url.set(port=proxy.port)
    return {"PERDURE_DATABASE_URL": url.render_as_string(hide_password=False)}


def on_another_host() -> tuple[str, ...]:
    """A command prefix: what it runs shares no process numbers with us, as if it were elsewhere."""
    prefix = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    if shutil.which("unshare") is None or subprocess.run([*prefix, "true"], check=False).returncode:
        pytest.skip("needs util-linux's unshare and the right to make process namespaces")
    return prefix


def trainer_below(worker: "subprocess.Popen[bytes]") -> psutil.Process | None:
    """The one trainer of this worker: its zygote's child."""
    processes = tree(worker.pid)
    zygotes = {process.pid for process in processes if "worker.zygote" in command_line(process)}
    for process in processes:
        try:
            if process.ppid() in zygotes and process.status() != psutil.STATUS_ZOMBIE:
                return process
        except psutil.NoSuchProcess:
            continue
    return None


def lease_left(stack: Stack, job_id: str) -> float:
    """Seconds by the database's clock; far below zero for a job that nobody holds."""
    now = cast(func.extract("epoch", func.clock_timestamp()), Float)
    with stack.db.reading() as tx:
        left = tx.execute(select(jobs.c.lease_expires_at - now).where(jobs.c.id == job_id)).scalar_one()
    return -1e9 if left is None else float(left)


def await_commit(stack: Stack, job_id: str) -> Any:
    """Once it trains and a checkpoint of it counts."""

    def look() -> Any:
        row = job_store.get_job(stack.db, job_id)
        return row if row.committed_step > 0 and row.phase == "training" else None

    return until(look, seconds=60, what="a first commit")


def await_steps(stack: Stack, job_id: str, more_than: int) -> Any:
    def look() -> Any:
        row = job_store.get_job(stack.db, job_id)
        return row if row.step > more_than else None

    return until(look, seconds=60, what=f"steps beyond {more_than}")
