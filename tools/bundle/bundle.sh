#!/usr/bin/env bash
# Makes a folder that runs on another machine: programs, the libraries they need, settings, gpu-check. Called by
# tools/dev bundle, which has built them (preset "bundle": any x86-64-v3 processor, run path $ORIGIN/../lib).
#
# usage: bundle.sh BUILD_FOLDER TO [MOST_BYTES]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
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
  tools/gpu/gpu_info tools/bench/cuda_kernel_bench)
for program in "${programs[@]}"; do
  [[ ! -x $build/$program ]] || install -s "$build/$program" "$to/bin/"
done

# What records a time line is opened by CUDA, in a program that has the libraries it needs.
readonly recorder=$build/tools/gpu/libunipool_timeline.so
[[ ! -f $recorder ]] || install -D -s -m 644 "$recorder" "$to/lib/${recorder##*/}"

# Open MPI's mpirun for the ranks of one machine, with those of its plug-ins that such a run may take: no batch systems, no
# other networks, no files. The wrapper tells them where they lie.
readonly elsewhere='(ofi|ucx|psm|psm2|openib|slurm|flux|jsm|rsh|gridengine|simulator|monitoring|pessimist)\.so$'
readonly other_kinds='/mca_(atomic|compress|crs|fbtl|fcoll|fs|io|memheap|scoll|sharedfp|spml|sshmem)_'
bundle_mpirun() {
  local from plugin
  from=$(ompi_info --path pkglibdir --parsable 2>/dev/null | sed -n 's/^path:pkglibdir://p')
  if [[ ! $from ]] || ! command -v orterun >/dev/null; then
    echo "mpirun is left out: no Open MPI 4.1 is here (ompi_info, orterun)"
    return
  fi
  mkdir -p "$to/mpi/plugins"
  install -s "$(readlink -f "$(command -v orterun)")" "$to/mpi/orterun"
  for plugin in "$from"/mca_*.so; do
    [[ $plugin =~ $elsewhere || $plugin =~ $other_kinds ]] || install -s -m 644 "$plugin" "$to/mpi/plugins/"
  done
  cp "$(ompi_info --path pkgdatadir --parsable | sed -n 's/^path:pkgdatadir://p')"/help-*.txt "$to/mpi/"
  cp tools/bundle/bundle_mpirun.sh "$to/mpirun"
}
if ldd "$to/bin/unipool" | grep libmpi >/dev/null; then bundle_mpirun; fi

# The C library and the loader belong to the target's system, libcuda to its driver.
readonly systems='^(libc|libm|libdl|librt|libpthread|libresolv|libutil|libanl|libnsl|libcuda|ld-linux-x86-64)\.so'
for program in "$to"/bin/* "$to"/lib/* "$to"/mpi/orterun "$to"/mpi/plugins/*; do
  [[ ! -e $program ]] || ldd "$program"
done | awk '/not found/ {print "missing " $1} $2 == "=>" && $3 ~ /^\// {print $1, $3}' | sort -u >"$to/closure"
if grep '^missing ' "$to/closure"; then fail "libraries that the programs need are not on this machine"; fi
while read -r name path; do
  [[ $name =~ $systems ]] || install -m 644 "$path" "$to/lib/$name"
done <"$to/closure"
rm "$to/closure"
# A library with a run path of its own would not look where the program does.
for library in "$to"/lib/* "$to"/mpi/plugins/*; do
  [[ -e $library ]] || continue
  objdump -p "$library" | grep 'R\(UN\)\?PATH' >/dev/null || continue
  command -v patchelf >/dev/null || fail "patchelf is needed for ${library##*/}; install it with: apt-get install patchelf"
  patchelf --remove-rpath "$library"
done

cp -r configs "$to/"
cp -r tests/fixtures "$to/tests/"
mkdir "$to/gpu" "$to/torch"
cp tools/gpu/*.sh tools/gpu/*.py "$to/gpu/"
cp tools/torch/*.py "$to/torch/"
cp tools/bundle/bundle_gpu_check.sh "$to/gpu-check"
# Something to train on: this tree's own words.
cat README.md {runtime,kernels,parallel,models,launcher}/*.{h,cc} >"$to/text.txt"
git describe --always --dirty --abbrev=12 2>/dev/null >"$to/COMMIT" || echo unknown >"$to/COMMIT"
glibc=$(find "$to/bin" "$to/lib" -type f -exec objdump -T {} + 2>/dev/null | grep -o 'GLIBC_2\.[0-9]*' | sort -Vu | tail -n 1)
sed -e "s/@COMMIT@/$(cat "$to/COMMIT")/" -e "s/@GLIBC@/${glibc#GLIBC_}/" tools/bundle/bundle.md >"$to/BUNDLE.md"

bytes=$(du --bytes --summarize "$to" | cut -f 1)
if ((bytes >= most_bytes)); then
  du --bytes --all "$to" | sort -rn | sed -n 1,12p >&2
  rm -rf -- "$to"
  fail "$to would have $bytes bytes and may have $most_bytes; its largest files are above; nothing was kept"
fi
echo "$to: $bytes bytes of at most $most_bytes, $(find "$to/bin" -type f | wc -l) programs, $(find "$to/lib" -type f | wc -l) libraries, C library ${glibc#GLIBC_} or later"
