#!/usr/bin/env python3
"""Damages a checkpoint in every way of damages.py and continues the run. What a user may see: the run goes back to the older
checkpoint, which it names, with the losses and the last checkpoint of an unbroken run bit for bit; or a sentence and exit
status 2 with nothing changed; or the run goes on as if nothing had happened, and rightly so.

Exit status: 0 nothing else was seen, 1 otherwise.
"""
from __future__ import annotations

import argparse
import collections
import dataclasses
import fnmatch
import os
import random
import shutil
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
from damages import NEWEST, OLDER, AllCases, Case, Site  # noqa: E402
from program import (NOBODY, SETTINGS, Curve, Ending, FreshFolder, GiveTo, Program, Snapshot, Tensors,  # noqa: E402
                     Waiting, WriteText)

STEPS = 12
MPI_SHARE = 6  # of the fast part one case in so many runs under mpirun, whose start takes longest
FELL_BACK, REFUSED, ACCEPTED = "fell back to the older one", "refused, nothing changed", "accepted, same curve"
GOOD = {FELL_BACK, REFUSED, ACCEPTED}


@dataclasses.dataclass
class Verdict:
    word: str
    note: str = ""
    missed_by_verify: bool = False


class DamageTest:
    """world: threads or mpi. All is below `work`."""

    def __init__(self, program: Program, world: str, work: str) -> None:
        self.program, self.world, self.work = program, world, work
        self.knows_verify = program.Knows("verify")
        self.MakeTemplate()

    def Path(self, *parts: str) -> str:
        return os.path.join(self.work, *parts)

    def MakeTemplate(self) -> None:
        """template/run: as a run that was killed after step 9; whole/run: the same run unbroken."""
        for name in ("whole", "template"):
            folder = FreshFolder(self.Path(name))
            with open(os.path.join(folder, "small.txtpb"), "w", encoding="utf-8") as file:
                file.write(SETTINGS)
            WriteText(os.path.join(folder, "book.txt"))
        ending = self.Train(self.Path("whole"))
        if ending.code:
            raise SystemExit(f"the undamaged run failed, exit {ending.code}:\n{ending.text}")
        whole, run = self.Path("whole", "run"), self.Path("template", "run")
        for step in (OLDER, NEWEST):
            shutil.copytree(os.path.join(whole, "checkpoints", f"step-{step}"), os.path.join(run, "checkpoints", f"step-{step}"))
        shutil.copy(os.path.join(whole, "config.txtpb"), run)
        with open(os.path.join(whole, "metrics.jsonl"), encoding="utf-8") as file:
            lines = file.readlines()
        with open(os.path.join(run, "metrics.jsonl"), "w", encoding="utf-8") as file:
            file.writelines(line for line in lines if int(line.split('"step":')[1].split(",")[0].rstrip("}\n")) <= NEWEST)
        open(os.path.join(run, "lock"), "wb").close()
        self.expected, self.tensors = Curve(whole), Tensors(os.path.join(whole, "checkpoints", f"step-{STEPS}"))
        self.names = sorted(os.listdir(os.path.join(run, "checkpoints", f"step-{NEWEST}")))

    def Train(self, folder: str, user: int | None = None) -> Ending:
        return self.program.Run(folder, "train", "small.txtpb", world=self.world, user=user)

    def Line(self, folder: str, step: int) -> str:
        """The line of this step as it stands in metrics.jsonl, times and all: written anew, it differs."""
        with open(os.path.join(folder, "run", "metrics.jsonl"), encoding="utf-8") as file:
            return next((line for line in file if line.startswith(f'{{"step":{step},')), "")

    def Try(self, case: Case) -> Verdict:
        folder = self.Path("case")
        if os.path.exists(folder):
            os.system(f"chmod -R u+rwX '{folder}'")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.Path("template"), folder)
        user = NOBODY if case.as_other_user and os.getuid() == 0 else None
        if user is not None:
            GiveTo(user, folder)
        case.apply(Site(os.path.join(folder, "run"), random.Random(case.name)))
        missed = self.knows_verify and not case.harmless and not case.as_other_user and self.VerifyMisses(folder, case)
        before = Snapshot(os.path.join(folder, "run")) if os.getuid() == 0 else {}
        ending = self.Train(folder, user)
        return dataclasses.replace(self.Judge(folder, case, ending, before), missed_by_verify=missed)

    def VerifyMisses(self, folder: str, case: Case) -> bool:
        if case.name.split()[1].startswith(("metrics", "lock", "checkpoints")):
            return False
        return self.program.Run(folder, "verify", "run").code != 2

    def Judge(self, folder: str, case: Case, ending: Ending, before: dict[str, str]) -> Verdict:
        run = os.path.join(folder, "run")
        if ending.verdict == "refused":
            after = Snapshot(run) if before else {}
            changed = sorted(path for path in before if before[path] != after.get(path))
            note = ending.sentence
            if changed:
                return Verdict("refused, but files changed", f"{', '.join(changed)}; {note}")
            return Verdict("refused what is harmless" if case.harmless else REFUSED, note)
        if ending.verdict != "done":
            return Verdict(ending.verdict, ending.sign or ending.text.strip()[-300:])
        if self.Line(folder, 1) != self.Line(self.Path("template"), 1):
            return Verdict("STARTED ANEW", ending.text.strip().splitlines()[0][:200])
        again = self.Line(folder, OLDER + 1) != self.Line(self.Path("template"), OLDER + 1)
        same = Curve(run) == self.expected and Tensors(os.path.join(run, "checkpoints", f"step-{STEPS}")) == self.tensors
        if not same:
            return Verdict("ANOTHER CURVE", "after going back" if again else "in silence")
        if again and not (f"step {OLDER}" in ending.text or f"step-{OLDER}" in ending.text):
            return Verdict("fell back without a word", ending.text[:200])
        if again:
            return Verdict("fell back from what is harmless" if case.harmless else FELL_BACK)
        return Verdict(ACCEPTED)


def FastPart(cases: list[Case]) -> list[Case]:
    """One file of each kind for each damage, and every case that damages no single file."""
    seen, chosen = set[str](), []
    for case in cases:
        damage, name = case.name.split(" ", 1)
        kind = f"{damage} {name.split('-')[0]}"
        if kind not in seen and (damage in ("older", "swap", "zero", "truncate", "empty", "folder", "fifo", "delete")
                                 or damage.startswith(("flip-m", "state", "both", "permissions", "extra"))):
            seen.add(kind)
            chosen.append(case)
    return chosen


def Report(verdicts: dict[str, Verdict], seconds: float, world: str, every: bool) -> int:
    words = collections.Counter(verdict.word for verdict in verdicts.values())
    bad = {name: verdict for name, verdict in verdicts.items() if verdict.word not in GOOD or verdict.missed_by_verify}
    for name, verdict in verdicts.items() if every else bad.items():
        missed = "; verify did not find it" if verdict.missed_by_verify else ""
        print(f"  {name:55} {verdict.word}{missed}: {verdict.note[:220]}")
    counts = ", ".join(f"{count} {word}" for word, count in words.most_common())
    print(f"damage, {world}: {len(verdicts)} cases in {seconds:.0f} s: {counts}")
    return len(bad)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="the built program")
    parser.add_argument("--mpirun", default="mpirun")
    parser.add_argument("--world", choices=["threads", "mpi", "both"], default="threads")
    parser.add_argument("--fast", action="store_true", help="a share of the cases")
    parser.add_argument("--only", default="", help="cases whose name holds this text")
    parser.add_argument("--waiting", default="", help="file with patterns of the names of cases that are not run, a line each")
    parser.add_argument("--all-lines", action="store_true", help="a line for each case, not for the bad ones alone")
    parser.add_argument("--keep", action="store_true", help="keep the folder of the last case")
    options = parser.parse_args()
    program, bad = Program(options.program, options.mpirun), 0
    for world in ["threads", "mpi"] if options.world == "both" else [options.world]:
        work = tempfile.mkdtemp(prefix="unipool-damage-")
        os.chmod(work, 0o755)
        try:
            test, begin = DamageTest(program, world, work), time.monotonic()
            cases = [case for case in AllCases(test.names) if options.only in case.name]
            if options.fast:
                cases = FastPart(cases)[::1 if world == "threads" else MPI_SHARE]
            waiting = [case for case in cases if any(fnmatch.fnmatch(case.name, line) for line in Waiting(options.waiting))]
            if waiting:
                print(f"damage, {world}: {len(waiting)} cases wait for a mend and are not run")
            cases = [case for case in cases if case not in waiting]
            verdicts = {case.name: test.Try(case) for case in cases}
            bad += Report(verdicts, time.monotonic() - begin, world, options.all_lines)
        finally:
            if options.keep:
                print(f"kept: {work}")
            else:
                os.system(f"chmod -R u+rwX '{work}'")
                shutil.rmtree(work, ignore_errors=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
