"""The users of a soak: they submit, and try again under the same key until they are answered."""

import random
import threading
import uuid
from typing import Any

import httpx2 as httpx
from sqlalchemy import func, select

from models.job_state import FINISHED
from models.tables import jobs
from tests.soak.fleet import Fleet
from tests.soak.specs import Load

PATIENCE_SECONDS = 3.0


class Client(threading.Thread):
    """Keeps so many jobs in the service until it is stopped."""

    def __init__(self, fleet: Fleet, load: Load, seed: int) -> None:
        super().__init__(name="client", daemon=True)
        self._fleet = fleet
        self._load = load
        self._random = random.Random(f"client {seed}")
        self._stopping = threading.Event()
        self._http = httpx.Client(timeout=PATIENCE_SECONDS)

    def run(self) -> None:
        unfinished = select(func.count()).where(jobs.c.status.not_in(FINISHED))
        while not self._stopping.wait(0.2):
            counted = self._fleet.rows(unfinished)
            if counted and counted[0][0] < self._load.num_unfinished:
                self.submit(self._random.choice(list(self._load.specs)))

    def stop(self) -> None:
        """After the submission under way, which goes on until it is answered."""
        self._stopping.set()
        self.join(60)

    def submit(self, name: str, kind: str = "submitted") -> str:
        """One job for one key, however many tries that takes. Its id."""
        key = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        self._fleet.history.add("submitting", key=key, spec=name)
        while True:
            answer = self.ask("POST", "/jobs", json=self._load.specs[name], headers={"Idempotency-Key": key})
            if answer is not None and answer.status_code in {200, 201}:
                job_id = str(answer.json()["id"])
                self._fleet.history.add(kind, key=key, spec=name, job_id=job_id)
                return job_id
            if answer is not None and answer.status_code not in {409, 503}:
                self._fleet.history.add("refused", key=key, status=answer.status_code, body=answer.text)
            threading.Event().wait(0.3)

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response | None:
        """Of either API process; None where nobody answers."""
        port = self._random.choice(self._fleet.ports)
        try:
            return self._http.request(method, f"http://127.0.0.1:{port}{path}", **more)
        except httpx.TransportError:
            return None
