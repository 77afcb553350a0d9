#!/usr/bin/env python3
"""tools/gpu/gpu_check.sh and tools/bundle/bundle.sh seen from outside, with programs that play the parts of the real ones: what they
report, refuse and never claim. (A real bundle takes minutes to build; tools/dev bundle checks each one that it makes with
tools/bundle/check_bundle.py.)

Usage: gpu_tools_test.py SOURCE_DIR
"""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

INFO = """[[ $* != --cublas ]] || { echo libcublas.so.13; exit; }
echo "| device | Test GPU 9, compute capability 9.0, 4 multiprocessors |"
echo "| memory | 1 GiB |"
"""
NO_GPU = 'echo "no GPU can be used here: none" >&2\nexit 2\n'
CASES = """case "$*" in
--gtest_list_tests) printf 'Running main()\nCudaRmsNorm.\n  Forward\nCudaGemm/0.  # TypeParam = float\n  AllTransposesAndSizes\n';;
--gtest_filter=CudaRmsNorm.*) echo "[       OK ] CudaRmsNorm.Forward (3 ms)";;
--gtest_filter=CudaGemm/0.*) echo "[  SKIPPED ] CudaGemm/0.AllTransposesAndSizes (0 ms)";;
esac
"""
FAILING_CASES = """case "$*" in
--gtest_list_tests) printf 'CudaRmsNorm.\n  Forward\nCudaAborts.\n  A\nCudaSwiglu.\n  Forward\n';;
--gtest_filter=CudaRmsNorm.*) echo "[  FAILED  ] CudaRmsNorm.Forward (3 ms)"; exit 1;;
--gtest_filter=CudaAborts.*) echo "Check failed: the last words"; kill -ABRT $$;;
--gtest_filter=CudaSwiglu.*) echo "[       OK ] CudaSwiglu.Forward (3 ms)";;
esac
"""
SANITIZER = """echo "$2" >>"$(dirname "$0")/../tools_run"
[[ $UNIPOOL_EXACT_ARRAYS == 1 && $6 == --gtest_filter=-*Large* ]] || exit 7
echo "========= COMPUTE-SANITIZER"
shift 4
"$@"
"""
BENCH = 'echo "| rms norm | 5.0 us | 4000 GB/s |"\n'


class GpuToolsTest(unittest.TestCase):
    root = "."

    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="unipool-gpu-tools-")
        self.addCleanup(shutil.rmtree, self.folder)

    def Program(self, name: str, text: str) -> None:
        path = os.path.join(self.folder, "bin", name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write("#!/bin/bash\n" + text)
        os.chmod(path, 0o755)

    def Check(self, *arguments: str) -> tuple[int, str, str]:
        """Runs gpu-check as it lies in a bundle; (exit status, output, report; empty: none was written)."""
        script = os.path.join(self.folder, "gpu-check")
        shutil.copy(os.path.join(self.root, "tools/bundle/bundle_gpu_check.sh"), script)
        gpu = os.path.join(self.folder, "gpu")
        os.makedirs(gpu, exist_ok=True)
        shutil.copy(os.path.join(self.root, "tools/gpu/gpu_check.sh"), gpu)
        report = os.path.join(self.folder, "report.md")
        environment = {"PATH": os.path.join(self.folder, "bin") + ":/usr/bin:/bin"}
        done = subprocess.run([script, "--report", report, *arguments], env=environment, capture_output=True, text=True,
                              timeout=60, check=False)
        text = ""
        if os.path.exists(report):
            with open(report, encoding="utf-8") as file:
                text = file.read()
        return done.returncode, done.stdout + done.stderr, text

    def test_without_cuda_programs_nothing_is_counted(self) -> None:
        os.mkdir(os.path.join(self.folder, "bin"))
        status, output, report = self.Check()
        self.assertEqual((2, ""), (status, report))
        self.assertEqual(1, output.count("\n"), output)
        self.assertIn("nothing was run", output)
        self.assertIn("no CUDA toolkit", output)

    def test_without_a_gpu_nothing_is_counted(self) -> None:
        self.Program("gpu_info", NO_GPU)
        self.Program("cuda_kernel_cases", CASES)
        status, output, report = self.Check()
        self.assertEqual((2, ""), (status, report))
        self.assertEqual("gpu-check: nothing was run: no GPU can be used here: none\n", output)

    def test_report_has_device_cases_skips_and_figures(self) -> None:
        for name, text in (("gpu_info", INFO), ("cuda_kernel_cases", CASES), ("compute-sanitizer", SANITIZER),
                           ("cuda_kernel_bench", BENCH)):
            self.Program(name, text)
        status, output, report = self.Check()
        self.assertEqual(0, status, output)
        for expected in ("# GPU check on Test GPU 9\n", "| device | Test GPU 9, ", "| date | 20", "| commit | ",
                         "Passed 1, failed 0, skipped 1.", "\n- CudaGemm/0.AllTransposesAndSizes\n",
                         "racecheck: passed", "| rms norm | 5.0 us | 4000 GB/s |", " s: passed.\n"):
            self.assertIn(expected, report)
        self.assertFalse(os.path.exists(os.path.join(self.folder, "report.md.parts")))
        with open(os.path.join(self.folder, "tools_run"), encoding="utf-8") as file:
            self.assertEqual(["memcheck", "racecheck", "initcheck", "synccheck"], file.read().split())

    def test_what_is_not_there_is_named(self) -> None:
        self.Program("gpu_info", INFO)
        self.Program("cuda_kernel_cases", CASES)
        status, _, report = self.Check()
        self.assertEqual(0, status)
        self.assertIn("Not measured: cuda_kernel_bench is not here.", report)
        self.assertIn("memcheck: not run", report)
        self.assertIn("Not run: the program unipool is not here.", report)

    def test_training_is_a_part_with_its_own_outcome(self) -> None:
        self.Program("gpu_info", INFO)
        self.Program("cuda_kernel_cases", CASES)
        self.Program("unipool", 'echo "$*" >>"$(dirname "$0")/../asked"\necho "error: device: there is no such thing" >&2\nexit 2\n')
        shutil.copytree(os.path.join(self.root, "tools/gpu"), os.path.join(self.folder, "gpu"))
        with open(os.path.join(self.folder, "text.txt"), "w", encoding="utf-8") as file:
            file.write("text")
        status, output, report = self.Check("--only", "cases,training", "--checks", "fp32,nccl,bench", "--bench",
                                            "train.micro_batch=32 train.weight_grad_slots=8")
        self.assertEqual(1, status, output)
        for expected in ("cases: passed", "Part sanitizer: not asked for.", "training: FAILED (exit status 1)", "### fp32: FAILED",
                         "### nccl: FAILED", "error: device: there is no such thing"):
            self.assertIn(expected, report)
        self.assertNotIn("memcheck", report)
        with open(os.path.join(self.folder, "asked"), encoding="utf-8") as file:
            asked = file.read()
        self.assertIn(f"data.train={self.folder}/text.txt", asked)
        self.assertIn("device=CUDA train.precision=FP32 parallel.transport=NCCL", asked)
        self.assertRegex(asked, "train.micro_batch=16 .*train.micro_batch=32 train.weight_grad_slots=8")
        self.assertEqual(2, self.Check("--only", "kernels")[0])

    def test_the_trace_of_a_time_line_lies_beside_the_report(self) -> None:
        for name, text in (("gpu_info", INFO), ("cuda_kernel_cases", CASES), ("unipool", "")):
            self.Program(name, text)
        os.mkdir(os.path.join(self.folder, "gpu"))
        with open(os.path.join(self.folder, "gpu/gpu_training.py"), "w", encoding="utf-8") as file:
            file.write("import sys\nflags = dict(zip(sys.argv[1::2], sys.argv[2::2]))\n"
                       "open(flags['--report'], 'a').write('recorder ' + flags.get('--timeline', 'none') + '\\n')\n"
                       "if '--trace' in flags: open(flags['--trace'], 'w').write('trace')\n")
        for name in ("text.txt", "lib/libunipool_timeline.so"):
            trace = os.path.join(self.folder, "report-timeline.json.gz")
            self.assertFalse(os.path.exists(trace))
            os.makedirs(os.path.join(self.folder, "lib"), exist_ok=True)
            shutil.copy("/bin/true", os.path.join(self.folder, name))
            status, output, report = self.Check("--only", "training")
            self.assertEqual(0, status, output)
        self.assertIn(f"recorder {self.folder}/lib/libunipool_timeline.so", report)
        self.assertIn("for ui.perfetto.dev: report-timeline.json.gz", report)
        with open(trace, encoding="utf-8") as file:
            self.assertEqual("trace", file.read())

    def test_what_a_total_limit_cuts_of_the_training_is_told(self) -> None:
        for name, text in (("gpu_info", INFO), ("cuda_kernel_cases", CASES), ("unipool", "")):
            self.Program(name, text)
        os.mkdir(os.path.join(self.folder, "gpu"))
        with open(os.path.join(self.folder, "text.txt"), "w", encoding="utf-8") as file:
            file.write("words")
        for outcome, expected, verdict in (("not run, the total limit is used up", 0, "passed, cut by the total limit: checks-of-training"),
                                           ("not finished in 3 s, all that was left", 0, "passed, cut by the total limit"),
                                           ("FAILED", 1, "SOMETHING FAILED"), ("passed", 0, " s: passed.")):
            with open(os.path.join(self.folder, "gpu/gpu_training.py"), "w", encoding="utf-8") as file:
                file.write("import sys\nflags = dict(zip(sys.argv[1::2], sys.argv[2::2]))\nassert float(flags['--total-limit']) > 1\n"
                           f"open(flags['--report'], 'a').write('### bench: {outcome}\\n')\n")
            status, output, report = self.Check("--only", "training", "--total-limit", "60")
            self.assertEqual(expected, status, output)
            self.assertIn(verdict, report)

    def test_failures_and_hangs_fail(self) -> None:
        self.Program("gpu_info", INFO)
        self.Program("cuda_kernel_cases", FAILING_CASES)
        status, output, report = self.Check()
        self.assertEqual(1, status)
        self.assertIn("SOMETHING FAILED", output)
        self.assertIn("cases of CudaRmsNorm: FAILED (exit status 1)", report)
        self.assertIn("[  FAILED  ] CudaRmsNorm.Forward", report)
        # One that aborts takes no others with it.
        self.assertIn("cases of CudaAborts: FAILED (exit status 134)", report)
        self.assertIn("the last words", report)
        self.assertIn("cases: FAILED in CudaRmsNorm CudaAborts\n", report)
        self.assertIn("Passed 1, failed 1, skipped 0.", report)
        self.Program("cuda_kernel_cases", "exit 3\n")
        status, _, report = self.Check("--only", "cases")
        self.assertEqual(1, status)
        self.assertIn("cases: FAILED, none is listed", report)
        self.Program("cuda_kernel_cases", CASES)
        self.Program("cuda_kernel_bench", "sleep 20\n")
        status, _, report = self.Check("--limit", "1")
        self.assertEqual(1, status)
        self.assertIn("benchmark: not finished in 1 s", report)

    def test_a_check_that_is_killed_leaves_what_it_has(self) -> None:
        for name, text in (("gpu_info", INFO), ("cuda_kernel_cases", CASES),
                           ("cuda_kernel_bench", 'echo "| the first row |"\necho $$ >"$(dirname "$0")/../begun"\nexec sleep 60\n')):
            self.Program(name, text)
        self.Check("--only", "training")  # lays the script where a bundle has it
        report = os.path.join(self.folder, "report.md")
        for number, ending in ((signal.SIGKILL, ""), (signal.SIGTERM, "Ended from outside, after ")):
            begun = os.path.join(self.folder, "begun")
            if os.path.exists(begun):
                os.remove(begun)
            with subprocess.Popen([os.path.join(self.folder, "gpu/gpu_check.sh"), "--report", report], start_new_session=True,
                                  env={"PATH": os.path.join(self.folder, "bin") + ":/usr/bin:/bin"},
                                  stdout=subprocess.DEVNULL) as check:
                while not os.path.exists(begun) or not os.path.getsize(begun):
                    time.sleep(0.05)
                os.kill(check.pid, number)
                check.wait(20)
            with open(begun, encoding="utf-8") as file:
                benchmark = int(file.read())
            if number == signal.SIGKILL:  # nothing else ends what it ran
                os.kill(benchmark, signal.SIGKILL)
            with open(report, encoding="utf-8") as file:
                text = file.read()
            self.assertIn("Passed 1, failed 0, skipped 1.", text)
            self.assertIn(ending, text)
            self.assertNotIn("At its end", text)
            with open(report + ".parts/benchmark", encoding="utf-8") as file:
                self.assertEqual("| the first row |\n", file.read())

    def test_a_total_limit_leaves_out_what_no_longer_fits(self) -> None:
        for name, text in (("gpu_info", INFO), ("cuda_kernel_cases", CASES), ("compute-sanitizer", SANITIZER),
                           ("cuda_kernel_bench", "echo '| a row |'\nexec sleep 90\n")):
            self.Program(name, text)
        status, output, report = self.Check("--total-limit", "12")
        self.assertEqual(0, status, "what was left out is no failure: " + output)
        self.assertIn("cases: passed", report)
        self.assertRegex(report, r"benchmark: not finished in \d+ s, all that was left of 12\n\n\| a row \|")
        self.assertIn("racecheck: not run, the total limit of 12 s is used up", report)
        self.assertRegex(report, "passed, cut by the total limit: benchmark memcheck racecheck initcheck synccheck")
        self.Program("gpu_info", INFO + "[[ $* == --cublas ]] || sleep 2\n")
        report = self.Check("--total-limit", "1")[2]
        self.assertIn("cases: not run; the total limit left out CudaRmsNorm CudaGemm/0", report)

    def test_a_case_that_failed_before_the_total_limit_is_a_failure(self) -> None:
        self.Program("gpu_info", INFO)
        self.Program("cuda_kernel_cases", CASES.replace('echo "[       OK ] CudaRmsNorm.Forward (3 ms)"',
                                                        'echo "[  FAILED  ] CudaRmsNorm.Forward (3 ms)"; exec sleep 90'))
        status, output, report = self.Check("--only", "cases", "--total-limit", "12")
        self.assertEqual(1, status, output)
        self.assertIn("SOMETHING FAILED", report)

    def test_a_library_that_the_loader_knows_is_looked_for_nowhere_else(self) -> None:
        self.Program("gpu_info", INFO)
        self.Program("cuda_kernel_cases", CASES)
        names = "libcublas.so.13 libnccl.so.2 libcupti.so.13"
        self.Program("ldconfig", f'for name in {names}; do echo "  $name (libc6,x86-64) => /lib/$name"; done\nseq 100000\n')
        self.Program("find", 'touch "$(dirname "$0")/../looked"\n')
        self.assertEqual(0, self.Check("--only", "cases")[0])
        self.assertFalse(os.path.exists(os.path.join(self.folder, "looked")))

    def test_libraries_of_packages_are_found_in_one_pass(self) -> None:
        self.Program("gpu_info", INFO)
        self.Program("cuda_kernel_cases", CASES.replace("esac", 'esac\necho "$LD_LIBRARY_PATH $UNIPOOL_CUPTI" >"$(dirname "$0")/../seen"'))
        self.Program("ldconfig", 'echo "  libnccl.so.2 (libc6,x86-64) => /lib/libnccl.so.2"\n')
        self.Program("find", 'echo "$*" >>"$(dirname "$0")/../looked"\n'
                             'printf "/opt/a-9/libcublas.so.13\n/opt/a-10/libcublas.so.13\n/opt/b/libcupti.so.13\n"\n')
        self.assertEqual(0, self.Check("--only", "cases")[0])
        with open(os.path.join(self.folder, "looked"), encoding="utf-8") as file:
            self.assertEqual(["/usr/local /usr/lib /opt ( -name libcublas.so.13 -o -name libcupti.so.13 )"], file.read().splitlines())
        with open(os.path.join(self.folder, "seen"), encoding="utf-8") as file:
            has_toolkit = any(os.path.exists(f"/usr/local/cuda/{place}/libcupti.so.13") for place in ("lib64", "extras/CUPTI/lib64"))
            cupti = "" if has_toolkit else "/opt/b/libcupti.so.13"
            self.assertEqual(f"/opt/a-10 {cupti}".strip(), file.read().strip())

    def test_a_slow_sanitizer_is_no_failure_but_a_finding_is(self) -> None:
        self.Program("gpu_info", INFO)
        self.Program("cuda_kernel_cases", CASES)
        slow = ('echo "[       OK ] CudaRmsNorm.Forward (3 ms)"\n'
                'echo "========= Error: process didn\'t terminate successfully"\nexec sleep 20\n')
        self.Program("compute-sanitizer", SANITIZER + "[[ $UNIPOOL_EXACT_ARRAYS != 1 ]] || {\n" + slow + "}\n")
        status, output, report = self.Check("--tool-limit", "0.3")
        self.assertEqual(0, status, output)
        self.assertIn("passed, not finished: memcheck racecheck initcheck synccheck;", output)
        self.assertIn("memcheck: not finished in 0.3 s; 1 cases passed", report)
        finding = 'echo "========= Invalid __global__ read of size 4 bytes"\n'
        self.Program("compute-sanitizer", SANITIZER + finding + slow)
        status, output, report = self.Check("--tool-limit", "0.3")
        self.assertEqual(1, status, output)
        self.assertIn("memcheck: FAILED, and not finished in 0.3 s; 1 cases passed", report)
        self.assertIn("\n========= Invalid __global__ read", report)

    def test_modules_of_the_bundle_are_complete(self) -> None:
        """What its Python programs import is its own or Python's (or PyTorch, which is asked for)."""
        build, to = os.path.join(self.folder, "build"), os.path.join(self.folder, "to")
        os.mkdir(build)
        shutil.copy("/bin/true", os.path.join(build, "unipool"))
        self.assertEqual(0, self.Bundle(build, to).returncode)
        for folder in (os.path.join(to, "gpu"), os.path.join(to, "torch")):
            scripts = [name for name in os.listdir(folder) if name.endswith(".py")]
            self.assertGreaterEqual(len(scripts), 3)
            for name in scripts:
                with open(os.path.join(folder, name), encoding="utf-8") as file:
                    for module in re.findall(r"^\s*(?:import|from) (\w+)", file.read(), re.MULTILINE):
                        self.assertTrue(module in sys.stdlib_module_names or module == "torch" or f"{module}.py" in scripts,
                                        f"{name} imports {module}")

    def Bundle(self, build: str, to: str, *most_bytes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([os.path.join(self.root, "tools/bundle/bundle.sh"), build, to, *most_bytes], capture_output=True, text=True,
                              check=False)

    def test_bundle_refuses_what_is_too_large_or_not_its_own(self) -> None:
        build, to = os.path.join(self.folder, "build"), os.path.join(self.folder, "to")
        os.mkdir(build)
        shutil.copy("/bin/true", os.path.join(build, "unipool"))
        os.makedirs(os.path.join(build, "tools/gpu"))
        shutil.copy("/bin/true", os.path.join(build, "tools/gpu/libunipool_timeline.so"))
        done = self.Bundle(build, to)
        self.assertEqual(0, done.returncode, done.stderr)
        scripts = [f"{wing}/{name}" for wing in ("gpu", "torch") for name in os.listdir(os.path.join(self.root, "tools", wing))
                   if name.endswith((".py", ".sh"))]
        self.assertLess(5, len(scripts))
        for name in ("lib/libunipool_timeline.so", "bin/unipool", "configs/demo.txtpb", "gpu-check", "BUNDLE.md", "COMMIT",
                     "text.txt", *scripts):
            self.assertTrue(os.path.exists(os.path.join(to, name)), name)
        self.assertFalse(os.path.exists(os.path.join(to, "lib/libc.so.6")))
        self.assertEqual(0, self.Bundle(build, to).returncode, "a bundle may be made again")
        done = self.Bundle(build, to, "100000")
        self.assertEqual(2, done.returncode)
        self.assertRegex(done.stderr, r"would have \d{6,} bytes and may have 100000")
        self.assertFalse(os.path.exists(to), "a refused bundle was left behind")
        not_ours = os.path.join(self.folder, "not_ours")
        os.mkdir(not_ours)
        done = self.Bundle(build, not_ours)
        self.assertEqual(2, done.returncode)
        self.assertIn("is no bundle", done.stderr)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    GpuToolsTest.root = os.path.abspath(sys.argv.pop(1))
    unittest.main()
