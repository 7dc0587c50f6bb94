"""What a soak did and found, as JSON and as a text that can be pasted into a page."""

import statistics
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.soak.checker import Finding, Verdict
from tests.soak.history import Entry

#: Of a broken job's timeline, from its end; the whole of it is in the folder.
_SHOWN_LINES = 80
#: Of one rule's findings about one job; ``report.json`` has all.
_SHOWN_ALIKE = 3


@dataclass(frozen=True)
class Report:
    home: Path
    history: list[Entry]
    verdict: Verdict
    timelines: dict[str, list[str]]  #: of each job that broke a rule
    seconds: float

    @property
    def findings(self) -> list[Finding]:
        return self.verdict.findings

    @property
    def refused(self) -> list[Entry]:
        """Answers that no fault explains."""
        return [entry for entry in self.history if entry["kind"] == "refused"]

    @property
    def is_good(self) -> bool:
        return not self.findings and not self.refused

    @cached_property
    def figures(self) -> dict[str, Any]:
        """What goes into the JSON; ``text`` says the same."""
        verdict = self.verdict
        begun = self._first("soak")
        faults = Counter(e["name"] for e in self.history if e["kind"] == "fault" and "nothing" not in e)
        goodput = self._goodput()
        return {
            "seed": begun["seed"],
            "seconds": round(self._first("faults_end")["at"] - self._first("faults_begin")["at"], 1),
            "every_seconds": begun["every_seconds"],
            "load": begun["load"],
            "ended_early": self._first("faults_end")["early"],
            "faults": faults.total(),
            "faults_by_name": dict(faults.most_common()),
            "faults_that_found_nothing": sum("nothing" in e for e in self.history if e["kind"] == "fault"),
            "kills_survived": sum(n for name, n in faults.items() if name.startswith("kill_")),
            "zombies": sum(bool(e["superseded"]) for e in self.history if e["kind"] == "thawed"),
            "jobs": verdict.num_jobs,
            "jobs_finished": verdict.num_finished,
            "attempts": verdict.num_attempts,
            "recoveries": verdict.num_recoveries,
            "lost_epochs": verdict.num_lost_epochs,
            "duplicate_metrics": verdict.num_duplicate_metrics,
            "identical": verdict.num_identical,
            "writes_audited": self._first("audited")["writes"],
            "zombie_writes": sum(finding.rule == "no_zombie_writes" for finding in self.findings),
            "downloads_verified": sum(e["kind"] == "downloaded" for e in self.history),
            "refused": len(self.refused),
            **goodput,
            "load_average": [begun["load_average"][0], self._first("faults_end")["load_average"][0]],
            "cores": begun["cores"],
            "seconds_in_all": round(self.seconds, 1),
        }

    def as_json(self) -> dict[str, Any]:
        return self.figures | {"findings": [vars(finding) for finding in self.findings]}

    @property
    def text(self) -> str:
        f = self.figures
        begin, end = f["load_average"]
        lines = [
            f"Soak, seed {f['seed']}{', ended early' if f['ended_early'] else ''}:"
            f" {_time(f['seconds'])} of faults, one every {f['every_seconds']:g} s on average,"
            f" {f['load']} jobs; {_time(f['seconds_in_all'])} in all on {f['cores']} cores",
            f"(load average {begin:.1f} before the first process, {end:.1f} at the last fault)",
            "",
            f"  lost epochs            {f['lost_epochs']}",
            f"  duplicate metrics      {f['duplicate_metrics']}",
            f"  bit-identical          {f['identical']} of {f['jobs_finished']} finished jobs"
            f" ({f['jobs']} submitted; {f['downloads_verified']} downloads hashed anew)",
            f"  zombie writes accepted {f['zombie_writes']} (of {f['writes_audited']} writes;"
            f" {f['zombies']} workers thawed after their job had been taken over)",
            f"  goodput                {self._goodput_text()}",
            f"  kills survived         {f['kills_survived']}"
            f" ({f['attempts']} attempts, {f['recoveries']} recoveries)",
            "",
            f"  {f['faults']} faults ({f['faults_that_found_nothing']} more found nothing to break):",
            *(f"    {name:<20} {number:>4}" for name, number in f["faults_by_name"].items()),
            "",
            *self._broken(),
        ]
        verdict = (
            "Every rule held." if self.is_good else f"{len(self.findings)} findings, {f['refused']} refusals."
        )
        return "\n".join([*lines, verdict])

    # -- Details ---------------------------------------------------------------------------------

    def _first(self, kind: str) -> Entry:
        return next(entry for entry in self.history if entry["kind"] == kind)

    def _goodput(self) -> dict[str, Any]:
        """Of jobs that finished while faults still came: those that ended in peace would flatter it."""
        submitted = {e["job_id"] for e in self.history if e["kind"] == "submitted"}
        ended = self._first("faults_end")["unix"]
        mine = [
            entry
            for entry in self.history
            if entry["kind"] == "finished"
            and entry["job_id"] in submitted
            and entry["finished_unix"] <= ended
        ]
        ranked = sorted(entry["goodput"] for entry in mine)
        if not ranked:
            return {"goodput": None, "goodput_jobs": 0, "goodput_median": None, "goodput_p10": None}
        seconds = sum(entry["seconds"] for entry in mine)
        return {
            "goodput": round(sum(entry["goodput"] * entry["seconds"] for entry in mine) / seconds, 4),
            "goodput_jobs": len(mine),
            "goodput_median": statistics.median(ranked),
            "goodput_p10": ranked[len(ranked) // 10],
        }

    def _goodput_text(self) -> str:
        f = self.figures
        if f["goodput"] is None:
            return "unknown: no job finished while faults came"
        return (
            f"{100 * f['goodput']:.1f} % of the time of {f['goodput_jobs']} jobs that finished under faults"
            f" (by job: median {100 * f['goodput_median']:.1f} %, p10 {100 * f['goodput_p10']:.1f} %)"
        )

    def _broken(self) -> list[str]:
        alike: dict[tuple[str, str], list[str]] = {}
        for f in self.findings:
            alike.setdefault((f.job_id, f.rule), []).append(f.detail)
        lines = []
        for (job_id, rule), details in alike.items():
            lines += [f"BROKEN {rule} {job_id}: {detail}" for detail in details[:_SHOWN_ALIKE]]
            if (more := len(details) - _SHOWN_ALIKE) > 0:
                lines.append(f"BROKEN {rule} {job_id}: and {more} more of that kind")
        lines += [f"REFUSED {entry}" for entry in self.refused]
        for job_id, timeline in self.timelines.items():
            left_out = max(0, len(timeline) - _SHOWN_LINES)
            lines += ["", f"{job_id}, {left_out} earlier lines left out:", *timeline[left_out:]]
        return [*lines, ""] if lines else []


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
