#!/usr/bin/env python3
"""Time lines of a GPU: what tools/gpu/gpu_timeline.py tells from made-up records whose gaps and causes are known, and whether the
library that records (tools/gpu/timeline_injection.cc) writes what CUPTI and NVTX gave it, or says why not and lets the
program go on.

Usage: gpu_timeline_test.py SOURCE_DIR [LIBRARY FAKE_CUPTI HOST]    (without them: made-up records alone)
"""
import gzip
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import unittest
from typing import Any

COMPUTE, WIRE = 13, 14


def Symbol(unit: str, name: str) -> tuple[str, str]:
    """Of a kernel in kernels/UNIT_cuda.cu, as nvcc names it."""
    file = f"{unit}_cuda_cu"
    space = f"_GLOBAL__N__0123abcd_{len(file)}_{file}_89ef0123"
    return f"_ZN7unipool4cuda{len(space)}{space}{len(name)}{name}Ev", f"unipool::cuda::(anonymous namespace)::{name}()"


class Made:
    """A record with times in us. Work of the compute stream follows what was before, `after` us later."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[str, int] = {}
        self.now = 0.0

    def Name(self, symbol: str, text: str | None = None) -> int:
        if symbol not in self.names:
            self.names[symbol] = len(self.names)
            self.lines.append(f"N\t{self.names[symbol]}\t{symbol}\t{text or symbol}")
        return self.names[symbol]

    def Work(self, kind: str, start: float, end: float, stream: int, *fields: int) -> None:
        self.lines.append("\t".join(map(str, (kind, 0, 1, stream, round(start * 1000), round(end * 1000), *fields))))

    def Kernel(self, name: str, length: float = 50.0, after: float = 2.0, unit: str | None = None) -> float:
        number = self.Name(*Symbol(unit, name)) if unit else self.Name(name)
        begin = self.now + after
        self.now = begin + length
        self.Work("K", begin, self.now, COMPUTE, number)
        return begin

    def ToHost(self, size: int, after: float = 2.0) -> None:
        self.Work("C", self.now + after, self.now + after + 2, COMPUTE, 2, size)
        self.now += after + 2

    def Range(self, start: float, end: float, name: str, thread: int = 77) -> None:
        number = self.Name(name)
        self.lines.append(f"R\t{thread}\t{round(start * 1000)}\t{round(end * 1000)}\t{number}")

    def Step(self, number: int, *, counts: float = 30.0, head: float = 2.0, weights: bool = True, ends: float = 60.0,
             ranges: bool = True) -> float:
        """One layer forward, a head, the optimizer: the gap at the row counts, in the head and before the step are given."""
        begun = self.now
        begin = self.Kernel("ForwardKernel", unit="rms_norm", after=ends)
        self.Kernel("PlaceKernel", unit="row_order")
        self.ToHost(2048)
        if weights:
            self.Kernel("WeightKernel", unit="grouped_weight_grad")
        waits = self.now
        dispatch = self.Kernel("MoveKernel", unit="permute", after=counts)
        self.Kernel("nvjet_product")
        before_head = self.now
        self.Kernel("HeadKernel", unit="cross_entropy", after=head)
        self.ToHost(8)
        self.Kernel("WriteKernel", unit="host_values", after=25.0)
        self.Kernel("GroupKernel", unit="adamw")
        if ranges:
            self.Range(begin - 20, self.now - 60, f"step {number}")
            self.Range(waits - 40, dispatch - 4, "forward lane, microbatch 3, stage 0, layer 1: row counts and dispatch")
            self.Range(before_head - 3, before_head + head, "forward lane, microbatch 3, stage 0, layer -1: head")
        return begun

    def Write(self, path: str, last: str = "E\t0\n") -> str:
        with open(path, "w", encoding="utf-8") as file:
            file.write("unipool-timeline\t1\t4711\n" + "\n".join(self.lines) + "\n" + last)
        return path


class InFolder(unittest.TestCase):
    root = "."
    programs: list[str] = []

    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="unipool-timeline-")
        self.addCleanup(shutil.rmtree, self.folder)

    def Path(self, name: str = "record") -> str:
        return os.path.join(self.folder, name)


class TimelineTest(InFolder):
    def Timeline(self, made: Made, **options: Any) -> Any:
        from gpu_timeline import Timeline
        return Timeline(made.Write(self.Path()), **options)

    def Told(self, timeline: Any) -> list[tuple[float, str, str, str]]:
        """[(length in us, before, after, cause)]"""
        return [((gap.end - gap.start) / 1000, gap.before.name, gap.after.name, gap.cause) for gap in timeline.gaps]

    def test_a_planted_gap_is_named_and_a_shorter_one_is_not(self) -> None:
        for planted, found in ((25.0, True), (20.5, True), (19.0, False)):
            made = Made()
            for step in range(1, 4):
                made.Step(step, head=planted if step == 2 else 2.0, ends=0.0 if step == 1 else 5.0)
            timeline = self.Timeline(made)
            gaps = [told for told in self.Told(timeline) if told[3] == "other"]
            self.assertEqual([(planted, "nvjet_product", "cross_entropy HeadKernel", "other")] if found else [], gaps)
            if found:
                gap, = (gap for gap in timeline.gaps if gap.cause == "other")
                self.assertEqual(("2", "forward: head"), (gap.step.name, gap.host))
                self.assertRegex(timeline.Text(), r"\| `nvjet_product` \| `cross_entropy HeadKernel` \| other \| forward: head \| 1 \|")
            self.assertEqual(found, bool([gap for gap in timeline.unexplained if gap.after.name == "cross_entropy HeadKernel"]))

    def test_causes(self) -> None:
        for ranges in (True, False):
            for weights in (True, False):
                made = Made()
                for step in range(5, 8):
                    made.Step(step, weights=weights, ranges=ranges)
                timeline = self.Timeline(made, skip=1)
                before = "grouped_weight_grad WeightKernel" if weights else "copy device to host"
                self.assertEqual([(60.0, "adamw GroupKernel", "rms_norm ForwardKernel", "end of step"),
                                  (30.0, before, "permute MoveKernel", "row counts"),
                                  (25.0, "copy device to host", "host_values WriteKernel", "end of step")] * 2, self.Told(timeline))
                self.assertEqual(["6", "7"] if ranges else ["2", "3"], [step.name for step in timeline.steps])
                self.assertEqual(4, len(timeline.unexplained))
                self.assertEqual(not ranges, "counted from 1" in timeline.Text())
                self.assertIn("MISSED, 4 in 2 steps, 0.170 ms,", timeline.Text())

    def test_only_the_wait_for_counts_is_explained_by_them(self) -> None:
        # A gap behind the dispatch, one before the weight gradients, and one where the host was elsewhere.
        made = Made()
        made.Step(1)
        begin = made.now
        made.Kernel("PlaceKernel", unit="row_order")
        made.ToHost(2048)
        made.Kernel("WeightKernel", unit="grouped_weight_grad", after=31.0)
        made.Kernel("MoveKernel", unit="permute", after=32.0)
        made.Kernel("CopyKernel", unit="copy_segments", after=33.0)
        made.Range(begin, made.now, "step 2")
        made.Range(begin + 1, made.now - 1, "forward lane, microbatch 0, stage 0, layer 0: row counts and dispatch")
        elsewhere = made.now
        made.Kernel("PlaceKernel", unit="row_order")
        made.ToHost(2048)
        made.Kernel("MoveKernel", unit="permute", after=34.0)
        made.Kernel("GroupKernel", unit="adamw")
        made.Range(elsewhere, made.now, "step 3")
        made.Range(elsewhere + 1, made.now - 1, "forward lane, microbatch 0, stage 0, layer 0: experts")
        told = self.Told(self.Timeline(made, skip=1))
        self.assertEqual([(31.0, "other"), (32.0, "row counts"), (33.0, "other"), (34.0, "other")],
                         [(length, cause) for length, _, _, cause in told])

    def test_other_streams_and_the_recorder(self) -> None:
        made = Made()
        made.Kernel("a", length=100, after=0)
        made.Work("K", 50, 150, WIRE, made.Name("exchange"))  # half of it beside "a"
        made.Kernel("b", after=55)   # at 155, behind the exchange
        made.Work("C", 160, 215, WIRE, 8, 4096)
        made.Kernel("c", after=40)   # at 245, 30 behind the copy
        made.lines.append(f"V\t{1 << 16}\t{200_000}\t{215_000}")
        made.Kernel("d", after=50)
        made.lines.append(f"V\t{1 << 16}\t{295_000 + 10_000}\t{295_000 + 40_000}")
        timeline = self.Timeline(made)
        self.assertEqual([(55.0, "another stream"), (40.0, "other"), (50.0, "the recorder")],
                         [(length, cause) for length, _, _, cause in self.Told(timeline)])
        self.assertIn("| all | 0.395 ms | 63.3 % | 39.2 %, 61.3 % | 3: 0.145 ms | 0.000 ms |", timeline.Text())
        self.assertIn("| `exchange` | stream 14 | 1 | 0.100 ms | 40.0 % | 100.0 us |", timeline.Text())

    def test_where_the_host_spent_its_time(self) -> None:
        # Of step 2 and step 3: 200 us each, in which three ranges lie; one has another one within it.
        made = Made()
        for step in (1, 2, 3):
            begin = made.now
            made.Kernel("PlaceKernel", unit="row_order", after=5.0)
            made.Kernel("GroupKernel", unit="adamw", after=5.0, length=300.0)
            made.Range(begin, begin + 200, f"step {step}")
            made.Range(begin + 10, begin + 40, "forward lane, microbatch 3, stage 0, layer 1: experts")
            made.Range(begin + 50, begin + 100, f"forward lane, microbatch {step}, stage 0, layer 2: experts")
            made.Range(begin + 60, begin + 70, "time 3, slot 4")
            made.now = begin + 400
        text = self.Timeline(made, skip=1).Text()
        self.assertIn("| host was in | a step | host's time a step | of its steps | mean | longest |", text)
        self.assertIn("| forward: experts | 2 | 0.070 ms | 35.0 % | 35.0 us | 40.0 us |", text)
        self.assertIn("| time N, slot N | 1 | 0.010 ms | 5.0 % | 10.0 us | 10.0 us |", text)
        self.assertIn("| step N | 1 | 0.120 ms | 60.0 % | 120.0 us | 120.0 us |", text)
        made = Made()
        made.Step(1, ranges=False)
        self.assertNotIn("host was in | a step", self.Timeline(made).Text())

    def test_random_work_against_a_painted_line(self) -> None:
        seed = random.randrange(1 << 30)
        random.seed(seed)
        for _ in range(50):
            made, painted = Made(), set[int]()
            for _ in range(random.randrange(2, 80)):
                start, length = random.randrange(5000), random.choice((1, 5, 40, 400))
                made.Work("K", start, start + length, COMPUTE, made.Name("k"))
                painted.update(range(start, start + length))
            random.shuffle(made.lines)
            made.lines.sort(key=lambda line: line[0] != "N")
            gaps, empty = [], 0
            for time in range(min(painted), max(painted) + 1):
                if time in painted:
                    if empty > 20:
                        gaps.append((time - empty, time))
                    empty = 0
                else:
                    empty += 1
            timeline = self.Timeline(made)
            self.assertEqual(gaps, [(gap.start // 1000, gap.end // 1000) for gap in timeline.gaps], f"seed {seed}")
            busy = 100 * len(painted) / (max(painted) + 1 - min(painted))
            self.assertIn(f" | {busy:.1f} % | ", timeline.StepTable(), f"seed {seed}")

    def test_names_of_kernels(self) -> None:
        from timeline_record import ShortName
        self.assertEqual(("rms_norm ForwardKernel<bf16, 8>", "rms_norm"), ShortName(
            "_ZN7unipool4cuda49_GLOBAL__N__caf51ef2_16_rms_norm_cuda_cu_dd8db8169ForwardKernel",
            "void unipool::cuda::(anonymous namespace)::ForwardKernel<__nv_bfloat16, 8>(unipool::cuda::(anonymous namespace)::A<(int)3>)"))
        self.assertEqual(("nvjet_hsh_128x256", None), ShortName("nvjet_hsh_128x256", "nvjet_hsh_128x256"))
        self.assertEqual(("cutlass::Kernel<(cutlass::Arch)3>", None), ShortName("_Z", "void cutlass::Kernel<(cutlass::Arch)3>(int)"))

    def test_broken_files_are_a_sentence(self) -> None:
        whole = Made()
        whole.Step(1)
        names = "N\t0\ta\ta\n"
        for text, expected in (("", "is empty"), ("hello\n", "no time line"), ("unipool-timeline\t2\t1\n", "reads format 1"),
                               ("unipool-timeline\t1\t1\n", "no work of a device"),
                               ("unipool-timeline\t1\t1\nK\t0\t1\t13\t5\t9\t0\n", "line 2"),
                               (f"unipool-timeline\t1\t1\n{names}K\t0\t1\t13\t9\t5\t0\n", "line 3"),
                               (f"unipool-timeline\t1\t1\n{names}K\t0\t1\tx\t5\t9\t0\n", "line 3"),
                               ("unipool-timeline\t1\t1\nQ\t1\n", "line 2"), (None, "No such file")):
            path = self.Path("broken")
            if text is None:
                os.remove(path)
            else:
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
            done = self.Run(path)
            self.assertEqual((2, ""), (done.returncode, done.stdout), expected)
            self.assertRegex(done.stderr, rf"\Agpu_timeline.py: .*{expected}.*\n\Z")
        done = self.Run(whole.Write(self.Path()), "--skip", "1")
        self.assertEqual(2, done.returncode)
        self.assertIn("none is left after the first 1", done.stderr)
        # A program that was ended: what is whole is told.
        done = self.Run(whole.Write(self.Path(), last="K\t0\t1\t1"))
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertIn("The record is cut off", done.stdout)
        self.assertIn("5 records were lost", self.Run(whole.Write(self.Path(), last="E\t5\n")).stdout)
        still = Made()
        still.Kernel("a")
        for lost, told in ((0, "count exchange: reached."), (5, "count exchange: not known, as records were lost.")):
            self.assertIn(told, self.Run(still.Write(self.Path(), last=f"E\t{lost}\n")).stdout)

    def Run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, os.path.join(self.root, "tools/gpu/gpu_timeline.py"), *arguments], capture_output=True,
                              text=True, timeout=60, check=False)

    def test_the_trace_shows_the_last_steps(self) -> None:
        made = Made()
        for step in range(1, 6):
            begun = made.Step(step)
        for name, opened in (("trace.json", open), ("trace.json.gz", gzip.open)):
            done = self.Run(made.Write(self.Path()), "--skip", "1", "--steps", "4", "--trace", self.Path(name), "--trace-steps", "1")
            self.assertEqual(0, done.returncode, done.stderr)
            with opened(self.Path(name), "rt", encoding="utf-8") as file:
                events = json.load(file)["traceEvents"]
        rows = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
        shown: dict[str, list[tuple[str, float, float]]] = {rows[(e["pid"], e["tid"])]: [] for e in events if e["ph"] == "X"}
        for event in events:
            if event["ph"] == "X":
                shown[rows[(event["pid"], event["tid"])]].append((event["name"], event["ts"], event["dur"]))
        self.assertEqual({"steps", "gaps above 20 us", "stream 13 (compute)", "thread 77"}, set(shown))
        self.assertEqual([("step 5", 0.0, round(made.now - begun, 3))], shown["steps"])
        self.assertEqual([("end of step", 0.0, 60.0), ("row counts", 218.0, 30.0), ("end of step", 406.0, 25.0)],
                         [(name, start, length) for name, start, length in shown["gaps above 20 us"]])
        self.assertEqual(10, len(shown["stream 13 (compute)"]))
        self.assertEqual({"step 5", "forward lane, microbatch 3, stage 0, layer 1: row counts and dispatch",
                          "forward lane, microbatch 3, stage 0, layer -1: head"}, {name for name, _, _ in shown["thread 77"]})


class RecorderTest(InFolder):
    """The library, loaded as CUDA and NVTX load it."""

    def setUp(self) -> None:
        super().setUp()
        if not self.programs:
            self.skipTest("the library was not built: the toolkit has no CUPTI headers")

    def Host(self, **settings: str) -> tuple[str, list[str]]:
        library, fake, host = self.programs
        environment = {"NVTX_INJECTION64_PATH": library, "UNIPOOL_CUPTI": fake, "UNIPOOL_TIMELINE": self.Path("record.%p"), **settings}
        done = subprocess.run([host, library], env={**os.environ, **{key: value for key, value in environment.items() if value}},
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual((0, "the program went on\n"), (done.returncode, done.stdout), done.stderr)
        return done.stderr, [self.Path(name) for name in os.listdir(self.folder) if name.startswith("record.")]

    def test_what_cupti_and_nvtx_gave_is_in_the_file(self) -> None:
        from timeline_record import Read
        errors, (path,) = self.Host()
        self.assertEqual("", errors)
        record = Read(path)
        self.assertEqual((True, 0, path.rpartition(".")[2]), (record.is_complete, record.dropped, record.process))
        self.assertEqual({(3, 5, 13), (3, 5, 14)}, set(record.streams))
        self.assertEqual([(1000, 2000, "K", "row_order ScanKernel", 0), (2100, 2200, "C", "copy device to host", 2048),
                          (40000, 90000, "K", "a kernel with a tab", 0)],
                         [(o.start, o.end, o.what, o.name, o.bytes) for o in record.streams[(3, 5, 13)]])
        self.assertEqual([(2300, 2350, "S", 64)], [(o.start, o.end, o.what, o.bytes) for o in record.streams[(3, 5, 14)]])
        self.assertEqual([(5000, 6000, 1 << 16)], record.overheads)
        outer, inner, other = record.ranges
        self.assertEqual(["step 7", "forward lane, microbatch 0", "second thread"], [outer.name, inner.name, other.name])
        self.assertTrue(outer.start <= inner.start <= other.start <= other.end <= inner.end <= outer.end)
        self.assertTrue(outer.thread == inner.thread != other.thread)

    def test_losses_are_told(self) -> None:
        from timeline_record import Read
        _, (path,) = self.Host(FAKE_CUPTI="drop")
        self.assertEqual(3, Read(path).dropped)
        os.remove(path)
        errors, (path,) = self.Host(FAKE_CUPTI="flush")
        self.assertIn("the last records were lost: another error", errors)
        with open(path, encoding="utf-8") as file:
            self.assertTrue(file.read().endswith("E\t1\n"))

    def test_what_keeps_it_from_recording_is_one_sentence(self) -> None:
        for environment, expected in (({"UNIPOOL_TIMELINE": ""}, "UNIPOOL_TIMELINE names no file"),
                                      ({"UNIPOOL_TIMELINE": "/nowhere/record"}, "/nowhere/record can not be written: No such file"),
                                      ({"UNIPOOL_CUPTI": "/nowhere/libcupti.so"}, "UNIPOOL_CUPTI=/nowhere/libcupti.so can not be opened"),
                                      ({"UNIPOOL_CUPTI": self.programs[2]}, "UNIPOOL_CUPTI=.* can not be opened"),
                                      ({"UNIPOOL_CUPTI": self.programs[0]}, "lacks functions"),
                                      ({"FAKE_CUPTI": "refuse"}, "CUPTI does not record here: CUPTI_ERROR_INSUFFICIENT_PRIVILEGES")):
            errors, files = self.Host(**environment)
            self.assertRegex(errors, rf"\Aunipool timeline: .*{expected}.*; nothing is recorded\n\Z")
            self.assertEqual([], files)

    def test_without_a_gpu_or_cupti_the_program_goes_on(self) -> None:
        errors, files = self.Host(UNIPOOL_CUPTI="")
        if not os.path.exists("/dev/nvidiactl"):
            self.assertRegex(errors, r"\Aunipool timeline: .*; nothing is recorded\n\Z")
            self.assertEqual([], files)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    InFolder.root = os.path.abspath(sys.argv[1])
    InFolder.programs = [os.path.abspath(path) for path in sys.argv[2:]]
    sys.path.insert(0, os.path.join(InFolder.root, "tools/gpu"))
    sys.dont_write_bytecode = True
    unittest.main(argv=sys.argv[:1])
