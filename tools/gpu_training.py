#!/usr/bin/env python3
"""Proves and measures training on this machine's GPU with the program `unipool` as people use it, and writes its part of
gpu-check's report. Each check has its own limit and outcome; none stops the others. Needs Python's own library alone, and
PyTorch in that Python (or in UNIPOOL_TORCH_PYTHON) for the comparison with it.

Usage: gpu_training.py --program UNIPOOL --configs DIR --text FILE --report FILE [--flag VALUE ...]
  --torch FILE         torch_unipool.py                    --mpirun FILE       default: mpirun of the PATH
  --timeline FILE      libunipool_timeline.so              --trace FILE        where the time line's trace goes
  --checks NAME,...    of: fp32 bf16 checkpoints ranks nccl memory torch_same bench timeline (all)
  --limit SECONDS      of each check (300)                 --bench-limit SECONDS   of the step benchmark (900)
  --steps N            of the comparisons (200)            --bench-steps N         of the benchmark (12, 4 of them warm-up)
  --demo "A=B ..."     more settings of configs/demo.txtpb --bench "A=B ..."       and of the benchmark's model
Exit status: 0 all passed, 1 something failed.
"""
import array
import glob
import json
import math
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from gpu_timeline import Broken, Timeline  # noqa: E402
from training_checks import (CompareLosses, DensePeak, Failed, FlopsPerToken, MemoryDeviation, ReadSteps,  # noqa: E402
                             Table, TokensPerSecond)
from training_runs import GpuMemory, NotFinished, NotRun, Runs  # noqa: E402

FP32_BOUND, BF16_BOUND = 1e-4, 2e-2
SHARE_AIM, RATIO_AIM = 0.45, 1.2
WARMUP = 4
TIMELINE_STEPS, TIMELINE_BATCH, TIMELINE_GAP_US = 6, 64, 20.0  # four microbatches of 16, so that both lanes work
FLAGS = {"program": None, "configs": None, "text": None, "report": None, "torch": "", "mpirun": shutil.which("mpirun") or "",
         "timeline": "", "trace": "", "checks": "fp32,bf16,checkpoints,ranks,nccl,memory,torch_same,bench,timeline",
         "limit": "300", "bench-limit": "900", "steps": "200", "bench-steps": "12", "demo": "", "bench": ""}
GPU = ["device=CUDA"]
GPU_FP32 = GPU + ["train.precision=FP32"]
GPU_BF16 = GPU + ["train.precision=BF16"]


def Bytes(count):
    if count is None:
        return "not known"
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


class Training:
    def __init__(self, flags):
        self.flags, self.steps = flags, int(flags["steps"])
        self.runs = Runs(flags["program"], flags["mpirun"])
        self.demo = [os.path.join(flags["configs"], "demo.txtpb"), f"data.train={flags['text']}", "train.eval_every=0",
                     "parallel.ranks=1", *flags["demo"].split()]
        self.bench_settings = [os.path.join(flags["configs"], "unipool_182m.txtpb"), *GPU_BF16, "train.micro_batch=16",
                      "train.eval_every=0", "train.save_every=0", "parallel.ranks=1"]
        self.timeline_settings = [*self.bench_settings, f"train.global_batch={TIMELINE_BATCH}", *flags["bench"].split()]
        self.bench_settings += flags["bench"].split()

    def Train(self, name, *settings, mpi=0):
        return self.runs.Train(name, *self.demo, *settings, mpi=mpi)

    def Long(self, name, *settings):
        """A run of all steps that leaves a checkpoint in the middle."""
        return self.Train(name, f"train.steps={self.steps}", f"train.save_every={self.steps // 2}",
                          "train.keep_checkpoints=0", *settings)

    def Short(self, name, *settings, mpi=0):
        return self.Train(name, f"train.steps={self.short_steps}", "train.save_every=0", *settings, mpi=mpi)

    @property
    def short_steps(self):
        return max(4, self.steps // 4)

    def Cpu(self):
        return self.Long("cpu", "device=CPU")

    def Gpu(self):
        return self.Long("gpu-fp32", *GPU_FP32)

    # Checks: each returns (passed, text) -----------------------------------------------------------------------------

    def Compared(self, rows):
        """Of rows (what, reference, run, steps, bound)."""
        results = [(what, CompareLosses(reference, run, steps, bound), bound) for what, reference, run, steps, bound in rows]
        table = [[what, "passed" if result.passed else "FAILED", result, f"{bound:.0e}"] for what, result, bound in results]
        return all(result.passed for _, result, _ in results), Table(["losses", "outcome", "difference", "bound"], table)

    def All(self):
        return range(1, self.steps + 1)

    def fp32(self):
        cpu, gpu = self.Cpu(), self.Gpu()
        passed, text = self.Compared([("GPU against CPU, fp32", cpu, gpu, self.All(), FP32_BOUND)])
        if all(cpu[step]["loss"] == gpu[step]["loss"] for step in self.All()):
            return False, text + "\n\nEvery loss is the CPU's bit for bit: nothing was computed elsewhere."
        return passed, text

    def bf16(self):
        run = self.Long("gpu-bf16", *GPU_BF16)
        return self.Compared([("GPU in bf16 against CPU in fp32", self.Cpu(), run, self.All(), BF16_BOUND)])

    def Continued(self, name, origin, *settings):
        """The second half of a run on another device than the first: from a copy of its checkpoint in the middle."""
        step = self.steps // 2
        source = self.runs.Path(origin, "checkpoints", f"step-{step}")
        target = self.runs.Path(name, "checkpoints", f"step-{step}")
        if not os.path.isdir(source):
            raise Failed(f"{origin} left no checkpoint of step {step}")
        shutil.copytree(source, target)
        run = self.Train(name, f"train.steps={self.steps}", "train.save_every=0", *settings)
        if min(run) != step + 1:
            raise Failed(f"{name} began at step {min(run)}, not after the checkpoint of step {step}")
        return run

    def checkpoints(self):
        cpu, gpu = self.Cpu(), self.Gpu()
        rest = range(self.steps // 2 + 1, self.steps + 1)
        return self.Compared([
            ("saved on the CPU, continued on the GPU; against the CPU alone", cpu,
             self.Continued("cpu-then-gpu", "cpu", *GPU_FP32), rest, FP32_BOUND),
            ("saved on the GPU, continued on the CPU; against the GPU alone", gpu,
             self.Continued("gpu-then-cpu", "gpu-fp32", "device=CPU"), rest, FP32_BOUND)])

    def OneRank(self):
        return self.Short("one-rank", *GPU_FP32)

    def ranks(self):
        one, steps = self.OneRank(), range(1, self.short_steps + 1)
        layouts = {"2 ranks": ["parallel.ranks=2"], "4 ranks": ["parallel.ranks=4"],
                   "2 stages": ["parallel.ranks=2", "parallel.stages=2"]}
        rows, problems, failed = [], [], False
        for layout, settings in layouts.items():
            for transport in ("THREADS", "MPI"):
                if transport == "MPI" and not self.flags["mpirun"]:
                    continue
                what = f"{layout} on one GPU, {transport}, against one rank"
                mpi = int(settings[0].partition("=")[2]) if transport == "MPI" else 0
                try:
                    run = self.Short(f"{layout}-{transport}".replace(" ", "-"), *GPU_FP32, *settings,
                                     f"parallel.transport={transport}", mpi=mpi)
                    rows.append((what, one, run, steps, FP32_BOUND))
                except Failed as problem:
                    failed = True
                    problems.append(f"{what}: FAILED, {problem}")
        try:
            run = self.Short("2-ranks-bf16", *GPU_BF16, "parallel.ranks=2", "parallel.transport=THREADS")
            rows.append(("2 ranks on one GPU, THREADS, bf16, against one rank in fp32", one, run, steps, BF16_BOUND))
        except Failed as problem:
            failed = True
            problems.append(f"2 ranks in bf16: FAILED, {problem}")
        passed, text = self.Compared(rows)
        if not self.flags["mpirun"]:
            problems.append("Under mpirun: not run, it is not here.")
        return passed and not failed, "\n\n".join([text, *problems])

    def nccl(self):
        run = self.Short("nccl", *GPU_FP32, "parallel.transport=NCCL")
        return self.Compared([("NCCL at one rank against one rank", self.OneRank(), run, range(1, self.short_steps + 1),
                               FP32_BOUND)])

    def Info(self, *settings):
        return json.loads(self.runs.Run([self.runs.program, "info", *settings, "--json"], "info"))

    def Fields(self, settings, *names):
        """Integers of the configuration as it is resolved."""
        config = self.runs.Run([self.runs.program, "info", *settings, "--print_config"], "config")
        return [int(re.search(rf"^  {name}: (\d+)", config, re.MULTILINE)[1]) for name in names]

    @staticmethod
    def RandomText(path, tokens):
        """Random bytes: every sample is another one, routing is real."""
        text = random.Random(1).randbytes(tokens + 1)
        with open(path, "wb") as file:
            file.write(text)
        return text

    def memory(self):
        rows, passed = [], True
        for name, settings in (("demo, fp32", GPU_FP32), ("demo, bf16", GPU_BF16)):
            predicted = self.Info(*self.demo, *settings)["ranks"][0]["memory_bytes"]["total"]
            with GpuMemory() as device:
                run = self.Short(f"memory of {name}", *settings)
            measured = run[max(run)]["peak_memory_bytes"]
            deviation, within = MemoryDeviation(measured, predicted)
            passed = passed and within
            rows.append([name, Bytes(measured), Bytes(predicted), f"{100 * deviation:+.1f} %",
                         "passed" if within else "FAILED", Bytes(device.bytes)])
        return passed, Table(["run", "peak", "info's prediction", "deviation", "within 10 %", "device, driver included"], rows)

    def NeedTorch(self):
        """The command that runs torch_unipool.py. Raises NotRun."""
        python = os.environ.get("UNIPOOL_TORCH_PYTHON", sys.executable)
        if not os.path.isfile(self.flags["torch"]):
            raise NotRun("torch_unipool.py is not here")
        if subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode != 0:
            raise NotRun(f"{python} has no PyTorch; UNIPOOL_TORCH_PYTHON names one that has")
        return [python, self.flags["torch"]]

    def TorchJson(self, name, *arguments):
        return json.loads(self.runs.Run([*self.NeedTorch(), *arguments], name).strip().splitlines()[-1])

    def torch_same(self):
        """PyTorch's program is the same model on this device too: from our weights, on the same samples."""
        self.NeedTorch()
        settings = ["data.order=SEQUENTIAL", "data.split=1,0,0", "moe.router_constant=2.8", "train.save_every=0"]
        self.Train("torch-first", *settings, "device=CPU", "train.steps=1")
        first = self.runs.Path("torch-first", "checkpoints", "step-1")
        steps = self.short_steps
        ours = self.Train("torch-ours", *settings, "device=CPU", f"train.init_from={first}", f"train.steps={steps}")
        length, batch = self.Fields([*self.demo, *settings], "seq_length", "global_batch")
        with open(self.flags["text"], "rb") as file:
            text = file.read()
        samples, count = array.array("i"), (len(text) - 1) // length
        for sample in range(steps * batch):
            begin = sample % count * length
            samples.extend(text[begin:begin + length + 1])
        path = self.runs.Path("samples")
        with open(path, "wb") as file:
            samples.tofile(file)
        rows = []
        for precision, bound in (("FP32", FP32_BOUND), ("BF16", BF16_BOUND)):
            result = self.TorchJson(f"torch-{precision}", *self.demo, *settings, f"train.steps={steps}", "--samples", path,
                                    "--init", first, "--steps", str(steps), "--precision", precision)
            theirs = {step + 1: {"loss": loss} for step, loss in enumerate(result["losses"])}
            rows.append((f"PyTorch {precision} on {result['device']} against ours on the CPU", ours, theirs,
                         range(1, steps + 1), bound))
        return self.Compared(rows)

    def BenchOurs(self, name, samples, steps):
        run_dir = self.runs.Path(name)
        with GpuMemory(seconds_between=2) as device:
            self.runs.Run([self.runs.program, "train", *self.bench_settings, f"data.train={samples}", "data.split=1,0,0",
                      f"run_dir={run_dir}", f"train.steps={steps}"], name)
        metrics = ReadSteps(os.path.join(run_dir, "metrics.jsonl"))
        shutil.rmtree(run_dir)  # gigabytes of checkpoint
        return TokensPerSecond(metrics, WARMUP), metrics[max(metrics)]["peak_memory_bytes"], device.bytes

    def BenchTorch(self, name, arguments, samples, steps):
        with GpuMemory(seconds_between=2) as device:
            result = self.TorchJson(name, *self.bench_settings, *arguments, "--samples", samples, "--steps", str(steps),
                                    "--warmup", str(WARMUP))
        if not all(map(math.isfinite, result["losses"] + result["grad_norms"])):
            raise Failed(f"{name}: losses {result['losses']}, gradient norms {result['grad_norms']}: not all are numbers")
        return result["tokens_per_second"], result["max_memory_allocated"], device.bytes, result

    def bench(self):
        steps = int(self.flags["bench-steps"])
        layers, hidden, length, batch = self.Fields(self.bench_settings, "layers", "hidden", "seq_length", "global_batch")
        info = self.Info(*self.bench_settings)
        flops, predicted = FlopsPerToken(info, layers, hidden, length), info["ranks"][0]["memory_bytes"]["total"]
        data, samples = self.runs.Path("bench.txt"), self.runs.Path("bench.samples")
        text = self.RandomText(data, steps * batch * length)
        tokens = array.array("i")
        for sample in range(steps * batch):
            tokens.extend(text[sample * length:sample * length + length + 1])
        with open(samples, "wb") as file:
            tokens.tofile(file)
        kinds = {"unipool": None,
                 "PyTorch, weight gradients together": ["--weight_grads", "TOGETHER"],
                 "PyTorch, as autograd does": ["--weight_grads", "PER_LAYER", "--compile", "MODEL"]}
        measured, notes, passed = {kind: [] for kind in kinds}, [], True
        try:
            self.NeedTorch()
        except NotRun as why:
            notes.append(f"PyTorch: not run, {why}.")
            kinds = {"unipool": None}
        for turn in range(2):
            for kind in kinds if turn == 0 else reversed(list(kinds)):
                name = f"bench-{kind.replace(' ', '-').replace(',', '')}-{turn}"
                try:
                    result = (self.BenchOurs(name, data, steps) if kind == "unipool" else
                              self.BenchTorch(name, kinds[kind], samples, steps))
                    measured[kind].append(result)
                    if kind != "unipool" and turn == 0:
                        kept = {key: result[3][key] for key in ("torch", "compile", "grouped", "attention", "notes")}
                        notes.append(f"{kind}: {json.dumps(kept)}, max_memory_reserved "
                                     f"{Bytes(result[3]['max_memory_reserved'])}")
                except Failed as problem:
                    passed = passed and kind != "unipool"
                    notes.append(f"{kind}: {problem}")
                except NotFinished as problem:
                    passed = passed and bool(measured["unipool"])
                    notes.append(f"{kind}: not finished in the limit ({problem})")
        if measured["unipool"]:
            passed = passed and MemoryDeviation(measured["unipool"][0][1], predicted)[1]
        return passed, self.BenchText(measured, flops, predicted, notes)

    def timeline(self):
        """What the GPU did in the steps after the first two, and where it had nothing to do."""
        library = os.path.abspath(self.flags["timeline"])
        if not os.path.isfile(library):
            raise NotRun("libunipool_timeline.so is not here: the toolkit that this was built with had no CUPTI headers")
        length, batch = self.Fields(self.timeline_settings, "seq_length", "global_batch")
        data, run_dir = self.runs.Path("timeline.txt"), self.runs.Path("timeline")
        self.RandomText(data, TIMELINE_STEPS * batch * length)
        self.runs.Run([self.runs.program, "train", *self.timeline_settings, f"data.train={data}", "data.split=1,0,0",
                       f"run_dir={run_dir}", f"train.steps={TIMELINE_STEPS}"], "timeline", CUDA_INJECTION64_PATH=library,
                      NVTX_INJECTION64_PATH=library, UNIPOOL_TIMELINE=self.runs.Path("record.%p"))
        metrics = ReadSteps(os.path.join(run_dir, "metrics.jsonl"))
        shutil.rmtree(run_dir)
        records = glob.glob(self.runs.Path("record.*"))
        if not records:
            raise NotRun(self.runs.Said("timeline", "unipool timeline: ") or "the program left no record and did not say why")
        try:
            timeline = Timeline(max(records, key=os.path.getsize), TIMELINE_GAP_US, skip=2)
        except Broken as problem:
            raise Failed(str(problem)) from problem
        if self.flags["trace"]:
            timeline.WriteTrace(self.flags["trace"])
        return True, (f"{TokensPerSecond(metrics, 2):.0f} tokens/s with the recorder at work, which costs some. Settings: "
                      f"{' '.join(self.timeline_settings[1:])}.\n\n{timeline.Text()}")

    def BenchText(self, measured, flops, predicted, notes):
        device = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True,
                                check=False).stdout.strip() if shutil.which("nvidia-smi") else ""
        peak, rows, rates = DensePeak(device), [], {}
        for kind, results in measured.items():
            if not results:
                continue
            rate = rates[kind] = statistics.median(result[0] for result in results)
            share = f"{100 * flops * rate / 1e12 / peak:.1f} %" if peak else "peak not known"
            rows.append([kind, f"{rate:.0f}", f"{flops * rate / 1e12:.1f}", share, Bytes(results[0][1]),
                         Bytes(results[0][2]), ", ".join(f"{result[0]:.0f}" for result in results)])
        text = [f"{flops / 1e9:.4f} GFLOP of model arithmetic a token: 6 for each weight of a matrix that a token meets (no "
                "embedding), and 6 L s D for attention, causal. Tokens/s: median of the steps after "
                f"{WARMUP}; peak {peak or '?'} TFLOP/s dense bf16. Settings: {' '.join(self.bench_settings[1:])}.",
                Table(["", "tokens/s", "TFLOP/s", "share of peak", "peak memory", "device, driver included", "each run"], rows)]
        if "unipool" in rates:
            ours = measured["unipool"][0]
            deviation, within = MemoryDeviation(ours[1], predicted)
            text.append(f"Memory: {Bytes(ours[1])}, info predicts {Bytes(predicted)} ({100 * deviation:+.1f} %; within 10 %: "
                        f"{'passed' if within else 'FAILED'}).")
            if peak:
                share = flops * rates["unipool"] / 1e12 / peak
                text.append(f"Aim {100 * SHARE_AIM:.0f} % of peak: {'reached' if share >= SHARE_AIM else 'MISSED'}.")
            if len(rates) > 1:
                ratio = rates["unipool"] / max(rate for kind, rate in rates.items() if kind != "unipool")
                text.append(f"Against the faster PyTorch: {ratio:.2f} times its tokens/s; aim {RATIO_AIM}: "
                            f"{'reached' if ratio >= RATIO_AIM else 'MISSED'}.")
        return "\n\n".join(text + notes)


def main():
    flags, arguments = dict(FLAGS), sys.argv[1:]
    while arguments:
        name = arguments.pop(0).removeprefix("--")
        if name not in flags or not arguments:
            sys.exit(f"{__doc__}\ngpu_training.py: what is \"{name}\"?")
        flags[name] = arguments.pop(0)
    if None in flags.values():
        sys.exit(__doc__)
    checks = [name for name in flags["checks"].split(",") if name]
    unknown = [name for name in checks if name not in FLAGS["checks"].split(",")]
    if unknown:
        sys.exit(f"gpu_training.py: there is no check {unknown[0]}; there are {FLAGS['checks']}")
    flags["text"] = os.path.abspath(flags["text"])
    training, failed = Training(flags), []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("gpu_training.py: ended from outside"))
    try:
        for name in checks:
            limit = float(flags["bench-limit" if name == "bench" else "limit"])
            training.runs.Limit(limit)
            print(f"gpu-check: training: {name}", flush=True)
            try:
                passed, text = getattr(training, name)()
                outcome = "passed" if passed else "FAILED"
            except Failed as problem:
                outcome, text = "FAILED", str(problem)
            except NotFinished as problem:
                outcome, text = f"FAILED, not finished in {limit:g} s", f"{problem}."
            except NotRun as why:
                outcome, text = "not run", f"{why}."
            except Exception as error:  # pylint: disable=broad-except  one check's mistake is not the others'
                outcome, text = "FAILED", f"{type(error).__name__}: {error}"
            if outcome.startswith("FAILED"):
                failed.append(name)
            with open(flags["report"], "a", encoding="utf-8") as report:
                report.write(f"### {name}: {outcome}\n\n{text}\n\n")
    finally:
        training.runs.Close()
    print(f"gpu-check: training: {'FAILED: ' + ', '.join(failed) if failed else 'passed'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
