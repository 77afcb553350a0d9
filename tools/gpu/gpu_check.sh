#!/usr/bin/env bash
# Proves and measures the CUDA kernels and training on the GPU of this machine, and writes one report (Markdown). It runs
# in a bundle (as gpu-check) and in a built tree (as tools/dev gpu-check). It needs bash, a driver and the CUDA libraries,
# and no network. Training also needs python3, and PyTorch to be compared with it.
#
# usage: gpu_check.sh [--report FILE] [--only PART,...] [--limit SECONDS] [--tool-limit SECONDS] [--checks NAME,...]
#                     [--training-limit SECONDS] [--step-limit SECONDS]
#   --only            parts: cases sanitizer figures training (default: all)
#   --checks          checks of the part training, see gpu_training.py (default: all)
#   --limit           of the cases, and of the benchmark (default 120)
#   --tool-limit      of each tool of compute-sanitizer (default 300)
#   --training-limit  of each check of training (default 300)
#   --step-limit      of training's step benchmark, beside PyTorch (default 900)
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
report="" limit=120 tool_limit=300 training_limit=300 step_limit=900 checks="" only=cases,sanitizer,figures,training
while (($#)); do
  case $1 in
    --report | --only | --limit | --tool-limit | --checks | --training-limit | --step-limit)
      (($# > 1)) || { echo "gpu-check: $1 needs a value" >&2; exit 2; }
      option=${1#--}
      printf -v "${option//-/_}" %s "$2"
      shift 2
      ;;
    *)
      echo "gpu-check: unknown argument \"$1\"; there are --report FILE, --only PART,..., --limit SECONDS," \
        "--tool-limit SECONDS, --checks NAME,..., --training-limit SECONDS, --step-limit SECONDS" >&2
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
# the loader does not look. Only the version that the programs ask for helps them.
elsewhere() { # LIBRARY: prints its path if the loader does not know it
  ldconfig -p 2>/dev/null | grep -qF "$1 " || find /usr/local /usr/lib /opt -name "$1" 2>/dev/null | sort -V | tail -n 1
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
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if ! "$info" >"$work/info" 2>"$work/why"; then
  echo "gpu-check: nothing was run: $(head -n 1 "$work/why")" >&2
  exit 2
fi
name=$(sed -n 's/^| device | \([^,]*\),.*/\1/p' "$work/info" | tr -cs 'A-Za-z0-9\n' '-')
report=${report:-$reports/$(date -u +%Y-%m-%d)-${name%-}.md}
commit=$(cat "$root/COMMIT" 2>/dev/null || git -C "$root" describe --always --dirty 2>/dev/null || echo unknown)
failed=0

line() { printf '%s\n' "$@" >>"$work/report"; }
fenced() { # FILE: as a block of the report
  line '```'
  cat "$1" >>"$work/report"
  line '```' ''
}
run() { # NAME SECONDS COMMAND ...: runs it under the limit with its output in $work/NAME; how it ended is `outcome`
  local name=$1 seconds=$2 status=0
  shift 2
  echo "gpu-check: $name"
  timeout --kill-after 10 "$seconds" "$@" >"$work/$name" 2>&1 || status=$?
  case $status in
    0) outcome=passed ;;
    124 | 137) outcome="not finished in $seconds s" ;;
    *) outcome="FAILED (exit status $status)" ;;
  esac
}
part() { # NAME COMMAND ...: what must pass
  local name=$1
  shift
  run "$name" "$limit" "$@"
  [[ $outcome == passed ]] || failed=1
  line "$name: $outcome" ''
}
count() { sed -n "$2" "$1" | wc -l; }

line "# GPU check on $(sed -n 's/^| device | \([^,]*\),.*/\1/p' "$work/info")" '' '| what | value |' '|---|---|' \
  "| date | $(date -u '+%Y-%m-%d %H:%M UTC') |" "| commit | $commit |"
cat "$work/info" >>"$work/report"
if command -v nvidia-smi >/dev/null; then
  line "| driver | $(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1) |"
fi

unfinished="" harmless='^=+ *$|COMPUTE-SANITIZER|SUMMARY: 0 |= Warning|terminate successfully|Target application'

check_cases() {
  line '## Kernel cases against their definitions' ''
  part cases "$cases"
  skipped=$(sed -n 's/^\[  SKIPPED \] \([^ ]*\) (.*$/\1/p' "$work/cases")
  line "Passed $(count "$work/cases" '/^\[       OK \]/p'), failed $(count "$work/cases" '/^\[  FAILED  \].*ms)$/p'), skipped $(grep -c . <<<"$skipped")." ''
  [[ ! $skipped ]] || line 'Skipped, nothing is known of them:' "$(sed 's/^/- /' <<<"$skipped")" ''
  [[ $outcome == passed ]] || fenced "$work/cases"
}

check_sanitizer() {
  line '## compute-sanitizer' ''
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
    part benchmark "$bench"
    cat "$work/benchmark" >>"$work/report"
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
  for recorder in "$root/lib/libunipool_timeline.so" "$root/build/tools/gpu/libunipool_timeline.so"; do
    [[ ! -f $recorder ]] || arguments+=(--timeline "$recorder" --trace "$work/timeline.json.gz")
  done
  # Each check ends at its own limit; this one is for what none of them foresaw.
  run training $((8 * ${training_limit%.*} + ${step_limit%.*} + 60)) python3 "$here/gpu_training.py" --program "$unipool" \
    --configs "$root/configs" --text "$text" --torch "$here/../torch/torch_unipool.py" --report "$work/training.md" \
    --limit "$training_limit" --bench-limit "$step_limit" "${arguments[@]}"
  [[ $outcome == passed ]] || failed=1
  line "training: $outcome" ''
  [[ ! -f $work/training.md ]] || cat "$work/training.md" >>"$work/report"
  [[ $outcome != FAILED* || -s $work/training.md ]] || fenced "$work/training"
  if [[ -f $work/timeline.json.gz ]]; then
    line "The time line's last steps, for ui.perfetto.dev: $(basename "${report%.md}")-timeline.json.gz" ''
  fi
}

line ''
! wanted cases || check_cases
! wanted sanitizer || check_sanitizer
! wanted figures || measure_figures
! wanted training || check_training
for name in cases sanitizer figures training; do
  wanted "$name" || line "Part $name: not asked for." ''
done

mkdir -p "$(dirname "$report")"
cp "$work/report" "$report"
[[ ! -f $work/timeline.json.gz ]] || cp "$work/timeline.json.gz" "${report%.md}-timeline.json.gz"
echo "gpu-check: $( ((failed)) && echo "SOMETHING FAILED" || echo passed)${unfinished:+, not finished:$unfinished}; the report is $report"
exit "$failed"
