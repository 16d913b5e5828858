#!/bin/bash
# What a Laravel application needs on its host before its first release, and with every later one: PHP, its user
# and directories, Horizon under supervisor, the scheduler, logs.
# Environment: APP (and user), PHP (version), EXTENSIONS, WORKER_EXTENSIONS (names of PHP's modules), WORKERS (yes or
# nothing: whether Horizon and scheduler run).
# shellcheck source=components/remote/lib.sh disable=SC2153
. ./lib.sh

base=/srv/$APP
home=/var/lib/berth/$APP
logs=$base/shared/storage/logs

# extensions PROGRAM NAME ...: those PROGRAM does not load.
lacking() {
  local program=$1 loaded
  shift
  loaded=$("$program" -m | tr '[:upper:]' '[:lower:]')
  printf '%s\n' "$@" | grep -vxFf <(printf '%s\n' "$loaded") || true
}

php() {
  local wanted workers missing
  # Debian's own FPM with its pool "www" is nobody's: each release has one of its own.
  systemctl is-enabled --quiet "php$PHP-fpm.service" 2>/dev/null && systemctl disable --quiet --now "php$PHP-fpm.service"
  systemctl mask --quiet "php$PHP-fpm.service"
  keep php-cli.ini "/etc/php/$PHP/cli/conf.d/99-berth.ini"
  read -ra wanted <<<"$EXTENSIONS"
  read -ra workers <<<"$WORKER_EXTENSIONS"
  missing=$(lacking "php-fpm$PHP" "${wanted[@]}" && lacking "php$PHP" "${wanted[@]}" "${workers[@]}")
  missing=$(sort -u <<<"$missing" | xargs)
  [[ -z $missing ]] || die "PHP $PHP does not load: $missing; are the packages of this host complete?"
  local program
  for program in composer wkhtmltopdf wkhtmltoimage supervisorctl cgi-fcgi; do
    [[ -x /usr/bin/$program ]] || die "/usr/bin/$program is not there; are the packages of this host complete?"
  done
}

places() {
  id -u "$APP" >/dev/null 2>&1 || useradd --system --user-group --shell /usr/sbin/nologin --home-dir "$home" "$APP"
  install -d -m 700 -o "$APP" -g "$APP" "$home"
  install -d -m 755 "$base" "$base/releases" "$base/shared" "$base/shared/storage" /var/log/php /etc/berth/ca
  install -d -m 711 /etc/berth/php "/etc/berth/php/$APP"
  install -d -m 750 -o "$APP" -g "$APP" "$base/shared/storage/app" "$base/shared/storage/framework"
  # Made by the application: in its own directory it could leave a link, and root would give it what is behind.
  setpriv --reuid="$APP" --regid="$APP" --init-groups --no-new-privs \
    mkdir -p -m 750 "$base/shared/storage/framework/"{cache,cache/data,sessions}
  # Root writes here too (supervisor, systemd): sticky, or the application could put a link in a log's place.
  install -d -m 1770 -o root -g "$APP" "$logs"
  local log
  for log in horizon scheduler; do
    [[ -e $logs/$log.log ]] || install -m 644 /dev/null "$logs/$log.log"
  done
  ln -sfn ../current/.env "$base/shared/.env"
}

units() {
  keep php-fpm.service "/etc/systemd/system/$APP-php@.service"
  keep php-tmpfiles.conf "/etc/tmpfiles.d/berth-$APP.conf"
  systemd-tmpfiles --create "/etc/tmpfiles.d/berth-$APP.conf"
  keep schedule.sh /usr/local/sbin/berth-schedule 0755
  keep schedule.service "/etc/systemd/system/berth-schedule-$APP.service"
  keep schedule.timer "/etc/systemd/system/berth-schedule-$APP.timer"
  keep supervisor.conf /etc/systemd/system/supervisor.service.d/berth.conf
  systemctl daemon-reload
  local unit wanted=(supervisor.service "berth-schedule-$APP.timer")
  if [[ -z $WORKERS ]]; then
    wanted=(supervisor.service)
    systemctl disable --quiet --now "berth-schedule-$APP.timer"
  fi
  for unit in "${wanted[@]}"; do
    systemctl is-enabled --quiet "$unit" || systemctl enable --quiet "$unit"
  done
  systemctl start "${wanted[@]}"
}

# A program supervisor refuses is taken back; one that changed is restarted when its jobs are done.
horizon() {
  local path=/etc/supervisor/conf.d/$APP-horizon.conf former said
  if [[ -z $WORKERS ]]; then
    rm -f "$path"
    supervisorctl update # ends it when its jobs are done
    return 0
  fi
  [[ -e $base/current/artisan ]] || return 0 # the first release brings it in
  former=$(cat "$path" 2>/dev/null || true)
  put horizon.conf "$path" || return 0
  if ! said=$(supervisorctl reread 2>&1) || [[ $said == *ERROR* ]]; then
    if [[ -n $former ]]; then printf '%s\n' "$former" >"$path"; else rm "$path"; fi
    die "supervisor refuses the program of Horizon; the old one still runs: $said"
  fi
  supervisorctl update
}

say "PHP $PHP, workers and scheduler of $APP"
php
places
units
install -m 644 horizon.conf "/etc/berth/$APP-horizon.conf"
horizon
keep laravel-logrotate.conf "/etc/logrotate.d/$APP"
logrotate --debug "/etc/logrotate.d/$APP" >/dev/null 2>&1 || die "logrotate refuses /etc/logrotate.d/$APP"
fact php "$("php$PHP" -r 'echo PHP_VERSION;')"
