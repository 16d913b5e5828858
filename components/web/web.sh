#!/bin/bash
# nginx with its sites, and certificates for their names: self-signed at once, real ones from the timer.
# shellcheck source=components/remote/lib.sh
. ./lib.sh

say "nginx and certificates"
webroot=$(python3 -c 'import json; print(json.load(open("certificates.json"))["webroot"])')
install -d -m 755 "$webroot"
keep certificates.py /usr/local/sbin/berth-certificates 0755
keep certificates.json /etc/berth/certificates.json
keep deploy-hook /etc/letsencrypt/renewal-hooks/deploy/berth 0755
for unit in berth-certificates.service berth-certificates.timer; do
  keep "$unit" "/etc/systemd/system/$unit"
done
keep nginx-restart.conf /etc/systemd/system/nginx.service.d/berth.conf
berth-certificates prepare

# Tested beside the old configuration, then put in its place: a mistake leaves what runs untouched.
new=$(mktemp -d /run/berth/nginx.XXXXXX)
trap 'rm -rf "$new"' EXIT
cp -a /etc/nginx/. "$new"
rm -rf "$new/berth"
cp nginx.conf "$new/nginx.conf"
cp -r nginx "$new/berth"
nginx -t -q -c "$new/nginx.conf" || die "nginx refuses the new configuration; the old one still runs"
keep nginx.conf /etc/nginx/nginx.conf
mkdir -p /etc/nginx/berth
for file in nginx/*; do keep "$file" "/etc/nginx/berth/$(basename "$file")"; done
for file in /etc/nginx/berth/*; do [[ -e nginx/$(basename "$file") ]] || rm "$file"; done
keep logrotate.conf /etc/logrotate.d/nginx

systemctl daemon-reload
for unit in nginx.service certbot.timer berth-certificates.timer; do
  systemctl is-enabled --quiet "$unit" || systemctl enable --quiet "$unit"
done
if systemctl is-active --quiet nginx.service; then systemctl reload nginx.service; else systemctl start nginx.service; fi
berth-certificates forget # only now: a configuration that names what is gone would not survive a reboot
systemctl start certbot.timer berth-certificates.timer
systemctl start --no-block berth-certificates.service # nobody waits for the authority
