"""Trainer processes: the real trainer, session, writer and resumption around a fold."""

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from models.errors import TrainingError
from models.host import ProcessId
from models.job_spec import JobSpec, Segment
from tests.simulation.fold import NUM_TRAIN, NUM_VAL, TRAIN, VAL, FoldLearner, FoldSource
from tests.simulation.kernel import Killed, kernel
from tests.simulation.stand_ins import Event, Signal
from tests.simulation.world import world
from worker.messages import DatasetChecked, FromTrainer, Task, ToTrainer
from worker.trainer_process import Exit
from worker.training import checkpoint, preparation
from worker.training.data import cut_into_batches
from worker.training.numerics import Numerics
from worker.training.optimization import Plan
from worker.training.outcome import outcome_of
from worker.training.resumption import newest_usable
from worker.training.session import CancelRequested, Session, StopRequested
from worker.training.state import RunState
from worker.training.trainer import Trainer

#: Messages that fit into a pipe.
_ROOM = 64
DIGEST = "d" * 64


class SimTrainer:
    """A trainer as its supervisor sees it; stands in for ``SpawnedTrainer``."""

    def __init__(self, task: Task, log: Path) -> None:
        kernel().pause("fork", f"{task.job_id} attempt {task.attempt}")
        supervisor = kernel().current.process
        world().counts["trainers"] += 1
        number = world().counts["trainers"]
        self.process = kernel().new_process(
            f"trainer-{number}", namespace=supervisor.namespace, parent=supervisor, job_id=task.job_id
        )
        if task.attempt == world().oracles.jobs[task.job_id]["attempt"]:
            _expect_alone(self.process)  # else of a zombie, which the fence stops before its first record
        self.id = ProcessId(self.process.pid, self.process.started_at)
        self.outbox: deque[FromTrainer] = deque()
        self.inbox: deque[ToTrainer] = deque()
        self.changed = Signal()
        self._is_closed = False
        self.process.on_death.append(self.changed.notify_all)
        kernel().spawn(self.process, "train", lambda: _train(task, self))

    def send(self, message: ToTrainer) -> None:
        if not self._is_closed and not self.process.is_dead:
            self.inbox.append(message)

    def receive(self, timeout: float, wake_fd: Event) -> Iterator[FromTrainer]:
        # Twice as patient as asked: ticks in which nothing happens cost time.
        until = kernel().now + 2 * timeout
        while not (self.outbox or self.process.is_dead or wake_fd._is_set) and kernel().now < until:
            self.changed.wait(min(until - kernel().now, 0.25 if timeout else 0.0))
        kernel().pause("receive")
        while self.outbox:
            message = self.outbox.popleft()
            self.changed.notify_all()
            yield message

    def exited(self) -> Exit | None:
        if not self.process.is_dead:
            return None
        code = self.process.exit_code or 0
        return Exit(-code if code < 0 else code << 8)  # as a wait status tells it

    def kill(self) -> None:
        if kernel().current.is_killed:
            raise Killed  # a process that is gone kills nobody
        kernel().kill(self.process)

    def close(self) -> None:
        self._is_closed = True


class SimSession(Session):
    """The real session, with queues for pipes; its boundaries and its parking are as they are."""

    def __init__(self, trainer: SimTrainer, task: Task) -> None:
        super().__init__(0, 0, task.park_after_seconds, task.lease_confirmed_at)
        self._trainer = trainer

    def send(self, message: FromTrainer) -> None:
        kernel().pause("say", message)
        while len(self._trainer.outbox) >= _ROOM:
            self._trainer.changed.wait(1.0)
        self._trainer.outbox.append(message)
        self._trainer.changed.notify_all()

    def raise_if_cancelled(self) -> None:
        self._listen_once()
        super().raise_if_cancelled()

    def _silent(self) -> bool:
        self._listen_once()
        return super()._silent()

    def _listen_once(self) -> None:
        while self._trainer.inbox:
            self._note(self._trainer.inbox.popleft())  # type: ignore[arg-type]


def _train(task: Task, trainer: SimTrainer) -> None:
    """As ``worker.training.trainer.run``, which would leave the interpreter."""
    session = SimSession(trainer, task)
    session.send(outcome_of(lambda: _tell_surprises(lambda: Trainer(task, session).train())))
    kernel().kill(trainer.process, 0)


def _tell_surprises(train: Any) -> Any:
    """An error that no product code foresees would end as a failed attempt and be tried again."""
    try:
        return train()
    except (TrainingError, StopRequested, CancelRequested):
        raise
    except Exception as error:
        kernel().fail(error)
        raise


def prepare(task: Task, session: Session) -> preparation.Attempt:
    """As ``worker.training.preparation.prepare``, without dataset and network; resumption is real."""
    session.progress("starting", 0, 1)
    kernel().sleep(kernel().random.uniform(0.1, 0.6))
    spec, storage = JobSpec.model_validate(task.spec), world().storage()
    numerics = Numerics.of_attempt(task.numerics, spec, task.slot)
    if task.manifest_path is None:
        session.send(DatasetChecked(DIGEST, "manifest", ["a", "b"], NUM_TRAIN, NUM_VAL))
    found = newest_usable(task, storage, session)
    session.boundary()
    batch_size = spec.hyperparameters.batch_size
    plan = Plan(
        segments=tuple(Segment.model_validate(segment) for segment in task.segments),
        steps_per_epoch=len(cut_into_batches(TRAIN, batch_size)),
        peak_rate=spec.hyperparameters.lr,
    )
    learner, state = FoldLearner(spec.seed), RunState()
    if found:
        content = checkpoint.parse(found.content)
        data: Any = _Data
        state = preparation._resumed_state(content, plan, data)
        learner.restore(content)
    parts: dict[str, Any] = {"source": FoldSource(), "learner": learner}
    return preparation.Attempt(
        spec=spec,
        storage=storage,
        numerics=numerics,
        fingerprint={"dataset": DIGEST, "numerics": numerics.to_json()},
        plan=plan,
        classes=["a", "b"],
        train_indices=TRAIN,
        val_batches=cut_into_batches(VAL, batch_size),
        state=state,
        resumed_from=found.ref if found else None,
        frozen=None,
        **parts,
    )


class _Data:
    """What a resume asks of a dataset."""

    class manifest:
        digest = DIGEST


def bury(trainer: ProcessId, deadline_seconds: float = 30.0) -> bool:
    """As ``worker.trainer_process.bury`` does: kill the recorded trainer and see it dead."""
    kernel().pause("bury", trainer.pid)
    process = kernel().processes.get(trainer.pid)
    if process is not None and process.started_at == trainer.started_at:
        kernel().kill(process)
    return True


def _expect_alone(trainer: Any) -> None:
    """Two trainers of one job never run side by side where one worker can see the other's processes."""
    beside = [
        process.name
        for process in kernel().processes.values()
        if process is not trainer
        and not process.is_dead
        and (process.job_id, process.namespace) == (trainer.job_id, trainer.namespace)
        and process.is_recorded
    ]
    if beside:
        kernel().fail(AssertionError(f"{trainer.name} begins beside {beside}"))
