"""The members of the family that family_bench.py trains, and the sizes that it trains them at. A variant is a list of
settings on top of a size; one whose settings the program does not know, or refuses, gets a row that says so."""
from __future__ import annotations

from typing import NamedTuple


class Size(NamedTuple):
    layers: int   # L
    hidden: int   # D
    width: int    # F of an expert
    steps: int

    @property
    def experts(self) -> int:
        """M: 8 for each layer, as in the published models."""
        return 8 * self.layers


# A run of one variant and seed takes about two and about four minutes of one core of a desktop processor.
SIZES = {"small": Size(layers=4, hidden=64, width=256, steps=1000), "large": Size(layers=8, hidden=96, width=384, steps=600)}


def settings_of_size(size: Size) -> list[str]:
    return [f"model.layers={size.layers}", f"model.hidden={size.hidden}", "model.heads=4", "model.kv_heads=2",
            "model.seq_length=256", "model.vocab=256", "model.init_std=0.05", f"moe.width={size.width}",
            "train.global_batch=16", "train.micro_batch=8", "train.lr=3e-3", "train.min_lr=3e-4", "train.warmup_fraction=0.05",
            f"train.steps={size.steps}", f"train.eval_every={size.steps}", "train.eval_batches=64", "parallel.ranks=1"]


class Variant(NamedTuple):
    what: str             # for the table
    settings: list[str]
    begins_at_half_depth: bool = False  # for half of the steps; then `unipool grow` doubles the layers, and the pool stays


def variants_of(size: Size) -> dict[str, Variant]:
    """By the name of its rows, in the order of the table."""
    pool = [f"moe.experts={size.experts}"]
    private = [*pool, "moe.sharing=PRIVATE"]
    softmax, sigmoid = ["moe.router=SOFTMAX"], ["moe.router=SIGMOID"]
    pool_loss, layer_loss = (["moe.balance=" + loss, "moe.balance_coeff=1e-2"] for loss in ("POOL_LOSS", "LAYER_LOSS"))
    bias = ["moe.balance=BIAS", "moe.balance_coeff=1e-3"]
    positive, hinge = ["moe.balance_counts=POSITIVE"], ["moe.balance_hinge=true"]
    unipool = [*pool, "moe.router=NORM", *pool_loss]
    return {
        "dense": Variant("dense, as many parameters a token",
                         [f"moe.experts={size.layers}", "moe.sharing=DENSE", "moe.balance=NONE"]),
        "vanilla": Variant("vanilla MoE: 8 experts a layer, softmax, layer loss", [*private, *softmax, *layer_loss]),
        "vanilla_bias": Variant("vanilla MoE without a loss: sigmoid, a bias", [*private, *sigmoid, *bias]),
        "shared_layer_loss": Variant("shared pool, softmax, layer loss", [*pool, *softmax, *layer_loss]),
        "shared_pool_loss": Variant("shared pool, softmax, pool loss", [*pool, *softmax, *pool_loss]),
        "layer_bias": Variant("shared pool, sigmoid, a bias vector per layer",
                              [*pool, *sigmoid, *bias, "moe.bias_scope=LAYER"]),
        "pool_bias": Variant("shared pool, sigmoid, one bias vector of the pool", [*pool, *sigmoid, *bias]),
        "pool_bias_softmax": Variant("shared pool, softmax, one bias vector of the pool", [*pool, *softmax, *bias]),
        "pool_bias_norm": Variant("shared pool, NormRouter, one bias vector of the pool, positive scores alone",
                                  [*pool, "moe.router=NORM", *bias, *positive]),
        "unipool": Variant("UniPool", unipool),
        "unipool_positive": Variant("UniPool, positive choices counted", [*unipool, *positive]),
        "unipool_positive_hinge": Variant("UniPool, positive choices counted, hinge", [*unipool, *positive, *hinge]),
        "grouped": Variant("grouped: 2 pools, each of half the layers", [*unipool, "moe.sharing=GROUPED", "moe.groups=2"]),
        "sliding": Variant("sliding: each layer sees half the pool, a band that moves with depth",
                           [*unipool, "moe.sharing=SLIDING", f"moe.band={size.experts // 2}"]),
        "half_pool": Variant("UniPool with half the pool", [*unipool, f"moe.experts={size.experts // 2}"]),
        **{f"shrunk_{by.lower()}": Variant(f"UniPool, shrunk to half in the third quarter of the steps, by {word}",
                                           [*unipool, f"moe.shrink_to={size.experts // 2}", f"moe.shrink_begin={size.steps // 2}",
                                            f"moe.shrink_end={3 * size.steps // 4}", f"moe.shrink_by={by}"])
           for by, word in (("UCB", "importance"), ("COUNTS", "counts"), ("RANDOM", "chance"))},
        "grown": Variant("UniPool, half of the layers for half of the steps", unipool, begins_at_half_depth=True),
        "lock": Variant("UniPool-lock: owners by counts after a tenth of the steps, locked after a fifth",
                        [*unipool, "moe.lock.assignment=COUNTS", "moe.lock.entropy_end_fraction=0.1", "moe.lock.lock_fraction=0.2"]),
        "lock_random": Variant("UniPool-lock with random owners from the first step on",
                               [*unipool, "moe.lock.assignment=RANDOM", "moe.lock.entropy_end_fraction=0", "moe.lock.lock_fraction=0"]),
    }
