"""Scores of lm-evaluation-harness for the same items, run by a Python that has it (`harness_test.py`).

Usage: harness_scores.py MODEL TASKS_JSON OUT_JSON
MODEL is a folder of `unipool export` (loaded by transformers), or http://HOST:PORT/v1/completions,FOLDER: a server, and the
folder of its tokenizer. TASKS_JSON maps a task of ours to [yaml of the harness below lm_eval/tasks, file, {keys to replace}].
OUT_JSON gets {"version", "seconds", "samples": {task: [{"scores": [...], "target", "acc", "acc_norm"}]}, "results"}.
"""
import json
import os
import sys
import tempfile
import time
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import datasets  # type: ignore[import-not-found]  # noqa: E402
import lm_eval  # type: ignore[import-not-found]  # noqa: E402
import torch  # type: ignore[import-not-found]  # noqa: E402
from lm_eval.tasks import TaskManager  # type: ignore[import-not-found]  # noqa: E402

BATCH, LINE_END = 16, 10


def WriteTask(folder: str, name: str, yaml: str, file: str, replaced: dict[str, Any]) -> None:
    """A task of the harness's own rules that reads a file of this machine."""
    lines = {"include": os.path.join(os.path.dirname(lm_eval.__file__), "tasks", yaml), "task": "own_" + name, "tag": None,
             "dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": {"validation": file}},
             "training_split": None, "validation_split": "validation", "test_split": None, **replaced}
    with open(os.path.join(folder, f"own_{name}.yaml"), "w", encoding="utf-8") as out:
        out.writelines(f"{key}: {json.dumps(value)}\n" for key, value in lines.items())


def Main() -> None:
    model, tasks_file, out_file = sys.argv[1:]
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    with open(tasks_file, encoding="utf-8") as file:
        tasks = json.load(file)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_DATASETS_CACHE"] = os.path.join(folder, "cache")
        datasets.config.HF_DATASETS_CACHE = os.path.join(folder, "cache")
        for name, (yaml, path, replaced) in tasks.items():
            WriteTask(folder, name, yaml, path, replaced)
        url, tokenizer = model.split(",") if model.startswith("http") else ("", model)
        with open(os.path.join(tokenizer, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        # Bytes have no end of text: a text begins behind a line end, as with `unipool`.
        prefix = LINE_END if config["eos_token_id"] is None else config["eos_token_id"]
        arguments: dict[str, Any]
        if url:
            length = config["max_position_embeddings"]
            kind, arguments = "local-completions", {"base_url": url, "model": "any", "tokenizer": tokenizer, "num_concurrent": 2,
                                                    "tokenizer_backend": "huggingface", "max_length": length + 1,
                                                    "custom_prefix_token_id": prefix}
        else:
            kind, arguments = "hf", {"pretrained": model, "trust_remote_code": True, "dtype": "float32",
                                     "prefix_token_id": prefix}
        begin = time.monotonic()
        found = lm_eval.simple_evaluate(model=kind, model_args=arguments, tasks=["own_" + name for name in tasks],
                                        task_manager=TaskManager(include_path=folder), batch_size=BATCH, device="cpu",
                                        bootstrap_iters=0, log_samples=True, num_fewshot=0)
        seconds = time.monotonic() - begin
    samples = {name: [{"scores": [response[0][0] for response in sample["resps"]],
                       "is_greedy": [response[0][1] for response in sample["resps"]],
                       "arguments": [list(pair) for pair in sample["arguments"]],
                       "acc": sample["acc"], "acc_norm": sample.get("acc_norm")}
                      for sample in sorted(found["samples"]["own_" + name], key=lambda sample: sample["doc_id"])]
               for name in tasks}
    results = {name: {key: value for key, value in found["results"]["own_" + name].items() if isinstance(value, float)}
               for name in tasks}
    with open(out_file, "w", encoding="utf-8") as out:
        json.dump({"version": lm_eval.__version__, "seconds": seconds, "samples": samples, "results": results}, out)


if __name__ == "__main__":
    Main()
