#!/bin/sh
# enter.sh TREE USER STATE RUN COMMAND... - COMMAND as USER in a Debian tree, which it cannot write to, with its
# directories at /srv and /run. The mounts end with it. Keeps the process id.
set -eu
if [ "${BERTH_MOUNTS-}" != own ]; then
    BERTH_MOUNTS=own exec unshare --mount --propagation private -- "$0" "$@"
fi
unset BERTH_MOUNTS
tree=$1 user=$2 state=$3 run=$4
shift 4
mount --bind "$state" "$tree/srv"
mount --bind "$run" "$tree/run"
mount --rbind /dev "$tree/dev"
cd /
exec chroot --userspec="$user:$user" --groups= "$tree" "$@"
