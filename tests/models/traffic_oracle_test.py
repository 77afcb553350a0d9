#!/usr/bin/env python3
"""Recorded bytes against MPI's own: Open MPI's monitoring (pml_monitoring) counts what each of 4 ranks sends to each other
one, to the byte. What a run does once, at its start and end, cancels between a short and a longer run.

  traffic_oracle_test.py MODELS_WORLD_TESTS MPIRUN
"""
import glob
import os
import subprocess
import sys
import tempfile
import unittest

PROGRAM, MPIRUN = sys.argv[1], sys.argv[2]
RANKS = 4

Matrix = list[list[int]]


class OracleTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="unipool-oracle-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def Recorded(self, steps: int) -> Matrix:
        matrix = []
        for rank in range(RANKS):
            with open(os.path.join(self.folder, f"recorded-{steps}.{rank}")) as file:
                matrix.append([int(line) for line in file])
        return matrix

    def Counted(self, steps: int) -> Matrix:
        """What MPI counts of a run of so many steps."""
        prefix = os.path.join(self.folder, f"counted-{steps}", "m")
        os.makedirs(os.path.dirname(prefix))  # it writes nothing where the folder is missing
        environment = {**os.environ, "OMPI_MCA_pml_monitoring_enable": "2", "OMPI_MCA_pml_monitoring_enable_output": "3",
                       "OMPI_MCA_pml_monitoring_filename": prefix, "UNIPOOL_TRAFFIC_STEPS": str(steps),
                       "UNIPOOL_TRAFFIC_FILE": os.path.join(self.folder, f"recorded-{steps}")}
        outcome = subprocess.run([MPIRUN, "-np", str(RANKS), PROGRAM, "--gtest_filter=Traffic.DISABLED_ForTheOracle",
                                  "--gtest_also_run_disabled_tests"], env=environment,
                                 capture_output=True, text=True, timeout=200, check=False)
        self.assertEqual(outcome.returncode, 0, outcome.stdout + outcome.stderr)
        matrix = [[0] * RANKS for _ in range(RANKS)]
        for path in glob.glob(prefix + "*.prof"):
            with open(path) as file:
                for line in file:
                    words = line.split()
                    if words and words[0] in ("E", "I"):
                        matrix[int(words[1])][int(words[2])] += int(words[3])
        if not any(map(any, matrix)):
            self.skipTest("this MPI has no pml_monitoring")
        return matrix

    def test_bytes_are_those_that_mpi_counts(self) -> None:
        counted = [self.Counted(steps) for steps in (2, 7)]
        recorded = [self.Recorded(steps) for steps in (2, 7)]
        for i in range(RANKS):
            for j in range(RANKS):
                if i != j:  # own blocks are copied, not sent
                    more = recorded[1][i][j] - recorded[0][i][j]
                    self.assertGreater(more, 10_000)
                    self.assertEqual(counted[1][i][j] - counted[0][i][j], more, (i, j))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
