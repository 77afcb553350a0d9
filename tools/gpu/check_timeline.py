"""Check of training on a GPU: what the GPU did in the steps after the first two, and where it had nothing to do."""
from __future__ import annotations

import glob
import os
import shutil

from gpu_timeline import Timeline
from timeline_record import Broken
from training_context import Outcome, RandomText, Training
from training_judgement import Failed, ReadSteps, TokensPerSecond
from training_runs import NotRun

STEPS, WARMUP = 6, 2
BATCH = 64  # four microbatches of 16, so that both lanes work
GAP_US = 20.0


def CheckTimeline(training: Training) -> Outcome:
    library, runs = os.path.abspath(training.flags.timeline), training.runs
    if not os.path.isfile(library):
        raise NotRun("libunipool_timeline.so is not here: the toolkit that this was built with had no CUPTI headers")
    settings = training.LargeModel(f"train.global_batch={BATCH}")
    length, batch = training.Fields(settings, "seq_length", "global_batch")
    data, run_dir = runs.Path("timeline.txt"), runs.Path("timeline")
    RandomText(data, STEPS * batch * length)
    runs.RunTraining([runs.program, "train", *settings, f"data.train={data}", "data.split=1,0,0", f"train.steps={STEPS}"],
                     "timeline", run_dir, CUDA_INJECTION64_PATH=library, NVTX_INJECTION64_PATH=library,
                     UNIPOOL_TIMELINE=runs.Path("record.%p"))
    metrics = ReadSteps(os.path.join(run_dir, "metrics.jsonl"))
    shutil.rmtree(run_dir)
    records = glob.glob(runs.Path("record.*"))
    if not records:
        raise NotRun(runs.Said("timeline", "unipool timeline: ") or "the program left no record and did not say why")
    try:
        timeline = Timeline(max(records, key=os.path.getsize), GAP_US, skip=WARMUP)
    except Broken as problem:
        raise Failed(str(problem)) from problem
    if training.flags.trace:
        timeline.WriteTrace(training.flags.trace)
    return Outcome(True, f"{TokensPerSecond(metrics, WARMUP):.0f} tokens/s with the recorder at work, which costs some. "
                         f"Settings: {' '.join(settings[1:])}.\n\n{timeline.Text()}")
