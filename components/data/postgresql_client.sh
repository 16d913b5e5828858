#!/bin/bash
# psql, pg_dump and pg_restore of PostgreSQL 17, and the timer that keeps them up to date.
# shellcheck source=components/remote/lib.sh
. ./lib.sh

say "the client of PostgreSQL 17"
keep berth-postgresql-client /usr/local/sbin/berth-postgresql-client 0755
for unit in berth-postgresql-client.service berth-postgresql-client.timer; do
  keep "$unit" "/etc/systemd/system/$unit"
done
systemctl daemon-reload
/usr/local/sbin/berth-postgresql-client
systemctl is-enabled --quiet berth-postgresql-client.timer || systemctl enable --quiet berth-postgresql-client.timer
systemctl start berth-postgresql-client.timer
fact version "$(psql --version | grep -o '[0-9][0-9.]*' | head -n 1)"
