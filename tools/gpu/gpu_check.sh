#!/usr/bin/env bash
# Proves and measures the CUDA kernels and training on the GPU of this machine, and writes one report (Markdown). It runs
# in a bundle (as gpu-check) and in a built tree (as tools/dev gpu-check). It needs bash, a driver and the CUDA libraries,
# and no network. Training also needs python3, and PyTorch to be compared with it.
#
# The parts run in the order cases, figures, training, sanitizer. The cases of each kernel are a process of their own, so one
# that ends it takes no others with it. The report grows in its place as parts end, and what a part says lies in REPORT.parts
# until the check is over: whoever ends it early keeps both.
#
# usage: gpu_check.sh [--report FILE] [--only PART,...] [--limit SECONDS] [--tool-limit SECONDS] [--checks NAME,...]
#                     [--training-limit SECONDS] [--step-limit SECONDS] [--total-limit SECONDS] [--bench "A=B ..."]
#   --only            parts: cases figures training sanitizer (default: all)
#   --checks          checks of the part training, see gpu_training.py (default: all)
#   --bench           settings of the model whose step is measured, for example "train.micro_batch=32
#                     train.weight_grad_slots=8"; the report names them
#   --limit           of the cases of a kernel, and of the benchmark (default 120)
#   --tool-limit      of each tool of compute-sanitizer (default 300)
#   --training-limit  of each check of training (default 300)
#   --step-limit      of training's step benchmark beside PyTorch, and of its sweep of sizes (default 900)
#   --total-limit     of everything: what no longer fits ends there, or is not begun, and the report says so (default 0: none)
# exit status: 0 all passed, 1 something failed, 2 nothing could be run. A tool that its limit ends is reported as not
# finished. That is no failure, unless the tool had found something by then.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [[ -d $here/../bin ]]; then  # a bundle
  root=$(cd "$here/.." && pwd)
  programs=("$root/bin") reports=$root/gpu_reports
else
  root=$(cd "$here/../.." && pwd)
  programs=("$root/build" "$root/build/tests" "$root/build/tools/bench" "$root/build/tools/gpu") reports=$here/reports
fi
report="" limit=120 tool_limit=300 training_limit=300 step_limit=900 total_limit=0 checks="" bench="" only=cases,figures,training,sanitizer
while (($#)); do
  case $1 in
    --report | --only | --limit | --tool-limit | --checks | --bench | --training-limit | --step-limit | --total-limit)
      (($# > 1)) || { echo "gpu-check: $1 needs a value" >&2; exit 2; }
      option=${1#--}
      printf -v "${option//-/_}" %s "$2"
      shift 2
      ;;
    *)
      echo "gpu-check: unknown argument \"$1\"; there are --report FILE, --only PART,..., --limit SECONDS," \
        "--tool-limit SECONDS, --checks NAME,..., --training-limit SECONDS, --step-limit SECONDS," \
        "--total-limit SECONDS, --bench \"A=B ...\"" >&2
      exit 2
      ;;
  esac
done

for name in ${only//,/ }; do
  [[ $name =~ ^(cases|sanitizer|figures|training)$ ]] && continue
  echo "gpu-check: --only: there is no part \"$name\"; there are cases, sanitizer, figures and training" >&2
  exit 2
done
wanted() { [[ ,$only, == *,$1,* ]]; }

program() { # prints the path of a program, or nothing
  local folder
  for folder in "${programs[@]}"; do
    [[ ! -x $folder/$1 ]] || { echo "$folder/$1"; return; }
  done
}

# The programs open cuBLAS and NCCL, and the recorder of a time line opens CUPTI. Python packages bring these libraries where
# the loader does not look. Only the version that the programs ask for helps them. Folders of packages are large, so they are
# gone through once for all libraries.
found_elsewhere=""
look_elsewhere() { # LIBRARY ...: for those that the loader does not know
  local library known names=()
  known=$(ldconfig -p 2>/dev/null)
  for library in "$@"; do
    [[ $known == *"$library "* ]] || names+=(-o -name "$library")
  done
  ((!${#names[@]})) || found_elsewhere=$(find /usr/local /usr/lib /opt \( "${names[@]:1}" \) 2>/dev/null | sort -V)
}
elsewhere() { # LIBRARY: prints its path if the loader does not know it
  local path last=""
  while read -r path; do
    [[ ${path##*/} != "$1" ]] || last=$path
  done <<<"$found_elsewhere"
  echo "$last"
}
also_load() { # LIBRARY: its folder is searched too
  local found
  found=$(elsewhere "$1")
  [[ $found ]] || return 0
  LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$(dirname "$found")
  export LD_LIBRARY_PATH
}
find_libraries() {
  local wanted found
  wanted=$("$info" --cublas 2>/dev/null)
  [[ $wanted ]] || return
  look_elsewhere "$wanted" libnccl.so.2 "${wanted/cublas/cupti}"
  also_load "$wanted"
  also_load libnccl.so.2
  wanted=${wanted/cublas/cupti}
  [[ ! ${UNIPOOL_CUPTI:-} && ! -e /usr/local/cuda/lib64/$wanted && ! -e /usr/local/cuda/extras/CUPTI/lib64/$wanted ]] || return
  found=$(elsewhere "$wanted")
  [[ ! $found ]] || export UNIPOOL_CUPTI=$found
}

info=$(program gpu_info) cases=$(program cuda_kernel_cases)
if [[ ! $info || ! $cases ]]; then
  echo "gpu-check: nothing was run: this build has no CUDA programs (no CUDA toolkit was found when it was made)" >&2
  exit 2
fi
find_libraries
if ! facts=$("$info" 2>/dev/null); then
  echo "gpu-check: nothing was run: $("$info" 2>&1 | sed -n 1p)" >&2
  exit 2
fi
name=$(sed -n 's/^| device | \([^,]*\),.*/\1/p' <<<"$facts")
file_name=$(tr -cs 'A-Za-z0-9\n' '-' <<<"$name")
report=${report:-$reports/$(date -u +%Y-%m-%d)-${file_name%-}.md}
work=$report.parts
rm -rf "$work"
mkdir -p "$work" || exit 2
: >"$report" || exit 2
commit=$(cat "$root/COMMIT" 2>/dev/null || git -C "$root" describe --always --dirty 2>/dev/null || echo unknown)
failed=0

line() { printf '%s\n' "$@" >>"$report"; }
fenced() { # FILE: as a block of the report
  line '```'
  cat "$1" >>"$report"
  line '```' ''
}
child=""
ended() { # by a signal; what runs ends too
  [[ ! $child ]] || kill "$child" 2>/dev/null
  line "Ended from outside, after $SECONDS s. What the part under way said: $work"
  exit 1
}
trap ended TERM INT HUP
run() { # NAME SECONDS COMMAND ...: runs it under the limits with its output in $work/NAME; how it ended is `outcome`
  local name=$1 seconds=$2 status=0 left=$((${total_limit%.*} - SECONDS)) cause=""
  shift 2
  last=$name
  : >"$work/$name"
  if ((${total_limit%.*})); then
    if ((left < 1)); then
      outcome="not run, the total limit of $total_limit s is used up"
      left_out+=" $name"
      return
    fi
    if ((left < ${seconds%.*})); then
      seconds=$left cause=", all that was left of $total_limit"
    fi
  fi
  timeout --kill-after 10 "$seconds" "$@" >"$work/$name" 2>&1 & # in the background: a signal is answered at once
  child=$!
  wait "$child" || status=$?
  child=""
  case $status in
    0) outcome=passed ;;
    124 | 137) outcome="not finished in $seconds s$cause" left_out+=${cause:+ $name} ;;
    *) outcome="FAILED (exit status $status)" ;;
  esac
  echo "gpu-check: $name: $outcome"
}
judge() { # fails the check unless what was run passed, or the total limit left no time for it; a case that failed before does
  ! grep -qs '^\[  FAILED  \]' "$work/$last" || failed=1
  [[ $outcome == passed || $outcome == *"total limit"* || $outcome == *"all that was left"* ]] || failed=1
}
count() { sed -n "$2" "$1" | wc -l; }

line "# GPU check on $name" '' '| what | value |' '|---|---|' \
  "| date | $(date -u '+%Y-%m-%d %H:%M UTC') |" "| commit | $commit |"
line "$facts"
if command -v nvidia-smi >/dev/null; then
  line "| driver | $(nvidia-smi --query-gpu=driver_version --format=csv,noheader | sed -n 1p) |"
fi

unfinished="" left_out="" harmless='^=+ *$|COMPUTE-SANITIZER|SUMMARY: 0 |= Warning|terminate successfully|Target application'

check_cases() {
  line '## Kernel cases against their definitions' ''
  local suite bad="" not_run="" ran="not run" all
  local -x CUDA_MODULE_LOADING=LAZY # a program for each suite: none loads the kernels of the others
  all=$("$cases" --gtest_list_tests 2>"$work/list" | sed -nE 's/^([^ ]+\.)( +#.*)?$/\1/p')
  : >"$work/cases"
  for suite in $all; do
    run "cases-${suite//\//-}" "$limit" "$cases" --gtest_filter="$suite*"
    judge
    cat "$work/cases-${suite//\//-}" >>"$work/cases"
    case $outcome in
      passed) ran=passed ;;
      "not run"*) not_run+=" ${suite%.}" ;;
      *)
        bad+=" ${suite%.}"
        line "cases of ${suite%.}: $outcome" ''
        fenced <(tail -n 60 "$work/cases-${suite//\//-}")
        ;;
    esac
  done
  if [[ ! $all ]]; then
    failed=1
    line "cases: FAILED, none is listed" ''
    fenced "$work/list"
    return
  fi
  line "cases: $([[ $bad ]] && echo "FAILED in$bad" || echo "$ran")${not_run:+; the total limit left out$not_run}" ''
  skipped=$(sed -n 's/^\[  SKIPPED \] \([^ ]*\) (.*$/\1/p' "$work/cases")
  line "Passed $(count "$work/cases" '/^\[       OK \]/p'), failed $(count "$work/cases" '/^\[  FAILED  \].*ms)$/p'), skipped $(grep -c . <<<"$skipped")." ''
  [[ ! $skipped ]] || line 'Skipped, nothing is known of them:' "$(sed 's/^/- /' <<<"$skipped")" ''
}

check_sanitizer() {
  line '## compute-sanitizer' ''
  local -x CUDA_MODULE_LOADING=LAZY
  sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
  # Small cases of our own kernels: the vendor's products are not ours to check, tests of the device's context ask CUDA
  # for what it refuses (more memory than there is) or has not done yet, which the sanitizer takes for errors, and the names
  # of the rest are explained in tests/kernels/cuda/cuda_case.h. Arrays are made for the sanitizer
  # (tests/kernels/cuda/hardware_backend.cc).
  small='-*Large:*DeathTest.*:CudaGemm.*:CudaGroupedGemm.*:CudaBlasStart.*:CudaContext*'
  for tool in memcheck racecheck initcheck synccheck; do
    if [[ ! $sanitizer ]]; then
      line "$tool: not run, compute-sanitizer is not installed" ''
      continue
    fi
    UNIPOOL_EXACT_ARRAYS=1 run "$tool" "$tool_limit" "$sanitizer" --tool "$tool" --error-exitcode 9 "$cases" \
      --gtest_filter="$small"
    passed="$(count "$work/$tool" '/^\[       OK \]/p') cases passed"
    [[ $outcome != "not run"* ]] || { line "$tool: $outcome" ''; continue; }
    # A finding is a failed case or a line of the sanitizer's other than its name, a summary without errors, a warning and
    # that the program was ended.
    findings=$(grep -E '^=========|^\[  FAILED  \]' "$work/$tool" | grep -cvE "$harmless")
    if [[ $outcome == "not finished"* ]]; then
      if ((findings)); then outcome="FAILED, and $outcome"; else unfinished+=" $tool"; fi
    fi
    line "$tool: $outcome; $passed" ''
    if [[ $outcome == FAILED* ]]; then
      failed=1
      grep -E -m 1 -A 40 '^=+ [A-Z].*|^\[  FAILED  \]' <(grep -v COMPUTE-SANITIZER "$work/$tool") >"$work/$tool.first" ||
        tail -n 40 "$work/$tool" >"$work/$tool.first"
      fenced "$work/$tool.first"
    fi
  done
}

measure_figures() {
  line '## Figures' ''
  bench=$(program cuda_kernel_bench)
  if [[ $bench ]]; then
    run benchmark "$limit" "$bench"
    judge
    line "benchmark: $outcome" ''
    cat "$work/benchmark" >>"$report"
  else
    line 'Not measured: cuda_kernel_bench is not here.'
  fi
}

check_training() {
  line '## Training' ''
  local unipool recorder text=$root/text.txt arguments=()
  unipool=$(program unipool)
  if [[ ! $unipool ]] || ! command -v python3 >/dev/null; then
    line "Not run: $([[ $unipool ]] && echo python3 || echo "the program unipool") is not here." ''
    return
  fi
  if [[ ! -f $text ]]; then
    text=$work/text.txt
    cat "$root/README.md" "$root"/{runtime,kernels,parallel,models,launcher}/*.{h,cc} >"$text"
  fi
  [[ ! -x $root/mpirun ]] || arguments+=(--mpirun "$root/mpirun")
  [[ ! $checks ]] || arguments+=(--checks "$checks")
  [[ ! $bench ]] || arguments+=("--bench=$bench")
  # It ends its checks by itself in time to tell of them.
  local left=$((${total_limit%.*} - SECONDS - 15))
  ((!${total_limit%.*})) || arguments+=(--total-limit "$((left > 0 ? left : -1))")
  for recorder in "$root/lib/libunipool_timeline.so" "$root/build/tools/gpu/libunipool_timeline.so"; do
    [[ ! -f $recorder ]] || arguments+=(--timeline "$recorder" --trace "$work/timeline.json.gz")
  done
  # Each check ends at its own limit; this one is for what none of them foresaw.
  run training $((9 * ${training_limit%.*} + 2 * ${step_limit%.*} + 60)) python3 "$here/gpu_training.py" --program "$unipool" \
    --configs "$root/configs" --text "$text" --torch "$here/../torch/torch_unipool.py" --report "$report" \
    --limit "$training_limit" --bench-limit "$step_limit" "${arguments[@]}"
  judge
  ! grep -q '^### .*: FAILED' "$report" || failed=1
  ! grep -qE '^### .*: not (run, the total limit|finished in .* all that was left)' "$report" || left_out+=" checks-of-training"
  line "training: $outcome" ''
  # Each check has written its own result by now, unless the program did not come that far.
  [[ $outcome != FAILED* ]] || grep -q '^### ' "$report" || fenced "$work/training"
  if [[ -f $work/timeline.json.gz ]]; then
    line "The time line's last steps, for ui.perfetto.dev: $(basename "${report%.md}")-timeline.json.gz" ''
  fi
}

line ''
! wanted cases || check_cases
! wanted figures || measure_figures
! wanted training || check_training
! wanted sanitizer || check_sanitizer
for name in cases figures training sanitizer; do
  wanted "$name" || line "Part $name: not asked for." ''
done

[[ ! -f $work/timeline.json.gz ]] || cp "$work/timeline.json.gz" "${report%.md}-timeline.json.gz"
verdict="$( ((failed)) && echo "SOMETHING FAILED" || echo passed)${unfinished:+, not finished:$unfinished}${left_out:+, cut by the total limit:$left_out}"
line "At its end after $SECONDS s: $verdict."
rm -rf "$work"
echo "gpu-check: $verdict; the report is $report"
exit "$failed"
