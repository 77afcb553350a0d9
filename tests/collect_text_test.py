#!/usr/bin/env python3
"""What tools/demo/collect_text.py takes for prose, on a made-up machine.

Usage: collect_text_test.py SOURCE_DIR
"""
import gzip
import itertools
import os
import subprocess
import sys
import tempfile
import unittest

PROSE = ["When the reader comes to the end of the list, it does not stop there but goes back to the first of the names.",
         "You may find that this is more than you need. In that case, leave the second half out and read on.",
         "The old way of doing this was to write all of it by hand, which took a day and was never quite right."]
OTHERS = ["Use foo_bar(x) to make the list of the names, and then call it again with the same value as it was before.",
          "THE SOFTWARE IS PROVIDED AS IS, WITHOUT WARRANTY OF ANY KIND, BY THE AUTHORS OR THE HOLDERS OF IT, IN ANY CASE.",
          "the file does not begin with a capital letter and it is not the begin of a sentence that you can read.",
          "It is in /usr/share/doc and you can read it there, if you have the time and the will to do that now.",
          "Copyright 1999, 2001, 2004, 2007, 2010 by the people who wrote it, and by all the others who have helped."]


class CollectTextTest(unittest.TestCase):
    source = ""

    def Collect(self, files: dict[str, str]) -> tuple[str, str]:
        """The text that is collected from these files, and what is said."""
        with tempfile.TemporaryDirectory() as root:
            for name, text in files.items():
                path = os.path.join(root, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with gzip.open(path, "wb") if name.endswith(".gz") else open(path, "wb") as file:
                    file.write(text.encode())
            done = subprocess.run([sys.executable, os.path.join(self.source, "tools/demo/collect_text.py"), f"{root}/out", root],
                                  check=True, capture_output=True, text=True)
            with open(f"{root}/out", encoding="utf-8") as file:
                return file.read(), done.stdout

    def test_prose_is_kept_and_other_things_are_not(self) -> None:
        things = "reader writer clock river letter garden window table bridge harbour lamp stone".split()
        many = [f"When the {a} comes to the end of the {b}, it does not stop there but goes back to the {c} that was the first of the {d}s."
                for a, b, c, d in itertools.product(things, things, things, things[:4])]
        book = "\n\n".join(PROSE[1:] + OTHERS + many)
        text, said = self.Collect({"usr/share/doc/a/README": book, "usr/share/info/b.info.gz": f"\x1f\nFile: b\n\n{PROSE[0]}\n\n* Menu:\n"})
        lines = text.split("\n")
        for paragraph in PROSE:
            self.assertEqual(lines.count(paragraph), 1, paragraph)
        for paragraph in OTHERS:
            self.assertNotIn(paragraph, lines)
        self.assertNotIn("reads like English", said)

    def test_of_equal_sentences_the_first_is_kept(self) -> None:
        text, _ = self.Collect({"usr/share/doc/a/README": PROSE[1], "usr/share/doc/b/README": PROSE[1].replace("\n", " "),
                                "usr/share/doc/c/README": PROSE[2]})
        self.assertEqual(sorted(filter(None, text.split("\n"))), sorted(PROSE[1:]))

    def test_typographic_quotes_are_plain(self) -> None:
        text, _ = self.Collect({"usr/share/doc/a/README": PROSE[0].replace("it does not stop", "it \u2018stops\u2019 and does not stop")})
        self.assertIn("it 'stops' and does not stop", text)

    def test_a_poor_machine_gives_all_that_is_english(self) -> None:
        text, said = self.Collect({"usr/share/doc/a/README": "\n\n".join([PROSE[0], OTHERS[2]])})
        self.assertIn("reads like English", said)
        self.assertIn(OTHERS[2], text)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    CollectTextTest.source = os.path.abspath(sys.argv.pop(1))
    unittest.main()
