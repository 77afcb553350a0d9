#!/usr/bin/env python3
"""What a run leaves for others to read at each of its ends, and what a start makes of it."""
import json
import os
import signal
import time

import run_harness
from run_harness import RanksOf, WaitUntil
from run_stop_test import NOT_SAVED, STOPPED, STUCK, RequestTest


class StateTest(RequestTest):
    """How each end is told."""

    def test_a_folder_that_is_no_run_cannot_be_stopped(self) -> None:
        for command in ["stop", "status"]:
            self.assertIn("is no folder of a run", self.Run(command, ".", code=2).text)

    def test_a_finished_run_started_again_changes_nothing(self) -> None:
        self.Train()
        files = {path: os.stat(path).st_mtime_ns for path in map(self.Path, ["run/state.json", "run/metrics.jsonl", "run/config.txtpb",
                                                                             "run/heartbeat", "run/checkpoints/step-12"])}
        for mpi in [0, 3]:
            outcome = self.Train(mpi=mpi)
            self.assertEqual(outcome.text.count("has done its 12 steps"), 1, outcome)
            self.assertLess(outcome.seconds, 20 if mpi else 10)  # also beside others
        self.assertEqual({path: os.stat(path).st_mtime_ns for path in files}, files)
        self.Train("train.steps=13")
        self.assertEqual(self.State("run")["step"], 13)

    def test_a_new_start_moves_nothing_before_it_is_sound(self) -> None:
        self.Train()
        before = sorted(os.listdir(self.Path("run", "checkpoints")))
        for override in ("train.init_from=nowhere", "data.train=nowhere", "train.stop_at=2020-01-01T00:00", "train.resume_step=6"):
            self.assertEqual(self.Run("train", "small.txtpb", "--anew", override, code=2).code, 2)
            self.assertEqual(sorted(os.listdir(self.Path("run", "checkpoints"))), before, override)
        process = self.Start("train", "small.txtpb", "--anew", "train.steps=1000000", "train.eval_every=0")
        WaitUntil(lambda: self.Lines("run") > 20 and os.path.exists(self.Path("run", "checkpoints.replaced-1")), "a new start")
        process.send_signal(signal.SIGTERM)
        outcome = self.Finish(process)
        self.assertEqual(outcome.code, STOPPED)
        self.assertIn("repeat the command without --anew to go on", outcome.text)
        step = self.State("run")["step"]
        # A job that is started again by Slurm has the same command line.
        outcome = self.Finish(self.Start("train", "small.txtpb", "--anew", f"train.steps={step + 3}", "train.eval_every=0",
                                         environment={"SLURM_RESTART_COUNT": "1"}))
        self.assertEqual((outcome.code, self.State("run")["step"]), (0, step + 3), outcome)

    def test_a_stop_time_that_has_passed_is_refused(self) -> None:
        for text in ("2020-01-01T00:00", "0s"):
            outcome = self.Train("train.stop_at=" + text, code=2)
            self.assertIn(f"train.stop_at={text}: has passed", outcome.text)

    def test_checkpoints_that_went_away_are_missed(self) -> None:
        self.Train()
        os.rename(self.Path("run", "checkpoints"), self.Path("elsewhere"))
        for make in (False, True):
            if make:
                os.mkdir(self.Path("run", "checkpoints"))
            outcome = self.Train("train.steps=14", code=2)
            self.assertIn("state.json knows a checkpoint of step 12, but the folder checkpoints holds none", outcome.text)
        os.rmdir(self.Path("run", "checkpoints"))
        os.rename(self.Path("elsewhere"), self.Path("run", "checkpoints"))
        self.Train("train.steps=14")
        self.assertEqual(self.State("run")["step"], 14)

    def test_wrong_data_is_told(self) -> None:
        self.Train("data.train=nowhere", code=2)
        state = self.State("run")
        self.assertEqual((state["status"], state["exit_code"], state["steps_this_start"]), ("failed", 2, 0))
        self.assertIn("nowhere", state["reason"])

    def test_a_killed_run_is_running_for_ever_until_the_next_start(self) -> None:
        process = self.Begin("run", *self.STEPS)
        process.kill()
        self.Finish(process)
        self.assertEqual(self.State("run")["status"], "running")
        self.Train(*self.STEPS)
        self.assertIn("killed", self.State("run")["previous_end"]["reason"])

    def test_exit_codes_through_mpirun_and_what_the_state_says(self) -> None:
        process = self.Begin("stuck", *self.STEPS, "train.steps=100000", "parallel.watchdog_seconds=1", mpi=2)
        os.kill(RanksOf(process.pid)[0], signal.SIGSTOP)
        self.assertEqual(self.Finish(process, 20).code, STUCK)
        state = self.State("stuck")
        self.assertEqual((state["status"], state["exit_code"]), ("failed", STUCK))
        self.assertEqual(state["suspect_hosts"], [os.uname().nodename])
        self.assertGreater(state["step"], 10)
        self.assertIn("no sign of life from rank 0", state["reason"])
        self.Train("data.train=nowhere", mpi=2, code=2)
        full = self.SlowDisk("model", 0) | {"FULL_DISK": "1"}
        outcome = self.Finish(self.Start("train", "small.txtpb", "run_dir=full", "train.steps=2", mpi=2, environment=full))
        self.assertEqual(outcome.code, NOT_SAVED, outcome)
        state = self.State("full")
        self.assertEqual((state["status"], state["exit_code"], state["step"]), ("failed", NOT_SAVED, 2))

    def test_the_heart_beats_once_a_second(self) -> None:
        process = self.Begin("run", "train.steps=1000000", "train.save_every=0", "train.eval_every=0")
        for _ in range(3):
            time.sleep(1.2)  # the first beat is that of the start, without a rate
            with open(self.Path("run", "heartbeat")) as file:
                heartbeat = json.load(file)
            self.assertLess(time.time() - heartbeat["time"], 1.6)
            self.assertGreater(heartbeat["tokens_per_second"], 0)
        self.assertGreater(heartbeat["step"], 10)
        process.send_signal(signal.SIGTERM)
        self.Finish(process)
        self.assertEqual(os.path.getsize(self.Path("run", "heartbeat")), 160)


if __name__ == "__main__":
    run_harness.Main(__doc__)
