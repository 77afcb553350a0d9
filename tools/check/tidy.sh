#!/usr/bin/env bash
# Runs clang-tidy 14 (.clang-tidy) on the sources of floors and tools that differ from main, and on every tenth of the
# others, beginning with another one after each commit: all of them are read within ten commits. Tests are left to the
# compiler, because clang 14 lacks the std::source_location of what they emulate. Called by tools/dev check, which has
# configured build/ and made the headers that are generated.
#
# usage: tidy.sh [--all]      --all: every source
# exit status: 0 nothing was found, or clang-tidy 14 is not here, which is said; 1 something was found
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

name=clang-tidy-14
command -v $name >/dev/null || name=clang-tidy
if ! $name --version 2>/dev/null | grep 'version 14\.' >/dev/null; then
  echo "clang-tidy check skipped: clang-tidy 14 is not installed"
  exit 0
fi

readonly folders='^(runtime|kernels|parallel|models|launcher|tools)/'
base=$(git merge-base main HEAD 2>/dev/null || echo HEAD)
number=$(git rev-list --count HEAD)
candidates() {
  git diff --name-only "$base" -- '*.cc' '*.h' | sed 's/\.h$/.cc/' # of a header its source
  git ls-files --others --exclude-standard -- '*.cc'
  git ls-files -- '*.cc' | grep -E "$folders" |
    if [[ ${1:-} == --all ]]; then cat; else awk -v n="$number" 'NR % 10 == n % 10'; fi
}
files=()
while read -r file; do # those that this build compiles
  [[ ! -f $file ]] || ! grep -qF "\"file\": \"$PWD/$file\"" build/compile_commands.json || files+=("$file")
done < <(candidates "$@" | grep -E "$folders" | sort -u)

status=0
printf '%s\n' "${files[@]}" |
  xargs -P "$(nproc)" -n 2 $name -quiet -p build 2> >(grep -v 'warnings\? generated\.$' >&2) || status=1
echo "clang-tidy: ${#files[@]} files: $( ((status)) && echo "FAILED (see above)" || echo passed)"
exit $status
