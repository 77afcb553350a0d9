#!/usr/bin/env python3
"""What `plan` says before a run, against runs on emulated clusters whose processors are described: nothing there depends on
this machine, so a plan with the rows that were routed must give the step and its bytes."""
import json
import os
import random
import re
import shutil
from typing import Any

import run_harness
from run_harness import Outcome, RunTest

CLUSTER = '''ranks_per_node: 2
intra_node { latency_us: 3 gigabytes_per_second: 2 }
inter_node { latency_us: 40 gigabytes_per_second: 0.1 }
processor {
  emulate: true
  work { kind: DENSE_FORWARD fixed_us: 20 rate { amount: 16 giga_per_second: 2 } rate { amount: 256 giga_per_second: 6 } }
  work { kind: DENSE_BACKWARD fixed_us: 30 rate { amount: 16 giga_per_second: 3 } rate { amount: 256 giga_per_second: 5 } }
  work { kind: EXPERTS_FORWARD fixed_us: 5 rate { amount: 8 giga_per_second: 1 } rate { amount: 64 giga_per_second: 4 } }
  work { kind: EXPERTS_INPUT fixed_us: 5 rate { amount: 8 giga_per_second: 1 } rate { amount: 64 giga_per_second: 3 } }
  work { kind: EXPERTS_WEIGHTS fixed_us: 5 rate { amount: 8 giga_per_second: 1 } rate { amount: 64 giga_per_second: 3.5 } }
  work { kind: HEAD fixed_us: 10 rate { giga_per_second: 5 } }
  work { kind: ROWS fixed_us: 1 rate { giga_per_second: 1 } }
  work { kind: OPTIMIZER fixed_us: 2 rate { giga_per_second: 2 } }
}
memory { gigabytes: 1 }
origin { field: "inter_node" tag: SPEC source: "made up" }
'''
# Layouts of the exactness test; UNIPOOL_PLAN_LAYOUTS asks for more.
NUM_LAYOUTS = int(os.environ.get("UNIPOOL_PLAN_LAYOUTS", "20"))
SEED = int(os.environ.get("UNIPOOL_TEST_SEED", str(random.SystemRandom().randrange(2**32))))


class PlanTest(RunTest):
    def setUp(self) -> None:
        super().setUp()
        self.Write("cluster.txtpb", CLUSTER)

    def Plan(self, *arguments: str, cluster: str = "cluster.txtpb") -> Any:
        lines = self.Run("plan", "small.txtpb", f"--cluster={cluster}", "--json", *arguments).stdout.decode().splitlines()
        self.assertEqual(len(lines), 1, lines)
        return json.loads(lines[0])

    def Refused(self, *arguments: str, says: str, code: int = 2) -> Outcome:
        outcome = self.Run(*arguments, code=code)
        self.assertIn(says, outcome.text)
        for sign in run_harness.SIGNS_OF_A_BUG:
            self.assertNotIn(sign, outcome.text)
        return outcome

    def RandomLayout(self, choose: random.Random) -> list[str]:
        stages = choose.choice([1, 1, 2, 2, 3])
        replicas = choose.choice([1, 1, 2])
        data = choose.choice([1, 2, 3])
        if stages * data == 1:
            return self.RandomLayout(choose)  # nothing travels
        ranks = stages * replicas * data
        layers = {1: [[3]], 2: [[2, 1], [1, 2]], 3: [[1, 1, 1]]}[stages]
        settings = [f"parallel.ranks={ranks}", f"parallel.stages={stages}", f"parallel.pool_replicas={replicas}",
                    f"train.micro_batch={choose.choice([1, 2])}", f"parallel.lanes={choose.choice(['INTERLEAVED', 'SEQUENTIAL'])}",
                    f"parallel.experts={choose.choice(['POOL', 'POOL', 'PER_STAGE'])}",
                    "parallel.layers_per_stage=" + ",".join(map(str, choose.choice(layers))),
                    f"parallel.head={choose.choice(['LAST_STAGE', 'SPREAD'])}",
                    f"parallel.placement={choose.choice(['CONTIGUOUS', 'SLOT_AWARE'])}",
                    f"train.recompute_experts={choose.choice(['true', 'false'])}",
                    f"train.recompute_attention={choose.choice(['true', 'false'])}",
                    f"train.global_batch={replicas * data * 2 * choose.choice([1, 2, 3])}"]
        if data == 1 and "parallel.experts=PER_STAGE" in settings:
            return self.RandomLayout(choose)  # no row travels, so no record says where rows go
        return settings

    def test_emulated_steps_and_bytes(self) -> None:
        print(f"UNIPOOL_TEST_SEED={SEED}")
        choose = random.Random(SEED)
        worst = 0.0
        for i in range(NUM_LAYOUTS):
            layout = self.RandomLayout(choose)
            run = f"run{i}"
            outcome = self.Train(*layout, f"run_dir={run}", "parallel.emulate=cluster.txtpb", "train.steps=2", "train.eval_every=0",
                                 "train.save_every=0", "traffic.record=FULL", "traffic.first_step=1", "traffic.num_steps=1",
                                 "train.save_minutes=0")
            step = next(line for line in self.Steps(run) if line["step"] == 2)
            plan = self.Plan(*layout, "traffic.record=FULL", f"--counts={run}")
            self.assertEqual(plan["rows"]["tag"], "RECORDED")
            # A step takes as long as its slowest rank. The table is of the second step; virtual_step_seconds is rank 0's.
            ranks = re.findall(r"^ +\d+ +([\d.]+)(?: +[\d.]+){6}$", outcome.text, re.MULTILINE)
            measured = max(map(float, ranks)) / 1e3
            error = plan["step_seconds"] / measured - 1
            worst = max(worst, abs(error))
            self.assertLess(abs(error), 0.02, f"{layout}: planned {plan['step_seconds']}, emulated {measured}")
            planned = plan["bytes"]["intra_node"] + plan["bytes"]["inter_node"]
            self.assertEqual(planned, step.get("wire_bytes", 0), layout)
            self.assertEqual(plan["bytes"]["inter_node"], step.get("wire_bytes_inter", 0), layout)
        print(f"{NUM_LAYOUTS} layouts, largest error of a step {100 * worst:.3f} %")

    def test_replay_of_records_agrees_with_the_walk(self) -> None:
        """`report` repeats what ranks did between their exchanges, `plan` walks the schedule: on a known machine both say the same,
        also of a wire that takes no time."""
        units = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
        free = re.sub(r"gigabytes_per_second: \S+", "gigabytes_per_second: 1e9", re.sub(r"latency_us: \S+", "latency_us: 0", CLUSTER))
        self.Write("free.txtpb", free)
        for stages in (1, 2):
            run = f"replay{stages}"
            layout = ["parallel.ranks=4", f"parallel.stages={stages}"]
            self.Train(*layout, f"run_dir={run}", "parallel.emulate=cluster.txtpb", "train.steps=2", "train.eval_every=0",
                       "train.save_every=0", "traffic.record=FULL", "traffic.first_step=1", "traffic.num_steps=1")
            text = self.Run("report", run).text
            for name, cluster in [("What if: PREDICTED .unchanged:", "cluster.txtpb"), ("a wire that takes no time", "free.txtpb")]:
                found = re.search(name + r" +([\d.]+) (s|ms|us)", text)
                assert found, text
                plan = self.Plan(*layout, "traffic.record=FULL", f"--counts={run}", cluster=cluster)
                print(f"{stages} stages, {cluster}: replay {found[0]}, walk {plan['step_seconds']}")
                self.assertAlmostEqual(plan["step_seconds"] / (float(found[1]) * units[found[2]]), 1, delta=0.02, msg=text)

    def Number(self, plan: Any, field: str) -> float:
        value: float = next(number["value"] for number in plan["cluster"]["numbers"] if number["field"] == field)
        return value

    def test_calibrate_finds_the_described_cluster(self) -> None:
        layout = ["parallel.ranks=4", "parallel.stages=2"]
        self.Run("calibrate", "small.txtpb", *layout, "parallel.emulate=cluster.txtpb", "--cluster_out=found.txtpb")
        plan = self.Plan(*layout, cluster="found.txtpb")
        for field, value in [("ranks_per_node", 2), ("intra_node.latency_us", 3), ("intra_node.gigabytes_per_second", 2),
                             ("inter_node.latency_us", 40), ("inter_node.gigabytes_per_second", 0.1), ("overlap", 1)]:
            delta = 0.05 if "latency" in field else 0.02  # the smallest exchange has bytes too
            self.assertAlmostEqual(self.Number(plan, field) / value, 1, delta=delta, msg=field)
        self.assertTrue(plan["calibrated"])
        self.assertTrue(all(number["tag"] == "MEASURED" and number["date"] for number in plan["cluster"]["numbers"]))
        # The step of the model at the rates that were found, against the emulated run.
        self.Train(*layout, "parallel.emulate=cluster.txtpb", "train.steps=6", "train.eval_every=0")
        for found, code in [("found.txtpb", 0), ("slow.txtpb", 1)]:
            if code:
                with open(self.Path("found.txtpb"), encoding="utf-8") as file:
                    self.Write(found, re.sub(r"giga_per_second: (\S+)", lambda rate: f"giga_per_second: {float(rate[1]) / 3}",
                                             file.read()))
            outcome = self.Run("plan", "--check", "run", f"--cluster={found}", "--json", code=code)
            check = json.loads(outcome.stdout)
            self.assertEqual(check["holds"], code == 0)
            lines = {line["name"]: line for line in check["lines"]}
            self.assertEqual(lines["step"]["measured"] > 0 and lines["bytes of all ranks"]["measured"] > 0, True)
            self.assertEqual(self.Outside(check), ["step"] if code else [])  # of six tiny steps that nobody recorded
        self.assertIn("measured", self.Run("plan", "--check", "run", "--cluster=found.txtpb").text)
        self.Refused("calibrate", "small.txtpb", "--seconds=1", "--cluster_out=small.txtpb", says="small.txtpb")

    def Check(self, run: str, cluster: str, code: int) -> Any:
        return json.loads(self.Run("plan", "--check", run, f"--cluster={cluster}", "--json", code=code).stdout)

    def Outside(self, check: Any) -> list[str]:
        return [line["name"] for line in check["lines"] if not line["holds"]]

    def test_check_judges_step_bytes_and_memory(self) -> None:
        """Of an emulated run with a recorded step all lines hold, and each that is changed in the run's numbers fails alone."""
        self.Train("parallel.ranks=4", "parallel.emulate=cluster.txtpb", "train.steps=6", "train.eval_every=0", "train.save_every=0",
                   "traffic.record=FULL", "traffic.first_step=4", "traffic.num_steps=1")
        check = self.Check("run", "cluster.txtpb", code=0)
        self.assertEqual(self.Outside(check), [])
        # The slowest rank of the recorded step, and not rank 0's clock, so that nothing is left.
        self.assertRegex(check["step_source"], r"the slowest rank \(\d\) of recorded step 4")
        self.assertAlmostEqual(check["lines"][0]["planned"] / check["lines"][0]["measured"], 1, delta=5e-3)
        self.assertIn("The step is that of the slowest rank", self.Run("plan", "--check", "run", "--cluster=cluster.txtpb").text)
        with open(self.Path("run", "metrics.jsonl"), encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]

        def Changed(change: Any) -> list[str]:
            changed = [{**line, **change(line)} if "loss" in line else line for line in lines]
            self.Write("run/metrics.jsonl", "".join(json.dumps(line) + "\n" for line in changed))
            return self.Outside(self.Check("run", "cluster.txtpb", code=1))

        self.assertEqual(Changed(lambda line: {"wire_bytes": line["wire_bytes"] + 1}), ["bytes of all ranks"])
        self.assertEqual(Changed(lambda line: {"wire_bytes_inter": line["wire_bytes_inter"] - 1}), ["bytes between nodes"])
        for factor in (1.3, 0.7):
            self.assertEqual(Changed(lambda line: {"peak_memory_bytes": int(factor * line["peak_memory_bytes"])}),
                             ["memory with the run's rows"])
        self.Write("run/metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        slow = re.sub(r"giga_per_second: (\S+)", lambda rate: f"giga_per_second: {float(rate[1]) / 2}", CLUSTER)
        self.Write("slow.txtpb", slow)
        self.assertEqual(self.Outside(self.Check("run", "slow.txtpb", code=1)), ["step"])

    def test_check_without_a_recorded_step_takes_the_slowest_rank(self) -> None:
        """Windows have each rank's time: the slowest rank is above rank 0, and a plan is of the slowest."""
        self.Train("parallel.ranks=4", "parallel.emulate=cluster.txtpb", "train.steps=6", "train.eval_every=0", "train.save_every=0")
        check = self.Check("run", "cluster.txtpb", code=0)
        self.assertIn("the slowest rank, ", check["step_source"])
        with open(self.Path("run", "traffic", "window-0-5.json"), encoding="utf-8") as file:
            times = json.load(file)["ranks"]["step_ns"]
        first = sorted(step["virtual_step_seconds"] for step in self.Steps()[2:])[2]
        self.assertGreater(max(times), 1.001 * times[0])
        self.assertAlmostEqual(check["lines"][0]["measured"] / (first * max(times) / times[0]), 1, delta=1e-9)

    def test_check_does_not_ask_for_bytes_that_no_plan_has(self) -> None:
        recorded = ["parallel.ranks=2", "parallel.emulate=cluster.txtpb", "train.steps=6", "train.eval_every=0", "train.save_every=0",
                    "traffic.record=FULL", "traffic.first_step=4", "traffic.num_steps=1"]
        for settings, why in [(["parallel.shadow_experts=1", "parallel.replace_every=3"], "copies of experts"),
                              (["parallel.replace_every=4"], "experts that moved beside step 4"),
                              (["parallel.replace_every=5"], "experts that moved beside step 4"),
                              (["moe.balance_scope=MICROBATCH"], "shares of experts after each microbatch")]:
            self.Train(*recorded, *settings, "run_dir=more")
            arguments = ["plan", "--check", "more", "--cluster=cluster.txtpb", "--bytes_tolerance=60", "--tolerance=60"]
            check = json.loads(self.Run(*arguments, "--json").stdout)
            lines = {line["name"]: line for line in check["lines"]}
            self.assertEqual(lines["bytes of all ranks"]["allowed"], [-0.6, 0.6])
            self.assertIn(why, check["more_bytes"])
            text = self.Run(*arguments).text
            self.assertIn("Bytes are not equal, since these are planned without: ", text)
            self.assertIn(why, text)
            shutil.rmtree(self.Path("more"))
        self.Train(*recorded, "parallel.replace_every=3")
        self.assertEqual(self.Check("run", "cluster.txtpb", code=0)["more_bytes"], "")

    def test_memory_of_validations_and_checkpoints(self) -> None:
        """Their forward keeps less than a step's and needs other arrays, which are planned also where no step is named for them."""
        for settings in (["train.eval_every=0"], ["train.eval_every=3", "train.save_every=0"], ["train.micro_batch=12"],
                         ["train.eval_every=0", "train.save_every=0", "train.save_minutes=1e-4"]):
            self.Train("parallel.ranks=1", "parallel.emulate=cluster.txtpb", "train.save_every=3", "train.steps=7", "run_dir=one",
                       *settings)
            line = self.Check("one", "cluster.txtpb", code=0)["lines"][-1]
            self.assertEqual(line["name"], "memory with the run's rows")
            self.assertGreaterEqual(line["error"], 0)
            self.assertLess(line["error"], 0.05)
            if "train.eval_every=0" in settings:
                self.assertEqual(line["planned"], line["measured"])  # the loss of a checkpoint is planned
            shutil.rmtree(self.Path("one"))

    def test_shared_cores_are_told(self) -> None:
        allowed = os.sched_getaffinity(0)
        self.addCleanup(os.sched_setaffinity, 0, allowed)
        os.sched_setaffinity(0, {min(allowed)})  # of this process and those that it starts
        told = "2 ranks of a node share 1 core"
        self.Run("calibrate", "small.txtpb", "parallel.ranks=2", "--seconds=2", "--cluster_out=shared.txtpb")
        with open(self.Path("shared.txtpb"), encoding="utf-8") as file:
            text = file.read()
        self.assertIn(f"# Not planned for: {told}", text)
        self.assertIn("cores_per_node: 1\n", text)
        self.assertIn(told, self.Plan("parallel.ranks=2", cluster="shared.txtpb")["not_planned"])
        self.assertIn("rates were measured by 2 ranks", self.Plan("parallel.ranks=1", cluster="shared.txtpb")["not_planned"])
        self.Train("parallel.ranks=2", "train.steps=5", "train.eval_every=0", "train.save_every=0", "traffic.record=FULL",
                   "traffic.first_step=3", "traffic.num_steps=1")
        slow = re.sub(r"giga_per_second: (\S+)", lambda rate: f"giga_per_second: {float(rate[1]) / 100}", text)
        self.Write("slow.txtpb", slow)  # no step is that slow, and none is judged
        for cluster in ("shared.txtpb", "slow.txtpb"):
            text = self.Run("plan", "--check", "run", f"--cluster={cluster}").text
            self.assertIn(f"The step is not judged: {told}", text)
            self.assertIn("Each line is inside what is allowed.", text)
        self.Write("alone.txtpb", re.sub(r"cores_per_node: 1\n|  ranks_at_once: 2\n", "", re.sub(
            r'origin \{[^}]*"cores_per_node"[^}]*\}\n', "", slow)))
        self.assertIn("step", self.Outside(self.Check("run", "alone.txtpb", code=1)))

    def test_experts_with_rows_are_priced(self) -> None:
        """Where each further expert with rows costs time, a plan goes by how many had rows, and calibrate finds what one costs."""
        each_us = 50
        self.Write("each.txtpb", re.sub(r"(EXPERTS_.*)", lambda line: line[1].replace(" }", f" expert_us: {each_us} }}", 2), CLUSTER))
        layout = ["parallel.ranks=2", "run_dir=two"]
        self.Train(*layout, "parallel.emulate=each.txtpb", "train.steps=5", "train.eval_every=0", "train.save_every=0",
                   "traffic.record=FULL", "traffic.first_step=3", "traffic.num_steps=1")
        self.assertTrue(all(0.5 < step["used_experts"] < 1 for step in self.Steps("two")))  # all would be too many
        step = self.Check("two", "each.txtpb", code=0)["lines"][0]
        self.assertLess(abs(step["error"]), 0.05)
        planned = self.Plan(*layout, "traffic.record=FULL", "--counts=two", cluster="each.txtpb")
        self.assertAlmostEqual(planned["step_seconds"] / step["planned"], 1, delta=1e-6)
        self.assertLess(self.Plan(*layout, "--counts=two")["step_seconds"] / step["measured"], 0.8)
        self.Run("calibrate", "small.txtpb", "parallel.ranks=1", "parallel.emulate=each.txtpb", "--cluster_out=found.txtpb")
        with open(self.Path("found.txtpb"), encoding="utf-8") as file:
            found = [float(value) for value in re.findall(r"expert_us: (\S+)", file.read())]
        self.assertEqual(len(found), 6)  # of two sizes
        for value in found:
            self.assertAlmostEqual(value / each_us, 1, delta=0.2)

    def test_saved_plans_are_told_at_the_end(self) -> None:
        layout = ["parallel.ranks=2", "run_dir=new"]
        self.Run("plan", "small.txtpb", "--cluster=cluster.txtpb", *layout, "--save=new", "--trace=line.json", "--html=page.html")
        with open(self.Path("page.html"), encoding="utf-8") as file:
            self.assertIn("Stages over time", file.read())
        with open(self.Path("line.json"), encoding="utf-8") as file:
            names = {event["name"] for event in json.load(file)["traceEvents"]}
        self.assertLessEqual({"attention and router", "experts", "head", "waits"}, names)
        train = ["parallel.emulate=cluster.txtpb", "train.steps=4", "train.eval_every=0"]
        outcome = self.Train(*layout, *train)
        self.assertIn("planned before the run:", outcome.text)
        outcome = self.Train("run_dir=new", "--anew", "parallel.ranks=4", "parallel.stages=2", "train.micro_batch=2", *train)
        for said in ("another layout", "parallel.ranks (plan 2, run 4)", "parallel.stages (plan 1, run 2)",
                     "train.micro_batch (plan 1, run 2)"):
            self.assertIn(said, outcome.text)
        self.assertNotIn("(plan -", outcome.text)
        self.assertNotIn("(plan +", outcome.text)
        self.Write("new/plan.json", "{")
        self.assertIn("new/plan.json: is no plan that can be read", self.Train(*layout, "--anew", *train).text)

    def test_search(self) -> None:
        outcome = self.Run("plan", "small.txtpb", "--cluster=cluster.txtpb", "--search", "--ranks=2,4", "--json", "--top=3", "--html=all.html")
        found = json.loads(outcome.stdout)
        self.assertEqual(found["candidates"], found["feasible"] + sum(found["refused"].values()))
        with open(self.Path("all.html"), encoding="utf-8") as file:
            self.assertEqual(file.read().count('r="5"'), sum(layout["pareto"] for layout in found["layouts"]))
        for i, layout in enumerate(found["layouts"][:3]):  # what is called feasible starts, and takes as long
            run = f"search{i}"
            self.Train(*layout["settings"], f"run_dir={run}", "parallel.emulate=cluster.txtpb", "train.steps=4",
                       "train.eval_every=0")
            measured = self.Steps(run)[-1]["virtual_step_seconds"]
            self.assertAlmostEqual(layout["step_seconds"] / measured, 1, delta=0.2, msg=str(layout))
        text = self.Run("plan", "small.txtpb", "--cluster=cluster.txtpb", "--search", "parallel.ranks=4").text
        self.assertNotIn("No layout", text)
        command = text.split("The fastest:")[1].split()
        self.assertEqual(command[:3], ["unipool", "train", "small.txtpb"])
        self.Run("info", *command[2:])
        # Numbers of ranks that there is no room for are left out, and no layout at all is exit code 1.
        self.Write("few.txtpb", CLUSTER.replace("ranks_per_node: 2", "ranks_per_node: 2 nodes: 2"))
        search = ["plan", "small.txtpb", "--cluster=few.txtpb", "--search"]
        text = self.Run(*search, "--ranks=2,4,6").text
        self.assertIn("left out: 6 ranks: few.txtpb has room for 4", text)
        self.assertIn("The fastest:", text)
        self.assertEqual(len(json.loads(self.Run(*search, "--ranks=4,6", "--json").stdout)["left_out"]), 1)
        self.Refused(*search, "--ranks=6", says="room for 4 ranks, and the layout has 6")
        self.Refused(*search, "--ranks=4", "--max_memory=1e-6", code=1, says="that validate need too much memory")
        outcome = self.Refused(*search, "--ranks=4", "train.global_batch=3", "parallel.stages=1", "parallel.pool_replicas=1", "--json",
                               code=1, says="No layout validates and fits; most often (")
        self.assertIn("because of train.global_batch: ", json.loads(outcome.stdout)["no_layout"])

    def test_places_of_experts_by_counts(self) -> None:
        """What a run has counted prices places and shadows, and a run that goes on takes the number that pays."""
        layout = ["parallel.ranks=4", "run_dir=counted"]
        auto = [*layout, "parallel.shadow_experts=auto", "parallel.emulate=cluster.txtpb"]
        self.assertIn("has counted no rows yet", self.Run("info", "small.txtpb", *auto).text)
        self.Train(*layout, "train.steps=12", "train.eval_every=0", "parallel.placement=CONTIGUOUS")
        plan = self.Plan(*layout, "--counts=counted")
        names = [step["name"] for step in plan["placement"]]
        self.assertEqual(names[:2], ["consecutive blocks of experts", "placed by these rows"])
        self.assertGreaterEqual(plan["placement"][0]["imbalance"], plan["placement"][1]["imbalance"])
        text = self.Run("plan", "small.txtpb", "--cluster=cluster.txtpb", *layout, "--counts=counted").text
        self.assertIn("Places of experts, by these rows", text)
        chosen = [step["shadows"] for step in plan["placement"] if step["auto"]]
        self.assertEqual(len(chosen), 1)
        self.assertIn(f"{chosen[0]} a rank, by the rows that", self.Run("info", "small.txtpb", *auto).text)
        self.Train(*auto, "train.steps=14", "train.eval_every=0")

    def test_bad_input(self) -> None:
        plan = ["plan", "small.txtpb", "--cluster=cluster.txtpb"]
        for arguments, says in [
                (["plan", "small.txtpb"], "--cluster: is missing"),
                ([*plan, "--imbalance=some"], "must be level, early or late"),
                ([*plan, "--counts=nowhere"], "--counts=nowhere: is no folder"),
                ([*plan, "--search", "--ranks=4,x"], "'x' is no number of ranks"),
                ([*plan, "--ranks=4"], "--ranks: is for --search"),
                ([*plan, "--max_memory=1"], "--max_memory: is for --search"),
                ([*plan, "--top=3"], "--top: is for --search"),
                ([*plan, "--search", "--trace=x.json"], "--trace: is for the plan of one layout"),
                ([*plan, "--search", "--save=x"], "--save: is for the plan of one layout"),
                ([*plan, "--check", "--html=x.html"], "--html: is for a plan alone"),
                ([*plan, "--check", "--trace=x.json"], "--trace: is for a plan alone"),
                ([*plan, "--check", "--save=x"], "--save: is for a plan alone"),
                ([*plan, "--tolerance=5"], "--tolerance: is for --check"),
                ([*plan, "--bytes_tolerance=5"], "--bytes_tolerance: is for --check"),
                ([*plan, "--search", "--memory_tolerance=5"], "--memory_tolerance: is for --check"),
                ([*plan, "--search", "--imbalance=late"], "leave --counts and --imbalance out"),
                ([*plan, "--check"], "needs the folder of a run"),
                ([*plan, "--top=0"], "must be at least 1"),
                ([*plan, "parallel.stages=2"], "parallel.stages"),
                (["plan", "small.txtpb", "--cluster=nowhere.txtpb"], "nowhere.txtpb")]:
            self.Refused(*arguments, says=says)
        self.Write("few.txtpb", CLUSTER.replace("ranks_per_node: 2", "ranks_per_node: 2 nodes: 2"))
        self.Refused("plan", "small.txtpb", "--cluster=few.txtpb", "parallel.ranks=6", says="room for 4 ranks, and the layout has 6")
        self.Write("zero.txtpb", CLUSTER.replace("gigabytes_per_second: 0.1", "gigabytes_per_second: 0"))
        self.Refused("plan", "small.txtpb", "--cluster=zero.txtpb", "parallel.ranks=4", says="inter_node.gigabytes_per_second: is 0")
        self.Write("typo.txtpb", CLUSTER + "adaptors_per_node: 1")
        self.Refused("plan", "small.txtpb", "--cluster=typo.txtpb", says="adapters_per_node")
        self.Train("parallel.ranks=2", "train.steps=2", "train.save_every=0", "train.eval_every=0", "traffic.record=FULL",
                   "traffic.first_step=0", "traffic.num_steps=1")
        self.Refused(*plan, "--counts=run", "parallel.ranks=2", "model.layers=4", says="model.layers: the run had 3")
        self.Refused(*plan, "--counts=run", "parallel.ranks=4", says="ranks: the run had 2")
        # Two sequences twice as long are as many microbatches of a rank, with other rows.
        for settings, tokens in [(["train.micro_batch=2", "train.global_batch=24"], 32), (["model.seq_length=8"], 8)]:
            self.Refused(*plan, "--counts=run", "parallel.ranks=2", *settings,
                         says="--counts=run: tokens of a microbatch (train.micro_batch times model.seq_length): "
                              f"the run had 16, and the settings have {tokens}")
        # Errors of a run that is checked call it by its name.
        with open(self.Path("run", "traffic", "manifest.json"), encoding="utf-8") as file:
            text = re.sub(r'("tokens_per_microbatch": *)16', r"\g<1>8", file.read())
        self.Write("run/traffic/manifest.json", text)
        outcome = self.Refused("plan", "--check", "run", "--cluster=cluster.txtpb", says="run: tokens of a microbatch")
        self.assertNotIn("--counts", outcome.text)

    def test_thousands_of_ranks(self) -> None:
        """16 times the width and batch of a model of the size 830M, on 4,096 described GPUs: seconds, not minutes."""
        clusters = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../configs")
        settings = ["device=CUDA", "moe.width=65536", "train.global_batch=8192", "train.micro_batch=1", "parallel.ranks=4096",
                    "parallel.pool_replicas=32", "parallel.stages=4"]
        outcome = self.Run("plan", f"{clusters}/unipool_830m.txtpb", f"--cluster={clusters}/clusters/h100_nodes.txtpb",
                           *settings, "--json")
        plan = json.loads(outcome.stdout)
        self.assertLess(outcome.seconds, 20)  # 2 on an idle machine
        self.assertEqual(plan["ranks"], 4096)
        self.assertAlmostEqual(plan["share_of_ideal"], 0.854, delta=0.005)  # as configs/clusters/CHECKS.md says
        self.assertFalse(plan["calibrated"])


if __name__ == "__main__":
    run_harness.Main(__doc__)
