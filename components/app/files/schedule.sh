#!/bin/bash
# One minute of a Laravel scheduler: berth-schedule APP PHP. As with cron, a minute that takes longer delays none that
# follow (a task due at five past is not lost to one that began on the hour); unlike cron, they do not pile up.
set -euo pipefail
app=$1 php=$2
most=10
log=/srv/$app/shared/storage/logs/scheduler.log
runs=$(systemctl list-units --plain --no-legend --state=active,activating "berth-schedule-$app-run-*" | wc -l)
if [[ $runs -ge $most ]]; then
  printf '%s this minute is left out: %s earlier ones are still at work\n' "$(date --iso-8601=seconds)" "$runs" \
    | tee -a "$log" >&2
  exit 1
fi
exec systemd-run --quiet --collect --no-block --unit="berth-schedule-$app-run-$(date +%s)" \
  --description="Scheduled tasks of $app" --uid="$app" --gid="$app" --working-directory="/srv/$app/current" \
  --setenv=HOME="/var/lib/berth/$app" --setenv=LANG=C.UTF-8 \
  --property=StandardOutput="append:$log" --property=StandardError="append:$log" --property=Nice=5 --property=NoNewPrivileges=yes \
  "$php" artisan schedule:run --no-interaction --no-ansi
