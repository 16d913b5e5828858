#!/bin/bash
# redis.sh ROOT - the root of the Redis servers. Run by mmdebstrap when its packages are installed.
set -euo pipefail
root=$1

# A server's configuration comes with its data, bound to /srv.
rm -f "$root/etc/redis/redis.conf"
