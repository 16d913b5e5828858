# shellcheck shell=bash
# What the releases of all kinds of applications have in common: `. ./release.sh`, after lib.sh.
# Environment: APP, REPOSITORY, RELEASE (tag or full commit), UNIT (of the step).

build_user=berth-build
build_home=/var/lib/berth/build

# fetch DIRECTORY: a fresh, shallow copy there; prints the commit.
fetch() {
  local ref=refs/tags/$RELEASE
  [[ ! $RELEASE =~ ^[0-9a-f]{40}$ ]] || ref=$RELEASE
  export GIT_TERMINAL_PROMPT=0
  if [[ -e deploy_key ]]; then
    export GIT_SSH_COMMAND="ssh -i $PWD/deploy_key -o IdentitiesOnly=yes -o BatchMode=yes \
      -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile=/var/lib/berth/known_hosts"
  fi
  git -c init.defaultBranch=main init --quiet "$1"
  git -C "$1" fetch --quiet --depth 1 "$REPOSITORY" "$ref" >&2 \
    || {
      echo "$RELEASE cannot be fetched from $REPOSITORY; what was live still is"
      echo "Is it a tag or full commit there, and may this host read it (berth:secrets, deploy key)?"
      return 1
    } >&2
  git -C "$1" -c advice.detachedHead=false checkout --quiet FETCH_HEAD >&2
  git -C "$1" rev-parse HEAD
}

# build DIRECTORY SCRIPT [OPTION ...]: SCRIPT in DIRECTORY, which it may change, with systemd-run's OPTIONs.
# A build runs other people's code: no privileges, no view of the host's data, less than all of its memory, and it
# ends with the step.
build() {
  local work=$1 script=$2
  shift 2
  id -u $build_user >/dev/null 2>&1 \
    || useradd --system --user-group --shell /usr/sbin/nologin --home-dir $build_home $build_user
  install -d -m 700 -o $build_user -g $build_user $build_home
  install -m 755 "$script" "$work.sh"
  chown -R $build_user:$build_user "$work"
  systemd-run --quiet --wait --pipe --collect --unit="berth-build-$APP" \
    --uid=$build_user --gid=$build_user --working-directory="$work" \
    --property=NoNewPrivileges=yes --property=ProtectSystem=strict --property=ProtectHome=yes \
    --property=PrivateTmp=yes --property=PrivateDevices=yes --property=RestrictSUIDSGID=yes \
    --property="ReadWritePaths=$work $build_home" --property="InaccessiblePaths=-/etc/letsencrypt -/etc/berth" \
    --property=MemoryMax=75% --property=TasksMax=512 --property=CPUWeight=50 --property=OOMScoreAdjust=500 \
    --property="BindsTo=$UNIT" --property="After=$UNIT" \
    --setenv=HOME=$build_home --setenv=CI=true "$@" \
    bash "$work.sh" </dev/null
}

# point LINK TARGET: at once.
point() {
  ln -sfn "$2" "$1.new"
  mv -fT "$1.new" "$1"
}
