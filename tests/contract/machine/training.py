"""A trainer's life under a lease: fall back, resume, train, write, record, finish."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from models import job_store
from models.identifiers import new_id
from models.job_state import Phase
from models.job_store import Position, Requests
from tests.contract.machine.hands import FATES, PICKS, Fate, Hands, one_of
from tests.contract.machine.model import Draft, Holder
from tests.contract.world import WEIGHTS


class Training(Hands):
    def go_on(self, pick: int, moves: int, steps: int, fate: Fate) -> None:
        """What comes next in a life that nothing disturbs; its first or its last move meets the fate."""
        holder = one_of(self.holding(), pick)
        fated = 0 if pick % 2 else moves - 1
        for move in range(moves):
            if self.holders.get(holder.job.id) is holder:
                self.next_of_its_life(holder, steps, fate if move == fated else Fate())

    def next_of_its_life(self, holder: Holder, steps: int, fate: Fate) -> None:
        if may_reject(holder):
            self.reject(holder, fate)
        elif not holder.is_prepared:
            self.prepare(holder, fate)
        elif holder.draft:
            self.commit(holder, fate, unlinks=steps > 1)
        elif holder.is_done and holder.saved_step == holder.step:
            self.finish(holder, fate)
        elif may_write(holder) and (holder.unsealed or holder.is_done or steps == 4):
            self.write_file(holder)
        else:
            self.train(holder, steps, fate)

    @precondition(lambda self: self.holding(may_train))
    @rule(pick=PICKS, steps=st.integers(1, 4), is_silent=st.booleans(), fate=FATES)
    def train_on(self, pick: int, steps: int, is_silent: bool, fate: Fate) -> None:
        """Perhaps while a file is being written; in silence, if its rows come with a later batch."""
        self.train(one_of(self.holding(may_train), pick), steps, None if is_silent else fate)

    @precondition(lambda self: self.holding(may_write))
    @rule(pick=PICKS)
    def write_anywhere(self, pick: int) -> None:
        """Within an epoch, too; and whoever is stopped now leaves it behind unrecorded."""
        self.write_file(one_of(self.holding(may_write), pick))

    # -- The moves -------------------------------------------------------------------------------

    def reject(self, holder: Holder, fate: Fate) -> None:
        """The newest is not what was recorded: to quarantine with it, and back to the one before (I6)."""
        bad = holder.refs[0]
        self.write(
            fate,
            lambda: job_store.reject_checkpoint(self.db, holder.fence, bad.id, "Its hash differs."),
            repeatable=True,
        )
        bad.status = "quarantined"
        holder.refs = holder.job.usable

    def prepare(self, holder: Holder, fate: Fate) -> None:
        job, base = holder.job, holder.base
        reasons = job.differences(holder.slot)
        self.write(
            fate,
            lambda: self.world.prepare(
                holder.fence,
                step=base.step if base else 0,
                from_checkpoint=base.id if base else None,
                slot=holder.slot,
                inexact_reasons=reasons,
                epochs_done=base.epochs_done if base else 0,
            ),
            repeatable=True,
        )
        job.prepared(holder.slot, base)
        holder.begin()

    def train(self, holder: Holder, steps: int, fate: Fate | None) -> None:
        """Some steps; what they gave is provisional until a commit."""
        for _ in range(steps):
            if not holder.is_done:
                holder.train()
        if fate is None:
            return
        position = Position(str(Phase.TRAINING), holder.step, 9, holder.step, holder.epochs_done)
        rows, holder.unsent = holder.unsent, []
        self.write(
            fate,
            lambda: job_store.record_metrics(self.db, holder.fence, rows, position),
            repeatable=False,  # each row carries the instant of its last writing
        )
        holder.job.put(rows)
        holder.job.step, holder.job.epochs_done = holder.step, holder.epochs_done

    def write_file(self, holder: Holder) -> None:
        """Bytes first; training may go on before they are recorded."""
        self.store.files.add(holder.write(new_id("ckpt")).checkpoint.path)

    def commit(self, holder: Holder, fate: Fate, *, unlinks: bool) -> None:
        job, draft = holder.job, holder.draft
        assert draft is not None
        holder.draft = None
        rows, holder.unsent = holder.unsent, []
        committed = self.write(fate, lambda: self._record(holder, draft, rows), repeatable=True)
        job.put(rows)
        pruned = job.committed(draft)
        assert committed.requests == Requests(job.cancel, job.pause)
        assert committed.pruned_paths == [c.path for c in pruned], "what retention lets go (I8)"
        if unlinks:
            self.store.files -= set(committed.pruned_paths)
        else:  # its holder is slow, or frozen for good
            self.let_go += committed.pruned_paths

    def _record(self, holder: Holder, draft: Draft, rows: list[dict[str, Any]]) -> Any:
        made = draft.checkpoint
        row = {
            "id": made.id, "path": made.path, "epoch": made.epoch, "step": made.step,
            "val_loss": made.val_loss, "size_bytes": 1000, "sha256": "cd" * 32,
        }  # fmt: skip
        return job_store.commit_checkpoint(
            self.db, holder.fence, row, step_rows=rows, epoch_rows=draft.epoch_rows,
            epochs_done=made.epochs_done, keep_last=holder.job.keep_last,
        )  # fmt: skip

    def finish(self, holder: Holder, fate: Fate) -> None:
        self.write(fate, lambda: job_store.finish(self.db, holder.fence, WEIGHTS), repeatable=True)
        holder.job.finished()
        self.gone(holder.fence)


def may_reject(holder: Holder) -> bool:
    return not holder.is_prepared and bool(holder.refs) and holder.refs[0].damaged


def may_train(holder: Holder) -> bool:
    return holder.is_prepared and not holder.is_done


def may_write(holder: Holder) -> bool:
    return holder.is_prepared and holder.draft is None and holder.step > holder.saved_step
