#!/usr/bin/env bash
# What overlap is worth on a real wire: network namespaces act as hosts, joined by a switch with links of limited rate,
# and mpirun trains over TCP between them, one rank each. Prints the median wall-clock time of a step on free links and on
# limited ones, with lanes interleaved and one after the other, with kernels that call MPI between parts of their work and
# with a thread that does; the time that ranks wait for the wire (exposed, of the recorder); and how much of the time that
# their bytes take on such a link is hidden: 1 - exposed / (bytes / rate), the mean of all ranks.
# Usage, as root: tools/bench/overlap_bench.sh [RATE [STEPS [HOSTS [field.path=value ...]]]]
#   e.g. 500mbit 8 4 parallel.stages=2
# Needs iproute2, Open MPI and build/unipool. Leaves nothing behind.
set -euo pipefail

rate=${1:-500mbit} steps=${2:-6} num_hosts=${3:-2}
shift $(($# < 3 ? $# : 3))
overrides=("$@")
root=$(cd "$(dirname "$0")/../.." && pwd)
hosts=() net=10.213.47 switch="ovl$$"
for ((i = 1; i <= num_hosts; ++i)); do hosts+=("overlap$$x$i"); done
work=$(mktemp -d)

[[ $EUID == 0 ]] || { echo "overlap_bench.sh: only root may make network namespaces" >&2; exit 2; }
[[ -x $root/build/unipool ]] || { echo "overlap_bench.sh: build/unipool is missing; run tools/dev build" >&2; exit 2; }

clean_up() {
  for host in "${hosts[@]}"; do
    ip netns del "$host" 2>/dev/null || true
    rm -rf "/etc/netns/$host"
  done
  ip link del "$switch" 2>/dev/null || true
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

ip link add "$switch" type bridge
ip link set "$switch" mtu 9000 up
for ((i = 0; i < num_hosts; ++i)); do
  host=${hosts[i]}
  ip netns add "$host"
  mkdir -p "/etc/netns/$host"
  {
    echo 127.0.0.1 localhost
    for ((j = 0; j < num_hosts; ++j)); do echo "$net.$((j + 1)) ${hosts[j]}"; done
  } >"/etc/netns/$host/hosts"
  ip link add eth0 netns "$host" mtu 9000 type veth peer name "$switch-$i"
  ip link set "$switch-$i" mtu 9000 master "$switch" up
  ip -n "$host" addr add $net.$((i + 1))/24 dev eth0
  ip -n "$host" link set lo up
  ip -n "$host" link set eth0 mtu 9000 up
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
    --mca pml ob1 --mca btl tcp,self --bind-to none --host "$(IFS=,; echo "${hosts[*]/%/:1}")" -np "$num_hosts" -x OMP_NUM_THREADS=1 \
    "$root/build/unipool" train "$root/configs/demo.txtpb" run_dir="$work/$name" data.train="$work/text" \
    data.valid= train.eval_every=0 train.steps="$steps" model.layers=4 model.hidden=256 model.seq_length=256 moe.experts=8 \
    moe.top_k=1 moe.width=1024 train.micro_batch=4 train.global_batch=128 train.lr=1e-6 train.min_lr=0 traffic.record=FULL traffic.first_step=2 "${overrides[@]}" "$@" >"$work/$name.log" 2>&1 ||
    { cat "$work/$name.log" >&2; exit 1; }
  "$root/build/unipool" report "$work/$name" --jsonl="$work/$name.lines" >"$work/$name.report"
  python3 - "$work/$name/metrics.jsonl" "$work/$name.lines" "$link" <<'PY'
import json, re, statistics, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
step = statistics.median(line["step_seconds"] for line in lines[2:] if "step_seconds" in line)
exposed, sent, ranks, steps = 0, 0, set(), set()
for line in map(json.loads, open(sys.argv[2])):
    exposed += max(0, line["exposed_ns"] or 0)
    sent += sum(size for _, size in line["to"])
    ranks.add(line["rank"])
    steps.add(line["step"])
each = len(ranks) * len(steps)
text = f"{1e3 * step:9.1f} ms {1e-6 * exposed / each:9.1f} ms {1e-6 * sent / each:9.1f} MB"
rate = re.fullmatch(r"([0-9.]+)([kmg])bit", sys.argv[3])
if rate:
    wire = sent * 8 / (float(rate[1]) * {"k": 1e3, "m": 1e6, "g": 1e9}[rate[2]]) / each
    text += f" {1e3 * wire:9.1f} ms {100 * (1 - 1e-9 * exposed / each / wire):6.1f} %"
print(text)
PY
}

printf '%-10s %-12s %-10s %12s %12s %12s %12s %8s\n' link lanes 'MPI calls' step exposed sent 'wire takes' hidden
for link in free "$rate"; do
  limit "$link"
  for lanes in INTERLEAVED SEQUENTIAL; do
    for thread in OFF ON; do
      printf '%-10s %-12s %-10s ' "$link" $lanes "$([[ $thread == ON ]] && echo thread || echo kernels)"
      run "$link-$lanes-$thread" parallel.lanes=$lanes parallel.progress_thread=$thread
    done
  done
done
