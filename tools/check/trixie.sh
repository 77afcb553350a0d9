#!/usr/bin/env bash
# Builds the tree and runs a handful of tests on a bare Debian 13: a folder that debootstrap fills, with GCC 14 or clang 19,
# Open MPI 5 and Python 3.13. Called by tools/dev test --trixie. Root alone may do it; the folder is kept for the next time.
#
# usage: trixie.sh gcc|clang [FOLDER]     UNIPOOL_DEBIAN_MIRROR: where packages come from
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
readonly compiler=$1 folder=${2:-$PWD/build/trixie} mirror=${UNIPOOL_DEBIAN_MIRROR:-http://deb.debian.org/debian}
# Worlds of processes, what mpirun says, what a user sees.
readonly targets=(unipool kernels_tests runtime_tests runtime_world_tests failing_rank launcher_tests)
readonly tests='^(kernels|runtime_mpi_[34]|runtime_failing_rank|launcher|structure|readme|launcher_run_failures)$'

fail() {
  printf 'tools/dev test --trixie: %s\n' "$*" >&2
  exit 2
}
[[ $(id -u) == 0 ]] || fail "root alone may fill and enter another system's folder; run it with sudo"
command -v debootstrap >/dev/null || fail "debootstrap is missing; install it with: apt-get install debootstrap"
command -v unshare >/dev/null || fail "unshare is missing; install it with: apt-get install util-linux"

if [[ ! -e $folder/filled ]]; then
  [[ ! -e $folder ]] || [[ -e $folder/debootstrap ]] || fail "$folder exists and is no folder of debootstrap's; remove it"
  mkdir -p "$folder"
  debootstrap --variant=minbase trixie "$folder" "$mirror" >"$folder.log" 2>&1 ||
    fail "debootstrap could not fill $folder from $mirror; see $folder.log (UNIPOOL_DEBIAN_MIRROR names another mirror)"
  touch "$folder/filled"
fi
mkdir -p "$folder/unipool"
# The tree as it is now, without files that an earlier one had; what was built from it stays.
find "$folder/unipool" -mindepth 1 -maxdepth 1 -not -name 'build*' -exec rm -rf {} +
{ git ls-files -z 2>/dev/null || find . -mindepth 1 -maxdepth 1 -not -name 'build*' -not -name runs -print0; } |
  tar --create --null --files-from=- | tar --extract --directory "$folder/unipool"
cp /etc/resolv.conf "$folder/etc/resolv.conf"
printf '127.0.0.1 localhost %s\n' "$(uname -n)" >"$folder/etc/hosts"

# In its own view of mounts, which end with it.
inside() {
  # shellcheck disable=SC2016
  unshare --mount --fork bash -c '
    mount --rbind /proc "$0/proc" && mount --rbind /dev "$0/dev" && mount -t tmpfs tmpfs "$0/tmp" &&
      exec chroot "$0" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 bash -euc "$1"' "$folder" "$1"
}
readonly begin=$SECONDS
inside 'cd /unipool && tools/dev setup'
cxx=g++
if [[ $compiler == clang ]]; then
  cxx=clang++
  inside 'DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends clang'
fi
readonly installed=$SECONDS
# The folder "build" alone is asked for by its name in the tests.
inside "cd /unipool && [[ ! -e build || -e build/of-$compiler ]] || rm -rf build
  CXX=$cxx cmake --preset default >build-$compiler.log && touch build/of-$compiler
  cmake --build --preset default --parallel \$(nproc) --target ${targets[*]}
  build/unipool --version"
readonly built=$SECONDS
status=0
inside "cd /unipool && ctest --preset default --tests-regex '$tests'" || status=1
echo "Debian 13, $compiler: packages $((installed - begin)) s, build $((built - installed)) s, tests $((SECONDS - built)) s," \
  "$( ((status == 0)) && echo passed || echo FAILED)"
exit $status
