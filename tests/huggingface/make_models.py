#!/usr/bin/env python3
"""Models as transformers makes and saves them, with random weights, for `import`: FOLDER/llama, FOLDER/tied (a head that is the
embedding, BF16), FOLDER/qwen2_moe (a shared expert that adds nothing), FOLDER/again (TOKENIZER's model, loaded and saved).

Usage: make_models.py FOLDER TOKENIZER      TOKENIZER: an exported folder, whose tokenizer goes with each
"""
import os
import shutil
import sys

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2MoeConfig, Qwen2MoeForCausalLM

SIZES = {"vocab_size": 256, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2,
         "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "initializer_range": 0.1, "bos_token_id": None, "eos_token_id": None,
         "pad_token_id": None}
QWEN = {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 8,
        "intermediate_size": 24, "norm_topk_prob": False, "decoder_sparse_step": 1, "mlp_only_layers": [], "use_sliding_window": False}


@torch.no_grad()
def main():
    root, tokenizer = sys.argv[1:]
    torch.manual_seed(int.from_bytes(os.urandom(4), "little"))
    llama = LlamaForCausalLM(LlamaConfig(intermediate_size=40, tie_word_embeddings=False, **SIZES))
    tied = LlamaForCausalLM(LlamaConfig(intermediate_size=40, tie_word_embeddings=True, **SIZES)).to(torch.bfloat16)
    qwen = Qwen2MoeForCausalLM(Qwen2MoeConfig(tie_word_embeddings=False, **SIZES, **QWEN))
    for name, parameter in qwen.named_parameters():
        if "shared_expert.down_proj" in name or name.endswith(".bias"):
            parameter.zero_()
    again = AutoModelForCausalLM.from_pretrained(tokenizer, trust_remote_code=True)
    for name, model in {"llama": llama, "tied": tied, "qwen2_moe": qwen, "again": again}.items():
        for parameter_name, parameter in model.named_parameters():
            if "norm" in parameter_name and name != "again":
                parameter.add_(torch.rand_like(parameter) * 0.5)
        folder = os.path.join(root, name)
        model.save_pretrained(folder)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(os.path.join(tokenizer, file), folder)


if __name__ == "__main__":
    main()
