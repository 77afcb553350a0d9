#!/usr/bin/env python3
"""tools/completion.bash as bash uses it: what it offers for a line, from the program's own lists.

Usage: completion_test.py SOURCE_DIR UNIPOOL_BINARY
"""
import os
import subprocess
import sys
import unittest

ASK = '''
source "$1"
unipool() { "$BINARY" "$@"; }
COMP_LINE=$2 COMP_POINT=${#2}
# As readline splits: = is a word of its own.
read -ra COMP_WORDS <<<"${2//=/ = }"
[[ $2 != *' ' ]] || COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
COMPREPLY=()
_unipool
((${#COMPREPLY[@]} == 0)) || printf '%s\\n' "${COMPREPLY[@]}"
'''


class CompletionTest(unittest.TestCase):
    source = binary = ""

    def Offers(self, line: str) -> list[str]:
        done = subprocess.run(["bash", "-c", ASK, "bash", os.path.join(self.source, "tools/completion.bash"), line],
                              cwd=self.source, env={**os.environ, "BINARY": self.binary}, capture_output=True, text=True,
                              check=True)
        self.assertEqual("", done.stderr)
        return done.stdout.split()

    def test_commands(self) -> None:
        self.assertEqual(["train"], self.Offers("unipool tr"))
        self.assertTrue({"train", "eval", "generate", "help", "--version"} <= set(self.Offers("unipool ")))
        self.assertEqual(["tokenize"], self.Offers("unipool help to"))

    def test_flags_of_the_command_alone(self) -> None:
        self.assertEqual(["--anew"], self.Offers("unipool train --a"))
        self.assertEqual([], self.Offers("unipool train --prom"))
        self.assertEqual(["--prompt="], [word for word in self.Offers("unipool generate --prompt") if word == "--prompt="])

    def test_settings_and_values(self) -> None:
        self.assertEqual(["traffic.", "train."], self.Offers("unipool train tr"))
        self.assertEqual(["train.steps="], self.Offers("unipool train configs/demo.txtpb train.ste"))
        self.assertEqual(["NORM"], self.Offers("unipool train moe.router=N"))
        self.assertEqual(["FP32"], self.Offers("unipool train train.precision=F"))

    def test_values_of_flags(self) -> None:
        self.assertEqual(["test", "train"], sorted(self.Offers("unipool eval runs/demo --split=t")))
        self.assertEqual(["valid"], self.Offers("unipool eval runs/demo --split v"))
        self.assertEqual({"step", "tokens"}, set(self.Offers("unipool plot runs/demo --x ")))
        self.assertEqual(["grad_norm"], self.Offers("unipool plot runs/demo --metric gr"))
        self.assertEqual(["--split="], self.Offers("unipool eval runs/demo --spl"))
        self.assertEqual(["configs/demo.txtpb"], self.Offers("unipool generate runs/demo --prompt_file configs/demo.t"))

    def test_files(self) -> None:
        self.assertEqual(["configs/demo.txtpb"], self.Offers("unipool train configs/demo.t"))
        self.assertEqual(["configs/demo.txtpb"], self.Offers("unipool train data.train=configs/demo.t"))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    CompletionTest.binary = os.path.abspath(sys.argv.pop(2))
    CompletionTest.source = os.path.abspath(sys.argv.pop(1))
    unittest.main()
