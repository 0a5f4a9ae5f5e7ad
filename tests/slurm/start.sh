#!/usr/bin/env bash
# A real single-node SLURM (munged, slurmctld, slurmd) as plain processes: no systemd, no cgroups, loopback only, no
# accounting (see `sacct` beside this file). Installs Debian's packages where they are missing. Needs root. Idempotent.
#   start.sh DIR [CPUS]     state, configuration and logs go to DIR; the node claims CPUS (4)
# Then: export SLURM_CONF=DIR/etc/slurm.conf
set -euo pipefail
R=$1 CPUS=${2:-4} PORT=${SLURM_TEST_PORT:-36817}
HOST=$(hostname -s)
[ "$(id -u)" = 0 ] || { echo "SLURM is started as root only" >&2; exit 1; }
if ! command -v slurmctld >/dev/null || ! command -v munged >/dev/null; then
  apt-get update -qq >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null
fi
mkdir -p "$R"/{etc,run,log,ctld,slurmd,munge}
chmod 755 "$R" "$R"/{etc,run,log,ctld,slurmd}
chmod 711 "$R/munge"
getent hosts "$HOST" >/dev/null || echo "127.0.0.1 $HOST" >> /etc/hosts  # it must resolve, or nothing starts

alive() { [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; }
waitfor() { local n=$1; shift; for _ in $(seq $((n * 10))); do "$@" >/dev/null 2>&1 && return 0; sleep 0.1; done; return 1; }

if ! alive "$R/run/munged.pid"; then  # a socket and a key of its own: /etc/munge and /run/munge are left alone
  [ -s "$R/munge/munge.key" ] || (umask 077; dd if=/dev/urandom of="$R/munge/munge.key" bs=128 count=1 status=none)
  rm -f "$R/munge/munge.socket" "$R/munge/munge.socket.lock"
  munged --socket="$R/munge/munge.socket" --key-file="$R/munge/munge.key" --pid-file="$R/run/munged.pid" \
         --log-file="$R/log/munged.log" --seed-file="$R/munge/munge.seed" --num-threads=2
fi
waitfor 10 munge -n -S "$R/munge/munge.socket" || { cat "$R/log/munged.log" >&2; exit 1; }

MEM=$(awk '/MemTotal/{print int($2/1024*0.9)}' /proc/meminfo)
cat > "$R/etc/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$HOST(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket=$R/munge/munge.socket
# bind to the addresses that the host's name resolves to, not to all
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort=$PORT
SlurmdPort=$((PORT + 1))
SrunPortRange=60001-60100
StateSaveLocation=$R/ctld
SlurmdSpoolDir=$R/slurmd
SlurmctldPidFile=$R/run/slurmctld.pid
SlurmdPidFile=$R/run/slurmd.pid
SlurmctldLogFile=$R/log/slurmctld.log
SlurmdLogFile=$R/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,sched_min_interval=100000
# jobs of partition high push those of low back into the queue, with the signal that submitit knows
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
MailProg=/bin/true
MessageTimeout=10
InactiveLimit=0
KillWait=5
MinJobAge=300
MaxArraySize=10001
MaxJobCount=20000
JobRequeue=1
OverTimeLimit=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
NodeName=$HOST NodeAddr=127.0.0.1 NodeHostname=$HOST CPUs=$CPUS RealMemory=$MEM State=UNKNOWN
PartitionName=low  Nodes=$HOST Default=YES MaxTime=INFINITE State=UP PriorityTier=1  PreemptMode=REQUEUE GraceTime=5
PartitionName=high Nodes=$HOST Default=NO  MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
CONF
printf 'CgroupPlugin=cgroup/v1\nCgroupAutomount=no\nConstrainCores=no\nConstrainRAMSpace=no\n' > "$R/etc/cgroup.conf"
export SLURM_CONF=$R/etc/slurm.conf
alive "$R/run/slurmctld.pid" || slurmctld
waitfor 20 scontrol ping || { tail -n 20 "$R/log/slurmctld.log" >&2; exit 1; }
alive "$R/run/slurmd.pid" || slurmd -N "$HOST"
ready() { sinfo -h -o %T | grep -qE '^(idle|mixed|allocated|completing)'; }
if ! waitfor 5 ready; then scontrol update nodename="$HOST" state=resume 2>/dev/null || true; fi
waitfor 20 ready || { tail -n 20 "$R/log/slurmctld.log" "$R/log/slurmd.log" >&2; exit 1; }
