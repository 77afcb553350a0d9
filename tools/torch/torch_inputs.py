"""What torch_unipool.py takes from elsewhere: settings, weights, samples, and numbers that both programs must agree on."""
from __future__ import annotations

import json
import math
import mmap
import os
import re
import struct
import sys
import types
from collections.abc import Callable
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor


def fail(message: str) -> NoReturn:
    sys.exit(f"torch_unipool.py: {message}")


Schema = dict[str, dict[str, tuple[str, Any]]]  # message: field: type, default


def read_schema(path: str) -> Schema:
    """Of a .proto file."""
    with open(path, encoding="utf-8") as file:
        text = re.sub(r"//.*", "", file.read())
    schema: Schema = {}
    message: dict[str, tuple[str, Any]] = {}
    pattern = r"message (\w+)|(?:optional|repeated) ([\w.]+) (\w+) = \d+(?: \[default = ([^\]]*)\])?;|enum (\w+) \{\s*(\w+)"
    first_value: dict[str, str] = {}
    for found in re.finditer(pattern, text):
        if found[1]:
            message = schema.setdefault(found[1], {})
        elif found[5]:
            first_value[found[5]] = found[6]
        else:
            message[found[3]] = (found[2], found[4])
    for fields in schema.values():
        for name, (kind, default) in fields.items():
            if default is None and kind in first_value:
                fields[name] = (kind, first_value[kind])
    return schema


def value_of(kind: str, text: str) -> int | float | bool | str:
    text = text.strip('"')
    if kind in ("int32", "int64", "uint64"):
        return int(text or 0)
    if kind == "double":
        return float(text or 0)
    return text == "true" if kind == "bool" else text


def read_config(path: str, settings: list[str]) -> Any:
    """A configuration in protobuf text format (a file, or - for the standard input) with all defaults of config.proto, which
    lies beside the file or in a folder configs above this script."""
    here = os.path.dirname(os.path.abspath(__file__))
    places = [os.path.dirname(os.path.abspath(path))] + [os.path.join(here, up, "configs") for up in ("..", "../..")]
    proto = next((os.path.join(at, "config.proto") for at in places if os.path.exists(os.path.join(at, "config.proto"))), None)
    if not proto:
        fail(f"config.proto, which has the defaults, is in none of {', '.join(places)}")
    schema = read_schema(proto)

    def defaults(message: str) -> types.SimpleNamespace:
        fields = schema[message].items()
        return types.SimpleNamespace(**{name: defaults(kind) if kind in schema else value_of(kind, default or "")
                                        for name, (kind, default) in fields})

    config = defaults("Config")
    try:
        text = sys.stdin.read() if path == "-" else open(path, encoding="utf-8").read()
    except OSError as error:
        fail(f"{path}: {error.strerror}")
    words = re.findall(r'#[^\n]*|("(?:[^"\\]|\\.)*"|[\w.+-]+|[{}\[\]:])', text)
    words = [word for word in words if word]

    def assign(target: Any, message: str, name: str, value: str) -> None:
        if name not in schema[message]:
            fail(f"{path}: {message} has no field {name}")
        setattr(target, name, value_of(schema[message][name][0], value))

    def read_message(target: Any, message: str) -> None:
        while words and words[0] != "}":
            name = words.pop(0)
            if words[0] == ":":
                words.pop(0)
            if words[0] == "{":
                words.pop(0)
                read_message(getattr(target, name), schema[message][name][0])
                words.pop(0)
            elif words[0] == "[":
                while words.pop(0) != "]":
                    pass  # lists name data and layouts, which are not used here
            else:
                assign(target, message, name, words.pop(0))

    read_message(config, "Config")
    for setting in settings:
        (*parents, name), value = setting.partition("=")[0].split("."), setting.partition("=")[2]
        target, message = config, "Config"
        for parent in parents:
            if parent not in schema[message]:
                fail(f"{setting}: {message} has no field {parent}")
            target, message = getattr(target, parent), schema[message][parent][0]
        assign(target, message, name, value)
    return config


def learning_rate(train: Any, step: int) -> float:
    """models/learning_rate.h"""
    length = train.decay_steps if train.lr_schedule == "COSINE" and train.decay_steps > 0 else train.steps
    warmup = int(train.warmup_fraction * length)
    if step < warmup:
        return train.lr * (step + 1) / warmup
    if train.lr_schedule == "CONSTANT":
        return train.lr
    if train.lr_schedule == "WSD":
        falling = train.decay_steps or max(1, length // 10)
        return train.lr - (train.lr - train.min_lr) * min(1.0, max(0.0, (step + 1 - (length - falling)) / falling))
    progress = min(1.0, (step - warmup) / max(1, length - 1 - warmup))
    return train.min_lr + 0.5 * (train.lr - train.min_lr) * (1 + math.cos(math.pi * progress))


def model_flops_per_token(config: Any) -> float:
    """Arithmetic of one token in training: 6 for each weight of a matrix that it meets (embedding: a look-up, none), and
    attention's two products over s/2 positions on average, three times. Nothing that is computed again is counted."""
    m, moe = config.model, config.moe
    rows = -(-m.vocab // m.vocab_multiple) * m.vocab_multiple
    attention = 2 * m.hidden * m.hidden * (1 + m.kv_heads / m.heads)
    router = 0 if moe.sharing == "DENSE" else moe.experts * m.hidden
    experts = 3 * m.hidden * moe.width * moe.top_k
    return 6.0 * (m.layers * (attention + router + experts + m.hidden * m.seq_length) + rows * m.hidden)


def router_constant(experts: int, top_k: int) -> float:
    """c of kernels/router_scores.h, from samples of its own: equal to about 0.5 %."""
    if experts == 1:
        return 1.0
    x = torch.randn(100000, experts, generator=torch.Generator().manual_seed(1))
    best = torch.relu(x.topk(top_k).values / x.norm(dim=1, keepdim=True)).norm(dim=1)
    return (1 / best.median() if experts < 32 else (1 / best).mean()).item()


def read_safetensors(folder: str, device: str) -> Callable[[str], Tensor]:
    """A function from a tensor's name to its values in fp32."""
    types_of = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "F64": torch.float64}
    entries: dict[str, tuple[mmap.mmap, int, dict[str, Any]]] = {}  # file, begin in it, description
    for name in sorted(os.listdir(folder)):
        if not re.fullmatch(r"model.*\.safetensors", name):
            continue
        with open(os.path.join(folder, name), "rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        size = struct.unpack("<Q", data[:8])[0]
        for tensor, entry in json.loads(data[8:8 + size]).items():
            if tensor != "__metadata__":
                entries[tensor] = (data, 8 + size + entry["data_offsets"][0], entry)
    if not entries:
        fail(f"--init {folder}: no model*.safetensors are there")

    def read(name: str) -> Tensor:
        if name not in entries:
            fail(f"--init {folder}: there is no tensor {name}")
        data, begin, entry = entries[name]
        count = math.prod(entry["shape"])
        values = torch.frombuffer(data, dtype=types_of[entry["dtype"]], count=count, offset=begin)
        return values.view(entry["shape"]).to(device=device, dtype=torch.float32, copy=True)

    return read


class Samples:
    """Samples of each step, [batch, s + 1] int64: from a file of int32, or random."""

    def __init__(self, path: str | None, steps: int, batch: int, seq_length: int, vocab: int) -> None:
        self.batch, self.columns, self.vocab, self.file = batch, seq_length + 1, vocab, None
        if path:
            wanted = steps * batch * self.columns
            if os.path.getsize(path) < 4 * wanted:
                fail(f"--samples {path} has {os.path.getsize(path)} bytes; {steps} steps take {4 * wanted}")
            self.file = torch.from_file(path, size=wanted, dtype=torch.int32).view(steps, batch, self.columns)

    def read(self, step: int) -> Tensor:
        if self.file is None:
            return torch.randint(0, self.vocab, (self.batch, self.columns), generator=torch.Generator().manual_seed(step))
        return self.file[step].long()


def fastest_attention(wanted: str | None, shape: tuple[int, int, int, int, int], dtype: torch.dtype) -> str:
    """Leaves only the named or the fastest way of scaled_dot_product_attention switched on; its name."""
    batch, s, heads, kv_heads, size = shape
    switches = {"FLASH": torch.backends.cuda.enable_flash_sdp, "CUDNN": torch.backends.cuda.enable_cudnn_sdp,
                "EFFICIENT": torch.backends.cuda.enable_mem_efficient_sdp, "MATH": torch.backends.cuda.enable_math_sdp}

    def choose(name: str) -> None:
        for each, switch in switches.items():
            switch(each == name)

    def seconds(name: str) -> float:
        choose(name)
        q, k, v = (torch.randn(batch, h, s, size, device="cuda", dtype=dtype, requires_grad=True)
                   for h in (heads, kv_heads, kv_heads))
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        for repeat in range(8):
            if repeat == 3:
                begin.record()
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=heads != kv_heads)
            out.backward(out.detach())
        end.record()
        end.synchronize()
        return begin.elapsed_time(end)

    if not wanted:
        times: dict[str, float] = {}
        for name in ("FLASH", "CUDNN", "EFFICIENT"):
            try:
                times[name] = seconds(name)
            except RuntimeError:
                pass  # this machine does not have it
        wanted = min(times, key=lambda name: times[name]) if times else "MATH"
    if wanted not in switches:
        fail(f"--attention {wanted}: there are {', '.join(switches)}")
    choose(wanted)
    return wanted
