#!/bin/bash
# The Debian baseline, and the packages of every role of this host in one transaction.
#
# Converging: the first run makes a host of an image, a later one changes only what differs.
# Environment: PACKAGES (separated by spaces), ADMIN_USER (the people's), LOGIN (the program's), BUILDER (runs
# builds, cannot log in), TIMEZONE, SWAP_GB.
# shellcheck source=components/remote/lib.sh
. ./lib.sh

export DEBIAN_FRONTEND=noninteractive
mark=/var/lib/berth/bootstrapped
policy=/usr/sbin/policy-rc.d
mkdir -p /var/lib/berth

# ---------------------------------------------------------------- who may come in

# user NAME KEYS: NAME is there and has exactly the keys in the file: who is no longer in it no longer gets in.
user() {
  id -u "$1" >/dev/null 2>&1 || useradd --create-home --shell /bin/bash "$1"
  local home
  home=$(getent passwd "$1" | cut -d: -f6)
  install -d -m 700 -o "$1" -g "$1" "$home/.ssh"
  keep "$2" "$home/.ssh/authorized_keys" 0600 "$1:$1"
}

users() {
  user "$LOGIN" login_keys
  user "$ADMIN_USER" admin_keys
  # The firewall names it, so it is there before any build.
  id -u "$BUILDER" >/dev/null 2>&1 \
    || useradd --system --user-group --shell /usr/sbin/nologin --home-dir /var/lib/berth/build "$BUILDER"
  visudo -cqf sudoers
  keep sudoers /etc/sudoers.d/berth 0440
  rm -f /etc/sudoers.d/90-cloud-init-users # the same from the first boot, and whoever was the admin then
}

ssh_server() {
  local path=/etc/ssh/sshd_config.d/00-berth.conf former
  former=$(cat "$path" 2>/dev/null || true)
  keep sshd.conf "$path"
  # Asked, not assumed: another file of the image might have the first word.
  local effective line
  effective=$(sshd -T 2>&1) || effective="refused: $effective"
  for line in 'passwordauthentication no' 'permitrootlogin no' "allowusers $LOGIN" "allowusers $ADMIN_USER"; do
    grep -qx "$line" <<<"$effective" && continue
    if [[ -n $former ]]; then printf '%s\n' "$former" >"$path"; else rm "$path"; fi
    grep '^refused' <<<"$effective" || true
    die "sshd would not say '$line' (has /etc/ssh/sshd_config no Include?); nothing changed"
  done
  systemctl reload ssh
}

# ---------------------------------------------------------------- packages

# patiently COMMAND ...: again until it succeeds, for at most three minutes.
patiently() {
  local until=$((SECONDS + 180))
  until "$@"; do
    [[ $SECONDS -lt $until ]] || die "$* failed for three minutes"
    sleep 3
  done
}

packages() {
  local wanted missing=() options package
  ! cmp -s policy-rc.d "$policy" || rm "$policy" # of a run that was killed; it would keep services down for ever
  read -ra wanted <<<"$PACKAGES"
  for package in "${wanted[@]}"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0
  say "installing ${#missing[@]} packages and what they need"
  options=(-y -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=5 -o Acquire::Languages=none
    -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold)
  # A host that loses power during its very first packages is made anew, so these need no fsync each.
  [[ -e $mark ]] || options+=(-o Dpkg::Options::=--force-unsafe-io)
  # No service starts before its role has configured it.
  trap 'rm -f "$policy"' EXIT
  install -m 755 policy-rc.d "$policy"
  # Neither of these two waits by itself for a lock that Debian's own timers may hold on a young host.
  patiently dpkg --configure -a # a killed host may have left it in the middle
  patiently apt-get update -qq -o Acquire::Retries=3 -o Acquire::Languages=none
  apt-get install --fix-broken --no-install-recommends "${options[@]}" "${missing[@]}"
  rm -f "$policy"
}

# ---------------------------------------------------------------- the host itself

clock() {
  [[ $(readlink -f /etc/localtime) == /usr/share/zoneinfo/$TIMEZONE ]] && return 0
  [[ -e /usr/share/zoneinfo/$TIMEZONE ]] || die "no time zone $TIMEZONE in /usr/share/zoneinfo"
  ln -sfn "/usr/share/zoneinfo/$TIMEZONE" /etc/localtime.berth-new
  mv -fT /etc/localtime.berth-new /etc/localtime
  echo "$TIMEZONE" >/etc/timezone
}

swap() {
  local size=$((SWAP_GB * 1024 * 1024 * 1024)) file=/swapfile
  if systemd-detect-virt --quiet --container; then
    say "swap is the machine's: a container has none of its own"
    return 0
  fi
  if [[ -e $file && $(stat -c %s $file) != "$size" ]]; then
    swapoff $file 2>/dev/null || true
    rm $file
  fi
  if [[ $size -eq 0 ]]; then
    sed -i '\#^/swapfile #d' /etc/fstab
    return 0
  fi
  if [[ ! -e $file ]]; then
    rm -f $file.new
    fallocate -l "$size" $file.new || dd if=/dev/zero of=$file.new bs=1M count=$((SWAP_GB * 1024)) status=none
    chmod 600 $file.new
    mkswap -q $file.new
    mv $file.new $file # with this name it is whole, whenever we are killed
  fi
  grep -q '^/swapfile ' /etc/fstab || echo '/swapfile none swap sw 0 0' >>/etc/fstab
  grep -q '^/swapfile ' /proc/swaps || swapon $file
}

kernel() {
  keep sysctl.conf /etc/sysctl.d/60-berth.conf
  local refused
  refused=$(sysctl -q -p /etc/sysctl.d/60-berth.conf 2>&1) || true
  [[ -z $refused ]] || printf 'not ours to set on this host:\n%s\n' "$refused"
}

logs() {
  put journald.conf /etc/systemd/journald.conf.d/berth.conf && systemctl restart systemd-journald
  keep logrotate.conf /etc/logrotate.d/berth
}

upgrades() {
  keep unattended-upgrades.conf /etc/apt/apt.conf.d/90berth
  keep needrestart.conf /etc/needrestart/conf.d/berth.conf
}

# ---------------------------------------------------------------- the host's own firewall

firewall() {
  nft -c -f firewall.nft
  keep firewall.nft /etc/nftables.conf
  # Our table only, swapped in one transaction: no gap, and bans of fail2ban stay.
  nft -f /etc/nftables.conf
}

bans() {
  keep fail2ban.conf /etc/fail2ban/jail.d/berth.local
  ! systemctl is-active --quiet fail2ban || systemctl reload fail2ban
}

services() {
  local unit clock=systemd-timesyncd.service units=()
  systemctl is-active --quiet chrony.service && clock=chrony.service
  for unit in nftables.service fail2ban.service unattended-upgrades.service "$clock" logrotate.timer \
    apt-daily.timer apt-daily-upgrade.timer; do
    case $(systemctl is-enabled "$unit" 2>/dev/null || true) in
      masked*) say "$unit is masked on this host and stays so" ;;
      enabled*) units+=("$unit") ;;
      *) systemctl enable --quiet "$unit" && units+=("$unit") ;;
    esac
  done
  systemctl start "${units[@]}"
  systemctl is-active --quiet "$clock" || say "the clock is the machine's: a container has none of its own"
}

say "users, keys and SSH"
users
ssh_server
packages
say "firewall, logs, updates and clock"
clock
kernel
swap
logs
upgrades
firewall
bans
services
touch "$mark"
