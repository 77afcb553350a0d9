"""UniPool (arXiv 2605.06665) for transformers 4 and 5: a decoder whose layers share one pool of SwiGLU experts.

It computes what the training program computes. Scores, choice and rotary angles follow it to the letter; in particular a
tie between experts falls to the lower index, and the router works in float32 whatever the weights are.
Letters: B sequences, S tokens of each, T = B * S, D hidden size, M experts, K experts that a token gets.
"""
from typing import Optional

import torch
from torch import nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from .configuration_unipool import UniPoolConfig

NORM_EPSILON = 1e-8  # beside the norm of a row of logits
# What keys and values of earlier tokens are called. Newer versions 5 have the first name, all others the second.
CACHE = "cache" if "cache" in CausalLMOutputWithPast.__dataclass_fields__ else "past_key_values"

class UniPoolRMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, in float32."""

    def __init__(self, size, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        exact = x.float()
        exact = exact * torch.rsqrt(exact.square().mean(-1, keepdim=True) + self.eps)
        return (exact * self.weight.float()).to(x.dtype)


def rotary_table(position_ids, head_dim, base, dtype):
    """cos and sin [B, 1, S, head_dim] of position * base^(-2i / head_dim), computed in float64 as far as a device has it."""
    exact = torch.float32 if position_ids.device.type == "mps" else torch.float64
    steps = torch.arange(head_dim // 2, dtype=exact, device=position_ids.device)
    frequency = torch.pow(torch.tensor(base, dtype=exact, device=position_ids.device), -steps / (head_dim // 2))
    angle = position_ids[:, None, :, None].to(exact) * frequency
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos().to(dtype), angle.sin().to(dtype)


def rotate(x, table):
    """Elements i and i + head_dim / 2 of a head are a pair, which turns by its angle."""
    cos, sin = table
    low, high = x.float().chunk(2, dim=-1)
    return (x.float() * cos + torch.cat([-high, low], dim=-1) * sin).to(x.dtype)


def causal_mask(places, num_keys, padding):
    """Which of the keys each query sees, [B or 1, 1, S, num_keys]: those up to its own place that `padding` [B, num_keys]
    does not hide. A query sees itself in any case, so that what stands at padding is a number too."""
    keys = torch.arange(num_keys, device=places.device)
    mask = (keys <= places[:, None])[None, None]
    if padding is not None:
        if padding.dim() != 2 or padding.shape[1] != num_keys:
            raise ValueError(f"attention_mask of shape {tuple(padding.shape)}: must be [sequences, {num_keys}]")
        mask = mask & (padding[:, None, None, :].bool() | (keys == places[:, None]))
    return mask


class UniPoolAttention(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.config, self.layer_idx, self.head_dim = config, layer, config.head_dim
        self.num_key_value_groups = config.num_attention_heads // config.num_key_value_heads
        self.scaling = self.head_dim ** -0.5
        own, shared = config.num_attention_heads * self.head_dim, config.num_key_value_heads * self.head_dim
        self.q_proj = nn.Linear(config.hidden_size, own, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, shared, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, shared, bias=False)
        self.o_proj = nn.Linear(own, config.hidden_size, bias=False)

    def forward(self, x, table, mask, cache):
        heads = (*x.shape[:-1], -1, self.head_dim)
        query = rotate(self.q_proj(x).view(heads).transpose(1, 2), table)
        key = rotate(self.k_proj(x).view(heads).transpose(1, 2), table)
        value = self.v_proj(x).view(heads).transpose(1, 2)
        if cache is not None:
            key, value = cache.update(key, value, self.layer_idx)
        key = key.repeat_interleave(self.num_key_value_groups, dim=1)
        value = value.repeat_interleave(self.num_key_value_groups, dim=1)
        if self.config._attn_implementation == "sdpa":
            y = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=self.scaling)
        else:
            weights = torch.matmul(query, key.transpose(2, 3)).float() * self.scaling
            weights = weights.masked_fill(~mask, float("-inf")).softmax(dim=-1)
            y = torch.matmul(weights.to(value.dtype), value)
        return self.o_proj(y.transpose(1, 2).reshape(*x.shape[:-1], -1))


class UniPoolExpert(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, config):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.moe_intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.moe_intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.moe_intermediate_size, config.hidden_size, bias=False)

    def forward(self, x):
        return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


class UniPoolPool(nn.Module):
    """The experts of the whole model. The model holds them once, and hands them to its layers."""

    def __init__(self, config):
        super().__init__()
        self.experts = nn.ModuleList(UniPoolExpert(config) for _ in range(config.num_experts))


class UniPoolRouter(nn.Module):
    """A layer's own choice among the experts of the pool."""

    def __init__(self, config, layer):
        super().__init__()
        self.kind, self.top_k, self.constant = config.router_type, config.num_experts_per_tok, config.router_constants[layer]
        self.weight = nn.Parameter(torch.empty(config.num_experts, config.hidden_size))
        self.scale = nn.Parameter(torch.ones(1)) if self.kind == "NORM" else None
        self.bias_on_positive = config.router_bias_on_positive
        # No gradient: training moves it by rule.
        self.bias = nn.Parameter(torch.zeros(config.num_experts), requires_grad=False) if config.router_bias else None
        block = config.visible_block(layer)
        visible = torch.full((config.num_experts,), float("nan") if block is None else 0.0)  # not a number until it is loaded
        if block is not None:
            visible[block[0]:block[1]] = 1
        self.visible = nn.Parameter(visible, requires_grad=False)
        self.attenuation = nn.Parameter(visible.clone(), requires_grad=False) if config.router_attenuated else None

    def may_choose(self):
        """[M] whether each expert may be chosen."""
        return (self.visible if self.attenuation is None else self.attenuation).float() > 0

    def scores(self, x):
        """[T, M] of x [T, D]."""
        logits = nn.functional.linear(x.float(), self.weight.float())
        if self.kind == "SOFTMAX":
            if self.attenuation is not None:
                logits = logits + self.attenuation.float().log()
            return logits.masked_fill(~self.may_choose(), float("-inf")).softmax(dim=-1)
        if self.kind == "NORM":
            seen = logits * self.visible.float()
            scale = (self.scale.detach().double() * self.constant).float()
            if self.training:
                scale = self.scale.float() * self.constant  # with a gradient
            scores = scale / (torch.linalg.vector_norm(seen, dim=-1, keepdim=True) + NORM_EPSILON) * seen.relu()
        else:
            scores = logits.sigmoid().masked_fill(~(self.visible.float() > 0), 0)
        return scores if self.attenuation is None else scores * self.attenuation.float()

    def forward(self, x):
        """Experts and their weights, [T, K] each: the largest score + bias among the experts that may be chosen, ties to the
        lower index."""
        scores = self.scores(x)
        keys = scores.detach() if self.bias is None else scores.detach() + self.bias.float()
        if self.bias_on_positive:
            keys = keys.masked_fill(~(scores > 0), torch.finfo(keys.dtype).min)
        keys = keys.masked_fill(~self.may_choose(), float("-inf"))
        experts = keys.sort(dim=-1, descending=True, stable=True).indices[:, :self.top_k]
        return experts, scores.gather(1, experts)


class UniPoolMoe(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.layer = layer
        self.router = None if config.expert_sharing == "DENSE" else UniPoolRouter(config, layer)

    def forward(self, x, pool):
        if self.router is None:
            return pool.experts[self.layer](x)
        rows = x.reshape(-1, x.shape[-1])  # [T, D]
        experts, weights = self.router(rows)
        y = torch.zeros_like(rows, dtype=torch.float32)
        for expert in experts.unique().tolist():
            token, place = (experts == expert).nonzero(as_tuple=True)
            y.index_add_(0, token, pool.experts[expert](rows[token]).float() * weights[token, place, None])
        return y.to(x.dtype).view_as(x)


class UniPoolLayer(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.input_layernorm = UniPoolRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = UniPoolAttention(config, layer)
        self.post_attention_layernorm = UniPoolRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = UniPoolMoe(config, layer)

    def forward(self, x, pool, table, mask, cache):
        x = x + self.self_attn(self.input_layernorm(x), table, mask, cache)
        return x + self.mlp(self.post_attention_layernorm(x), pool)


class UniPoolPreTrainedModel(PreTrainedModel):
    config_class = UniPoolConfig
    base_model_prefix = "model"
    _no_split_modules = ["UniPoolLayer", "UniPoolExpert"]
    _skip_keys_device_placement = ["past_key_values", "cache"]
    _keep_in_fp32_modules_strict = ["router"]
    _supports_sdpa = True

    def __init__(self, config):
        super().__init__(config)
        if config.expert_sharing == "DENSE":
            self._keep_in_fp32_modules_strict = None  # version 4 refuses names that a model does not have

    def _init_weights(self, module):
        """Of what no file held: matrices ~ N(0, initializer_range^2). All else has its value from the constructor."""
        if isinstance(module, (nn.Linear, nn.Embedding, UniPoolRouter)) and not getattr(module.weight, "_is_hf_initialized", False):
            nn.init.normal_(module.weight, mean=0.0, std=self.config.initializer_range)


class UniPoolModel(UniPoolPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(UniPoolLayer(config, layer) for layer in range(config.num_hidden_layers))
        self.pool = UniPoolPool(config)
        self.norm = UniPoolRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_init()

    def get_input_embeddings(self):
        return self.embed_tokens

    def set_input_embeddings(self, value):
        self.embed_tokens = value

    def forward(self, input_ids: Optional[torch.LongTensor] = None, attention_mask: Optional[torch.Tensor] = None,
                position_ids: Optional[torch.LongTensor] = None, past_key_values=None, cache=None,
                inputs_embeds: Optional[torch.FloatTensor] = None, use_cache: Optional[bool] = None,
                output_hidden_states: Optional[bool] = None, **kwargs) -> BaseModelOutputWithPast:
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        use_cache = self.config.use_cache if use_cache is None else use_cache
        cache = past_key_values if cache is None else cache
        if use_cache and cache is None:
            cache = DynamicCache()
        num_past = 0 if cache is None else cache.get_seq_length()
        places = torch.arange(num_past, num_past + x.shape[1], device=x.device)
        if position_ids is None:
            position_ids = places[None]
        mask = causal_mask(places, num_past + x.shape[1], attention_mask)
        table = rotary_table(position_ids, self.config.head_dim, self.config.rope_theta, torch.float32)
        states = []
        for layer in self.layers:
            states.append(x)
            x = layer(x, self.pool, table, mask, cache)
        x = self.norm(x)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        return BaseModelOutputWithPast(last_hidden_state=x, hidden_states=(*states, x) if output_hidden_states else None,
                                       **{CACHE: cache if use_cache else None})


class UniPoolForCausalLM(UniPoolPreTrainedModel, GenerationMixin):
    def __init__(self, config):
        super().__init__(config)
        self.model = UniPoolModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.model.embed_tokens

    def set_input_embeddings(self, value):
        self.model.embed_tokens = value

    def get_output_embeddings(self):
        return self.lm_head

    def set_output_embeddings(self, new_embeddings):
        self.lm_head = new_embeddings

    def forward(self, input_ids: Optional[torch.LongTensor] = None, attention_mask: Optional[torch.Tensor] = None,
                position_ids: Optional[torch.LongTensor] = None, past_key_values=None, cache=None,
                inputs_embeds: Optional[torch.FloatTensor] = None, labels: Optional[torch.LongTensor] = None,
                use_cache: Optional[bool] = None, output_hidden_states: Optional[bool] = None, logits_to_keep=0,
                **kwargs) -> CausalLMOutputWithPast:
        """The loss of `labels` is the mean over tokens, without a loss that balances experts."""
        outputs = self.model(input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids,
                             past_key_values=past_key_values, cache=cache, inputs_embeds=inputs_embeds,
                             use_cache=use_cache, output_hidden_states=output_hidden_states)
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, keep, :])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        return CausalLMOutputWithPast(loss=loss, logits=logits, hidden_states=outputs.hidden_states,
                                      **{CACHE: outputs.get(CACHE)})
