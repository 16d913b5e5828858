#!/bin/bash
# Extensions and rights of the databases of a managed PostgreSQL, as its administrator.
# Environment: PGHOST, PGPORT, PGUSER, WAIT_SECONDS.
# shellcheck source=components/remote/lib.sh
. ./lib.sh

say "databases at $PGHOST"
python3 database.py
