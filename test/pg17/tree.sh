#!/usr/bin/env bash
# Makes a place with the PostgreSQL 17 and the pgBackRest of Debian trixie in it,
# without installing them on this host: packages are fetched and unpacked, and their
# programs are given the loader and the libraries they came with. Prints the directory
# of the programs, of PostgreSQL and pgBackRest. As root, for the place must be
# readable by all.
#
# PGHA_PG17_TREE      where it is kept between runs
# PGHA_DEBIAN_MIRROR  another mirror than deb.debian.org
set -euo pipefail

tree=${PGHA_PG17_TREE:-/var/cache/pgha-pg17/trixie}
mirror=${PGHA_DEBIAN_MIRROR:-http://deb.debian.org/debian}
keys=/usr/share/keyrings/debian-archive-keyring.gpg
packages="postgresql-17 pgbackrest"
bin=$tree/usr/lib/postgresql/17/bin
export LC_ALL=C DEBIAN_FRONTEND=noninteractive

fail() {
	echo "pg17: $*" >&2
	exit 1
}

if [ "$(cat "$tree/.complete" 2>/dev/null)" != "$packages" ]; then
	command -v apt-get >/dev/null || fail "needs apt-get: run it on a Debian system"
	[ -e "$keys" ] || fail "$keys is missing: install debian-archive-keyring"
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	if ! command -v patchelf >/dev/null; then
		echo "pg17: installing patchelf" >&2
		{ apt-get update -q && apt-get install -q -y --no-install-recommends patchelf; } >"$work/log" 2>&1 || {
			tail -n 20 "$work/log" >&2
			fail "cannot install patchelf"
		}
	fi
	echo "pg17: fetching PostgreSQL 17 into $tree (a minute, once)" >&2
	rm -rf "$tree"
	mkdir -p "$tree" "$work/state/lists/partial" "$work/cache/archives/partial"
	: >"$work/status"
	echo "deb [signed-by=$keys] $mirror trixie main" >"$work/sources.list"
	apt=(apt-get -q -y -o "Dir::State=$work/state" -o "Dir::State::status=$work/status" -o "Dir::Cache=$work/cache"
		-o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null -o Acquire::Languages=none -o APT::Sandbox::User=root)
	# shellcheck disable=SC2086
	"${apt[@]}" update >"$work/log" 2>&1 &&
		"${apt[@]}" install --download-only --no-install-recommends $packages >>"$work/log" 2>&1 || {
		tail -n 20 "$work/log" >&2
		fail "cannot fetch $packages from $mirror"
	}
	for package in "$work"/cache/archives/*.deb; do
		dpkg-deb -x "$package" "$tree"
	done
	cp "$tree/usr/bin/pgbackrest" "$bin/"
	libraries=$(echo "$tree"/usr/lib/*-linux-gnu)
	loader=$(echo "$tree"/usr/lib*/ld-linux-*.so.*)
	# The rpath of a program holds for what it loads later, too: libpq for the WAL receiver.
	for program in "$bin"/*; do
		if patchelf --print-interpreter "$program" >/dev/null 2>&1; then
			patchelf --set-interpreter "$loader" --force-rpath --set-rpath "$libraries" "$program"
		fi
	done
	chmod -R a+rX "$tree"
	"$bin/postgres" --version >&2 && "$bin/pgbackrest" version >&2 || fail "what was fetched does not run"
	echo "$packages" >"$tree/.complete"
fi
echo "$bin"
