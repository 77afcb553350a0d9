#!/usr/bin/env python3
"""A run that is asked to stop saves and says so, in every way to ask and to start it; the next start goes on bit for bit."""
import concurrent.futures
import json
import os
import signal
import subprocess
import time
import unittest
from collections.abc import Callable
from typing import Any

import run_harness
from run_harness import Outcome, RanksOf, RunTest, WaitUntil

STOPPED, NOT_SAVED, STUCK = 75, 76, 3
Process = subprocess.Popen[bytes]

# fsync of files whose name has a text in it takes a while, or fails after it: a slow disk, a full one.
SLOW_FSYNC = r'''
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int fsync(int fd) {
  char link[64], path[512];
  snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
  ssize_t size = readlink(link, path, sizeof(path) - 1);
  if (size > 0) {
    path[size] = 0;
    if (strstr(path, getenv("SLOW_FILE"))) {
      usleep(1000 * atoi(getenv("SLOW_MILLISECONDS")));
      if (getenv("FULL_DISK")) return errno = ENOSPC, -1;
    }
  }
  return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}
'''


class RequestTest(RunTest):
    """What the tests below share."""
    STEPS = ["train.steps=400", "train.save_every=0", "train.eval_every=150", "train.eval_batches=1"]
    WAYS = {"threads": (["parallel.ranks=2"], 0), "mpi": ([], 3)}

    def setUp(self) -> None:
        super().setUp()
        self.readers: dict[int, concurrent.futures.Future[tuple[bytes, bytes]]] = {}

    def State(self, run_dir: str) -> dict[str, Any]:
        with open(self.Path(run_dir, "state.json")) as file:
            state: dict[str, Any] = json.load(file)
        return state

    def Lines(self, run_dir: str) -> int:
        path = self.Path(run_dir, "metrics.jsonl")
        return len(self.Metrics(run_dir)) if os.path.exists(path) else 0

    def Checkpoints(self, run_dir: str) -> list[int]:
        return sorted(int(name.split("-")[1]) for name in os.listdir(self.Path(run_dir, "checkpoints")))

    def SlowDisk(self, file: str, seconds: float) -> dict[str, str]:
        """Environment in which fsync of files of this name takes so long."""
        self.Write("slow.c", SLOW_FSYNC)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", self.Path("slow.so"), self.Path("slow.c"), "-ldl"], check=True)
        return {"LD_PRELOAD": self.Path("slow.so"), "SLOW_FILE": file, "SLOW_MILLISECONDS": str(int(1000 * seconds))}

    def Begin(self, run_dir: str, *settings: str, mpi: int = 0, lines: int = 40, environment: dict[str, str] | None = None) -> Process:
        """A run that has got on a little. Its output is read meanwhile: a full pipe would stop it."""
        process = self.Start("train", "small.txtpb", f"run_dir={run_dir}", *settings, mpi=mpi, environment=environment)
        self.readers[process.pid] = concurrent.futures.ThreadPoolExecutor(1).submit(process.communicate)
        WaitUntil(lambda: self.Lines(run_dir) >= lines or process.poll() is not None, f"{lines} lines of metrics")
        return process

    def Finish(self, process: Process, limit_seconds: float = 120) -> Outcome:
        if process.pid not in self.readers:
            return super().Finish(process, limit_seconds)
        begin = time.monotonic()
        try:
            stdout, stderr = self.readers[process.pid].result(limit_seconds)
        except concurrent.futures.TimeoutError:
            self.fail(f"{process.args!r} did not end within {limit_seconds} s")
        return Outcome(process.returncode, stdout, stderr, time.monotonic() - begin)

    def End(self, process: Process) -> None:
        if process.pid in self.readers and process.poll() is None:
            for pid in [*RanksOf(process.pid).values(), process.pid]:
                os.kill(pid, signal.SIGKILL)
            self.readers[process.pid].result()
        super().End(process)

    def EndsStopped(self, process: Process, run_dir: str, reason: str, limit_seconds: float = 20) -> Outcome:
        outcome: Outcome = self.Finish(process, limit_seconds)
        self.assertEqual(outcome.code, STOPPED, outcome)
        self.assertRegex(outcome.text, rf"stopped by {reason} at step \d+", outcome)
        state = self.State(run_dir)
        self.assertEqual((state["status"], state["exit_code"]), ("stopped", STOPPED))
        self.assertRegex(state["reason"], reason)
        self.assertEqual(state["step"], state["saved_step"])
        self.assertEqual(self.Checkpoints(run_dir)[-1], state["step"])
        self.assertLess(state["step"], 400, "too late to interrupt anything")
        return outcome

    def GoesOnAlike(self, run_dir: str, whole: str, *settings: str, mpi: int = 0) -> None:
        outcome = self.Train(f"run_dir={run_dir}", *settings, mpi=mpi)
        self.assertIn(f"continuing from {run_dir}/checkpoints/step-", outcome.text)
        self.assertEqual(self.Results(run_dir), self.Results(whole))
        state = self.State(run_dir)
        self.assertEqual((state["status"], state["exit_code"], state["step"]), ("finished", 0, 400))
        self.assertEqual(state["previous_end"]["exit_code"], STOPPED)


class StopTest(RequestTest):
    def test_each_signal_stops_and_the_next_start_goes_on_bit_for_bit(self) -> None:
        settings = [*self.STEPS, "parallel.ranks=2"]
        self.Train("run_dir=whole", *settings)
        for number in [signal.SIGUSR2, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU]:
            process = self.Begin(number.name, *settings)
            process.send_signal(number)
            self.EndsStopped(process, number.name, number.name)
            self.GoesOnAlike(number.name, "whole", *settings)

    def test_a_signal_to_one_rank_or_to_all_or_two_different_ones(self) -> None:
        self.Train("run_dir=whole", *self.STEPS, mpi=3)
        cases: dict[str, tuple[list[tuple[int, int]], str]] = {
            "one": ([(1, signal.SIGTERM)], "SIGTERM"),
            "all": ([(0, signal.SIGUSR2), (1, signal.SIGUSR2), (2, signal.SIGUSR2)], "SIGUSR2"),
            "two": ([(2, signal.SIGUSR2), (0, signal.SIGUSR1)], "SIGUSR2"),
        }
        for run_dir, (signals, reason) in cases.items():
            process = self.Begin(run_dir, *self.STEPS, mpi=3)
            ranks = RanksOf(process.pid)
            for rank, number in signals:
                os.kill(ranks[rank], number)
            outcome = self.EndsStopped(process, run_dir, reason)
            self.assertEqual(outcome.text.count("stopped by"), 1, outcome)
            self.GoesOnAlike(run_dir, "whole", *self.STEPS, mpi=3)

    def test_signals_of_mpirun(self) -> None:
        process = self.Begin("usr2", *self.STEPS, mpi=2)
        process.send_signal(signal.SIGUSR2)  # which mpirun hands on
        self.EndsStopped(process, "usr2", "SIGUSR2")

    def test_usr1_saves_and_goes_on(self) -> None:
        for way, (overrides, mpi) in self.WAYS.items():
            settings = [*self.STEPS, *overrides, "train.keep_checkpoints=0"]
            self.Train(f"run_dir=whole-{way}", *settings, mpi=mpi)
            process = self.Begin(way, *settings, mpi=mpi)
            for _ in range(3):
                process.send_signal(signal.SIGUSR1)
                time.sleep(0.02)
            outcome = self.Finish(process)
            self.assertEqual(outcome.code, 0, outcome)
            self.assertRegex(outcome.text, r"saved \S+step-\d+ \(SIGUSR1\)")
            self.assertGreaterEqual(len(self.Checkpoints(way)), 2)
            self.assertEqual(self.Results(way), self.Results(f"whole-{way}"))

    def test_a_stop_in_a_validation_waits_for_one_of_its_batches(self) -> None:
        # Nine of ten parts of the text are for validation, which takes most of a second on a fast machine.
        self.Write("book.txt", run_harness.SomeText(160_000, seed=5))
        settings = ["train.steps=20", "train.save_every=0", "train.eval_every=10", "data.split=10,90,0", "parallel.ranks=2"]
        self.Train("run_dir=whole", *settings)
        process = self.Begin("run", *settings, lines=10)
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        outcome = self.Finish(process)
        self.assertEqual(outcome.code, STOPPED, outcome)
        self.assertEqual(self.Checkpoints("run"), [10])
        self.assertEqual(self.ValidLosses("run"), {}, "it was too late to interrupt the validation")
        self.assertLess(time.monotonic() - begin, 5)
        self.Train(*settings)
        self.assertEqual(self.Results("run"), self.Results("whole"))

    def test_a_stop_in_a_save_ends_after_it(self) -> None:
        slow = self.SlowDisk("model", 0.5)
        settings = [*self.STEPS, "parallel.ranks=2"]
        self.Train("run_dir=whole", *settings)
        process = self.Begin("run", *settings, "train.save_every=90", environment=slow)
        partial = self.Path("run", "checkpoints", "step-90.partial")
        WaitUntil(lambda: os.path.exists(partial), "a save")
        process.send_signal(signal.SIGTERM)
        self.EndsStopped(process, "run", "SIGTERM")
        self.assertEqual(self.Checkpoints("run"), [90], "no step comes after the save")
        self.GoesOnAlike("run", "whole", *settings)

    def test_a_second_term_ends_at_once(self) -> None:
        slow = self.SlowDisk("model", 20)
        process = self.Begin("run", *self.STEPS, environment=slow)
        process.send_signal(signal.SIGTERM)
        WaitUntil(lambda: os.path.isdir(self.Path("run", "checkpoints")), "the save to begin")
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        outcome = self.Finish(process, 5)
        self.assertEqual(outcome.code, 128 + signal.SIGTERM, outcome)
        state = self.State("run")
        self.assertEqual((state["status"], state["exit_code"]), ("failed", 143))
        self.assertIn("second", state["reason"])

    def test_trigger_files(self) -> None:
        for way, (overrides, mpi) in self.WAYS.items():
            settings = ["train.steps=1000000", "train.save_every=0", "train.eval_every=0", *overrides]
            process = self.Begin(way, *settings, mpi=mpi)
            self.Write(f"{way}/save", "")
            WaitUntil(lambda w=way: not os.path.exists(self.Path(w, "save")), "the file save to be seen", 10)
            WaitUntil(lambda w=way: self.State(w)["saved_step"] > 0, "a save", 10)
            self.Write(f"{way}/stop", "")
            outcome = self.Finish(process, 20)
            self.assertEqual(outcome.code, STOPPED, outcome)
            self.assertRegex(outcome.text, r"(?s)saved \S+ \(the file save\).*stopped by the file stop")
            self.assertFalse(os.path.exists(self.Path(way, "stop")))

    def test_stop_at(self) -> None:
        endless = ["train.steps=1000000", "train.save_every=0", "train.eval_every=0"]
        begin = time.time()
        outcome = self.Train("run_dir=duration", *endless, "train.stop_at=3s", code=STOPPED)
        self.assertRegex(outcome.text, r"stopped by train.stop_at at step \d+")
        self.assertLess(time.time() - begin, 8, "a busy machine starts slowly")
        self.assertGreater(time.time() - begin, 1.5)
        self.assertGreater(self.State("duration")["saved_step"], 10)
        self.Train("run_dir=epoch", *endless, f"train.stop_at={int(time.time()) + 3}", mpi=2, code=STOPPED)
        # No time is left: nothing is done, and the next start is where this one was.
        saved = self.State("duration")["saved_step"]
        self.Train("run_dir=duration", *endless, "train.stop_at=2020-01-01T00:00", code=2)
        self.assertEqual(self.State("duration")["step"], saved)

    def test_save_minutes(self) -> None:
        self.Train("train.steps=1000000", "train.save_every=0", "train.eval_every=0", "train.save_minutes=0.01", "train.stop_at=4s",
                   "train.keep_checkpoints=0", code=STOPPED)
        self.assertGreaterEqual(len(self.Checkpoints("run")), 3)

    def test_an_ignored_hangup_stays_ignored(self) -> None:
        """nohup."""
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            process = self.Begin("run", *self.STEPS)
        finally:
            signal.signal(signal.SIGHUP, before)
        process.send_signal(signal.SIGHUP)
        self.assertEqual(self.Finish(process).code, 0)

    def test_a_reader_that_leaves_does_not_end_the_run(self) -> None:
        process = self.Start("train", "small.txtpb", "train.steps=60", "train.eval_every=0")
        process.stdout.readline()
        process.stdout.close()
        self.assertEqual(process.wait(60), 0)
        self.assertEqual(len(self.Steps()), 60)
        self.assertEqual(self.State("run")["status"], "finished")


class PatienceTest(RequestTest):
    """Who is not stuck, and what does not hold a run up."""

    def test_a_rank_that_writes_is_not_stuck(self) -> None:
        slow = self.SlowDisk("model-00001", 3)
        for mpi, overrides in [(0, ["parallel.ranks=4"]), (3, [])]:
            process = self.Start("train", "small.txtpb", f"run_dir=slow-{mpi}", "train.steps=3", "parallel.watchdog_seconds=1", *overrides,
                                 mpi=mpi, environment=slow)
            outcome = self.Finish(process)
            self.assertEqual(outcome.code, 0, outcome)
            self.assertGreater(outcome.seconds, 3)
        # With a limit of its own.
        process = self.Start("train", "small.txtpb", "run_dir=limit", "train.steps=3", "parallel.watchdog_seconds=1", "parallel.ranks=4",
                             "parallel.file_watchdog_seconds=0.5", environment=slow)
        outcome = self.Finish(process)
        self.assertEqual(outcome.code, STUCK, outcome)
        self.assertIn("rank 0 is at file work: ", outcome.text)

    def test_a_suspended_job_goes_on(self) -> None:
        for way, (overrides, mpi) in self.WAYS.items():
            settings = ["train.steps=100000", "train.eval_every=0", "train.save_every=0", "parallel.watchdog_seconds=1", *overrides]
            process = self.Begin(way, *settings, mpi=mpi)
            everyone = [*RanksOf(process.pid).values(), process.pid]
            for number in [signal.SIGSTOP, signal.SIGCONT]:
                for pid in everyone:
                    os.kill(pid, number)
                time.sleep(2.5)
            self.assertIsNone(process.poll(), "it ended")
            process.send_signal(signal.SIGUSR2)
            self.assertEqual(self.Finish(process, 20).code, STOPPED)

    def HeldLock(self, holder: dict[str, Any]) -> Callable[[], None]:
        """The lock of `run`, held by this process in another one's name; returns what lets it go."""
        import fcntl
        os.makedirs(self.Path("run"), exist_ok=True)
        file = open(self.Path("run", "lock"), "w", encoding="utf-8")
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps(holder) + "\n")
        file.flush()
        return file.close

    def test_a_lock_names_its_holder_and_a_requeued_job_waits(self) -> None:
        holder = {"host": "elsewhere", "pid": 4711, "started": 1, "job_id": "88"}
        release = self.HeldLock(holder)
        outcome = self.Train(code=2)
        self.assertIn("another run is using run (host elsewhere, process 4711, job 88)", outcome.text)
        process = self.Start("train", "small.txtpb", environment={"SLURM_RESTART_COUNT": "1"})
        time.sleep(1)
        self.assertIsNone(process.poll())
        release()
        outcome = self.Finish(process)
        self.assertEqual(outcome.code, 0, outcome)
        self.assertIn("waiting up to 120 s for the lock of run, which another run holds (host elsewhere", outcome.text)
        # Words of a dead process hold nobody up where locks work.
        self.Write("run/lock", json.dumps(holder))
        self.assertEqual(self.Run("train", "small.txtpb", "train.steps=13").code, 0)
        self.assertEqual(os.path.getsize(self.Path("run", "lock")), 0)
        # A request to stop reaches a start that waits.
        release = self.HeldLock(holder)
        process = self.Start("train", "small.txtpb", environment={"SLURM_RESTART_COUNT": "1"})
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.Finish(process, 5).code, STOPPED)
        release()

    def test_a_killed_mpirun_leaves_no_shared_memory_to_the_next_start(self) -> None:
        def Segments(job: str) -> list[str]:
            return [name for name in os.listdir("/dev/shm") if f".{job}." in name]
        process = self.Begin("run", "train.steps=1000000", "train.save_every=0", "train.eval_every=0", mpi=2)
        with open(f"/proc/{RanksOf(process.pid)[0]}/environ", "rb") as file:
            variables = dict(entry.split(b"=", 1) for entry in file.read().split(b"\0") if b"=" in entry)
        job = f"{int(variables[b'PMIX_NAMESPACE']):x}"
        session = variables[b"OMPI_MCA_orte_jobfam_session_dir"].decode()
        if not Segments(job):
            self.fail(f"no shared memory of job {job} in {os.listdir('/dev/shm')}")
        process.kill()
        self.Finish(process)
        time.sleep(3)  # what is younger may belong to a job that just starts
        self.assertTrue(Segments(job) and os.path.isdir(session))
        outcome = self.Train("train.steps=1", "run_dir=next")
        self.assertEqual(Segments(job), [])
        self.assertFalse(os.path.exists(session))
        self.assertRegex(outcome.text, r"note: removed \d+ pieces of shared memory")


if __name__ == "__main__":
    run_harness.Main(__doc__)
