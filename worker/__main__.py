"""``python -m worker``: a worker process for one device slot, configured by the environment.

With ``--light``: one that checks datasets, has no device, and never trains.
"""

import argparse
import os
import socket
import sys

import structlog
from celery.signals import worker_shutting_down

from models.database import Database
from models.errors import SettingsInvalid, SpecInvalid
from models.host import Owner
from models.identifiers import new_id
from models.logs import configure_logs
from models.queue import queue_name
from models.reconciler import Reconciler
from models.settings import load_settings
from worker.app import worker_app
from worker.examiner import Examiner
from worker.presence import Presence, Works
from worker.slot import NoDevice, this_slot
from worker.supervisor import Supervisor
from worker.zygote_keeper import ZygoteKeeper

_log = structlog.get_logger()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m worker")
    parser.add_argument("--light", action="store_true", help="check datasets; no device, no training")
    is_light = parser.parse_args().light
    try:
        settings = load_settings()
    except SettingsInvalid as error:
        print(error.message, file=sys.stderr)  # noqa: T201
        return 2
    slot = NoDevice() if is_light else this_slot(settings)
    owner = Owner.this_process(new_id("wrk"))
    configure_logs(worker_id=owner.worker_id)

    db = Database(settings.database_url)
    can_fork = sys.platform.startswith("linux") and settings.start_method != "spawn"
    keeper = ZygoteKeeper() if can_fork and not is_light else None
    works: Works
    try:
        if isinstance(slot, NoDevice):
            works = Examiner(db, settings, owner)
        else:
            works = Supervisor(db, settings, owner, slot, keeper)
    except SpecInvalid as error:
        print(error.message, file=sys.stderr)  # noqa: T201
        return 2
    presence = Presence(db, settings, owner, slot, works)
    reconciler = Reconciler(db, settings, on_claimable=presence.nudge)
    app = worker_app(settings.broker_url, works)

    def on_shutdown(**_: object) -> None:
        works.stop()

    worker_shutting_down.connect(on_shutdown, weak=False)
    presence.start()
    reconciler.start()
    _log.info("worker.started", device=slot.device, slot=slot.key, threads=slot.threads, pid=os.getpid())
    try:
        app.Worker(
            hostname=f"{owner.worker_id}@{socket.gethostname()}",
            queues=[queue_name(device_class) for device_class in presence.classes],
            pool="threads",
            concurrency=1,
            loglevel="WARNING",
            without_gossip=True,
            without_mingle=True,
            quiet=True,
        ).start()
    finally:
        # The job may have been claimed without a bell, so Celery's own warm shutdown is not enough.
        works.stop()
        handed_back = works.join(timeout=settings.stop_seconds + 5.0)
        reconciler.stop()
        presence.stop()
        if keeper is not None:
            keeper.stop()
        _log.info("worker.stopped", handed_back=handed_back)
    return 0


if __name__ == "__main__":
    sys.exit(main())
