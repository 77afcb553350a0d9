#!/usr/bin/env python3
"""Trains the model of a configuration with PyTorch, to compare speed and memory with this runtime on the same GPU, and
losses on any device. The model is that of models/ (same parameter names, same arithmetic, same schedule); the fastest
way that PyTorch has was taken for each part: bf16 weights with fp32 masters, moments and gradient sums, grouped matrix
products without a word to the host, compiled everything else, the fastest attention of this machine, fused AdamW. It
ends with one JSON line; a line per step goes to the standard error stream. What it can not do, it says: moe.balance BIAS,
moe.balance_scope MICROBATCH and RANK.
"""
from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from typing import Any

try:
    import torch
except ImportError as error:
    sys.exit(f"torch_unipool.py: PyTorch is not installed here ({error}); install it with: pip install torch")

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from torch_inputs import (Samples, fail, fastest_attention, learning_rate, model_flops_per_token,  # noqa: E402
                          read_config)
from torch_model import Model  # noqa: E402


class Optimizer:
    """AdamW on the fp32 masters, weight decay on matrices only, gradients scaled down to train.clip."""

    def __init__(self, model: Model) -> None:
        self.model, t = model, model.config.train
        groups = [{"params": [p for p, decays in zip(model.masters, model.decays) if decays == kind],
                   "weight_decay": t.weight_decay if kind else 0.0} for kind in (True, False)]
        self.adamw = torch.optim.AdamW(groups, lr=t.lr, betas=(t.beta1, t.beta2), eps=t.adam_eps,
                                       fused=True)
        self.scales_in_update = model.options.device == "cpu"  # the fused update can divide gradients as it reads them
        if self.scales_in_update:
            self.adamw.found_inf = torch.zeros(())
        self.copies = [(work, master) for work, master in zip(model.work, model.masters) if work is not master]

    @torch.no_grad()
    def step(self, lr: float) -> torch.Tensor:
        """The norm of the gradients before they were scaled."""
        model, clip = self.model, self.model.config.train.clip
        for work, master in zip(model.work, model.masters):
            if work in model.sums:
                master.grad = model.sums[work]
            elif master.grad is None:
                master.grad = torch.zeros_like(master)
        grads = [master.grad for master in model.masters]
        norm = torch.linalg.vector_norm(torch.stack([part.float() for part in torch._foreach_norm(grads)]))
        if clip > 0 and self.scales_in_update:
            self.adamw.grad_scale = (norm / clip).clamp(min=1)
        elif clip > 0:
            torch._foreach_mul_(grads, (clip / norm).clamp(max=1))
        for group in self.adamw.param_groups:
            group["lr"] = lr
        self.adamw.step()
        if self.copies:
            torch._foreach_copy_([work for work, _ in self.copies], [master for _, master in self.copies])
        torch._foreach_zero_([grad for grad, work in zip(grads, model.work) if work not in model.begun])
        model.begun.clear()
        return norm


def train(config: Any, options: argparse.Namespace) -> tuple[list[float], list[float], list[float]]:
    """(losses, gradient norms, seconds of each step)"""
    t, m, moe = config.train, config.model, config.moe
    is_cuda = options.device == "cuda"
    torch.manual_seed(t.seed)
    model = Model(config, options)
    optimizer = Optimizer(model)
    samples = Samples(options.samples, options.steps, t.global_batch, m.seq_length, m.vocab)
    shares = torch.zeros(model.blocks, model.block_experts, device=options.device)
    losses, norms, seconds = list[float](), list[float](), list[float]()
    for step in range(options.steps):
        if options.turns and not sys.stdin.readline():
            break
        if is_cuda:
            torch.cuda.synchronize()
        begin, processor_begin = time.perf_counter(), time.process_time()
        tokens = samples.read(step).to(options.device)
        loss_sum: Any = 0.0  # tensors from the first microbatch on
        counts: Any = 0
        for microbatch in tokens.split(t.micro_batch):
            objective, loss, count = model.whole(microbatch, shares)
            objective.backward()
            for pool in model.pools:
                pool.finish_microbatch()
            loss_sum = loss_sum + loss
            counts = counts + count if count is not None else counts
        if model.has_router and moe.balance == "POOL_LOSS":
            shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
        norm = optimizer.step(learning_rate(t, step))
        losses.append(loss_sum.item() / model.tokens_per_step)
        norms.append(norm.item())
        if is_cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
        if options.turns:
            print(json.dumps({"seconds": seconds[-1], "processor_seconds": time.process_time() - processor_begin,
                              "loss": losses[-1]}), flush=True)
        print(f"step {step + 1} loss {losses[-1]:.6f} grad_norm {norms[-1]:.4f} "
              f"tokens/s {model.tokens_per_step / seconds[-1]:.0f}", file=sys.stderr, flush=True)
        if is_cuda and step + 1 == options.warmup:
            torch.cuda.reset_peak_memory_stats()
    return losses, norms, seconds


def result(config: Any, options: argparse.Namespace, losses: list[float], norms: list[float], seconds: list[float],
           notes: list[str]) -> dict[str, Any]:
    tokens = config.train.global_batch * config.model.seq_length
    timed = seconds[options.warmup:] or seconds
    rate, flops = tokens / statistics.median(timed), model_flops_per_token(config)
    is_cuda = options.device == "cuda"
    name = torch.cuda.get_device_name() if is_cuda else "CPU"
    peak = options.peak_tflops
    if peak is None and options.precision == "BF16" and ("H100" in name or "H200" in name):
        peak = 989.0
    return {"torch": torch.__version__, "device": name, "precision": options.precision, "compile": options.compile,
            "weight_grads": options.weight_grads, "grouped": options.grouped, "attention": options.attention,
            "global_batch": config.train.global_batch, "micro_batch": config.train.micro_batch,
            "tokens_per_second": rate, "step_seconds": timed, "model_flops_per_token": flops,
            "model_tflops": flops * rate / 1e12, "peak_tflops": peak,
            "share_of_peak": flops * rate / 1e12 / peak if peak else None,
            "max_memory_allocated": torch.cuda.max_memory_allocated() if is_cuda else None,
            "max_memory_reserved": torch.cuda.max_memory_reserved() if is_cuda else None,
            "losses": losses, "grad_norms": norms, "notes": notes}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     allow_abbrev=False)
    parser.add_argument("config", metavar="CONFIG.txtpb", help="- is the standard input")
    parser.add_argument("settings", metavar="field.path=value", nargs="*")
    parser.add_argument("--device", type=str.upper, choices=["CUDA", "CPU"], help="default: CUDA where there is one")
    parser.add_argument("--precision", choices=["BF16", "FP32"],
                        help="default: BF16 on CUDA, FP32 on the CPU; the router is fp32 in both")
    parser.add_argument("--steps", type=int, default=12, help="steps to run (12); the schedule of the learning rate is that of "
                        "train.steps")
    parser.add_argument("--warmup", type=int, default=4, help="how many of the steps not to time (4)")
    parser.add_argument("--samples", metavar="FILE", help="int32 [steps, train.global_batch, seq_length + 1], row by row; "
                        "default: random tokens")
    parser.add_argument("--init", metavar="FOLDER", help="safetensors to start from, as unipool writes and reads them; "
                        "default: random weights")
    parser.add_argument("--masters", choices=["FP32", "NONE"], default="FP32",
                        help="with BF16: weights of which the update keeps fp32 masters (default), or bf16 weights, gradients "
                        "and moments alone")
    parser.add_argument("--turns", action="store_true", help="a step for each line of the standard input, to take turns with "
                        "other programs; prints a JSON line after each")
    parser.add_argument("--weight_grads", choices=["TOGETHER", "PER_LAYER"], default="TOGETHER",
                        help="TOGETHER (default): gradients of expert weights once per microbatch, from the rows of all "
                        "layers; PER_LAYER: what autograd does, a gradient of the whole pool in each layer, and their sum")
    parser.add_argument("--compile", choices=["LAYER", "MODEL", "OFF"],
                        help="what torch.compile sees at once; default: LAYER, OFF on the CPU")
    parser.add_argument("--grouped", choices=["MM", "LOOP"],
                        help="torch's grouped product, or a product per expert; default: MM with BF16 on CUDA")
    parser.add_argument("--attention", choices=["FLASH", "CUDNN", "EFFICIENT", "MATH"],
                        help="default: the fastest of those that run here")
    parser.add_argument("--peak_tflops", type=float,
                        help="dense rate of the device to compare with; default: 989 on H100 and H200 with BF16")
    return parser.parse_intermixed_args()


def complete(options: argparse.Namespace, config: Any) -> None:
    """Sets what was left to this machine and the configuration."""
    has_gpu = torch.cuda.is_available()
    device = options.device or ("CUDA" if has_gpu else "CPU")
    if device == "CUDA" and not has_gpu:
        fail("--device CUDA: PyTorch finds no GPU here")
    is_cuda = device == "CUDA"
    options.device = device.lower()
    options.precision = options.precision or ("BF16" if is_cuda else "FP32")
    options.compile = options.compile or ("LAYER" if is_cuda else "OFF")
    options.grouped = options.grouped or ("MM" if is_cuda and options.precision == "BF16" else "LOOP")
    if config.moe.sharing == "DENSE":
        options.weight_grads = "PER_LAYER"  # a product per layer, not per expert
    if options.compile == "MODEL" and options.weight_grads == "TOGETHER":
        fail("--compile MODEL sees no gradients that wait; give --weight_grads PER_LAYER with it")


def main() -> None:
    options = parse()
    config = read_config(options.config, options.settings)
    complete(options, config)
    torch.set_float32_matmul_precision("high" if options.precision == "BF16" else "highest")
    if options.device == "cuda":
        m, t = config.model, config.train
        dtype = torch.bfloat16 if options.precision == "BF16" else torch.float32
        options.attention = fastest_attention(options.attention, (t.micro_batch, m.seq_length, m.heads, m.kv_heads,
                                                                  m.hidden // m.heads), dtype)
    notes: list[str] = []
    try:
        run = train(config, options)
    except Exception as error:  # a compiler that can not do it is no reason to have no comparison; it is said
        if options.compile == "OFF" or isinstance(error, torch.cuda.OutOfMemoryError):
            raise
        notes.append(f"without torch.compile, which failed: {type(error).__name__}: {str(error)[:500]}")
        print(notes[-1], file=sys.stderr)
        options.compile = "OFF"
        run = train(config, options)
    print(json.dumps(result(config, options, *run, notes)))


if __name__ == "__main__":
    main()
