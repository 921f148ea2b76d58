#!/usr/bin/env bash
# Makes a place with the Patroni and the vip-manager of Debian trixie in it, without
# installing anything on this host: packages are fetched and unpacked, and their
# Python is started with their libraries. Prints the directory of patroni, patronictl
# and vip-manager. As root, for the place must be readable by all.
#
# PGHA_TRIXIE_TREE    where it is kept between runs
# PGHA_DEBIAN_MIRROR  another mirror than deb.debian.org
set -euo pipefail

tree=${PGHA_TRIXIE_TREE:-/var/cache/pgha-interop/trixie}
mirror=${PGHA_DEBIAN_MIRROR:-http://deb.debian.org/debian}
keys=/usr/share/keyrings/debian-archive-keyring.gpg
export LC_ALL=C DEBIAN_FRONTEND=noninteractive

fail() {
	echo "trixie: $*" >&2
	exit 1
}

if [ ! -e "$tree/.complete" ]; then
	command -v apt-get >/dev/null || fail "needs apt-get: run it on a Debian system"
	[ -e "$keys" ] || fail "$keys is missing: install debian-archive-keyring"
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	echo "trixie: fetching Patroni into $tree (a minute, once)" >&2
	rm -rf "$tree"
	mkdir -p "$tree" "$work/state/lists/partial" "$work/cache/archives/partial"
	: >"$work/status"
	echo "deb [signed-by=$keys] $mirror trixie main" >"$work/sources.list"
	apt=(apt-get -q -y -o "Dir::State=$work/state" -o "Dir::State::status=$work/status" -o "Dir::Cache=$work/cache"
		-o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null -o Acquire::Languages=none -o APT::Sandbox::User=root)
	"${apt[@]}" update >"$work/log" 2>&1 &&
		"${apt[@]}" install --download-only --no-install-recommends patroni python3-etcd vip-manager2 >>"$work/log" 2>&1 || {
		tail -n 20 "$work/log" >&2
		fail "cannot fetch Patroni from $mirror"
	}
	for package in "$work"/cache/archives/*.deb; do
		dpkg-deb -x "$package" "$tree"
	done
	libraries=$(echo "$tree"/usr/lib/*-linux-gnu)
	loader=$(echo "$tree"/usr/lib*/ld-linux-*.so.*)
	python=$(readlink -f "$tree/usr/bin/python3")
	# What Python takes for itself, and starts again for its children.
	cat >"$tree/usr/bin/python" <<-X
		#!/bin/sh
		exec $loader --library-path $libraries --argv0 "\$0" $python "\$@"
	X
	chmod 755 "$tree/usr/bin/python"
	mkdir "$tree/programs"
	for program in patroni patronictl; do
		sed "1s|.*|#!$tree/usr/bin/python|" "$tree/usr/bin/$program" >"$tree/programs/$program"
		chmod 755 "$tree/programs/$program"
	done
	cp "$tree/usr/bin/vip-manager" "$tree/programs/"
	chmod -R a+rX "$tree"
	"$tree/programs/patroni" --version >&2 && "$tree/programs/vip-manager" --version >&2 || fail "what was fetched does not run"
	touch "$tree/.complete"
fi
echo "$tree/programs"
