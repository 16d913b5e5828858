#!/bin/bash
# customize.sh ROOT - what Debian's cloud images set up beside their packages. Run by mmdebstrap on the new tree.
set -euo pipefail
root=$1

# As in the cloud images: networkd brings the interfaces up, resolved answers, the locale is C.UTF-8.
chroot "$root" systemctl -q enable systemd-networkd.service systemd-resolved.service systemd-timesyncd.service
ln -sf /run/systemd/resolve/resolv.conf "$root/etc/resolv.conf"
echo LANG=C.UTF-8 >"$root/etc/default/locale"

# The seed and the network come from the sandbox: there is no metadata service and no DHCP to ask.
cat >"$root/etc/cloud/cloud.cfg.d/90_sandbox.cfg" <<'CFG'
datasource_list: [NoCloud, None]
network: {config: disabled}
manage_etc_hosts: true
CFG

# What belongs to one machine and is made anew at its first boot.
rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/hostname" "$root/var/lib/dbus/machine-id"
: >"$root/etc/machine-id"

# Leave no trace of the building machine's own package settings.
rm -f "$root/etc/apt/apt.conf.d/99mmdebstrap"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/log/apt "$root/var/log/dpkg.log"
