#!/usr/bin/env python3
"""What transformers makes of exported folders: each FOLDER beside its FOLDER.safetensors, which has tokens and logits of ours.

Usage: compare_export.py PROMPT NEW_TOKENS FOLDER...      prints a JSON object by folder
"""
import json
import os
import sys
import tempfile

import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

DTYPE = "torch_dtype" if transformers.__version__.startswith("4.") else "dtype"
HARD_TEXT = "One naïve  café\n\n\ttwo 'll 123 — \U0001f600 ends "


def greedy(model, prompt, count, **more):
    generated = model.generate(prompt, max_new_tokens=count, do_sample=False, eos_token_id=-1, pad_token_id=0, **more)
    return generated[0, prompt.shape[1]:].tolist()


@torch.no_grad()
def compare(folder, prompt, count):
    ours = load_file(folder + ".safetensors")
    tokens, expected = ours["tokens"].long(), ours["logits"]
    load = {"trust_remote_code": True, DTYPE: torch.float32}
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **load)
    model.eval()
    outputs = model(tokens, labels=tokens)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    text = torch.tensor([tokenizer(prompt)["input_ids"]])
    cached = greedy(model, text, count)
    padded = torch.cat([torch.zeros(1, 3, dtype=torch.long), text], dim=1)
    mask = (torch.arange(padded.shape[1]) >= 3).long()[None]
    with tempfile.TemporaryDirectory() as back:
        model.save_pretrained(back)
        again = AutoModelForCausalLM.from_pretrained(back, **load).eval()
        one, other = model.state_dict(), again.state_dict()
        same = one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
        same = same and torch.equal(again(tokens).logits, outputs.logits)
    eager = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", **load).eval()
    span = expected.max() - expected.min()
    half = AutoModelForCausalLM.from_pretrained(folder, **{**load, DTYPE: torch.bfloat16}).eval()
    ids = tokenizer(HARD_TEXT)["input_ids"]
    return {"class": type(model).__name__, "shape": list(outputs.logits.shape),
            "problems": {key: sorted(map(str, value)) for key, value in info.items() if value},
            "difference": ((outputs.logits - expected).abs().max() / span).item(),
            "mean_in_bf16": ((half(tokens).logits.float() - expected).abs().mean() / span).item(),
            "eager": ((eager(tokens).logits - expected).abs().max() / span).item(),
            "loss": outputs.loss.item(), "cached": cached, "uncached": greedy(model, text, count, use_cache=False),
            "padded": greedy(model, padded, count, attention_mask=mask), "same_after_saving": same,
            "ids": ids, "cached_text": tokenizer.decode(cached), "text": tokenizer.decode(ids) == HARD_TEXT}


def main():
    prompt, count, folders = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    torch.set_num_threads(1)
    result = {os.path.basename(folder): compare(folder, prompt, count) for folder in folders}
    print(json.dumps({"transformers": transformers.__version__, "torch": torch.__version__, "models": result}))


if __name__ == "__main__":
    main()
