"""Settings of a UniPool model (arXiv 2605.06665) for transformers: a decoder whose layers share one pool of experts.

Letters: L layers, D hidden size, M experts of the pool, K experts that a token gets, F width of an expert.
"""
from transformers import PretrainedConfig


class UniPoolConfig(PretrainedConfig):
    """The sizes have the names that LLaMA's have. Those of the pool:

    num_experts, num_experts_per_tok, moe_intermediate_size: M, K, F.
    router_type: "NORM", s = sigma * c * relu(v z / (|v z| + 1e-8)) of the logits z; "SOFTMAX" over the visible experts; or
      "SIGMOID" of each logit. v in [0, 1] is the visibility of the expert in the layer.
    router_constants: c of NORM for each layer, L numbers.
    router_bias: a bias per expert is added to the scores for the choice alone. With router_bias_on_positive it moves the choice
      among positive scores, which come before all others.
    expert_sharing: "GLOBAL", all layers see all experts; "GROUPED", expert_groups blocks of layers have blocks of experts;
      "PRIVATE", a block per layer; "DENSE", layer l uses expert l with weight 1 and has no router. v of a model with other
      names, for example "SLIDING", is known from its weights alone.
    router_attenuated: factors a in [0, 1] of each layer take experts away that it sees. They multiply the scores (of a softmax
      each term), and an expert with a = 0 is never chosen: UniPool-lock.
    expert_band, router_bias_scope: for `unipool import` alone. They say which setting made these visibilities and biases.
    """

    model_type = "unipool"
    keys_to_ignore_at_inference = ["past_key_values"]

    def __init__(self, vocab_size=256, hidden_size=256, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=4,
                 head_dim=None, max_position_embeddings=256, rope_theta=1e6, rms_norm_eps=1e-5, initializer_range=0.01,
                 num_experts=32, num_experts_per_tok=1, moe_intermediate_size=1024, router_type="NORM", router_constants=None,
                 router_bias=False, router_bias_on_positive=False, router_attenuated=False, expert_sharing="GLOBAL", expert_groups=1,
                 use_cache=True, **kwargs):
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_key_value_heads
        self.head_dim = head_dim or hidden_size // num_attention_heads
        self.max_position_embeddings = max_position_embeddings
        self.rope_theta = rope_theta
        self.rms_norm_eps = rms_norm_eps
        self.initializer_range = initializer_range
        self.num_experts = num_experts
        self.num_experts_per_tok = num_experts_per_tok
        self.moe_intermediate_size = moe_intermediate_size
        self.router_type = router_type
        self.router_constants = router_constants or [1.0] * num_hidden_layers
        self.router_bias = router_bias
        self.router_bias_on_positive = router_bias_on_positive
        self.router_attenuated = router_attenuated
        self.expert_sharing = expert_sharing
        self.expert_groups = expert_groups
        self.use_cache = use_cache
        if router_type not in ("NORM", "SOFTMAX", "SIGMOID"):
            raise ValueError(f"router_type {router_type!r}: must be NORM, SOFTMAX or SIGMOID")
        if len(self.router_constants) != num_hidden_layers:
            raise ValueError(f"router_constants: {len(self.router_constants)} numbers for {num_hidden_layers} layers")
        if expert_sharing == "DENSE" and num_experts != num_hidden_layers:
            raise ValueError(f"expert_sharing DENSE: {num_experts} experts for {num_hidden_layers} layers")
        kwargs.setdefault("tie_word_embeddings", False)
        super().__init__(**kwargs)

    def visible_block(self, layer):
        """The experts [begin, end) that a layer sees; None where expert_sharing alone does not tell."""
        if self.expert_sharing == "GLOBAL":
            return 0, self.num_experts
        if self.expert_sharing not in ("GROUPED", "PRIVATE", "DENSE"):
            return None
        blocks = self.expert_groups if self.expert_sharing == "GROUPED" else self.num_hidden_layers
        block = next(b for b in range(blocks) if layer < even_part(self.num_hidden_layers, blocks, b)[1])
        return even_part(self.num_experts, blocks, block)


def even_part(count, parts, part):
    """[begin, end) of one of `parts` consecutive parts of `count` things; the first ones have one more."""
    size, rest = divmod(count, parts)
    begin = part * size + min(part, rest)
    return begin, begin + size + (part < rest)
