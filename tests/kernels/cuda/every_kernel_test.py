#!/usr/bin/env python3
"""Does every public kernel run on a CUDA stream, or refuse it by name? A kernel is a function of kernels/*.h that takes
a Stream; its definition must hand the stream to a launcher, to another kernel that does, or refuse it with a sentence.
And the other way round: a kernel that the CPU lacks refuses a CPU stream.

Usage: every_kernel_test.py SOURCE_DIR
"""
import glob
import os
import re
import sys
import unittest

# Those that refuse; cuda_refusal_test.cc proves of each that it does before it touches memory.
REFUSE = {"RouterScoresForward", "TopK"}
# Those that only CUDA has, with the test that proves that a CPU stream is refused.
CUDA_ALONE = {"SplitBf16": "split_bf16_test.cc"}
# Scratch memory that no training run takes.
GENERATION_ALONE = {"AttentionDecodeScratchBytes"}


def Read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return re.sub(r"//[^\n]*", "", file.read())


def Declared(root: str) -> list[str]:
    """The names of all kernels, sorted."""
    return sorted({name for path in glob.glob(f"{root}/kernels/*.h") for name in re.findall(r"^[\w:]+ (\w+)\(Stream& ", Read(path), re.M)})


def Bodies(root: str) -> dict[str, str]:
    """name -> text of every function outside classes that takes a Stream first, of the CPU's sources."""
    bodies: dict[str, str] = {}
    for path in glob.glob(f"{root}/kernels/*.cc"):
        if not path.endswith("_cuda.cc"):
            bodies.update(re.findall(r"^[\w:]+ (\w+)\((?:const )?Stream& [^{;]*\) \{\n(.*?)^\}", Read(path), re.M | re.S))
    return bodies


def Answer(name: str, bodies: dict[str, str]) -> str:
    """"runs", "runs alone" (without a CPU), "refuses", or "nothing" where a CUDA stream would meet code of the CPU."""
    body = bodies.get(name, "")
    refusal = re.search(r'CHECK\(stream\.device\(\) == Device::kCpu\)\s*<< "(\w+) has no CUDA kernel', body)
    if refusal and refusal[1] == name:
        return "refuses"
    if re.search(r"\bcuda::[A-Z]\w+\(stream", body) and re.search(r"kCuda|on_cuda", body):
        alone = re.search(r'CHECK\(stream\.device\(\) == Device::kCuda\)\s*<< "(\w+) runs on CUDA alone', body)
        return "runs alone" if alone and alone[1] == name else "runs"
    # One statement that passes the stream on.
    passed_on = re.findall(r"\b([A-Z]\w+)\(stream,", body)
    if len(passed_on) == 1 and passed_on[0] in bodies and body.count(";") <= 2:
        return Answer(passed_on[0], bodies)
    return "nothing"


class EveryKernelTest(unittest.TestCase):
    root = "."

    def test_kernels_run_or_refuse(self) -> None:
        names, bodies = Declared(self.root), Bodies(self.root)
        self.assertGreater(len(names), 25, "the headers were not understood")
        answers = {name: Answer(name, bodies) for name in names}
        self.assertEqual([], [name for name, answer in answers.items() if answer == "nothing"])
        self.assertEqual(REFUSE, {name for name, answer in answers.items() if answer == "refuses"})
        self.assertEqual(set(CUDA_ALONE), {name for name, answer in answers.items() if answer == "runs alone"})

    def test_scratch_memory_is_told(self) -> None:
        """A kernel takes what its header's XScratchBytes says, and the memory plan asks each of them."""
        told: set[str] = set()
        for path in glob.glob(f"{self.root}/kernels/*.h"):
            told.update(re.findall(r"^int64_t (\w+ScratchBytes)\(", Read(path), re.M))
        self.assertGreater(len(told), 8, "the headers were not understood")
        for path in glob.glob(f"{self.root}/kernels/**/*.*", recursive=True):
            if not path.endswith((".h", ".cc", ".cu")):
                continue
            for argument in re.findall(r"stream\.Scratch\(\s*([^;]*);", Read(path)):
                self.assertRegex(argument, r"^(\w*ScratchBytes\(|scratch_bytes\))", path)
        asking = Read(f"{self.root}/models/memory_plan.cc")
        for path in glob.glob(f"{self.root}/kernels/*.cc"):  # one kernel that contains another asks it
            asking += "".join(re.findall(r"^int64_t \w+ScratchBytes\([^{;]*\{\n(.*?)^\}", Read(path), re.M | re.S))
        for name in told - GENERATION_ALONE:
            self.assertIn(f"{name}(", asking, "the memory plan forgets it: KernelScratchBytes of models/memory_plan.cc")

    def test_refusals_are_tested(self) -> None:
        test = Read(os.path.join(self.root, "tests/kernels/cuda_refusal_test.cc"))
        for name in REFUSE:
            self.assertIn(f'"{name} has no CUDA kernel', test)
        for name, file in CUDA_ALONE.items():
            self.assertIn(f'"{name} runs on CUDA alone', Read(os.path.join(self.root, "tests/kernels", file)))

    def test_device_kernels_tell_their_bounds(self) -> None:
        """All are written with UNIPOOL_KERNEL, so the emulation checks each launch against the bounds of its kernel."""
        num_kernels = 0
        for path in [*glob.glob(f"{self.root}/kernels/*.cu"), *glob.glob(f"{self.root}/kernels/cuda/*.h")]:
            if not path.endswith("/launch.h"):
                text = Read(path)
                self.assertNotRegex(text, "__global__|__launch_bounds__|<<<", path)
                num_kernels += text.count("UNIPOOL_KERNEL(")
        self.assertGreater(num_kernels, 35, "the sources were not understood")

    def test_a_forgotten_kernel_is_seen(self) -> None:
        bodies = Bodies(self.root)
        for name in Declared(self.root):
            forgotten = dict(bodies)
            forgotten[name] = re.sub(r"cuda::(?=\w+\()|CHECK\(stream", "Cpu", bodies[name])
            if forgotten[name] != bodies[name]:
                self.assertEqual("nothing", Answer(name, forgotten), name)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    EveryKernelTest.root = sys.argv.pop(1)
    unittest.main()
