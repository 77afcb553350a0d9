#!/usr/bin/env python3
"""serve: what clients are answered, and that nothing a client sends takes the server down. The attack runs for
UNIPOOL_SERVE_SECONDS (60)."""
import concurrent.futures
import http.client
import json
import math
import os
import random
import re
import signal
import socket
import time
from typing import Any

import run_harness
from run_harness import RunTest

SECONDS = float(os.environ.get("UNIPOOL_SERVE_SECONDS", "60"))
PATH = "/v1/completions"


class ServeTest(RunTest):
    def setUp(self) -> None:
        super().setUp()
        self.Train("model.seq_length=64", "train.global_batch=4", "train.steps=30", "train.eval_every=0", "train.save_every=30")
        self.server = self.Start("serve", "run", "--port=0")
        assert self.server.stdout
        line = self.server.stdout.readline().decode()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/v1", line)
        assert found, line
        self.port = int(found[1])

    def Ask(self, body: str | bytes | dict[str, Any], method: str = "POST", path: str = PATH, **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            data = json.dumps(body) if isinstance(body, dict) else body
            connection.request(method, path, data, {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def Complete(self, **fields: Any) -> Any:
        status, answer = self.Ask({"model": "any", **fields})
        self.assertEqual(status, 200, answer)
        return answer

    def AssertUp(self) -> None:
        self.assertIsNone(self.server.poll())
        self.assertEqual(self.Ask("", "GET", "/health"), (200, {"status": "ok"}))

    def test_text_is_what_generate_writes(self) -> None:
        ways: list[tuple[list[str], dict[str, Any]]] = [
            (["--temperature=0"], {"temperature": 0}), (["--sample_seed=7"], {"temperature": 0.8, "seed": 7}),
            (["--temperature=0.5", "--top_k=5", "--top_p=0.9"], {"temperature": 0.5, "top_k": 5, "top_p": 0.9}),
            (["--temperature=0", "--stop=e"], {"temperature": 0, "stop": "e"})]
        for arguments, fields in ways:
            written = self.Run("generate", "run", "--prompt=the pool of", "--max_tokens=30", *arguments).stdout
            text = written.decode("latin-1")[11:-1]
            answer = self.Complete(prompt="the pool of", max_tokens=30, **fields)
            self.assertEqual(answer["choices"][0]["text"], text.encode("latin-1").decode(errors="replace"), arguments)
            ended = "--stop=e" in arguments and "e" not in text
            self.assertEqual(answer["choices"][0]["finish_reason"], "stop" if ended and len(text) < 30 else "length")
            self.assertEqual(answer["usage"]["prompt_tokens"], 11)

    def test_scores_of_prompts(self) -> None:
        texts = ["the pool of experts", "every token", "x"]
        scored = self.Complete(prompt=texts, max_tokens=1, logprobs=3, echo=True, temperature=0)
        tokens = self.Complete(prompt=[list(text.encode()) for text in texts], max_tokens=1, logprobs=3, echo=True, temperature=0)
        self.assertEqual(scored["choices"], tokens["choices"])
        self.assertEqual([choice["index"] for choice in scored["choices"]], [0, 1, 2])
        alone = self.Complete(prompt=texts[0], max_tokens=0, logprobs=0, echo=True)["choices"][0]
        self.assertEqual(alone["text"], texts[0])
        lists = scored["choices"][0]["logprobs"]
        self.assertEqual(lists["tokens"][:-1], list(texts[0]))
        self.assertIsNone(lists["token_logprobs"][0])
        self.assertIsNone(lists["top_logprobs"][0])
        self.assertEqual(lists["text_offset"], list(range(20)))
        for one, other in zip(lists["token_logprobs"][1:-1], alone["logprobs"]["token_logprobs"][1:], strict=True):
            self.assertAlmostEqual(one, other, delta=1e-4)
        for value, top in zip(lists["token_logprobs"][1:], lists["top_logprobs"][1:], strict=True):
            self.assertIn(value, top.values())
            self.assertIn(len(top), (3, 4))
            self.assertLessEqual(sum(map(math.exp, top.values())), 1 + 1e-6)
        # The last is the likeliest, as one token after another gives it too.
        self.assertEqual(lists["token_logprobs"][-1], max(lists["top_logprobs"][-1].values()))
        written = self.Complete(prompt=texts[0], max_tokens=2, logprobs=3, temperature=0)["choices"][0]["logprobs"]
        self.assertEqual(written["tokens"][0], lists["tokens"][-1])
        self.assertAlmostEqual(written["token_logprobs"][0], lists["token_logprobs"][-1], delta=1e-4)
        # And as `eval --tasks` scores the same continuation.
        self.Write("piqa.jsonl", json.dumps({"goal": "a", "sol1": "pool", "sol2": "of", "label": 0}) + "\n")
        self.Run("eval", "run", "--tasks=piqa=piqa.jsonl", "--log_samples=s.jsonl")
        with open(self.Path("s.jsonl"), encoding="utf-8") as file:
            sample = json.loads(file.readline())
        context, continuation = sample["arguments"][0]
        lists = self.Complete(prompt=context + continuation, max_tokens=0, logprobs=1, echo=True)["choices"][0]["logprobs"]
        self.assertAlmostEqual(sum(lists["token_logprobs"][len(context):]), sample["resps"][0][0], delta=1e-4)

    def test_answers_that_refuse(self) -> None:
        cases: list[tuple[int, str | bytes | dict[str, Any]]] = [
                             (400, ""), (400, "{"), (400, "[]"), (400, "{}"), (400, b"\xff\xfe"), (400, "[" * 100000),
                             (400, {"prompt": "a", "stream": True}), (400, {"prompt": "a", "n": 2}), (400, {"prompt": "a", "x": 1}),
                             (400, {"prompt": "a" * 65, "max_tokens": 0}), (400, {"prompt": [300], "max_tokens": 1}),
                             (413, " " * (5 << 20))]
        for status, body in cases:
            found, answer = self.Ask(body)
            self.assertEqual(found, status, str(body)[:80])
            self.assertEqual(answer["error"]["code"], status)
        self.assertEqual(self.Ask("", "GET")[0], 405)
        self.assertEqual(self.Ask("{}", path="/v1/chat/completions")[0], 404)
        self.assertEqual(self.Ask("x", **{"Content-Encoding": "gzip"})[0], 415)
        models = self.Ask("", "GET", "/v1/models")[1]
        self.assertEqual(models["data"][0]["id"], "run/checkpoints/step-30")
        self.assertEqual(models["data"][0]["max_model_len"], 64)
        self.AssertUp()

    def test_many_at_once(self) -> None:
        with concurrent.futures.ThreadPoolExecutor(60) as pool:
            answers = list(pool.map(lambda i: self.Ask({"prompt": f"the {i % 7}", "max_tokens": 20, "temperature": 0}), range(200)))
        good = [answer for status, answer in answers if status == 200]
        self.assertEqual({status for status, _ in answers} - {200, 429}, set())
        self.assertGreater(len(good), 20)
        self.assertLessEqual(len({answer["choices"][0]["text"] for answer in good}), 7)
        self.AssertUp()

    def test_ends_without_finishing_its_answers(self) -> None:
        idle = socket.create_connection(("127.0.0.1", self.port))
        idle.sendall(b"POST /v1/completions HTTP/1.1\r\nContent-Le")
        answered = 0
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            asked = [pool.submit(self.Ask, {"prompt": ["the"] * 200, "max_tokens": 60}) for _ in range(16)]
            time.sleep(0.3)
            self.server.send_signal(signal.SIGTERM)
            self.assertEqual(self.server.wait(timeout=10), 0)
            for answer in asked:
                try:
                    status = answer.result()[0]
                    self.assertIn(status, (200, 429, 503))
                    answered += status == 200
                except (OSError, http.client.HTTPException, json.JSONDecodeError):
                    pass  # cut off
        self.assertLess(answered, 16, "it came too late to interrupt anything")
        idle.close()
        assert self.server.stderr
        for sign in run_harness.SIGNS_OF_A_BUG:
            self.assertNotIn(sign, self.server.stderr.read().decode(errors="replace"))

    def test_mistakes_of_the_command(self) -> None:
        for sentence, arguments in [("--port=70000: must be 0", ["--port=70000"]),
                                    (f"--port={self.port}: cannot be had", [f"--port={self.port}"]),
                                    ("start it without mpirun", ["--port=0"]), ("--host: is empty", ["--host="])]:
            outcome = self.Run("serve", "run", *arguments, mpi=2 if "mpirun" in sentence else 0, code=2)
            self.assertIn(sentence, outcome.text)

    # ---- the attack

    def Mangled(self, choose: random.Random) -> bytes:
        """A request, or something like it."""
        values: list[Any] = ["the pool", ["a", "b"], [1, 2, 3], [[1], [2, 255]], "", [], {}, None, -1, 1e300, "\u00e9\ud83d\ude00",
                             [[]], [256], ["a", [1]], True, "a" * 70, 2 ** 70, ["x"] * 300, 0, 1, 5, 0.5]
        fields = ["prompt", "max_tokens", "temperature", "top_p", "top_k", "seed", "logprobs", "echo", "stop", "stream", "n",
                  "model", "suffix", "best_of", "unknown"]
        body: dict[str, Any] = {"prompt": "the", "max_tokens": choose.randrange(4)}
        for _ in range(choose.randrange(4)):
            body[choose.choice(fields)] = choose.choice(values)
        text = json.dumps(body).encode()
        way = choose.randrange(10)
        if way == 0:
            text = bytes(choose.randrange(256) for _ in range(choose.randrange(2000)))
        elif way == 1:
            text = choose.choice([b"[", b'{"a":', b'"', b"\\u", b"1,"]) * choose.randrange(1, 20000)
        elif way == 2 and text:
            at = choose.randrange(len(text))
            text = text[:at] + bytes([choose.randrange(256)]) + text[at + 1:]
        method = choose.choice([b"POST"] * 8 + [b"GET", b"HEAD", b"PUT", b"OPTIONS", b"BREW", b"\0"])
        path = choose.choice([PATH.encode()] * 8 + [b"/v1/models", b"/", b"/%00", b"/" + b"a" * 9000, b"*", b"//..//..",
                                                          b"/v1/completions?x=%ff&&=="])
        length = choose.choice([str(len(text)).encode()] * 6 + [b"0", b"-1", b"99999999999999999999", b"1e3", b"", b"5000000"])
        extra = choose.choice([b""] * 6 + [
            b"Transfer-Encoding: chunked\r\n", b"Content-Encoding: gzip\r\n", b"Content-Encoding: br\r\n",
            b"Expect: 100-continue\r\n", b"Range: bytes=0-5,1-,-3\r\n", b"X: " + b"y" * 9000 + b"\r\n",
            b"Content-Type: multipart/form-data; boundary=x\r\n", b"A: b\r\n" * 3000, b"Connection: close\r\n",
            b"\xff\xfe: \0\r\n", b"Content-Type: application/x-www-form-urlencoded\r\n"])
        return method + b" " + path + b" HTTP/1.1\r\nHost: a\r\nContent-Length: " + length + b"\r\n" + extra + b"\r\n" + text

    def AttackOnce(self, seed: int) -> None:
        choose = random.Random(seed)
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                data = self.Mangled(choose)
                way = choose.randrange(8)
                if way == 0:
                    data = data[:choose.randrange(len(data))]  # and no more
                if way == 1:
                    for byte in data[:20]:
                        connection.sendall(bytes([byte]))
                        time.sleep(0.02)
                else:
                    connection.sendall(data)
                if way == 2:
                    return  # without hearing the answer
                if way == 3:
                    connection.shutdown(socket.SHUT_WR)
                connection.settimeout(0.5 if way == 0 else 2)
                while connection.recv(65536):
                    if choose.random() < 0.3:
                        return
        except OSError:
            pass

    def Memory(self) -> int:
        with open(f"/proc/{self.server.pid}/status", encoding="ascii") as file:
            found = re.search(r"VmRSS:\s*(\d+)", file.read())
        assert found
        return int(found[1]) // 1024

    def test_stays_up_under_attack(self) -> None:
        seed = random.SystemRandom().randrange(1 << 30)
        print(f"attack of seed {seed}")
        slow = [socket.create_connection(("127.0.0.1", self.port)) for _ in range(10)]  # hold threads as long as they may
        for connection in slow:
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\nContent-Length: 4000000\r\n\r\n{")
        end, count = time.monotonic() + SECONDS, 0
        before = self.Memory()
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            while time.monotonic() < end:
                list(pool.map(self.AttackOnce, range(seed + count, seed + count + 60)))
                count += 60
                self.AssertUp()
        print(f"{count} attacks, {before} MiB before and {self.Memory()} MiB after")
        self.assertGreater(count, 100)
        self.assertLess(self.Memory(), before + 200)
        answer = self.Complete(prompt="the pool", max_tokens=3, temperature=0)
        self.assertEqual(answer["usage"]["completion_tokens"], 3)
        for connection in slow:
            connection.close()
        self.server.send_signal(signal.SIGTERM)
        self.assertEqual(self.server.wait(timeout=10), 0)
        assert self.server.stderr
        errors = self.server.stderr.read().decode(errors="replace")
        for sign in run_harness.SIGNS_OF_A_BUG:
            self.assertNotIn(sign, errors)


if __name__ == "__main__":
    run_harness.Main(__doc__)
