#!/bin/bash
# A job of Slurm that trains {{run_dir_text}}.
# It saves before its time is over, starts again and goes on, bit for bit as if it had not stopped.
# Made by unipool {{version}} in {{folder_text}} with
#   {{command_text}}
# The file is yours: edit it, keep it, submit it again with sbatch. A requeued job runs the text that was submitted.

# What Slurm is asked for. --signal: a word so many seconds before the time is over. --open-mode: one log for all starts.
{{sbatch_options}}

set -u # not -e: a command that fails is this script's work

# What is trained. All starts share run_dir, and all nodes must see it, the program and the data.
program=({{program}})
config={{config}}
run_dir={{run_dir}}
settings=({{settings}})
# When it gives up, and how it goes on: requeue (this job again), dependency (the next job of a chain) or none.
limits=(--max_restarts={{max_restarts}} --max_failures={{max_failures}} --max_nodes_excluded={{max_nodes_excluded}} --exclude={{exclude}})
chain={{chain}}

# Your own lines (--setup): modules, paths.
{{setup}}

# A task of an array has a name of its own for squeue and scontrol.
job=$SLURM_JOB_ID
[[ ! ${SLURM_ARRAY_TASK_ID:-} ]] || job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
say() { echo "$(date '+%F %T') $*"; }
say "job $job, restart ${SLURM_RESTART_COUNT:-0}, nodes ${SLURM_JOB_NODELIST:-unknown}"

# The environment came from the shell that submitted. What another MPI job has left there must not place or name these ranks.
# MASTER_ADDR and a port are not needed: MPI carries everything, NCCL's id too.
unset "${!OMPI_MCA_rmaps@}" "${!OMPI_COMM_WORLD@}" "${!PMIX_@}" "${!PMI_@}" "${!SLURM_CPU_BIND@}" "${!SLURM_MEM_BIND@}"
export OMP_NUM_THREADS={{threads}}
{{environment}}

# Have all steps been done, or did too many starts fail? The ledger, run_dir/submit/ledger.jsonl, has a line for the
# begin and the end of each start. A start that has no end was killed.
"${program[@]}" ledger "$run_dir" --begin "${limits[@]}" --chain="$chain"
case $? in
  0) ;;
  10) exit 0 ;;
  *) exit 1 ;;
esac

# The program is told when the job's time is over and stops by itself. Ten seconds are for the rest of this script.
end=$(($(date +%s) + {{time_seconds}}))
when=$(squeue --noheader --jobs "$job" --format %e 2>/dev/null)
if [[ $when == 20* ]]; then end=$(date -d "$when" +%s || echo "$end"); fi

# How the ranks are started. {{launcher_reason_text}}
launch=({{launch}})
train=("${program[@]}" train "$config" "${settings[@]}" run_dir="$run_dir" train.stop_at="$((end - 10))")

# Signals. {{signal}} comes before the time is over, TERM when Slurm takes the nodes away: then the run saves and stops. With
# USR1 (scancel --batch --signal=USR1 JOB) it saves and goes on. bash hears them only while it waits, so the launcher runs
# in the background. It gets TERM as USR2, since launchers that hear TERM kill the ranks.
pid="" heard="" code=0
forward() { [[ ! $pid ]] || kill -s "$1" "$pid" 2>/dev/null; }
on_term() {
  heard=TERM
  printf '{"event": "term", "time": %d, "job": "%s", "restart": %d}\n' \
    "$(date +%s)" "$SLURM_JOB_ID" "${SLURM_RESTART_COUNT:-0}" >>"$run_dir/submit/ledger.jsonl"
  forward USR2
}
trap 'forward USR1' USR1
trap 'say "{{signal}}: save and stop"; heard=USR2; forward USR2' {{signal}}
trap 'say "TERM: save and stop"; on_term' TERM

run() {
  "$@" &
  pid=$!
  [[ ! $heard ]] || forward USR2 # it came before there was a process
  while kill -0 "$pid" 2>/dev/null; do wait "$pid"; done # a signal breaks a wait off
  wait "$pid"
  code=$?
  pid=""
}

{{node_test}}
if [[ $code == 0 ]]; then run "${launch[@]}" "${train[@]}"; fi
say "the launcher's exit code is $code"
# When Slurm takes the nodes away, the ranks may be gone before TERM comes here.
((code == 0 || code == 2 || code == 75)) || sleep 3

# What now? Launchers lose exit codes, so run_dir/state.json counts. The answer also names nodes to leave out, and the jobs of a
# chain that wait: they were submitted before these nodes were known.
answer=$("${program[@]}" ledger "$run_dir" --end="$code" --heard="$heard" \
  --seconds_left="$((end - $(date +%s)))" "${limits[@]}"); verdict=$?
read -r exclude links <<<"$answer"
for link in $links; do scontrol update JobId="$link" ExcNodeList="$exclude"; done
case $verdict in
  10) exit 0 ;;                      # all steps are done
  75) ;;                             # another start is due
  12) exit "$((code ? code : 75))" ;; # Slurm ends the job, and starts it again if it means to
  *) exit "$((code ? code : 1))" ;;   # a person has to look; `unipool status` says why
esac

# The last act: Slurm ends this script while it requeues the job. Its id stays the same.
if [[ $chain == requeue ]]; then
  trap '' TERM
  if scontrol requeue "$job"; then
    [[ ! $exclude ]] || scontrol update JobId="$job" ExcNodeList="$exclude"
    exit 0
  fi
  say "the job cannot be requeued from here; submit it again, or with --chain dependency"
fi
exit 75
