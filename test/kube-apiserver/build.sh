#!/usr/bin/env bash
# Builds the test kube-apiserver into the cache, once a version; prints where it is.
set -euo pipefail
cd "$(dirname "$0")"
version="$(sed -n 's/^\tk8s.io\/kubernetes \(v[0-9.]*\)$/\1/p' go.mod)"
target="${XDG_CACHE_HOME:-$HOME/.cache}/tidepool/kube-apiserver-${version#v}"
binary="$target/kube-apiserver"
if [ ! -x "$binary" ]; then
  mkdir -p "$target"
  IFS=. read -r major minor _ <<<"${version#v}"
  info=k8s.io/component-base/version
  # In place only when whole: a build that was interrupted must not look like a server.
  CGO_ENABLED=0 go build -trimpath -o "$binary.new" \
    -ldflags "-s -w -X $info.gitVersion=$version -X $info.gitMajor=$major -X $info.gitMinor=$minor -X $info.gitTreeState=clean" .
  mv "$binary.new" "$binary"
fi
echo "$binary"
