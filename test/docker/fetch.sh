#!/usr/bin/env bash
# Takes dockerd and docker out of Debian's package into the cache, once a version; prints where they are. Not installed: the
# package would start a daemon on this machine, with rules for its firewall and a bridge.
set -euo pipefail
version="$(apt-cache policy docker.io | sed -n 's/^  Candidate: //p')"
if [ -z "$version" ] || [ "$version" = '(none)' ]; then
  echo 'apt knows no package docker.io here: apt-get update, or not a Debian' >&2
  exit 1
fi
target="${XDG_CACHE_HOME:-$HOME/.cache}/tidepool/docker-${version//[^0-9A-Za-z.+-]/_}"
if [ ! -x "$target/dockerd" ] || [ ! -x "$target/docker" ]; then
  work="$(mktemp -d)"
  trap 'rm -rf "$work"' EXIT
  # apt would download as a user of its own, who may not write here.
  (cd "$work" && apt-get download -qq -o APT::Sandbox::User=root "docker.io=$version" >&2 && dpkg-deb -x docker.io_*.deb tree)
  mkdir -p "$target"
  # In place only when whole: a copy that was interrupted must not look like a daemon.
  for binary in usr/bin/docker usr/sbin/dockerd; do
    cp "$work/tree/$binary" "$target/$(basename "$binary").new"
    mv "$target/$(basename "$binary").new" "$target/$(basename "$binary")"
  done
fi
echo "$target"
