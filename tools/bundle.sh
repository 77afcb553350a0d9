#!/usr/bin/env bash
# Makes a folder that runs on another machine: programs, the libraries they need, settings, gpu-check. Called by
# tools/dev bundle, which has built them (preset "bundle": any x86-64-v3 processor, run path $ORIGIN/../lib).
#
# usage: bundle.sh BUILD_FOLDER TO [MOST_BYTES]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly build=$1 to=$2 most_bytes=${3:-60000000}

fail() {
  printf 'tools/dev bundle: %s\n' "$*" >&2
  exit 2
}
[[ ! -e $to || -f $to/BUNDLE.md ]] || fail "$to exists and is no bundle; name another folder"
rm -rf -- "$to"
mkdir -p "$to/bin" "$to/lib" "$to/tests"

# Those that a build without a CUDA toolkit does not have are left out.
programs=(unipool tests/kernels_tests tests/runtime_tests tests/cuda_kernel_cases tests/kernels_cuda_emulated_tests
  tools/bench/gpu_info tools/bench/cuda_kernel_bench)
for program in "${programs[@]}"; do
  [[ ! -x $build/$program ]] || install -s "$build/$program" "$to/bin/"
done

# The C library and the loader belong to the target's system, libcuda to its driver.
readonly systems='^(libc|libm|libdl|librt|libpthread|libresolv|libutil|libanl|libnsl|libcuda|ld-linux-x86-64)\.so'
for program in "$to"/bin/*; do
  ldd "$program"
done | awk '/not found/ {print "missing " $1} $2 == "=>" && $3 ~ /^\// {print $1, $3}' | sort -u >"$to/closure"
if grep '^missing ' "$to/closure"; then fail "libraries that the programs need are not on this machine"; fi
while read -r name path; do
  [[ $name =~ $systems ]] || install -m 644 "$path" "$to/lib/$name"
done <"$to/closure"
rm "$to/closure"
# A library with a run path of its own would not look where the program does.
for library in "$to"/lib/*; do
  [[ -e $library ]] || continue
  objdump -p "$library" | grep -q 'R\(UN\)\?PATH' || continue
  command -v patchelf >/dev/null || fail "patchelf is needed for ${library##*/}; install it with: apt-get install patchelf"
  patchelf --remove-rpath "$library"
done
# Open MPI comes as a library that the program is linked with; its mpirun and plug-ins do not.

cp -r configs "$to/"
cp -r tests/fixtures "$to/tests/"
cp tools/gpu_check.sh "$to/gpu-check"
git describe --always --dirty --abbrev=12 2>/dev/null >"$to/COMMIT" || echo unknown >"$to/COMMIT"
glibc=$(find "$to/bin" "$to/lib" -type f -exec objdump -T {} + 2>/dev/null | grep -o 'GLIBC_2\.[0-9]*' | sort -Vu | tail -n 1)
sed -e "s/@COMMIT@/$(cat "$to/COMMIT")/" -e "s/@GLIBC@/${glibc#GLIBC_}/" tools/bundle.md >"$to/BUNDLE.md"

bytes=$(du --bytes --summarize "$to" | cut -f 1)
if ((bytes >= most_bytes)); then
  du --bytes --all "$to" | sort -rn | head -n 12 >&2
  rm -rf -- "$to"
  fail "$to would have $bytes bytes and may have $most_bytes; its largest files are above; nothing was kept"
fi
echo "$to: $bytes bytes of at most $most_bytes, $(find "$to/bin" -type f | wc -l) programs, $(find "$to/lib" -type f | wc -l) libraries, C library ${glibc#GLIBC_} or later"
