"""`perdure up` with real jobs: everything of it is killed at once, and the next one on its home goes on."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2 as httpx

from tests.images import draw_dataset
from tests.servers.guard import die_with_tests
from tests.servers.ports import free_port
from tests.servers.waiting import until
from tests.specs import full_fine_tune
from tests.stack import kill_tree, tree


class Up:
    """One home, and the `perdure up` that serves it now."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)

    def start(self) -> None:
        arguments = ["--home", str(self.home), "--port", str(self.port), "--workers", "2", "--device", "cpu"]
        with (self.home.parent / "up.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "perdure", "up", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"PERDURE_LEASE_SECONDS": "6", "PERDURE_HEARTBEAT_SECONDS": "2"},
                start_new_session=True,
                preexec_fn=die_with_tests(),
            )
        until(self.is_ready, seconds=30, what="`perdure up` to be ready")

    def is_ready(self) -> bool:
        try:
            return self.http.get("/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    def job(self, job_id: str) -> dict[str, Any]:
        return dict(self.http.get(f"/jobs/{job_id}").json())


def test_all_jobs_go_on_after_everything_was_killed_at_once(tmp_path: Path) -> None:
    up = Up(tmp_path / "home")
    draw_dataset(up.home / "data/shapes", per_class=50)
    up.start()
    jobs = [up.http.post("/jobs", json=full_fine_tune(5, seed=seed)).json()["id"] for seed in (1, 1, 2)]
    until(
        lambda: any((up.job(job_id)["progress"] or {}).get("epoch", 0) > 2 for job_id in jobs),
        seconds=60, what="a job well under way",
    )  # fmt: skip
    everything = tree(up.process.pid)
    assert len(everything) >= 9, "up, broker, API, two workers, a light one, two zygotes, a trainer"
    kill_tree(up.process.pid)
    up.process.wait(10)
    assert not any(process.is_running() for process in everything)

    up.start()
    try:

        def all_succeeded() -> bool:
            states = [up.job(job_id) for job_id in jobs]
            assert not [state for state in states if state["status"] in {"failed", "cancelled"}], states
            return all(state["status"] == "succeeded" for state in states)

        until(all_succeeded, seconds=200, what="all jobs to succeed", every=0.2)
        hashes = [up.job(job_id)["weights_sha256"] for job_id in jobs]
        assert hashes[0] == hashes[1], "equal specs end equally, whatever hit them"
        assert len(set(hashes)) == 2, json.dumps(hashes)
        assert sum(up.job(job_id)["recoveries"] for job_id in jobs) >= 1

        everything = tree(up.process.pid)
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(60) == 0
        until(lambda: not any(p.is_running() for p in everything), seconds=5, what="every part to be gone")
    finally:
        if up.process.poll() is None:
            kill_tree(up.process.pid)
