#!/usr/bin/env python3
"""Runs one nvcc command, keeps what ptxas says about each kernel (registers, shared memory, spills) in OBJECT.ptxas.txt
beside the object file, and fails if a kernel spills registers to memory.

Usage: compile_report.py COMMAND ...    (the command has -o OBJECT)
"""
import re
import subprocess
import sys


def Spills(report):
    """[(kernel, line of ptxas)] of the kernels that spill."""
    found, kernel = [], "unknown kernel"
    for line in report:
        name = re.search(r"(?:Compiling entry function|Function properties for) '?([^' ]+)'?", line)
        kernel = name[1] if name else kernel
        if any(int(count) > 0 for count in re.findall(r"(\d+) bytes spill", line)):
            found.append((kernel, line.strip()))
    return found


def IsReport(line):
    return "ptxas info" in line or "bytes stack frame" in line or "bytes spill" in line


def main(command):
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    lines = done.stderr.splitlines()
    report = [line for line in lines if IsReport(line)]
    for line in lines:
        if not IsReport(line):
            print(line, file=sys.stderr)
    if "-o" in command and report:
        with open(command[command.index("-o") + 1] + ".ptxas.txt", "w", encoding="utf-8") as file:
            file.write("\n".join(report) + "\n")
    if done.returncode:
        return done.returncode
    for kernel, line in Spills(report):
        print(f"error: {kernel} spills registers to memory: {line}", file=sys.stderr)
        done.returncode = 1
    return done.returncode


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
