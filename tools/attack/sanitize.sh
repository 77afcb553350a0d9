#!/usr/bin/env bash
# `tools/dev test --sanitize`: all tests that can run under the address, undefined-behaviour and thread sanitizers, and what ever
# failed (tests/fuzz/corpus) and damaged checkpoints with the instrumented program. `--sanitize=fast` is a part of a few minutes.
#
# Usage: sanitize.sh all | fast
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

readonly part=$1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=0  # Open MPI and glog keep memory until the end
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1

# Entries of CTest that a preset does not run: preset, pattern, reason.
excluded() {
  cat <<'TEXT'
both             ^structure$|^gpu_tools$|_compile_report$|_every_kernel$|^gpu_timeline$   run no instrumented code
both             ^torch_comparison$|^gpu_training$|^readme$   train for minutes what the other entries train in seconds
both             ^cuda_kernel_cases$   needs a GPU
both             _cuda_emulated$|_device$|_device_mpi_   fibers change stacks in a way that the sanitizers take for overflow
both             ^attack_   run below without a limit of memory, which sanitizers need without end
sanitize-thread  _mpi_|failing_rank$|^launcher_run_   Open MPI is not instrumented, so that its own locks are not seen
TEXT
}

cores() { env -u OMP_NUM_THREADS nproc; }

failed=()
step() {  # NAME COMMAND...: runs it, remembers whether it failed, prints its time
  local name=$1 begin=$SECONDS
  shift
  printf '\n== %s\n' "$name"
  "$@" || failed+=("$name")
  times+=("$(printf '%5d s  %s' $((SECONDS - begin)) "$name")")
}

build() {  # PRESET [TARGET ...]
  local preset=$1
  shift
  cmake --preset "$preset" >/dev/null
  cmake --build "build-$preset" --parallel "$(cores)" ${1+--target "$@"}
}

# Layout randomisation with many bits leaves GCC 12's thread sanitizer no room.
tests() {  # PRESET CTEST-ARGUMENT...
  setarch "$(uname -m)" -R ctest --test-dir "build-$1" --output-on-failure --parallel "$(cores)" "${@:2}"
}

pattern() {  # PRESET: what is excluded, as one pattern
  excluded | awk -v preset="$1" '$1 == "both" || $1 == preset {printf "%s%s", separator, $2; separator = "|"}'
}

corpus() {  # PRESET FILE-OR-FOLDER...
  tools/attack/fuzz.py "build-$1/unipool" --no-memory-limit --waiting tests/fuzz/waiting.txt --replay "${@:2}"
}

# What the entries that are not excluded run.
readonly programs=(unipool failing_rank {runtime,kernels,parallel,models,launcher}_tests {runtime,parallel,models}_world_tests)
times=()
if [[ $part == fast ]]; then  # without optimisation half the time goes into compiling
  step "build, address and undefined" build sanitize-fast unipool runtime_tests
  step "runtime, address and undefined" tests sanitize-fast -R '^runtime$'
  step "corpus, address and undefined" corpus sanitize-fast tests/fuzz/corpus/{state,numbers,sizes,places,paths,flags,data}.jsonl
  step "build, thread" build sanitize-thread runtime_world_tests
  step "runtime on four threads, thread" tests sanitize-thread -R '^runtime_threads_4$'
else
  for preset in sanitize sanitize-thread; do
    step "build, $preset" build "$preset" "${programs[@]}"
    step "tests, $preset" tests "$preset" -E "$(pattern "$preset")"
  done
  step "corpus, sanitize" corpus sanitize tests/fuzz/corpus
  step "damages, sanitize" tools/attack/damage.py build-sanitize/unipool --fast --waiting tests/attack/waiting_damages.txt
  printf '\nNot run:\n'
  excluded
fi
printf '\nSanitizers, %s:\n' "$part"
printf '%s\n' "${times[@]}"
((${#failed[@]} == 0)) || printf 'FAILED: %s\n' "${failed[@]}"
((${#failed[@]} == 0))
