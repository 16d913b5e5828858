#!/bin/bash
# One release of a Laravel application: built beside the live one, started beside it, live with one rename.
#
# What can be known before is asked before (disk, database, cache, bucket, mail). Until the rename nothing of the live
# release is touched; if a check fails after it, the rename is undone. What the live one has begun, requests, streams
# and jobs, ends in its own time on its own code.
# Environment: APP (and user), PHP, REPOSITORY, RELEASE (tag or full commit), CODE (id of the built code), HEALTH (URL),
# MAINTENANCE and WORKERS (yes or nothing), DRAIN_SECONDS, START_SECONDS, LEAST_FREE_MB, KEEP (releases to keep), UNIT (of this step).
# shellcheck source=components/remote/lib.sh disable=SC2153
. ./lib.sh
# shellcheck source=components/app/release.sh disable=SC2154
. ./release.sh

base=/srv/$APP
home=/var/lib/berth/$APP
flag=$base/shared/maintenance
work=$base/build
program=$APP-horizon
url=${HEALTH#https://}
site=${url%%/*}
path=/${url#*/}

# What a release is: its code, and all it runs with.
id=$CODE-$({ cat dotenv fpm.conf fpm.ini; find storage -type f -print0 2>/dev/null | sort -z | xargs -0 -r sha256sum; } \
  | sha256sum | cut -c1-8)
release=$base/releases/$id

# as_app COMMAND ...: as the application's user, with nothing of our environment.
as_app() {
  setpriv --reuid="$APP" --regid="$APP" --init-groups --no-new-privs env -i PATH=/usr/local/bin:/usr/bin:/bin HOME="$home" \
    LANG=C.UTF-8 "$@"
}

# artisan ID SECONDS ARGUMENT ...: of the release ID, at most that long.
artisan() {
  local where=$base/releases/$1 seconds=$2
  shift 2
  (cd "$where" && as_app timeout --kill-after=10 "$seconds" "php$PHP" artisan "$@" --no-interaction --no-ansi </dev/null)
}

# ---------------------------------------------------------------- asked before anything changes

room() {
  local free inodes
  free=$(df --output=avail --block-size=1M "$base" | tail -n 1)
  inodes=$(df --output=iavail "$base" | tail -n 1)
  [[ $free -ge $LEAST_FREE_MB ]] \
    || die "the disk of $APP is full: $((free)) MB free, a release takes $LEAST_FREE_MB; nothing changed"
  [[ $inodes -eq 0 || $inodes -ge 20000 ]] || die "the disk of $APP has only $((inodes)) inodes free; nothing changed"
}

authorities() {
  local file
  for file in ca/*.pem; do
    [[ ! -e $file ]] || keep "$file" "/etc/berth/ca/$(basename "$file")"
  done
}

services() {
  say "asking database, cache, bucket and mail relay"
  keep check_backend.php /usr/local/lib/berth/check_backend.php
  # The `.env` over standard input: it is nowhere on the disk yet.
  as_app "php$PHP" /usr/local/lib/berth/check_backend.php <dotenv \
    || die "$RELEASE was not begun$stays"
}

# ---------------------------------------------------------------- the release's own directory

# The code of this release at its place: kept from a release that ran with another environment, or built.
code() {
  local other commit
  for other in "$base/releases/$CODE"-*; do
    [[ -e $other/.berth/complete ]] || continue
    say "the code of $RELEASE is there"
    commit=$(cat "$other/.berth/commit")
    cp -al "$other" "$release"
    # What is the other's own is removed and made anew, never written to: a link is the same file.
    rm -rf "$release"/{.env,.berth,storage} "$release"/bootstrap/cache/*.php
    install -d -m 755 "$release/.berth"
    printf '%s\n' "$commit" >"$release/.berth/commit"
    return
  done
  rm -rf "$work"
  say "fetching $RELEASE"
  commit=$(fetch "$work")
  [[ -e $work/artisan && -e $work/composer.json ]] \
    || die "$RELEASE of $REPOSITORY is no Laravel application: artisan or composer.json is missing"
  say "installing its packages"
  build "$work" composer.sh --setenv=PATH=/usr/local/bin:/usr/bin:/bin --setenv=COMPOSER_HOME="$build_home/composer" \
    || die "composer could not install the packages of $RELEASE$stays"
  # What is changed below is changed by root: not through a link that the build has left.
  [[ ! -L $work/bootstrap && ! -L $work/bootstrap/cache ]] || die "bootstrap/cache of $RELEASE is a link; nothing changed"
  rm -rf "$work"/{.git,.env,.berth,storage} "$work"/bootstrap/cache/*.php
  chown -R root:root "$work"
  chmod -R u=rwX,go=rX "$work"
  install -d -m 755 "$work/.berth"
  printf '%s\n' "$commit" >"$work/.berth/commit"
  mv -T "$work" "$release"
}

make_release() {
  local shared=$base/shared/storage command
  rm -rf "$release"
  trap 'rm -rf "$work" "$work.sh" "$release"' EXIT
  code
  install -d -m 755 "$release/storage" "$release/bootstrap"
  ln -s "/run/php/$APP/$id" "$release/.berth/run"
  install -m 600 -o "$APP" -g "$APP" dotenv "$release/.env"
  # Shared, so that it outlives the release: files, logs, file sessions. The release's own: what it compiles.
  install -d -m 750 -o "$APP" -g "$APP" "$release/bootstrap/cache" "$release/storage/framework"
  ln -s "$shared/app" "$release/storage/app"
  ln -s "$shared/logs" "$release/storage/logs"
  # Within what is the application's, root makes nothing: a link there could lead it anywhere.
  as_app mkdir -m 750 "$release/storage/framework/views" "$release/storage/framework/testing"
  as_app ln -s "$shared/framework/cache" "$shared/framework/sessions" "$release/storage/framework/"
  if [[ -d storage ]]; then secret_files; fi
  say "caching its configuration"
  for command in config:cache route:cache view:cache event:cache; do
    artisan "$id" 120 "$command" || die "artisan $command failed in $RELEASE$stays"
  done
  touch "$release/.berth/complete"
  rm -rf "$work.sh"
  trap - EXIT
}

# Client certificates and the like, from the step's storage/ into the release's; its directories are root's, so that
# no link of the application is in the way.
secret_files() {
  local path
  while read -r path; do
    install -d -m 750 -o root -g "$APP" "$release/storage/$(dirname "$path")"
    install -m 600 -o "$APP" -g "$APP" "storage/$path" "$release/storage/$path"
  done < <(cd storage && find . -type f -printf '%P\n')
}

# Tested under its final name before anything runs it.
configure_php() {
  local directory=/etc/berth/php/$APP/$id
  install -d -m 755 "$directory"
  install -m 644 fpm.conf "$directory/fpm.conf"
  install -m 644 fpm.ini "$directory/fpm.ini"
  RELEASE=$id PHP_INI_SCAN_DIR="/etc/php/$PHP/fpm/conf.d:$directory" \
    "php-fpm$PHP" --test --fpm-config "$directory/fpm.conf" 2>&1 \
    || die "PHP-FPM refuses the configuration of $RELEASE$stays"
}

# ---------------------------------------------------------------- running it

php_unit() { printf '%s' "$APP-php@$1.service"; }

start_php() {
  systemctl is-active --quiet "$(php_unit "$id")" || systemctl start "$(php_unit "$id")" || {
    journalctl --unit="$(php_unit "$id")" --lines=15 --no-pager --output=cat
    die "PHP-FPM of $RELEASE does not start$stays"
  }
}

# healthy BODY: whether an answer is the one of an application that is well.
healthy() {
  python3 -c 'import json, sys; sys.exit(json.loads(sys.argv[1]).get("status") != "ok")' "$1" 2>/dev/null
}

# Asked without nginx, so before it sends anybody.
well_before() {
  local answer body
  answer=$(SCRIPT_FILENAME=$release/public/index.php SCRIPT_NAME=/index.php REQUEST_URI=$path REQUEST_METHOD=GET \
    DOCUMENT_ROOT=$release/public SERVER_NAME=$site SERVER_PORT=443 HTTPS=on HTTP_HOST=$site SERVER_PROTOCOL=HTTP/1.1 \
    REMOTE_ADDR=127.0.0.1 HTTP_ACCEPT=application/json QUERY_STRING='' GATEWAY_INTERFACE=CGI/1.1 \
    timeout 60 cgi-fcgi -bind -connect "/run/php/$APP/$id/api.sock" 2>&1) || true
  body=$(sed '1,/^\r*$/d' <<<"$answer")
  healthy "$body" && return 0
  head -c 1500 <<<"$answer"
  echo
  logs
  return 1
}

# As a visitor gets it; the certificate may still be the self-signed one, the connection never leaves this host.
well_behind_nginx() {
  local answer="" until=$((SECONDS + START_SECONDS))
  while [[ $SECONDS -lt $until ]]; do
    answer=$(curl --silent --show-error --insecure --max-time 15 --resolve "$site:443:127.0.0.1" "https://$site$path" 2>&1) \
      && healthy "$answer" && return 0
    sleep 1
  done
  echo "$HEALTH answers: $(head -c 1500 <<<"$answer")"
  logs
  return 1
}

# Read by the application, whose file it is: were it a link, root would print what is behind it.
logs() {
  local log=$base/shared/storage/logs/laravel.log
  [[ ! -s $log ]] || { echo "The end of $log:"; as_app timeout 5 tail -n 12 "$log" 2>&1 | cut -c1-400; }
}

nothing_pending() {
  local shown
  shown=$(artisan "$1" 60 migrate:status 2>&1) || { tail -n 8 <<<"$shown"; return 1; }
  ! grep -w Pending <<<"$shown"
}

# ---------------------------------------------------------------- workers

horizon_pid() { supervisorctl pid "$program" 2>/dev/null | grep -x '[1-9][0-9]*' || true; }

# workers CURRENT FORMER: Horizon on the code of CURRENT, which is live; FORMER's jobs end first. Sets `horizon`.
workers() {
  local current=$1 former=$2 pid until
  if [[ -z $WORKERS ]]; then # the runtime's step has seen to it
    say "no workers: Horizon and scheduler rest"
    horizon=resting
    return 0
  fi
  horizon=running
  keep "/etc/berth/$APP-horizon.conf" "/etc/supervisor/conf.d/$APP-horizon.conf"
  pid=$(horizon_pid)
  supervisorctl reread >/dev/null
  supervisorctl update >/dev/null # adds it; a program that is there and unchanged runs on
  if [[ -n $pid ]]; then
    say "Horizon: running jobs finish, then it starts on $current"
    [[ -n $former ]] && artisan "$former" 30 horizon:terminate || supervisorctl signal TERM "$program" || true
    until=$((SECONDS + DRAIN_SECONDS))
    while [[ $(horizon_pid) == "$pid" ]]; do
      if [[ $SECONDS -ge $until ]]; then
        say "jobs are still at work after $DRAIN_SECONDS s; Horizon takes up $current when they end"
        horizon=finishing
        return 0
      fi
      sleep 0.5
    done
  else
    supervisorctl start "$program" >/dev/null || true
  fi
  working "$current"
}

# working ID: waits until Horizon says it is running.
working() {
  local shown="" until=$((SECONDS + START_SECONDS))
  while [[ $SECONDS -lt $until ]]; do
    shown=$(artisan "$1" 20 horizon:status 2>&1) && [[ $shown == *running* ]] && return 0
    sleep 1
  done
  echo "artisan horizon:status says: $(tail -n 3 <<<"$shown")"
  supervisorctl status "$program" || true
  tail -n 10 "$base/shared/storage/logs/horizon.log" | cut -c1-400
  return 1
}

# ---------------------------------------------------------------- traffic

maintenance() {
  say "maintenance: running jobs finish and Horizon rests, then 503 until $RELEASE is checked"
  supervisorctl stop "$program" 2>&1 || true # may take as long as a job does: nobody gets a 503 for that
  touch "$flag"
}

enable_php() {
  local unit
  for unit in "/etc/systemd/system/multi-user.target.wants/$APP-php@"*.service; do
    [[ $unit == */"$(php_unit "$1")" || ! -L $unit ]] || rm "$unit"
  done
  systemctl enable --quiet "$(php_unit "$1")"
}

# Every PHP of a release that is not live goes when its last request, or its last stream, has ended.
retire() {
  local unit other until
  for unit in $(systemctl list-units --plain --no-legend --state=active "$APP-php@*.service" | awk '{ print $1 }'); do
    [[ $unit != "$(php_unit "$1")" ]] || continue
    other=${unit#*@}
    other=${other%.service}
    # nginx connects to the live one only; what it sent before is taken from the queues first.
    until=$((SECONDS + 30))
    while [[ $SECONDS -lt $until && -n $(ss --no-header --listening --unix | awk -v at="/run/php/$APP/$other/" \
      'index($5, at) == 1 && $3 > 0') ]]; do sleep 0.2; done
    sleep 0.5
    systemctl kill --kill-whom=main --signal=QUIT "$unit" || true
  done
}

switch() {
  point "$base/current" "releases/$1"
  enable_php "$1"
}

# Called at the end of a release that did not succeed: what was live before is live again.
back() {
  trap - EXIT
  set +e
  if [[ -z $before ]]; then # the very first release: there is nothing to go back to, and nothing stays half up
    supervisorctl stop "$program" >/dev/null 2>&1
    rm -f "$base/current" "/etc/supervisor/conf.d/$program.conf"
    supervisorctl update >/dev/null
    systemctl disable --quiet --now "$(php_unit "$id")"
  elif [[ $before != "$id" ]]; then
    if [[ -n $switched ]]; then
      say "back to $before"
      systemctl start "$(php_unit "$before")"
      switch "$before"
      workers "$before" "$id" || echo "Horizon does not run on $before either"
    elif [[ -n $MAINTENANCE ]]; then
      [[ -z $WORKERS ]] || supervisorctl start "$program" >/dev/null
    fi
    retire "$before"
  fi
  rm -f "$flag"
  [[ -z $failure ]] || printf '%s\n' "$failure$stays"
  exit 1
}

# fail TEXT: after the release has begun; the text comes last, below what `back` has to say.
fail() {
  failure=$1
  exit 1
}

prune() {
  local old
  find "$base/releases" -mindepth 1 -maxdepth 1 -printf '%T@ %f\n' | sort -rn | tail -n "+$((KEEP + 1))" | cut -d' ' -f2- \
    | while read -r old; do
      systemctl is-active --quiet "$(php_unit "$old")" && continue # its streams have not ended
      rm -rf "$base/releases/$old" "/etc/berth/php/$APP/$old"
    done
}

# ---------------------------------------------------------------- one release

# The last release whose checks passed; `current` may be another one if we were killed in the middle.
before=$(basename "$(readlink "$base/proven" || readlink "$base/current" || true)")
[[ -z $before || -e $base/releases/$before/.berth/complete ]] || before=""
switched="" failure="" horizon=running
stays=${before:+"; what was live still is"}

room
authorities
services
[[ -e $release/.berth/complete ]] || make_release

live=$(basename "$(readlink "$base/current" || true)")
[[ $live == "$before" ]] || switched=yes # an earlier run was killed in the middle
trap back EXIT
configure_php
if [[ -n $MAINTENANCE && $before != "$id" ]]; then maintenance; fi
if ! nothing_pending "$id" >/dev/null; then
  say "migrating"
  artisan "$id" 1800 migrate --force || fail "the migrations of $RELEASE failed"
fi
start_php
well_before || fail "$RELEASE is not well (asked at $path before any traffic)"
switched=yes
switch "$id"
if [[ $live != "$id" || $before != "$id" || -z $(horizon_pid) ]]; then
  workers "$id" "$live" || fail "Horizon does not run on $RELEASE"
fi
rm -f "$flag"
say "checking $RELEASE"
well_behind_nginx || fail "$HEALTH is not ok on $RELEASE"
if [[ $horizon == running ]]; then working "$id" || fail "Horizon does not run on $RELEASE"; fi
nothing_pending "$id" || fail "migrations are still pending on $RELEASE"
trap - EXIT
point "$base/proven" "releases/$id"
touch "$release"
retire "$id"
prune
say "$APP is at $RELEASE"
fact release "$RELEASE" id "$id" commit "$(cat "$release/.berth/commit")" before "$before" horizon "$horizon"
