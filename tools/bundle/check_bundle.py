#!/usr/bin/env python3
"""Copies a bundle elsewhere and proves that it runs there: with an empty environment every library but the C library's
own comes from the bundle, the program trains (as threads and under mpirun) and generates, tests pass, and gpu-check says
what it found.
"""
from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from typing import Any

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../gpu"))
from mpi_environment import MPI_ENVIRONMENT  # noqa: E402

SYSTEM_LIBRARIES = re.compile(r"/(libc|libm|libdl|librt|libpthread|libresolv|libutil|libcuda|ld-linux-x86-64)\.so")
RUN = ["model.layers=2", "train.steps=4", "train.global_batch=8", "train.micro_batch=4"]


class Bundle:
    def __init__(self, source: str, chroot: str | None) -> None:
        self.chroot = chroot
        self.folder = tempfile.mkdtemp(prefix="unipool-bundle-", dir=os.path.join(chroot, "tmp") if chroot else None)
        self.home = os.path.join(self.folder, "moved here")
        shutil.copytree(source, self.home)

    def Run(self, *command: str, expect: int = 0, environment: dict[str, str] | None = None) -> str:
        """Runs it from the bundle's folder, with nothing but `environment`; its output."""
        inside = self.home
        prefix = ["env", "-i", "HOME=/", *[f"{key}={value}" for key, value in (environment or {}).items()]]
        if self.chroot:
            inside = "/" + os.path.relpath(self.home, self.chroot)
            prefix = ["chroot", self.chroot] + prefix + ["/bin/sh", "-c", 'cd "$0" && exec "$@"', inside]
        done = subprocess.run([*prefix, *command], cwd=self.home, capture_output=True, text=True, errors="replace", check=False)
        output = done.stdout + done.stderr
        if done.returncode != expect:
            sys.exit(f"check_bundle: {' '.join(command)} ended with {done.returncode}, expected {expect}:\n{output[-3000:]}")
        return output

    def Losses(self, run_dir: str) -> list[Any]:
        with open(os.path.join(self.home, run_dir, "metrics.jsonl"), encoding="utf-8") as file:
            return [json.loads(line).get("loss") for line in file]


def Libraries(bundle: Bundle, program: str) -> tuple[set[str], set[str]]:
    """Libraries that the loader took for a program: (from the bundle, from elsewhere but the C library's)."""
    question = "help" if program.endswith("unipool") else "--gtest_list_tests"
    output = bundle.Run(program, question, environment={"LD_DEBUG": "libs"})
    taken = set(re.findall(r"calling init: (\S.*)$", output, re.MULTILINE))
    own = {path for path in taken if "/moved here/bin/../lib/" in path}
    return own, {path for path in taken - own if not SYSTEM_LIBRARIES.search(path) and "linux-vdso" not in path}


def CheckPrograms(bundle: Bundle) -> None:
    for name in sorted(os.listdir(os.path.join(bundle.home, "bin"))):
        if name in ("gpu_info", "cuda_kernel_bench"):
            continue  # end at once without a GPU; they need the libraries of cuda_kernel_cases
        own, foreign = Libraries(bundle, f"./bin/{name}")
        if foreign or not own:
            sys.exit(f"check_bundle: {name} took libraries from outside: {sorted(foreign)} ({len(own)} from the bundle)")
        print(f"{name}: {len(own)} libraries, all from the bundle but the C library's")
    if os.path.exists(os.path.join(bundle.home, "lib/libunipool_timeline.so")):
        said = bundle.Run("/bin/sh", "-c", "LD_PRELOAD=./lib/libunipool_timeline.so exec ./bin/unipool help")
        if "cannot be preloaded" in said or "unipool timeline" in said:
            sys.exit(f"check_bundle: the library that records time lines does not load:\n{said[:1000]}")
        print("libunipool_timeline.so: loads into unipool")


def CheckTraining(bundle: Bundle) -> None:
    bundle.Run("./bin/unipool", "train", "configs/demo.txtpb", "data.train=text.txt", "run_dir=run", "parallel.ranks=2", *RUN)
    if os.path.exists(os.path.join(bundle.home, "mpirun")):
        mpi = {"PATH": "/usr/bin:/bin", **MPI_ENVIRONMENT}
        bundle.Run("./mpirun", "-np", "2", "./bin/unipool", "train", "configs/demo.txtpb", "data.train=text.txt",
                   "run_dir=mpi_run", "parallel.ranks=2", *RUN, environment=mpi)
        if bundle.Losses("mpi_run") != bundle.Losses("run"):
            sys.exit("check_bundle: ranks under mpirun and as threads do not have the same losses")
        print("mpirun: 2 processes, the losses of 2 threads")
    else:
        print("mpirun: not in this bundle")
    text = bundle.Run("./bin/unipool", "generate", "configs/demo.txtpb", "run_dir=run", *RUN, "--prompt", "The ",
                      "--max_tokens", "5")
    if "The " not in text:
        sys.exit(f"check_bundle: generate wrote {text!r}")
    print("unipool: trained 4 steps on 2 ranks, generated")


def CheckTests(bundle: Bundle) -> None:
    for name in ("kernels_tests", "runtime_tests"):
        print(f"{name}: {bundle.Run(f'./bin/{name}').strip().splitlines()[-1]}")
    if os.path.exists(os.path.join(bundle.home, "bin/gpu_info")) and not os.path.exists("/dev/nvidiactl"):
        print(bundle.Run("./gpu-check", expect=2, environment={"PATH": "/usr/bin:/bin"}).strip())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", metavar="BUNDLE")
    parser.add_argument("chroot", metavar="CHROOT", nargs="?",
                        help="the root folder of a bare system with /proc mounted in it; the bundle is copied into it and run "
                             "there (needs root)")
    arguments = parser.parse_args()
    bundle = Bundle(arguments.bundle, arguments.chroot)
    try:
        CheckPrograms(bundle)
        CheckTraining(bundle)
        CheckTests(bundle)
    finally:
        shutil.rmtree(bundle.folder)


if __name__ == "__main__":
    main()
