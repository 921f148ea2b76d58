#!/usr/bin/env bash
# Installs what is missing on Debian: PostgreSQL's server (without letting the
# package create a cluster on port 5432; one that exists is left alone), Go, and
# with the argument "test" what the tests need beyond that. Says nothing when
# nothing is missing.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
what=${1:-run}
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
no_cluster=/etc/postgresql-common/createcluster.d/pgha-no-main-cluster.conf

fail() {
	echo "deps: $*" >&2
	exit 1
}

as_root() {
	if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -E "$@"; fi
}

made_no_cluster=
cleanup() {
	[ -z "$made_no_cluster" ] || as_root rm -f "$no_cluster"
	rm -f "$log"
}
trap cleanup EXIT

# Runs a command quietly; its output is shown only if it fails.
quietly() {
	if ! as_root "$@" >"$log" 2>&1; then
		tail -n 20 "$log" >&2
		fail "'$*' failed (its last lines are above)"
	fi
}

updated=
update() {
	[ -n "$updated" ] && return
	echo "deps: reading the package lists"
	quietly apt-get update -q
	updated=yes
}

install() {
	command -v apt-get >/dev/null || fail "cannot install $*: this is not a Debian system; install it by hand"
	if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
		fail "cannot install $*: neither root nor sudo; run as root: apt-get install $*"
	fi
	update
	echo "deps: installing $*"
	quietly apt-get install -q -y --no-install-recommends "$@"
}

server_there() {
	ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || command -v postgres >/dev/null
}

# The package creates and starts a cluster on port 5432 if there is none; for the
# time of the installation only, it is told not to.
install_server() {
	if [ ! -e "$no_cluster" ]; then
		as_root mkdir -p "$(dirname "$no_cluster")"
		made_no_cluster=yes
		echo "create_main_cluster = false" | as_root tee "$no_cluster" >/dev/null
	fi
	install postgresql
	server_there || fail "PostgreSQL is still missing after its installation"
}

# Prints the source line for bookworm-backports on the mirror that serves
# bookworm here.
backports_source() {
	local mirror
	mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
		sed -n 's/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\) bookworm main.*/\2/p' | head -n 1)
	if [ -z "$mirror" ]; then
		mirror=$(awk '/^URIs:/ {uri = $2} /^Suites:/ {for (i = 2; i <= NF; i++) if ($i == "bookworm") found = 1}
			/^$/ {if (found) exit; uri = ""} END {if (found) print uri}' /etc/apt/sources.list.d/*.sources 2>/dev/null)
	fi
	[ -n "$mirror" ] || return 1
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm-backports main"
}

candidate_is_new_enough() {
	local minor
	minor=$(apt-cache policy golang-go | sed -n 's/^ *Candidate: [0-9]*:1\.\([0-9]*\).*/\1/p')
	[ -n "$minor" ] && [ "$minor" -ge 21 ]
}

install_go() {
	command -v apt-get >/dev/null || fail "Go 1.21 or later is missing, and this is not a Debian system; install it by hand"
	update
	if candidate_is_new_enough; then
		install golang-go
	else
		local source list=/etc/apt/sources.list.d/pgha-backports.list
		if ! apt-cache policy | grep -q bookworm-backports; then
			source=$(backports_source) || fail "Go 1.21 or later is missing, and no Debian mirror was found in apt's sources; install Go by hand"
			echo "deps: adding bookworm-backports to apt's sources ($list)"
			echo "$source" | as_root tee "$list" >/dev/null
			updated=
			update
		fi
		install -t bookworm-backports golang-go
	fi
	"$here/find-go.sh" >/dev/null || fail "Go 1.21 or later is still missing after its installation"
}

server_there || install_server
"$here/find-go.sh" >/dev/null || install_go

if [ "$what" = test ]; then
	missing=()
	command -v ip >/dev/null || missing+=(iproute2)
	command -v ps >/dev/null || missing+=(procps)
	# The race detector needs a C compiler.
	command -v gcc >/dev/null || missing+=(gcc libc6-dev)
	[ ${#missing[@]} -eq 0 ] || install "${missing[@]}"
fi
