#!/bin/bash
# Shows a host its block volumes, and no others. $1 lists them: name, major:minor and id, one a line.
# Outside the host, with LXC_PID: run by lxc right before the host's first process (start-host), also when it
# reboots itself, and by the sandbox when a volume comes or goes.
set -euo pipefail

# Control groups of version 1 only; of version 2 takes care lxc.
groups=$(sed -n 's,^[0-9]*:devices:\(.*/lxc\.payload\.[^/]*\).*,/sys/fs/cgroup/devices\1,p' "/proc/$LXC_PID/cgroup")
wanted=()
while read -r name number id; do
  if [[ -n $groups ]]; then
    # What is allowed above is not by itself below, where the host has put its services; parents come first.
    find "$groups" -type d | while read -r group; do
      echo "b $number rwm" >"$group/devices.allow" || [[ ! -d $group ]] # a service that ended meanwhile
    done
  fi
  wanted+=("$name" "${number%:*}" "${number#*:}" "$id")
done <"$1"

# In the host's own tree: nothing it has made leads out of it.
# shellcheck disable=SC2016 # expands there
nsenter --target "$LXC_PID" --mount -- /bin/sh -euc '
  cd /dev
  mkdir -p disk/by-id
  for old in sd[b-z] disk/by-id/scsi-0SCW_sbs_volume-*; do
    case " $* " in *" ${old##*/} "*) ;; *) rm -f "$old" ;; esac
  done
  while [ $# -gt 0 ]; do
    rm -f .plug
    mknod .plug b "$2" "$3"
    chgrp disk .plug
    chmod 660 .plug # not mknod -m: it looks into /proc, where this process is not
    mv -f .plug "$1"
    ln -sfn "../../$1" "disk/by-id/$4"
    shift 4
  done' sh "${wanted[@]}"
