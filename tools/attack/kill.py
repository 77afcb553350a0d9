#!/usr/bin/env python3
"""Kills runs at random moments, a share of them inside a save, and continues them: the losses and the last checkpoint must be
those of an unbroken run, bit for bit. Killed are: a process of rank threads, one rank of mpirun, mpirun itself.
Then the same with signals that ask a run to stop (TERM, INT, USR2, HUP, XCPU: exit status 75, nothing lost) or to save and
go on (USR1: exit status 0).

What the killed left behind is counted at the end: shared memory, session folders of mpirun, *.partial, processes.
Exit status: 0 all as it must be, 1 otherwise.
"""
from __future__ import annotations

import argparse
import collections
import dataclasses
import glob
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
from program import (SETTINGS, STOPPED, Curve, EndTree, FreshFolder, IsAlive, Leftovers, Program, RanksOf, Signal,  # noqa: E402
                     Tensors, WriteText)

STEPS, SAVE_EVERY = 60, 6
RUN_LIMIT_SECONDS, ORPHAN_LIMIT_SECONDS = 60.0, 15.0
AGAIN_SHARE = 0.25  # of the killed runs are killed a second time
VICTIMS = ("threads", "rank", "mpirun")
STOPPING = {signal.SIGTERM, signal.SIGINT, signal.SIGUSR2, signal.SIGHUP, signal.SIGXCPU}
ASKED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU)
# mpirun passes USR1 and USR2 on to its ranks. At TERM and INT it ends them: TERM, and KILL after a second.
FORWARDED = {signal.SIGUSR1, signal.SIGUSR2}


@dataclasses.dataclass
class Tally:
    done: int = 0
    inside_save: int = 0
    before_start: int = 0   # the signal came before the run had begun
    after_end: int = 0
    problems: list[str] = dataclasses.field(default_factory=list)


class KillTest:
    def __init__(self, program: Program, work: str, choose: random.Random) -> None:
        self.program, self.work, self.choose = program, work, choose
        self.seconds: dict[str, float] = {}
        for world in ("threads", "mpi"):
            folder = self.Folder(world)
            ending = self.program.Run(folder, *self.Arguments(), world=world, limit_seconds=RUN_LIMIT_SECONDS)
            if ending.code:
                raise SystemExit(f"the unbroken run failed, exit {ending.code}:\n{ending.text}")
            self.seconds[world] = ending.seconds
            curve, tensors = self.Result(folder)
            if world == "mpi" and (curve, tensors) != (self.curve, self.tensors):
                raise SystemExit("unbroken runs on threads and under mpirun differ")
            self.curve, self.tensors = curve, tensors

    def Folder(self, name: str) -> str:
        folder = FreshFolder(os.path.join(self.work, name))
        with open(os.path.join(folder, "small.txtpb"), "w", encoding="utf-8") as file:
            file.write(SETTINGS)
        WriteText(os.path.join(folder, "book.txt"))
        return folder

    def Arguments(self) -> list[str]:
        return ["train", "small.txtpb", f"train.steps={STEPS}", f"train.save_every={SAVE_EVERY}", "train.keep_checkpoints=2"]

    def Result(self, folder: str) -> tuple[list[dict[str, object]], dict[str, str]]:
        run = os.path.join(folder, "run")
        return Curve(run), Tensors(os.path.join(run, "checkpoints", f"step-{STEPS}"))

    def Saving(self, folder: str) -> bool:
        return bool(glob.glob(os.path.join(folder, "run", "checkpoints", "*.partial")))

    def Wait(self, folder: str, process: subprocess.Popen[bytes], inside_save: bool, world: str) -> None:
        """Until the moment at which the run is hit."""
        if not inside_save:
            self.Sleep(process, self.choose.uniform(0.02, 1.1 * self.seconds[world]))
            return
        for _ in range(self.choose.randrange(1, STEPS // SAVE_EVERY)):  # the save that is hit
            while process.poll() is None and not self.Saving(folder):
                time.sleep(0.0003)
            moment = self.choose.uniform(0, 0.02)
            self.Sleep(process, moment)
            if self.choose.random() < 0.3:
                return

    def Sleep(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            pass

    def Hit(self, process: subprocess.Popen[bytes], victim: str, number: int) -> list[int]:
        """Sends the signal and returns the processes that have to end."""
        ranks = RanksOf(process.pid) if victim != "threads" else []
        pid = self.choose.choice(ranks) if victim == "rank" and ranks else process.pid
        Signal(pid, number)
        return [process.pid, *ranks]

    def AwaitEnd(self, process: subprocess.Popen[bytes], pids: list[int], tally: Tally, what: str) -> None:
        end = time.monotonic() + ORPHAN_LIMIT_SECONDS
        while any(IsAlive(pid) for pid in pids) and time.monotonic() < end:
            process.poll()
            time.sleep(0.01)
        orphans = [pid for pid in pids if IsAlive(pid)]
        if orphans:
            tally.problems.append(f"{what}: {len(orphans)} processes live on after {ORPHAN_LIMIT_SECONDS:.0f} s")
            for pid in orphans:
                Signal(pid, signal.SIGKILL)
            EndTree(process)
        process.wait()

    def Continue(self, folder: str, world: str, tally: Tally, what: str) -> None:
        """Repeats the command to the end and compares with the unbroken run."""
        ending = self.program.Run(folder, *self.Arguments(), world=world, limit_seconds=RUN_LIMIT_SECONDS)
        if ending.verdict != "done":
            tally.problems.append(f"{what}: the continued run: {ending.verdict}: {ending.sentence or ending.text[-300:]}")
            return
        curve, tensors = self.Result(folder)
        if curve != self.curve or tensors != self.tensors:
            wrong = next((i for i, (line, right) in enumerate(zip(curve, self.curve)) if line != right), len(curve))
            tally.problems.append(f"{what}: not the unbroken run's result, from line {wrong + 1} of {len(curve)}")
        if self.Saving(folder):
            tally.problems.append(f"{what}: a .partial is left after the continued run's end")

    def Kill(self, victim: str, inside_save: bool, tally: Tally) -> None:
        world = "threads" if victim == "threads" else "mpi"
        folder, what = self.Folder("killed"), f"kill {tally.done + 1} of {victim}"
        for _ in range(2 if self.choose.random() < AGAIN_SHARE else 1):
            process = self.program.Start(folder, *self.Arguments(), world=world)
            self.Wait(folder, process, inside_save, world)
            tally.after_end += process.poll() is not None
            pids = self.Hit(process, victim, signal.SIGKILL)
            self.AwaitEnd(process, pids, tally, what)
            tally.done += 1
            tally.inside_save += self.Saving(folder)
        self.Continue(folder, world, tally, what)

    def Ask(self, victim: str, number: signal.Signals, inside_save: bool, tally: Tally) -> None:
        world = "threads" if victim == "threads" else "mpi"
        folder, what = self.Folder("asked"), f"{number.name} to {victim}"
        process = self.program.Start(folder, *self.Arguments(), world=world)
        self.Wait(folder, process, inside_save, world)
        begun = os.path.exists(os.path.join(folder, "run", "metrics.jsonl"))
        ended = process.poll() is not None
        tally.inside_save += self.Saving(folder)
        self.Hit(process, victim, number)
        ending = self.program.Finish(folder, process, RUN_LIMIT_SECONDS)
        tally.done += 1
        tally.before_start += not begun
        tally.after_end += ended
        expected = {0} if number == signal.SIGUSR1 else {0, STOPPED}
        if victim == "mpirun" and number not in FORWARDED:
            expected |= {1, 128 + number, -number, STOPPED}  # mpirun's own answer
        if begun and not ended and (ending.hung or ending.code not in expected):
            tally.problems.append(f"{what}: exit {ending.code}{', hung' if ending.hung else ''}: {ending.text[-200:].strip()}")
        if begun and ending.code == STOPPED and self.LostSteps(folder):
            tally.problems.append(f"{what}: {self.LostSteps(folder)} steps are in no checkpoint")
        self.Continue(folder, world, tally, what)

    def LostSteps(self, folder: str) -> int:
        """Steps of metrics.jsonl behind the newest checkpoint."""
        steps = [int(path.rsplit("-", 1)[1]) for path in glob.glob(os.path.join(folder, "run", "checkpoints", "step-*[0-9]"))]
        curve = Curve(os.path.join(folder, "run"))
        return int(str(curve[-1]["step"])) - max(steps, default=0) if curve else 0


def Print(tallies: dict[str, Tally]) -> None:
    for name, tally in tallies.items():
        counts = {"inside a save": tally.inside_save, "before the start": tally.before_start, "after the end": tally.after_end}
        extra = [f"{count} {what}" for what, count in counts.items() if count]
        print(f"  {name:20} {tally.done:4} hits ({', '.join(extra) or 'between saves'}), {len(tally.problems)} problems")
        for problem, count in collections.Counter(tally.problems).most_common(8):
            print(f"      {problem}" + (f" ({count} times)" if count > 1 else ""))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="the built program")
    parser.add_argument("--mpirun", default="mpirun")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--signals", type=int, default=36)
    parser.add_argument("--inside-save", type=float, default=0.4, help="share of the hits that wait for a save")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    choose, before, begin = random.Random(options.seed), Leftovers(), time.monotonic()
    work = tempfile.mkdtemp(prefix="unipool-kill-")
    tallies = collections.defaultdict[str, Tally](Tally)
    try:
        test = KillTest(Program(options.program, options.mpirun), work, choose)
        while sum(tally.done for tally in tallies.values()) < options.kills:
            victim = VICTIMS[sum(tally.done for tally in tallies.values()) % 3]
            test.Kill(victim, choose.random() < options.inside_save, tallies[f"KILL {victim}"])
        for i in range(options.signals):
            victim, number = VICTIMS[i % 3], ASKED[i // 3 % len(ASKED)]
            test.Ask(victim, number, choose.random() < options.inside_save, tallies[f"{number.name[3:]} {victim}"])
    finally:
        shutil.rmtree(work, ignore_errors=True)
    Print(tallies)
    left = Leftovers() - before
    problems = sum(len(tally.problems) for tally in tallies.values())
    kills = sum(tally.done for name, tally in tallies.items() if name.startswith("KILL"))
    inside = sum(tally.inside_save for tally in tallies.values())
    print(f"kill, seed {options.seed}: {kills} kills and {options.signals} other signals, {inside} of all inside a save, in "
          f"{time.monotonic() - begin:.0f} s: {problems} problems; left in shared memory and session folders: {len(left)}")
    for path in sorted(left)[:5]:
        print(f"      {path}")
    return 1 if problems or left else 0


if __name__ == "__main__":
    sys.exit(main())
