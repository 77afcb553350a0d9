#!/usr/bin/env python3
"""Text as people ask for it: from a folder alone, token by token, several samples, stop strings, prompts from files and
pipes; and eval and info from a folder."""
import array
import json
import math
import os
import shutil
import signal
import subprocess
import time
import unittest

import run_harness
from run_harness import RunTest, WaitUntil

STEP = "run/checkpoints/step-12"


class GenerateTest(RunTest):
    def setUp(self) -> None:
        super().setUp()
        self.Train("parallel.ranks=2")

    def Text(self, *arguments: str, data: bytes = b"", code: int = 0) -> str:
        """What `generate` prints, with `data` as its standard input."""
        done = subprocess.run([run_harness.BINARY, "generate", *arguments], cwd=self.folder, input=data, capture_output=True,
                              check=False, timeout=60)
        self.assertEqual(done.returncode, code, f"{arguments}: {done.stderr.decode(errors='replace')}")
        return done.stdout.decode("latin-1")

    def Refuse(self, sentence: str, *arguments: str) -> None:
        outcome = self.Run(*arguments, code=2)
        self.assertIn(sentence, outcome.text, arguments)
        self.assertEqual(outcome.stdout, b"", arguments)
        for sign in run_harness.SIGNS_OF_A_BUG:
            self.assertNotIn(sign, outcome.text, arguments)

    def test_a_folder_is_enough(self) -> None:
        greedy = ["--prompt=the pool", "--max_tokens=30", "--temperature=0"]
        expected = self.Text("small.txtpb", *greedy)
        for named in [["run"], ["run/"], [STEP], [f"--checkpoint={STEP}"], ["--checkpoint=run"], ["run", "parallel.ranks=4"],
                      ["small.txtpb", "run_dir=none", "--checkpoint=run"], ["small.txtpb", f"--checkpoint={STEP}"]]:
            self.assertEqual(self.Text(*named, *greedy), expected, named)
        early = self.Text("small.txtpb", "--checkpoint=run/checkpoints/step-6", *greedy)
        self.assertNotEqual(early, expected)
        for named in [["run/checkpoints/step-6"], ["run", "--checkpoint=run/checkpoints/step-6"]]:
            self.assertEqual(self.Text(*named, *greedy), early, named)
        # Settings behind it hold, and a folder may be called anything and lie anywhere.
        self.Refuse("lm_head.weight is [256,32] and must be [256,64]", "generate", "run", "model.hidden=64", "--prompt=a")
        shutil.move(self.Path("run"), self.Path("lr=1e-3 run"))
        self.assertEqual(self.Text("lr=1e-3 run", *greedy), expected)
        shutil.move(self.Path("lr=1e-3 run/checkpoints/step-12"), self.Path("best"))
        self.assertEqual(self.Text("best", *greedy), expected)

    def test_eval_and_info_take_folders(self) -> None:
        loss = self.EvalLoss()
        for start in [dict(), dict(mpi=2)]:
            for named in [["run"], [STEP], [f"--checkpoint={STEP}"]]:
                result = json.loads(self.Run("eval", *named, "--json", **start).stdout)
                self.assertAlmostEqual(result["loss"], loss, delta=1e-6)
                self.assertEqual(result["checkpoint"], STEP)
        self.assertEqual(self.Run("info", "run").stdout, self.Run("info", "small.txtpb", "parallel.ranks=2").stdout)
        self.assertEqual(self.Run("info", STEP, "parallel.ranks=1").stdout, self.Run("info", "small.txtpb").stdout)
        self.assertIn(b'run_dir: "moved"', self.Moved("eval", "--print_config"))

    def Moved(self, command: str, *arguments: str) -> bytes:
        """The output of a command on a copy of the run under another name."""
        shutil.copytree(self.Path("run"), self.Path("moved"))
        return self.Run(command, "moved", *arguments).stdout

    def test_the_newest_sound_and_whole_checkpoint_is_taken(self) -> None:
        def Taken() -> tuple[str, str]:
            outcome = self.Run("generate", "run", "--prompt=a", "--max_tokens=1", "--json")
            return json.loads(outcome.stdout)["checkpoint"], outcome.stderr.decode()
        self.assertEqual(Taken(), (STEP, ""))
        # At this rate the loss is lost.
        self.Train("train.steps=16", "train.save_every=4", "train.lr=30", "train.min_lr=30", "train.clip=0", "train.eval_every=0")
        with open(self.Path("run/checkpoints/step-16/training_state.json"), encoding="utf-8") as file:
            self.assertFalse(json.load(file)["training_state"]["sound"])
        checkpoint, said = Taken()
        self.assertEqual(checkpoint, STEP)
        self.assertIn("step-16: is newer, but its loss was not sound", said)
        self.assertEqual(json.loads(self.Run("generate", "run/checkpoints/step-16", "--prompt=a", "--json").stdout)["checkpoint"],
                         "run/checkpoints/step-16")
        with open(self.Path(STEP, "model-00001-of-00002.safetensors"), "r+b") as file:
            file.truncate(1000)
        checkpoint, said = Taken()
        self.assertEqual(checkpoint, "run/checkpoints/step-6")
        self.assertIn("step-12: is no complete checkpoint", said)

    def test_folders_that_are_none(self) -> None:
        os.makedirs(self.Path("photos"))
        os.makedirs(self.Path("other"))
        self.Write("photos/cat.png", "")
        self.Write("other/model.safetensors", "")
        os.makedirs(self.Path("new"))
        shutil.copy(self.Path("run/config.txtpb"), self.Path("new"))
        os.makedirs(self.Path("run/checkpoints/step-18.partial"))
        for command in ["generate", "eval", "info"]:
            self.Refuse("photos: is neither the folder of a run", command, "photos")
            self.Refuse("other: holds weights but no config.txtpb", command, "other")
            self.Refuse(".: holds runs; name one of them: ./new, ./run", command, ".")
            self.Refuse("run/checkpoints: holds no config.txtpb but checkpoints", command, "run/checkpoints")
            self.Refuse("step-18.partial: is being written", command, "run/checkpoints/step-18.partial")
            self.Refuse("no/such: cannot be read", command, "no/such")
            self.Refuse("the configuration file is missing, or the folder of a run", command)
        self.Refuse("no checkpoint in new/checkpoints: train first", "generate", "new")
        self.Refuse("no/such: no such folder", "generate", "--checkpoint=no/such")
        self.assertIn("Parameters", self.Run("info", "new").text)
        self.Refuse("run: is a folder", "train", "run")

    def test_a_run_that_is_being_written(self) -> None:
        process = self.Start("train", "small.txtpb", "run_dir=busy", "train.steps=1000000", "train.save_every=0", "train.eval_every=0")
        WaitUntil(lambda: os.path.exists(self.Path("busy/config.txtpb")), "the run's settings")
        self.Refuse("no checkpoint in busy/checkpoints: the run at work there (host ", "generate", "busy")
        self.Write("busy/save", "")  # what the sentence advises
        WaitUntil(lambda: os.path.isdir(self.Path("busy/checkpoints")) and
                  any(name[-1].isdigit() for name in os.listdir(self.Path("busy/checkpoints"))), "a checkpoint")
        self.assertEqual(len(self.Text("busy", "--prompt=a", "--max_tokens=3")), 5)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.Finish(process).code, 75)

    def test_text_comes_token_by_token(self) -> None:
        process = self.Start("generate", "run", "--prompt=the", "--max_tokens=20000")
        assert process.stdout
        begin = time.monotonic()
        arrivals = []  # seconds, bytes
        while piece := os.read(process.stdout.fileno(), 1 << 16):
            arrivals.append((time.monotonic() - begin, len(piece)))
        self.assertEqual(process.wait(), 0)
        self.assertEqual(sum(size for _, size in arrivals), len("the") + 20000 + 1)
        self.assertLess(arrivals[1][0], 0.5 * arrivals[-1][0])
        self.assertGreater(len(arrivals), 100)

    def test_signals_and_closed_pipes_end_it_at_once(self) -> None:
        for number in [signal.SIGINT, signal.SIGTERM]:
            process = self.Start("generate", "run", "--prompt=the", "--max_tokens=100000000")
            assert process.stdout
            self.assertEqual(os.read(process.stdout.fileno(), 3), b"the")
            process.send_signal(number)
            outcome = self.Finish(process, limit_seconds=20)
            self.assertEqual(outcome.code, -number)
            self.assertTrue(outcome.stdout.endswith(b"\n"))  # the shell's prompt begins a line
            self.assertEqual(outcome.stderr, b"")
        done = subprocess.run(["bash", "-c", f"{run_harness.BINARY} generate run --prompt=the --max_tokens=100000000 | head -c 20; "
                               "echo ${PIPESTATUS[0]}"], cwd=self.folder, capture_output=True, check=False, timeout=20)
        self.assertTrue(done.stdout.endswith(b"141\n"), done)
        self.assertEqual(done.stderr, b"")

    def test_stop_strings(self) -> None:
        text = self.Text("run", "--prompt=the pool", "--max_tokens=120", "--temperature=0.5")
        added = text[len("the pool"):-1]
        for at, length in [(5, 1), (17, 3), (40, 6)]:
            stop = added[at:at + length]
            if "\\" in stop or not stop.isprintable() or not stop.isascii():
                continue
            found = self.Text("run", "--prompt=the pool", "--max_tokens=120", "--temperature=0.5", f"--stop={stop}")
            self.assertEqual(found, "the pool" + added[:added.index(stop)] + "\n")
        both = self.Text("run", "--prompt=the pool", "--max_tokens=120", "--temperature=0.5", "--stop", "no such text", "--stop", " ")
        self.assertEqual(both, "the pool" + added.split(" ")[0] + "\n")
        line = json.loads(self.Run("generate", "run", "--json", "--prompt=the pool", "--max_tokens=120", "--temperature=0.5", "--stop= ").stdout)
        utf8 = added.split(" ")[0].encode("latin-1").decode(errors="replace")
        self.assertEqual((line["text"], line["end"]), (utf8, "stop"))
        # A text that ends while something is held back shows it.
        for stop in ["\\n", added[7] + "\x01", added[5:8] + "\x01"]:
            self.assertEqual(self.Text("run", "--prompt=the pool", "--max_tokens=8", "--temperature=0.5", f"--stop={stop}"), "the pool" + added[:8] + "\n")

    def test_samples_have_seeds_of_their_own(self) -> None:
        def One(seed: int, *more: str) -> str:
            return self.Text("run", "--prompt=the", "--max_tokens=25", f"--sample_seed={seed}", *more)
        self.assertEqual(One(5, "--temperature=0.8"), One(5))  # the default
        self.assertNotEqual(One(5, "--temperature=0"), One(5))
        expected = "".join(f"--- prompt 1, sample {i + 1}\n{One(5 + i)}" for i in range(3))
        self.assertEqual(One(5, "--samples=3"), expected)
        lines = [json.loads(line) for line in One(5, "--samples=3", "--json").splitlines()]
        self.assertEqual([line["sample_seed"] for line in lines], [5, 6, 7])
        self.assertEqual([line["sample"] for line in lines], [1, 2, 3])
        self.assertEqual({line["end"] for line in lines}, {"max_tokens"})
        # Also where the prompt has left the context before the second sample begins.
        long = "every token finds one expert and the pool"
        one = [self.Text("run", f"--prompt={long}", "--max_tokens=9", f"--sample_seed={seed}") for seed in (1, 2)]
        self.assertEqual(self.Text("run", f"--prompt={long}", "--max_tokens=9", "--samples=2"),
                         f"--- prompt 1, sample 1\n{one[0]}--- prompt 1, sample 2\n{one[1]}")

    def test_prompts_from_files_and_pipes(self) -> None:
        few = ["--max_tokens=12"]
        first, second, nothing = (self.Text("run", f"--prompt={prompt}", *few) for prompt in ("the pool", "two\nlines", ""))
        self.assertEqual(self.Text("run", *few), nothing)
        self.assertEqual(self.Text("run", "-", *few, data=b"the pool\n"), first)
        self.assertEqual(self.Text("run", "--prompt=-", *few, data=b"two\nlines\n"), second)
        self.assertEqual(self.Text("run", "-", *few, data=b""), nothing)
        self.Write("prompts.txt", "the pool\n\nthe pool\n")
        both = f"--- prompt 1, sample 1\n{first}--- prompt 2, sample 1\n{first}"
        self.assertEqual(self.Text("run", "--prompt_file=prompts.txt", *few), both)
        self.assertEqual(self.Text("run", "--prompt_file=-", *few, data=b"the pool\nthe pool\n"), both)
        self.Write("prompts.jsonl", json.dumps({"text": "two\nlines"}) + "\n" + json.dumps({"text": "the pool"}) + "\n")
        self.assertEqual(self.Text("run", "--prompt_file=prompts.jsonl", *few), f"--- prompt 1, sample 1\n{second}--- prompt 2, sample 1\n{first}")

    def test_of_a_long_prompt_the_end_is_seen(self) -> None:
        flags = ["--max_tokens=20", "--temperature=0.9"]
        prompt = "".join(chr(97 + i * i % 26) for i in range(200))
        whole = self.Run("generate", "run", f"--prompt={prompt}", *flags)
        seen = int(whole.text.split("the model sees the last ")[1].split()[0])
        self.assertLess(seen, len(prompt))
        part = self.Text("run", f"--prompt={prompt[-seen:]}", *flags)
        self.assertEqual(whole.stdout.decode("latin-1"), prompt[:-seen] + part)

    def test_bad_flags(self) -> None:
        self.Write("empty.txt", "\n")
        self.Write("bad.jsonl", '{"prompt": "a"}\n')
        for sentence, flags in [
                ("--samples=0: must be 1 or more", ["--samples=0"]), ("--samples: expected", ["--samples=x"]),
                ("--stop: is empty", ["--stop="]), ("--stop: is empty", ["--stop=a", "--stop", ""]),
                ("no.txt: cannot be opened: No such file", ["--prompt_file=no.txt"]),
                ("run: is a folder; name a file with a prompt a line", ["--prompt_file=run"]),
                ("empty.txt: holds no prompt", ["--prompt_file=empty.txt"]),
                ('bad.jsonl, line 1: has no key "text"', ["--prompt_file=bad.jsonl"]),
                ("give one of them", ["--prompt=a", "--prompt_file=empty.txt"]), ("give one of them", ["-", "--prompt=a"])]:
            self.Refuse(sentence, "generate", "run", *flags)
        self.Refuse("-: a second configuration file", "eval", "run", "-")
        self.Refuse('--prompt: is given twice, as "a" and "b"', "generate", "run", "--prompt=a", "--prompt=b")
        self.Write("blank.txt", "a\n\n \nb\n")
        outcome = self.Run("generate", "run", "--prompt_file=blank.txt", "--max_tokens=1")
        self.assertIn("note: blank.txt: 2 blank lines are no prompt; ", outcome.text)
        self.assertNotIn("note", self.Run("generate", "run", "--prompt=a", "--max_tokens=1").text)


# GPT-2 writes each byte as a printable character of its own.
PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
SHOWN = {byte: chr(byte) for byte in PRINTABLE}
SHOWN.update({byte: chr(256 + i) for i, byte in enumerate(byte for byte in range(256) if byte not in SHOWN)})
VOCABULARY = {**{shown: 255 - byte for byte, shown in SHOWN.items()}, "th": 256, "\u0120th": 257, "\u0120the": 258,
              "<|endoftext|>": 259}
MERGES = "#version: 0.2\nt h\n\u0120 th\n\u0120th e\n"


class TokenizerTest(RunTest):
    """The tokenizer goes from tokenize over the data into checkpoints, and from there to generate."""

    def setUp(self) -> None:
        super().setUp()
        self.Write("vocab.json", json.dumps(VOCABULARY))
        self.Write("merges.txt", MERGES)
        self.Write("lines.jsonl", "".join(json.dumps({"text": run_harness.SomeText(80, seed=i)}) + "\n" for i in range(40)))
        self.Run("tokenize", "lines.jsonl", "--output_prefix=a", "--tokenizer=gpt2", "--vocab=vocab.json", "--merges=merges.txt")
        self.data = ["data.train=a_text_document", "model.vocab=260", "parallel.ranks=2"]

    def Saved(self, step: int, run: str = "run") -> bytes:
        with open(self.Path(run, f"checkpoints/step-{step}/tokenizer.json"), "rb") as file:
            return file.read()

    def test_it_goes_along(self) -> None:
        with open(self.Path("a_text_document.tokenizer.json"), "rb") as file:
            text = file.read()
        self.assertEqual(json.loads(text)["model"]["vocab"], VOCABULARY)
        self.Train(*self.data)
        self.assertEqual(self.Saved(12), text)
        flags = ["--prompt=the pool th\u00f6", "--max_tokens=30", "--temperature=0.5"]
        found = self.Run("generate", "run", *flags).stdout
        self.assertTrue(found.startswith("the pool th\u00f6".encode()))
        for named in [["--tokenizer=gpt2", "--vocab=vocab.json", "--merges=merges.txt"], ["--tokenizer=a_text_document.tokenizer.json"]]:
            self.assertEqual(self.Run("generate", "run", *flags, *named).stdout, found)
        self.assertNotEqual(self.Run("generate", "run", *flags, "--tokenizer=bytes").stdout, found)
        # The same checkpoint is loaded without it, as by an older program; text then needs flags.
        self.assertIn("as saved", self.Run("verify", "run/checkpoints/step-12").text)
        shutil.copytree(self.Path("run"), self.Path("old"))
        for step in (6, 12):
            path = self.Path(f"old/checkpoints/step-{step}/tokenizer.json")
            os.remove(path)
        self.assertIn("tokenizer.json", self.Run("verify", "old/checkpoints/step-12", code=2).text)

    def test_losses_of_other_tokens_are_compared_by_the_byte(self) -> None:
        self.Train(*self.data)
        self.Train("run_dir=bytes", "parallel.ranks=2")
        losses = {run: [line for line in self.Metrics(run) if "valid_loss" in line][-1] for run in ("run", "bytes")}
        self.assertEqual(losses["bytes"]["valid_loss_per_byte"], losses["bytes"]["valid_loss"])
        self.assertAlmostEqual(losses["run"]["valid_bits_per_byte"], losses["run"]["valid_loss_per_byte"] / math.log(2))
        bytes_a_token = losses["run"]["valid_loss"] / losses["run"]["valid_loss_per_byte"]
        with open(self.Path("a_text_document.bin"), "rb") as file:
            tokens = array.array("H", file.read())
        ends = [i + 1 for i, token in enumerate(tokens) if token == 259]
        valid = tokens[ends[35]:]  # the last tenth of 40 documents
        predicted = valid[1:(len(valid) - 1) // 16 * 16 + 1]
        lengths = {256: 2, 257: 3, 258: 4, 259: 0}  # the end of a document is no text
        self.assertAlmostEqual(bytes_a_token, sum(lengths.get(token, 1) for token in predicted) / len(predicted))
        self.assertGreater(bytes_a_token, 1.01)
        result = json.loads(self.Run("eval", "run", "--json").stdout)
        self.assertAlmostEqual(result["loss"] / result["loss_per_byte"], bytes_a_token)
        self.assertRegex(self.Run("eval", "run").text, r"perplexity \d+\.\d+, \d\.\d+ nats a byte, \d\.\d+ bits a byte\n")
        text = self.Run("compare", "bytes", "run").text
        self.assertRegex(text, r"(?m)^run +- +- +[+-]\d\.\d{4}$")
        self.assertIn("nats a byte can be compared if both are validated on the same text", text)

    def test_data_that_tells_none_takes_that_of_the_weights(self) -> None:
        self.Train(*self.data)
        text = self.Saved(12)
        os.remove(self.Path("a_text_document.tokenizer.json"))
        self.Train(*self.data, "train.steps=14")
        self.assertEqual(self.Saved(14), text)
        self.Train(*self.data, "run_dir=on", "train.init_from=run/checkpoints/step-12", "train.steps=1")
        self.assertEqual(self.Saved(1, "on"), text)
        self.Train(*self.data, "run_dir=none", "train.steps=1")
        self.assertFalse(os.path.exists(self.Path("none/checkpoints/step-1/tokenizer.json")))
        self.assertIn("holds no tokenizer.json", self.Run("generate", "none", "--prompt=a", code=2).text)
        self.Run("generate", "none", "--prompt=a", "--max_tokens=2", "--tokenizer=run/checkpoints/step-12/tokenizer.json")

    def test_other_tokenizers_are_told(self) -> None:
        for start in [dict(), dict(mpi=2)]:
            outcome = self.Train(*self.data, "data.train=0.5 a_text_document,0.5 book.txt", code=2, **start)
            self.assertEqual(outcome.text.count("book.txt has the tokens of another tokenizer (bytes) than a_text_document (gpt2, 260 tokens"), 1)
        self.Run("tokenize", "lines.jsonl", "--output_prefix=d", "--tokenizer=a_text_document.tokenizer.json", "--append_eod=false")
        outcome = self.Train(*self.data, "data.train=d_text_document", "model.vocab=259", code=2)
        self.assertIn("d_text_document: its tokenizer has 260 tokens (d_text_document.tokenizer.json), but model.vocab is 259", outcome.text)
        self.assertFalse(os.path.exists(self.Path("run/checkpoints")))
        self.Train(*self.data)
        outcome = self.Run("eval", "run", "data.train=book.txt", code=2)
        self.assertIn("unipool tokenize --tokenizer run/checkpoints/step-12/tokenizer.json", outcome.text)
        self.Run("tokenize", "lines.jsonl", "--output_prefix=b", "--tokenizer=run/checkpoints/step-12/tokenizer.json")
        self.Run("eval", "run", "data.valid=b_text_document")
        self.assertIn("warning: the data has the tokens of another tokenizer (bytes) than run/checkpoints/step-12",
                      self.Train("model.vocab=260", "parallel.ranks=2", "train.steps=13").text)
        self.Write("other.json", json.dumps({"model": {"type": "Unigram"}}))
        self.assertIn("other.json: is no tokenizer that this program knows", self.Run("generate", "run", "--tokenizer=other.json", code=2).text)

    def test_text_is_bytes(self) -> None:
        self.Train("train.steps=1")
        self.assertEqual(json.loads(self.Saved(1))["model"]["merges"], [])
        self.Run("tokenize", "lines.jsonl", "--output_prefix=c", "--tokenizer=bytes")
        self.Train("run_dir=mixed", "data.train=0.5 c_text_document,0.5 book.txt", "train.steps=1")
        self.assertEqual(self.Saved(1, "mixed"), self.Saved(1))



if __name__ == "__main__":
    run_harness.Main(__doc__)
