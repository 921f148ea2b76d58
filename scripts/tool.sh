#!/usr/bin/env bash
# tool.sh NAME PACKAGE VERSION: installs a Go program into the tools cache unless
# that version, built by this Go, is there; prints the directory it is in. The
# link NAME there names the version asked for last.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
name=$1 package=$2 version=$3

go=$("$here/find-go.sh") || { echo "tool: Go is missing; run scripts/deps.sh" >&2; exit 1; }
tools=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/pgha-tools
mkdir -p "$tools"
# Linters read this module's code with the Go they were built with, which must
# not be older than the module's; "go install" alone would choose by their go.mod.
goversion=$(cd "$here/.." && GOTOOLCHAIN=${GOTOOLCHAIN:-auto} "$go" env GOVERSION)
built=$name-$version-$goversion
if [ ! -x "$tools/$built" ]; then
	# Built in a place of its own, so that two who build at once do not meet.
	making=$(mktemp -d "$tools/making.XXXXXX")
	trap 'rm -rf "$making"' EXIT
	GOTOOLCHAIN="$goversion+auto" GOBIN="$making" CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-} -buildvcs=false" \
		"$here/progress.sh" "building $name" "$go" install "$package@$version" >&2
	mv "$making/$name" "$tools/$built"
fi
ln -sfn "$built" "$tools/$name"
echo "$tools"
