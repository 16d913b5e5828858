#!/bin/bash
# postgres.sh ROOT - the root of the PostgreSQL servers. Run by mmdebstrap before and after its packages are installed.
set -euo pipefail
root=$1

# Debian would make a cluster of its own.
mkdir -p "$root/etc/postgresql-common"
echo "create_main_cluster = false" >"$root/etc/postgresql-common/createcluster.conf"

# Whoever may create objects in a database may create these extensions in it, without being superuser, as at a
# provider; those that PostgreSQL itself trusts are so already.
for control in "$root"/usr/share/postgresql/*/extension/pg_stat_statements.control; do
    if [[ -f $control ]] && ! grep -q '^trusted' "$control"; then
        echo "trusted = true" >>"$control"
    fi
done

# A cluster to copy for each instance: making one takes a second. The superuser is the provider's and lets
# nobody connect unless asked to; every instance has a database `rdb`.
bin=$(echo "$root"/usr/lib/postgresql/*/bin)
if [[ -d $bin ]]; then
    as_postgres() { chroot --userspec=postgres:postgres "$root" "${bin#"$root"}/$1" "${@:2}"; }
    install -d -m 700 -o 0 -g 0 "$root/var/lib/postgresql/cluster"
    chroot "$root" chown postgres:postgres /var/lib/postgresql/cluster
    as_postgres initdb --no-sync --no-instructions --pgdata=/var/lib/postgresql/cluster --encoding=UTF8 \
        --locale-provider=builtin --locale=C.UTF-8 --username=_rdb_superadmin --auth=reject
    as_postgres postgres --single -D /var/lib/postgresql/cluster postgres <<'SQL'
create database rdb;
revoke all on database postgres, template1, rdb from public;
SQL
fi
