"""The model of models/ in PyTorch, for torch_unipool.py: attention, router and experts of a configuration, one microbatch at
a time."""
from __future__ import annotations

import argparse
import math
import types
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch_inputs import fail, read_safetensors, router_constant


def row_ranges(offsets: Tensor) -> list[tuple[int, int, int]]:
    """(expert, first row, row behind its last) of all experts; offsets are the ends."""
    ends = offsets.tolist()
    return list(zip(range(len(ends)), [0] + ends[:-1], ends))


def grouped_loop(a: Tensor, b: Tensor, offsets: Tensor) -> Tensor:
    """What grouped_mm computes, a product at a time: [R, I] x [E, I, O] -> [R, O], or [I, R] x [R, O] -> [E, I, O]."""
    ranges = row_ranges(offsets)
    if b.dim() != 3:
        return torch.stack([a[:, begin:end] @ b[begin:end] for _, begin, end in ranges])
    if torch.is_grad_enabled():
        return torch.cat([a[begin:end] @ b[e] for e, begin, end in ranges])
    out = a.new_empty(a.shape[0], b.shape[2])
    for e, begin, end in ranges:
        torch.mm(a[begin:end], b[e], out=out[begin:end])
    return out


def add_grouped_loop(total: Tensor, a: Tensor, b: Tensor, offsets: Tensor, is_first: bool) -> None:
    """total [E, I, O] += a^T b over the rows of each expert, with no array between; is_first: total holds nothing yet."""
    for e, begin, end in row_ranges(offsets):
        if is_first and begin == end:
            total[e].zero_()
        elif begin < end and total.dtype != a.dtype:
            product = a[begin:end].t() @ b[begin:end]
            total[e].copy_(product) if is_first else total[e].add_(product)
        elif begin < end:
            torch.addmm(total[e], a[begin:end].t(), b[begin:end], beta=0 if is_first else 1, out=total[e])


def grouped_mm(a: Tensor, b: Tensor, offsets: Tensor) -> Tensor:
    product = getattr(F, "grouped_mm", None) or torch._grouped_mm
    return product(a, b, offs=offsets)


class Permute(Function):
    """Rows in the order of their experts: a gather in both directions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, inverse: Tensor, top_k: int) -> Tensor:
        ctx.save_for_backward(inverse)
        ctx.top_k = top_k
        return x[order // top_k]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (inverse,) = ctx.saved_tensors
        rows = grad[inverse]
        return (rows if ctx.top_k == 1 else rows.view(-1, ctx.top_k, grad.shape[1]).sum(1)), None, None, None


class Unpermute(Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(order)
        return y[inverse]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (order,) = ctx.saved_tensors
        return grad[order], None, None


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps) * weight.float()).to(x.dtype)


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [b, heads, s, d], tables [s, d / 2]: dims i and i + d/2 are a pair."""
    first, second = x.float().chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1).to(x.dtype)


def swiglu(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.float().chunk(2, -1)
    return (F.silu(gate) * up).to(gate_up.dtype)


def swiglu_backward(gate_up: Tensor, dactivation: Tensor) -> tuple[Tensor, Tensor]:
    """(dgate_up, the activation again)"""
    gate, up = gate_up.float().chunk(2, -1)
    grad, sigmoid = dactivation.float(), torch.sigmoid(gate)
    silu = gate * sigmoid
    dgate = grad * up * sigmoid * (1 + gate * (1 - sigmoid))
    return torch.cat((dgate, grad * silu), -1).to(gate_up.dtype), (silu * up).to(gate_up.dtype)


def add_where(total: Tensor, grad: Tensor, counts: Tensor) -> None:
    """total += grad of the experts that have rows: others hold whatever the product left there."""
    total.add_(torch.where(counts[:, None, None] > 0, grad.float(), 0))


class ExpertsOfLayer(Function):
    """An expert block whose weight gradients wait for those of the other layers."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, offsets: Tensor, pool: Pool, experts: Tensor) -> Tensor:
        gate_up = pool.product(rows, pool.gate_up.transpose(1, 2), offsets)
        ctx.save_for_backward(rows, gate_up, offsets, experts)
        ctx.pool = pool
        return pool.product(pool.swiglu(gate_up), pool.down.transpose(1, 2), offsets)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        rows, gate_up, offsets, experts = ctx.saved_tensors
        pool, dy = ctx.pool, dy.contiguous()
        dgate_up, activation = pool.swiglu_backward(gate_up, pool.product(dy, pool.down, offsets))
        for waiting, part in zip(pool.waiting, (experts, rows, dgate_up, activation, dy)):
            waiting.append(part)
        return pool.product(dgate_up, pool.gate_up, offsets), None, None, None


class Pool:
    """The experts of one block of layers, and what waits for their weight gradients."""

    def __init__(self, model: Model, gate_up: Tensor, down: Tensor) -> None:
        self.model, self.product = model, model.product
        self.gate_up, self.down = gate_up, down  # [E, 2F, D], [E, D, F]
        self.swiglu, self.swiglu_backward, self.add_where = (
            model.compiled(f) for f in (swiglu, swiglu_backward, add_where))
        # Of each layer: experts, rows, gradient of gate and up, activation, gradient of the answer.
        self.waiting: list[list[Tensor]] = [[] for _ in range(5)]

    @torch.no_grad()
    def finish_microbatch(self) -> None:
        if not self.waiting[0]:
            return
        experts = torch.cat(self.waiting[0])
        order = torch.argsort(experts, stable=True)
        counts = torch.zeros(self.gate_up.shape[0], dtype=torch.int64, device=experts.device)
        counts.scatter_add_(0, experts.long(), torch.ones_like(experts, dtype=torch.int64))
        offsets = counts.cumsum(0).to(torch.int32)
        for weight, left, right in ((self.gate_up, 2, 1), (self.down, 4, 3)):
            sides = []
            for side in (left, right):
                sides.append(torch.cat(self.waiting[side])[order])
                self.waiting[side] = []
            total, is_first = self.model.gradient_sum(weight)
            if self.product is grouped_loop:
                add_grouped_loop(total, sides[0], sides[1], offsets, is_first)
                continue
            if is_first:
                total.zero_()
            self.add_where(total, self.product(sides[0].t(), sides[1], offsets), counts)
        self.waiting = [[] for _ in range(5)]


class Model:
    def __init__(self, config: Any, options: argparse.Namespace) -> None:
        self.config, self.options = config, options
        m, moe = config.model, config.moe
        self.dtype = torch.bfloat16 if options.precision == "BF16" else torch.float32
        self.product = grouped_mm if options.grouped == "MM" else grouped_loop
        self.has_router = moe.sharing != "DENSE"
        if moe.sharing == "SLIDING":
            fail("moe.sharing SLIDING is not written here; use GLOBAL, GROUPED, PRIVATE or DENSE")
        if moe.lock.assignment != "NONE":
            fail("moe.lock is not written here; leave it out")
        self.blocks = {"GLOBAL": 1, "GROUPED": moe.groups}.get(moe.sharing, m.layers)
        if moe.balance == "BIAS" or (moe.balance == "POOL_LOSS" and moe.balance_scope != "STEP"):
            fail(f"moe.balance {moe.balance} with moe.balance_scope {moe.balance_scope} is not written here; use STEP")
        if moe.experts % self.blocks or m.layers % self.blocks:
            fail(f"moe.experts {moe.experts} and model.layers {m.layers} must be multiples of the {self.blocks} blocks")
        self.block_experts, self.block_layers = moe.experts // self.blocks, m.layers // self.blocks
        self.head_size = m.hidden // m.heads
        self.tokens_per_step = config.train.global_batch * m.seq_length
        self.vocab_rows = -(-m.vocab // m.vocab_multiple) * m.vocab_multiple
        self.constant = moe.router_constant or router_constant(self.block_experts, moe.top_k)
        angles = torch.arange(m.seq_length, dtype=torch.float64)[:, None] * m.rope_base ** (
            -torch.arange(0, self.head_size, 2, dtype=torch.float64) / self.head_size)
        self.cos, self.sin = (table.float().to(options.device) for table in (angles.cos(), angles.sin()))
        self.compiled = (lambda f: torch.compile(f, dynamic=False)) if options.compile == "LAYER" else (lambda f: f)
        self.make_parameters()
        self.attend, self.attend_and_route, self.combine, self.head = (
            self.compiled(f) for f in (self.attend_, self.attend_and_route_, self.combine_, self.head_))
        self.whole = torch.compile(self.forward_, dynamic=False) if options.compile == "MODEL" else self.forward_

    # Parameters ------------------------------------------------------------------------------------------------------

    def make_parameters(self) -> None:
        """Every weight: its names on disk, the tensor that the model computes with, its fp32 master."""
        m, moe = self.config.model, self.config.moe
        std, out_std = m.init_std, m.init_std / math.sqrt(2 * m.layers)
        kv, f = m.kv_heads * self.head_size, moe.width
        stored = read_safetensors(self.options.init, self.options.device) if self.options.init else None
        self.masters: list[Tensor] = []
        self.work: list[Tensor] = []
        self.sums: dict[Tensor, Tensor] = {}
        self.begun: set[Tensor] = set()  # of the sums of expert weights, those with gradients of this step
        self.decays: list[bool] = []

        def declare(names: list[str], shape: tuple[int, ...], mean: float = 0.0, spread: float = 0.0,
                    wide: bool = False) -> Tensor:
            if stored is not None:
                master = torch.cat([stored(name) for name in names]).reshape(shape)
            elif spread:
                master = torch.randn(shape, device=self.options.device) * spread
            else:
                master = torch.full(shape, mean, device=self.options.device)
            if self.options.masters == "NONE" and not wide:
                master = master.to(self.dtype)
            work = master if wide else master.to(self.dtype)  # the same tensor where the types are equal
            work.requires_grad_(True)
            self.masters.append(master)
            self.work.append(work)
            self.decays.append(len(shape) > 1)
            if self.options.weight_grads == "TOGETHER" and len(shape) == 3:
                work.requires_grad_(False)
                self.sums[work] = torch.zeros_like(master)
            elif work is not master:
                self.sums[work] = torch.zeros_like(master)
                work.register_post_accumulate_grad_hook(self.add_to_sum)
            return work

        self.embedding = declare(["model.embed_tokens.weight"], (self.vocab_rows, m.hidden), spread=std)
        self.layers: list[types.SimpleNamespace] = []
        for l in range(m.layers):
            at = f"model.layers.{l}."
            layer = types.SimpleNamespace(
                norm=declare([at + "input_layernorm.weight"], (m.hidden,), 1.0),
                qkv=declare([f"{at}self_attn.{x}_proj.weight" for x in "qkv"], (m.hidden + 2 * kv, m.hidden), spread=std),
                out=declare([at + "self_attn.o_proj.weight"], (m.hidden, m.hidden), spread=out_std),
                ffn_norm=declare([at + "post_attention_layernorm.weight"], (m.hidden,), 1.0), router=None, scale=None)
            if self.has_router:
                layer.router = declare([at + "mlp.router.weight"], (moe.experts, m.hidden), spread=std, wide=True)
                if moe.router == "NORM":
                    layer.scale = declare([at + "mlp.router.scale"], (1,), 1.0, wide=True)
            self.layers.append(layer)
        self.norm = declare(["model.norm.weight"], (m.hidden,), 1.0)
        self.lm_head = declare(["lm_head.weight"], (self.vocab_rows, m.hidden), spread=std)
        self.pools: list[Pool] = []
        for b in range(self.blocks):
            own = range(b * self.block_experts, (b + 1) * self.block_experts)
            name = "model.pool.experts.{}.{}_proj.weight".format
            gate_up = declare([name(e, x) for e in own for x in ("gate", "up")], (len(own), 2 * f, m.hidden), spread=std)
            down = declare([name(e, "down") for e in own], (len(own), m.hidden, f), spread=out_std)
            self.pools.append(Pool(self, gate_up, down))

    def gradient_sum(self, work: Tensor) -> tuple[Tensor, bool]:
        """The sum of an expert weight's gradients, and whether it holds nothing of this step yet."""
        is_first = work not in self.begun
        self.begun.add(work)
        return self.sums[work], is_first

    def add_to_sum(self, work: Tensor) -> None:
        self.sums[work].add_(work.grad)
        work.grad = None

    # One microbatch --------------------------------------------------------------------------------------------------

    def attend_(self, x: Tensor, norm: Tensor, qkv: Tensor, out: Tensor, ffn_norm: Tensor) -> tuple[Tensor, Tensor]:
        """x + attention, and its norm; x [b, s, D]."""
        m, d = self.config.model, self.head_size
        b, s = x.shape[:2]
        parts = F.linear(rms_norm(x, norm, m.norm_eps), qkv).view(b, s, -1, d).transpose(1, 2)
        q, k, v = parts.split((m.heads, m.kv_heads, m.kv_heads), 1)
        mixed = F.scaled_dot_product_attention(rope(q, self.cos, self.sin), rope(k, self.cos, self.sin), v, is_causal=True,
                                               enable_gqa=m.heads != m.kv_heads)
        h = x + F.linear(mixed.transpose(1, 2).reshape(b, s, m.hidden), out)
        return h, rms_norm(h, ffn_norm, m.norm_eps)

    def route(self, normed: Tensor, router: Tensor, scale: Tensor, shares: Tensor) -> tuple[Tensor, ...]:
        """Rows in the order of their experts, and how to come back; router [E, D] and shares [E] of the layer's own block."""
        moe, e = self.config.moe, self.block_experts
        flat = normed.reshape(-1, normed.shape[-1])
        z = F.linear(flat.float(), router)
        if moe.router == "NORM":
            scores = scale * self.constant * torch.relu(z / (z.square().sum(-1, keepdim=True).sqrt() + 1e-8))
        else:
            scores = {"SOFTMAX": lambda: z.softmax(-1), "SIGMOID": lambda: z.sigmoid()}[moe.router]()
        # Ties go to the lower index.
        if moe.top_k == 1:
            chosen = scores.argmax(-1, keepdim=True)
        else:
            chosen = torch.sort(scores, stable=True, dim=-1, descending=True).indices[:, :moe.top_k]
        weights, experts = scores.gather(1, chosen), chosen.flatten()
        order = torch.argsort(experts, stable=True)
        inverse = torch.empty_like(order).scatter_(0, order, torch.arange(order.numel(), device=order.device))
        counts = torch.zeros(e, dtype=torch.int64, device=order.device).scatter_add_(0, experts, torch.ones_like(experts))
        counted = counts
        if moe.balance_counts == "POSITIVE":
            counted = torch.zeros_like(counts).scatter_add_(0, experts, (weights.flatten() > 0).long())
        if moe.balance == "LAYER_LOSS":
            shares = counted / counted.sum().clamp(min=1)
        if moe.balance_hinge:
            shares = torch.relu(shares - 1 / e)
        layers = self.block_layers if moe.balance == "POOL_LOSS" else 1
        aux = (shares * scores.sum(0)).sum() * (moe.balance_coeff * e / (layers * self.tokens_per_step))
        offsets = counts.cumsum(0).to(torch.int32)
        return Permute.apply(flat, order, inverse, moe.top_k), order, inverse, offsets, weights, experts[order], counted, aux

    def combine_(self, h: Tensor, y: Tensor, order: Tensor, inverse: Tensor, weights: Tensor) -> Tensor:
        rows = Unpermute.apply(y, order, inverse).view(weights.shape[0], -1, h.shape[-1])
        return (h.float() + (rows.float() * weights[..., None]).sum(1).view(h.shape)).to(h.dtype)

    def attend_and_route_(self, x: Tensor, layer_weights: tuple[Tensor, ...], shares: Tensor) -> tuple[Tensor, ...]:
        norm, qkv, out, ffn_norm, router, scale = layer_weights
        h, normed = self.attend_(x, norm, qkv, out, ffn_norm)
        return h, *self.route(normed, router, scale, shares)

    def experts(self, rows: Tensor, offsets: Tensor, experts: Tensor, pool: Pool) -> Tensor:
        if self.options.weight_grads == "TOGETHER":
            return ExpertsOfLayer.apply(rows, offsets, pool, experts)
        gate_up = self.product(rows, pool.gate_up.transpose(1, 2), offsets)
        return self.product(pool.swiglu(gate_up), pool.down.transpose(1, 2), offsets)

    def head_(self, x: Tensor, targets: Tensor, norm: Tensor, lm_head: Tensor) -> Tensor:
        logits = F.linear(rms_norm(x, norm, self.config.model.norm_eps), lm_head)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="sum")

    def forward_(self, tokens: Tensor, shares: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """tokens [b, s + 1], shares [blocks, E]: (what to minimise, the sum of losses, counts [blocks, E])"""
        x, aux, counts = F.embedding(tokens[:, :-1], self.embedding), 0.0, [0] * self.blocks
        for l, layer in enumerate(self.layers):
            block = l // self.block_layers
            pool = self.pools[block]
            if not self.has_router:
                h, normed = self.attend(x, layer.norm, layer.qkv, layer.out, layer.ffn_norm)
                x = h + F.linear(swiglu(F.linear(normed, pool.gate_up[0])), pool.down[0])
                continue
            visible = layer.router.narrow(0, block * self.block_experts, self.block_experts)
            weights = (layer.norm, layer.qkv, layer.out, layer.ffn_norm, visible, layer.scale)
            h, rows, order, inverse, offsets, scores, experts, count, loss = self.attend_and_route(x, weights, shares[block])
            x = self.combine(h, self.experts(rows, offsets, experts, pool), order, inverse, scores)
            counts[block] = counts[block] + count
            aux = aux + loss
        losses = self.head(x, tokens[:, 1:], self.norm, self.lm_head)
        return losses / self.tokens_per_step + aux, losses.detach(), torch.stack(counts) if self.has_router else None
