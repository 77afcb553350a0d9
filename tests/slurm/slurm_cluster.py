"""A real Slurm cluster on one machine: each node is a network namespace with its own host name, address and /dev/shm.
Needs root, Debian's packages slurm-wlm and munge, and a kernel that makes namespaces. Everything lives in one folder and ends
with Stop()."""
import os
import shutil
import signal
import subprocess
import time

PROGRAMS = ["sbatch", "srun", "scontrol", "slurmctld", "slurmd", "munged", "ip", "tc", "unshare", "cc"]
SHELL = 'hostname "$0"; mount -t tmpfs -o size=1g tmpfs /dev/shm; exec "$@"'

CONFIG = """ClusterName=onebox
SlurmctldHost=n0({net}.1)
SlurmctldPort=16817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={root}/munge/munge.sock,cred_expire=5
StateSaveLocation={root}/ctld
SlurmdSpoolDir={root}/spool.%n
TmpFS={root}/tmp.%n
SlurmctldPidFile={root}/run/slurmctld.pid
SlurmdPidFile={root}/run/slurmd.%n.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=100000
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MpiDefault=pmix
ReturnToService=2
SwitchType=switch/none
KillWait=5
MinJobAge=600
InactiveLimit=0
WaitTime=0
SlurmdTimeout={node_timeout}
MessageTimeout=90
TCPTimeout=30
BatchStartTimeout=300
UnkillableStepTimeout=600
JobRequeue=1
PropagateResourceLimitsExcept=ALL
GresTypes=gpu
NodeName=DEFAULT Gres=gpu:2 CPUs=16 Boards=1 SocketsPerBoard=1 CoresPerSocket=16 ThreadsPerCore=1 RealMemory=2000 State=UNKNOWN
"""


def WhyNot() -> str:
    """What keeps the cluster from running here; "" when nothing does."""
    missing = [name for name in PROGRAMS if not shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")]
    if missing:
        return f"not installed: {', '.join(missing)} (tools/dev setup --slurm)"
    if os.getuid() != 0:
        return "only root can make network namespaces"
    name = f"unipool-{os.getpid()}-probe"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"no network namespaces here: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=False)
    return ""


def Run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


class Cluster:
    """Nodes n0 ... ; partitions: name -> (first node, last node, more of slurm.conf)."""

    def __init__(self, root: str, partitions: dict[str, tuple[int, int, str]], weights: dict[int, int], node_timeout: int = 60, net: str = "10.77.0") -> None:
        self.root, self.partitions, self.weights, self.net = root, partitions, weights, net
        self.node_timeout = node_timeout  # after so many seconds of silence a node is down
        self.count = 1 + max(last for _, last, _ in partitions.values())
        self.prefix = f"unipool-{os.getpid()}-n"
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = {**os.environ, "SLURM_CONF": f"{root}/slurm.conf", "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}

    def On(self, node: int, *command: str) -> list[str]:
        return ["ip", "netns", "exec", f"{self.prefix}{node}", "unshare", "--uts", "--ipc", "--mount", "--propagation", "slave",
                "bash", "-c", SHELL, f"n{node}", *command]

    def Start(self) -> None:
        for folder in ["ctld", "run", "log", "munge", *(f"{kind}.n{i}" for i in range(self.count) for kind in ("spool", "tmp"))]:
            os.makedirs(f"{self.root}/{folder}", exist_ok=True)
        self.MakeNetwork()
        self.WriteConfig()
        self.Daemon("munged", ["munged", "--foreground", "--force", f"--key-file={self.root}/munge/munge.key",
                               f"--socket={self.root}/munge/munge.sock", f"--pid-file={self.root}/munge/munged.pid",
                               f"--log-file={self.root}/munge/munged.log", f"--seed-file={self.root}/munge/munged.seed"])
        self.Wait(lambda: os.path.exists(f"{self.root}/munge/munge.sock"), "munged")
        os.chmod(f"{self.root}/munge", 0o755)
        self.Daemon("slurmctld", self.On(0, "slurmctld", "-D", "-i"))
        for i in range(self.count):
            self.StartNode(i)
        self.Wait(lambda: self.IdleNodes() == self.count, "idle nodes")

    def StartNode(self, node: int) -> None:
        self.Daemon(f"slurmd.n{node}", self.On(node, "slurmd", "-D", "-N", f"n{node}"))

    def Daemon(self, name: str, command: list[str]) -> None:
        with open(f"{self.root}/log/{name}.out", "ab") as log:
            self.daemons[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment)

    def Wait(self, condition: "object", what: str) -> None:
        for _ in range(1200):
            if condition():  # type: ignore[operator]
                return
            time.sleep(0.1)
        raise RuntimeError(f"the cluster has no {what} after two minutes; logs are in {self.root}/log")

    def IdleNodes(self) -> int:
        answer = subprocess.run(self.On(0, "sinfo", "-h", "-N", "-t", "idle", "-o", "%N"), env=self.environment,
                                capture_output=True, text=True, check=False)
        return len(set(answer.stdout.split()))

    def MakeNetwork(self) -> None:
        switch = f"{self.prefix}s"
        Run("ip", "netns", "add", switch)
        Run("ip", "-n", switch, "link", "add", "br0", "mtu", "9000", "type", "bridge", "forward_delay", "0")
        Run("ip", "-n", switch, "link", "set", "br0", "up")
        hosts = "127.0.0.1 localhost\n" + "".join(f"{self.net}.{i + 1} n{i}\n" for i in range(self.count))
        for i in range(self.count):
            name = f"{self.prefix}{i}"
            Run("ip", "netns", "add", name)
            Run("ip", "-n", name, "link", "set", "lo", "up")
            Run("ip", "link", "add", "eth0", "netns", name, "mtu", "9000", "type", "veth", "peer", "name", f"p{i}", "netns", switch)
            Run("ip", "-n", switch, "link", "set", f"p{i}", "mtu", "9000", "master", "br0", "up")
            Run("ip", "-n", name, "addr", "add", f"{self.net}.{i + 1}/24", "dev", "eth0")
            Run("ip", "-n", name, "link", "set", "eth0", "mtu", "9000", "up")
            os.makedirs(f"/etc/netns/{name}")
            with open(f"/etc/netns/{name}/hosts", "w", encoding="utf-8") as file:
                file.write(hosts)

    def SlowWire(self, node: int, rate: str) -> None:
        """Limits what the node sends and gets."""
        for name, device in [(f"{self.prefix}{node}", "eth0"), (f"{self.prefix}s", f"p{node}")]:
            Run("tc", "-n", name, "qdisc", "replace", "dev", device, "root", "tbf", "rate", rate, "burst", "64kb", "latency", "400ms")

    def WriteConfig(self) -> None:
        text = CONFIG.format(root=self.root, net=self.net, node_timeout=self.node_timeout)
        for i in range(self.count):
            text += f"NodeName=n{i} NodeHostname=n{i} NodeAddr={self.net}.{i + 1} Port={16900 + i} Weight={self.weights.get(i, 10)}\n"
        for name, (first, last, more) in self.partitions.items():
            text += f"PartitionName={name} Nodes=n[{first}-{last}] MaxTime=60:00 State=UP OverSubscribe=NO {more}\n"
        for name, content in {"slurm.conf": text, "cgroup.conf": "CgroupPlugin=cgroup/v1\n", "gres.conf": "Name=gpu File=/dev/tty[0-1]\n"}.items():
            with open(f"{self.root}/{name}", "w", encoding="utf-8") as file:
                file.write(content)
        key = os.open(f"{self.root}/munge/munge.key", os.O_CREAT | os.O_WRONLY, 0o600)
        os.write(key, os.urandom(1024))
        os.close(key)
        os.chmod(f"{self.root}/munge", 0o700)

    def Pids(self, node: int) -> list[int]:
        """All processes of a node: they are in its namespace."""
        answer = subprocess.run(["ip", "netns", "pids", f"{self.prefix}{node}"], capture_output=True, text=True, check=False)
        return [int(pid) for pid in answer.stdout.split()]

    def Kill(self, node: int) -> None:
        """As if its power were gone."""
        for pid in self.Pids(node):
            if os.path.exists(f"/proc/{pid}"):
                os.kill(pid, signal.SIGKILL)

    def Stop(self) -> None:
        for i in reversed(range(self.count)):
            self.Kill(i)
        for process in self.daemons.values():
            process.kill()
            process.wait()
        for name in [f"{self.prefix}s", *(f"{self.prefix}{i}" for i in range(self.count))]:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
            shutil.rmtree(f"/etc/netns/{name}", ignore_errors=True)
