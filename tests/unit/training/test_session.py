"""Parking, leaving, and dying with the supervisor, by real processes."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.training.conftest import ENVIRONMENT
from tests.unit.training.jobs import Job, Recorded, Trainer, alive, children_of, until
from worker.messages import (
    Cancel,
    CheckpointWritten,
    Heartbeat,
    Parked,
    Progress,
    StepDone,
    Stop,
    Stopped,
)
from worker.training.session import (
    EXIT_ORPHANED,
    EXIT_PARKED_TOO_LONG,
    CancelRequested,
    Session,
    StopRequested,
    boot_seconds,
)
from worker.wire import decode, encode

#: So long that what else happens meanwhile on a busy machine is little.
PARKED_SECONDS = 2.0


def park(trainer: Trainer) -> None:
    parked = trainer.wait_for(Parked)
    assert parked.parked


def test_parks_in_silence_and_goes_on_after_a_heartbeat(new_job: Callable[..., Job]) -> None:
    untouched = new_job(epochs=1).run()
    trainer = new_job(epochs=1, park_after_seconds=0.0).attempt()
    park(trainer)  # at the first boundary; nobody was heard yet
    said = len(trainer.messages)
    time.sleep(0.3)  # long enough for several steps, if it went on
    assert len(trainer.messages) == said
    trainer.send(Heartbeat(boot_seconds() + 3600.0))
    assert trainer.wait_for(Parked) == Parked(False)
    trainer.read_to_end()
    assert Recorded.of(trainer) == Recorded.of(untouched)


def test_the_time_of_parking_is_none_of_an_epoch(new_job: Callable[..., Job]) -> None:
    """It would pass for goodput."""
    trainer = new_job(epochs=2000, checkpoint_every={"epochs": 2000}, park_after_seconds=0.0).attempt()
    park(trainer)  # before its first step
    began_at = time.monotonic()
    trainer.send(Heartbeat(boot_seconds() + 1.0))
    assert trainer.wait_for(Parked) == Parked(False)
    park(trainer)
    last = max((step.epoch for step in trainer.all(StepDone)), default=0)
    time.sleep(PARKED_SECONDS)
    trainer.send(Heartbeat(boot_seconds() + 3600.0))
    trainer.wait_for(lambda message: isinstance(message, StepDone) and message.epoch > last + 1)
    seconds = trainer.arrivals[-1] - began_at
    trainer.send(Stop())
    trainer.read_to_end()
    epochs = trainer.epochs[: last + 1]
    assert len(epochs) == last + 1
    assert sum(epoch.duration_seconds for epoch in epochs) < seconds - PARKED_SECONDS


def test_an_old_heartbeat_does_not_wake(new_job: Callable[..., Job]) -> None:
    trainer = new_job(epochs=1000, park_after_seconds=0.5).attempt()
    trainer.send(Heartbeat(boot_seconds() - 100.0))
    park(trainer)
    trainer.send(Heartbeat(boot_seconds() - 50.0))
    time.sleep(0.3)
    trainer.send(Heartbeat(boot_seconds() + 3600.0))
    trainer.wait_for(Parked)
    trainer.send(Cancel())
    trainer.read_to_end()
    assert trainer.all(Parked) == [Parked(True), Parked(False)]


def test_parked_never_begins_to_write(new_job: Callable[..., Job]) -> None:
    job = new_job(epochs=2000, checkpoint_every={"epochs": 2000}, park_after_seconds=1.0)
    trainer = job.attempt()
    trainer.send(Heartbeat(boot_seconds() + 1.0))
    trainer.wait_for(StepDone)
    park(trainer)
    trainer.send(Stop())
    time.sleep(0.5)  # long enough to write, if it did
    assert not list((job.store / "jobs").rglob("*.pth*"))
    trainer.send(Heartbeat(boot_seconds() + 3600.0))
    trainer.read_to_end()
    trainer.only(Stopped)
    assert job.file(trainer.only(CheckpointWritten)).exists()


def test_parked_leaves_when_cancelled(new_job: Callable[..., Job]) -> None:
    trainer = new_job(park_after_seconds=0.0).attempt()
    park(trainer)
    trainer.send(Cancel())
    trainer.read_to_end()
    trainer.only(Stopped)
    assert not trainer.all(CheckpointWritten)


@pytest.mark.parametrize("loading_workers", [0, 2])
def test_dies_with_its_supervisor(new_job: Callable[..., Job], loading_workers: int) -> None:
    trainer = new_job(epochs=1000, loading_workers=loading_workers).attempt()
    trainer.wait_for(StepDone)
    children = children_of(trainer.pid)
    assert len(children) == loading_workers
    trainer.hang_up()
    assert until(lambda: not any(map(alive, [trainer.pid, *children])), seconds=1.0)


def test_dies_with_its_supervisor_while_parked(new_job: Callable[..., Job]) -> None:
    trainer = new_job(park_after_seconds=0.0).attempt()
    park(trainer)
    trainer.hang_up()
    assert until(lambda: not alive(trainer.pid), seconds=1.0)


def test_loading_workers_die_with_a_killed_trainer(new_job: Callable[..., Job]) -> None:
    trainer = new_job(epochs=1000, loading_workers=2).attempt()
    trainer.wait_for(StepDone)
    children = children_of(trainer.pid)
    assert len(children) == 2
    for child in children:
        open_files = [str(link.readlink()) for link in Path(f"/proc/{child}/fd").iterdir()]
        assert not [name for name in open_files if "inbox" in name or "outbox" in name]
    trainer.kill()
    trainer.read_to_end()
    assert until(lambda: not any(map(alive, children)), seconds=1.0)


def session_in_child(body: str, inbox: int, outbox: int) -> "subprocess.Popen[bytes]":
    code = f"""
import time
from worker.messages import Stopped
from worker.training import session
from worker.training.session import Session
{body.format(inbox=inbox, outbox=outbox)}
"""
    return subprocess.Popen([sys.executable, "-c", code], pass_fds=(inbox, outbox), env=ENVIRONMENT)


def test_leaves_when_parked_too_long() -> None:
    (inbox, keep_open), (reading, outbox) = os.pipe(), os.pipe()
    process = session_in_child(
        "session.PARKED_LIMIT_SECONDS = 0.2\nSession({inbox}, {outbox}, 0.0).boundary()", inbox, outbox
    )
    assert process.wait(30) == EXIT_PARKED_TOO_LONG
    assert decode(os.read(reading, 1000)) == Parked(True)
    for descriptor in (inbox, keep_open, reading, outbox):
        os.close(descriptor)


def test_leaves_when_nobody_reads_or_writes_any_more() -> None:
    (inbox, keep_open), (reading, outbox) = os.pipe(), os.pipe()
    os.close(reading)
    process = session_in_child("Session({inbox}, {outbox}, 60.0).send(Stopped())", inbox, outbox)
    assert process.wait(30) == EXIT_ORPHANED
    os.close(keep_open)
    process = session_in_child("Session({inbox}, {outbox}, 60.0).start(); time.sleep(30)", inbox, outbox)
    assert process.wait(20) == EXIT_ORPHANED
    os.close(inbox)
    os.close(outbox)


@pytest.fixture
def session() -> Session:
    inbox, _ = os.pipe()
    _, outbox = os.pipe()
    return Session(inbox, outbox, park_after_seconds=60.0)


def test_requests_are_met_at_boundaries(session: Session) -> None:
    session.boundary()
    session._note(encode(Stop()))
    session.wait_while_silent()  # a stop is no reason to leave a checkpoint unwritten
    with pytest.raises(StopRequested):
        session.boundary()
    session._note(encode(Cancel()))
    with pytest.raises(CancelRequested):
        session.boundary()
    with pytest.raises(CancelRequested):
        session.wait_while_silent()


def test_ticks_are_thinned_out_within_a_phase_only() -> None:
    reading, outbox = os.pipe()
    session = Session(reading, outbox, 60.0)
    for done in range(100):
        session.progress("training", done, 100)
    session.progress("validation", 0, 3)
    lines = os.read(reading, 65536).splitlines()
    assert decode(lines[0]) == Progress("training", 0, 100)
    assert decode(lines[-1]) == Progress("validation", 0, 3)
    assert len(lines) < 10
