# shellcheck shell=bash
# What every step's script begins with: `. ./lib.sh`. Runs as root, from the directory of the step's files.
set -euo pipefail
umask 022

# say TEXT: progress, shown to whoever waits for the step.
say() { printf '==> %s\n' "$*"; }

# die TEXT: the step failed; the text is the last line of its log.
die() {
  printf '%s\n' "$*"
  exit 1
}

# put FILE PATH [MODE] [OWNER]: the step's FILE at PATH, whole or not at all. Fails when nothing had to change.
put() {
  local file=$1 path=$2 mode=${3:-0644} owner=${4:-root:root}
  if cmp -s "$file" "$path" && [[ $(stat -c '%a %U:%G' "$path") == "${mode#0} $owner" ]]; then
    return 1
  fi
  mkdir -p "$(dirname "$path")"
  install -m "$mode" -o "${owner%:*}" -g "${owner#*:}" "$file" "$path.berth-new"
  mv -fT "$path.berth-new" "$path"
  printf 'changed %s\n' "$path"
}

# keep FILE PATH [MODE] [OWNER]: put, where it does not matter whether anything changed.
keep() { put "$@" || true; }

# fact NAME VALUE ...: what the program gets back from the step; never a secret.
fact() {
  python3 -c 'import json, sys; a = sys.argv[1:]; print(json.dumps(dict(zip(a[::2], a[1::2]))))' "$@" >"$BERTH_FACTS"
}
