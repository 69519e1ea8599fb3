#!/bin/sh
# Prints the path of the helm that the chart is tested with. It is built once, by Go, and kept in the cache.
set -eu
version=3.19.5
directory="${XDG_CACHE_HOME:-$HOME/.cache}/tidepool/helm-$version"
if [ ! -x "$directory/helm" ]; then
  if ! command -v go >/dev/null; then
    echo "no helm $version in $directory, and no Go on PATH to build it" >&2
    exit 1
  fi
  GOBIN="$directory" go install "helm.sh/helm/v3/cmd/helm@v$version" >&2
fi
echo "$directory/helm"
