"""What comes before the write of a checkpoint, and what has to wait for one."""

from types import SimpleNamespace

import pytest

from models.errors import NonFiniteLoss
from worker.training import trainer as trainer_module
from worker.training.session import CancelRequested, StopRequested


def test_nothing_is_written_once_the_job_may_be_lost() -> None:
    """Silence may begin after the last boundary: it is looked for again right before a write."""

    def cancelled() -> None:
        raise CancelRequested

    def begun() -> None:
        raise AssertionError("a parked trainer begins to write")

    trainer = SimpleNamespace(
        meter=SimpleNamespace(flush=lambda: None),
        writer=SimpleNamespace(wait=lambda: None),
        learn_cost=lambda cost: None,
        session=SimpleNamespace(wait_while_silent=cancelled),
        snapshot=begun,
    )
    with pytest.raises(CancelRequested):
        trainer_module.Trainer.start_checkpoint(trainer)  # type: ignore[arg-type]


@pytest.mark.parametrize("stopped", [False, True])
def test_a_loss_without_bounds_is_told_after_the_epochs_end_before_it_is_written(stopped: bool) -> None:
    """A rollback goes to that end; were it told first, how far back would depend on the disk's speed.

    So too where the loss is only looked at for the checkpoint that a stop asks for.
    """
    told = []

    def unbounded(**_: bool) -> None:
        told.append("trained")
        raise NonFiniteLoss

    def stop() -> None:
        raise StopRequested

    trainer = object.__new__(trainer_module.Trainer)
    vars(trainer).update(
        task=SimpleNamespace(verify=False, store_patience_seconds=1, fingerprint=None),
        announce=lambda reasons: None,
        attempt=SimpleNamespace(fingerprint={}),
        session=SimpleNamespace(),
        state=SimpleNamespace(epochs_done=1, patience=SimpleNamespace(exhausted=False)),
        plan=SimpleNamespace(epochs=2),
        writer=SimpleNamespace(wait=lambda: told.append("written")),
        unsaved=True,
        train_epoch=stop if stopped else unbounded,
        start_checkpoint=unbounded,
    )
    with pytest.MonkeyPatch.context() as patched, pytest.raises(NonFiniteLoss):
        patched.setattr(trainer_module, "await_room", lambda *_: None)
        trainer.train()
    assert told == ["trained", "written"]
