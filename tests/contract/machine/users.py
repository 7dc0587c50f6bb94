"""What users do: submit, and ask for something in any state."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from models import job_store
from models.errors import WrongState
from models.job_state import JobStatus
from tests.contract.machine.hands import PICKS, Hands, one_of
from tests.contract.machine.model import ModelJob
from tests.contract.world import spec

MOST_JOBS = 4

SPECS = st.fixed_dictionaries(
    {
        "epochs": st.integers(1, 3),
        "device": st.sampled_from(["auto", "auto", "cpu", "cuda"]),
        "priority": st.sampled_from([0, 0, 1]),
        "tenant": st.sampled_from(["default", "default", "other"]),
        "max_failures": st.integers(1, 3),
        "keep_last": st.integers(1, 2),
        "exact_wait_seconds": st.sampled_from([0, 0, 300]),
        "stops_after": st.sampled_from([None, None, 1, 2]),
    }
)


class Users(Hands):
    @initialize(first=st.lists(SPECS, min_size=1, max_size=2))
    def begin(self, first: list[dict[str, Any]]) -> None:
        for wanted in first:
            self.submit(wanted, None)

    @precondition(lambda self: len(self.jobs) < MOST_JOBS)
    @rule(wanted=SPECS, key=st.sampled_from([None, None, "key 1", "key 2"]))
    def submit(self, wanted: dict[str, Any], key: str | None) -> None:
        tolerance = {name: wanted[name] for name in ("max_failures", "keep_last", "exact_wait_seconds")}
        created = job_store.create_job(
            self.db,
            spec(
                priority=wanted["priority"],
                hyperparameters={"epochs": wanted["epochs"]},
                resources={"device": wanted["device"]},
                fault_tolerance=tolerance,
            ),
            idempotency_key=key,
            tenant_id=wanted["tenant"],
        )
        known = self.by_key.get((wanted["tenant"], key)) if key else None
        assert created.is_new == (known is None)
        if known is not None:
            assert created.job.id == known.id, "a key makes one job (I9)"
            return
        job = ModelJob(
            id=created.job.id,
            number=len(self.jobs),
            device_class="any" if wanted["device"] == "auto" else wanted["device"],
            priority=wanted["priority"],
            tenant=wanted["tenant"],
            max_failures=wanted["max_failures"],
            keep_last=wanted["keep_last"],
            waits=wanted["exact_wait_seconds"] > 0,
            epochs=wanted["epochs"],
            stops_after=wanted["stops_after"],
        )
        self.jobs.append(job)
        if key:
            self.by_key[wanted["tenant"], key] = job

    @precondition(lambda self: self.jobs)
    @rule(pick=PICKS, request=st.sampled_from(["cancel", "pause", "pause"]))
    def interrupt(self, pick: int, request: str) -> None:
        self.ask(one_of(self.jobs, pick), request)

    @precondition(lambda self: self.jobs)
    @rule(pick=PICKS, request=st.sampled_from(["resume", "retry", "extend"]))
    def bring_back(self, pick: int, request: str) -> None:
        settled = [job for job in self.jobs if job.is_settled or job.pause]
        self.ask(one_of(settled or self.jobs, pick), request)

    def ring(self) -> None:
        """A bell changes nothing; whoever answers it finds what waits."""
        before = self.world.dump()
        waiting = {job.device_class for job in self.jobs if job.status == JobStatus.QUEUED}
        assert job_store.claimable_classes(self.db) == sorted(waiting)
        assert self.world.dump() == before

    def ask(self, job: ModelJob, request: str) -> None:
        before = self.world.dump()
        granted = job.asked(request)
        try:
            if request == "extend":
                job_store.extend(self.db, job.id, 1)
            else:
                getattr(job_store, request)(self.db, job.id)
        except WrongState:
            assert not granted, f"{request} was refused"
            assert self.world.dump() == before, "a refusal changes nothing"
        else:
            assert granted, f"{request} was granted for a job that is {job.status} (I7)"
