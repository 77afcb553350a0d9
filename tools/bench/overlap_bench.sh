#!/usr/bin/env bash
# What overlap is worth on a real wire: two network namespaces act as two hosts, joined by a link of limited rate, and
# mpirun trains over TCP between them, one rank each. Prints the median wall-clock time of a step
#   on the free link and on the limited one, with lanes interleaved and one after the other, with and without a thread
#   that lets MPI move data while a rank computes.
# Usage, as root: tools/bench/overlap_bench.sh [RATE [STEPS [field.path=value ...]]]     e.g. 500mbit 6
# Needs iproute2, Open MPI and build/unipool. Leaves nothing behind.
set -euo pipefail

rate=${1:-500mbit} steps=${2:-6}
shift $(($# < 2 ? $# : 2))
overrides=("$@")
root=$(cd "$(dirname "$0")/../.." && pwd)
hosts=("overlap$$a" "overlap$$b") net=10.213.47
work=$(mktemp -d)

[[ $EUID == 0 ]] || { echo "overlap_bench.sh: only root may make network namespaces" >&2; exit 2; }
[[ -x $root/build/unipool ]] || { echo "overlap_bench.sh: build/unipool is missing; run tools/dev build" >&2; exit 2; }

clean_up() {
  for host in "${hosts[@]}"; do
    ip netns del "$host" 2>/dev/null || true
    rm -rf "/etc/netns/$host"
  done
  rmdir /etc/netns 2>/dev/null || true
  rm -rf "$work"
}
trap clean_up EXIT

# A host: its own network, name, and shared memory.
cat >"$work/on" <<'ON'
#!/usr/bin/env bash
host=$1
shift
exec ip netns exec "$host" unshare --uts --ipc --mount --propagation private bash -c '
  hostname "$0"
  mount -t tmpfs tmpfs /dev/shm
  exec bash -c "$*"' "$host" "$@"
ON
chmod +x "$work/on"

for host in "${hosts[@]}"; do
  ip netns add "$host"
  mkdir -p "/etc/netns/$host"
  printf '127.0.0.1 localhost\n%s.1 %s\n%s.2 %s\n' $net "${hosts[0]}" $net "${hosts[1]}" >"/etc/netns/$host/hosts"
done
ip link add eth0 netns "${hosts[0]}" mtu 9000 type veth peer name eth0 netns "${hosts[1]}"
for i in 0 1; do
  ip -n "${hosts[i]}" addr add $net.$((i + 1))/24 dev eth0
  ip -n "${hosts[i]}" link set lo up
  ip -n "${hosts[i]}" link set eth0 mtu 9000 up
done

limit() {
  for host in "${hosts[@]}"; do
    tc -n "$host" qdisc del dev eth0 root 2>/dev/null || true
    [[ $1 == free ]] || tc -n "$host" qdisc replace dev eth0 root tbf rate "$1" burst 64kb latency 500ms
  done
}

cat "$root"/*/*.h "$root"/*/*.cc >"$work/text"
run() {  # name, then settings
  local name=$1
  shift
  "$work/on" "${hosts[0]}" mpirun --allow-run-as-root --mca plm rsh --mca plm_rsh_agent "$work/on" \
    --mca plm_rsh_no_tree_spawn 1 --mca oob_tcp_if_include $net.0/24 --mca btl_tcp_if_include $net.0/24 \
    --mca pml ob1 --mca btl tcp,self --bind-to none --host "${hosts[0]}:1,${hosts[1]}:1" -np 2 -x OMP_NUM_THREADS=1 \
    "$root/build/unipool" train "$root/configs/demo.txtpb" run_dir="$work/$name" data.train="$work/text" \
    data.valid= train.eval_every=0 train.steps="$steps" model.layers=4 model.hidden=256 model.seq_length=256 moe.experts=8 \
    moe.top_k=1 moe.width=1024 train.micro_batch=4 train.global_batch=128 train.lr=1e-6 train.min_lr=0 parallel.ranks=1 "${overrides[@]}" "$@" >"$work/$name.log" 2>&1 ||
    { cat "$work/$name.log" >&2; exit 1; }
  python3 - "$work/$name/metrics.jsonl" <<'PY'
import json, statistics, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
print("%8.1f ms" % (1e3 * statistics.median(line["step_seconds"] for line in lines[2:] if "step_seconds" in line)))
PY
}

printf '%-10s %-12s %-16s %s\n' link lanes 'progress thread' 'median step'
for link in free "$rate"; do
  limit "$link"
  for lanes in INTERLEAVED SEQUENTIAL; do
    for thread in OFF ON; do
      printf '%-10s %-12s %-16s ' "$link" $lanes $thread
      run "$link-$lanes-$thread" parallel.lanes=$lanes parallel.progress_thread=$thread
    done
  done
done
