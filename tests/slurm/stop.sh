#!/usr/bin/env bash
# Stop what start.sh DIR started, by its pid files only. Idempotent.
set -uo pipefail
R=$1
export SLURM_CONF=$R/etc/slurm.conf
stop() {  # name, pid file; a recycled pid is left alone
  local p
  [ -s "$2" ] || return 0
  p=$(cat "$2")
  if [ "$(cat "/proc/$p/comm" 2>/dev/null)" = "$1" ]; then
    kill -TERM "$p" 2>/dev/null
    for _ in $(seq 150); do kill -0 "$p" 2>/dev/null || break; sleep 0.1; done
    kill -0 "$p" 2>/dev/null && kill -KILL "$p"
  fi
  rm -f "$2"
}
if [ -s "$R/run/slurmctld.pid" ] && timeout 5 scontrol ping >/dev/null 2>&1; then
  ids=$(timeout 5 squeue -h -o %A | sort -u)
  # shellcheck disable=SC2086
  [ -n "$ids" ] && timeout 5 scancel $ids 2>/dev/null
  for _ in $(seq 100); do [ -z "$(timeout 5 squeue -h)" ] && break; sleep 0.1; done
fi
stop slurmd "$R/run/slurmd.pid"
stop slurmctld "$R/run/slurmctld.pid"
stop munged "$R/run/munged.pid"
