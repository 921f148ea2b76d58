#!/usr/bin/env bash
# Installs what is missing on Debian: PostgreSQL's server (without letting the
# package create a cluster on port 5432; one that exists is left alone), Go, with
# the argument "backup" pgBackRest, with "test" whatever the tests need beyond that,
# with "chaos" what breaks networks and disks, and with "patroni" Patroni's agent on
# top, whose service is not started. Says nothing when nothing is missing.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
what=${1:-run}
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
suite=
no_cluster=/etc/postgresql-common/createcluster.d/pgha-no-main-cluster.conf
policy=/usr/sbin/policy-rc.d
backports_list=/etc/apt/sources.list.d/pgha-backports.list

fail() {
	echo "deps: $*" >&2
	exit 1
}

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo -E)

# Fails unless packages can be installed here; $1 says what for.
need_apt() {
	command -v apt-get >/dev/null || fail "$1 is missing, and this is not a Debian system; install it by hand"
	[ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null ||
		fail "$1 is missing, and installing it needs root; as root, run scripts/deps.sh $what"
}

made_no_cluster=
made_policy=
cleanup() {
	[ -z "$made_no_cluster" ] || "${as_root[@]}" rm -f "$no_cluster"
	[ -z "$made_policy" ] || "${as_root[@]}" rm -f "$policy"
	rm -f "$log"
}
trap cleanup EXIT
# dpkg finishes what it has begun; nothing further is started then.
trap 'exit 130' INT TERM

# Runs apt-get quietly; its output is shown only if it fails. It waits for
# another apt-get, such as the first update of a new machine.
apt_get() {
	if ! "$here/progress.sh" "deps: apt-get is at it" sh -c 'exec "$@" >"$0" 2>&1' "$log" \
		"${as_root[@]}" apt-get -q -y -o DPkg::Lock::Timeout=600 "$@"; then
		tail -n 20 "$log" >&2
		fail "apt-get $* failed (its last lines are above)"
	fi
}

updated=
update() {
	[ -n "$updated" ] && return
	echo "deps: reading the package lists"
	apt_get update
	updated=yes
}

# The variable suite, when set, says from which suite.
install() {
	update
	echo "deps: installing $*${suite:+ from $suite}"
	apt_get install --no-install-recommends ${suite:+-t "$suite"} "$@"
}

# As install, with every package told not to start its services. Patroni's unit has
# nothing to start later either, while it has no /etc/patroni/config.yml.
install_stopped() {
	if [ ! -e "$policy" ]; then
		made_policy=yes
		printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
		"${as_root[@]}" chmod 755 "$policy"
	fi
	install "$@"
}

server_there() {
	ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || command -v postgres >/dev/null
}

# The package creates and starts a cluster on port 5432 if there is none; for the
# time of the installation only, it is told not to.
install_server() {
	need_apt "PostgreSQL's server"
	update
	made_no_cluster=yes
	"${as_root[@]}" mkdir -p "$(dirname "$no_cluster")"
	echo "create_main_cluster = false" | "${as_root[@]}" tee "$no_cluster" >/dev/null
	install postgresql
	server_there || fail "PostgreSQL is still missing after its installation"
}

# Prints the source line for bookworm-backports on the mirror that serves
# bookworm here, which apt knows however its sources are written.
backports_source() {
	local mirror
	mirror=$(apt-cache policy | awk '$3 == "bookworm/main" {uri = $2; next}
		$1 == "release" && /o=Debian,/ && /l=Debian,/ && uri && !found {found = uri}
		{uri = ""}
		END {print found}')
	[ -n "$mirror" ] || return 1
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm-backports main"
}

candidate_is_new_enough() {
	local minor
	minor=$(apt-cache policy golang-go | sed -n 's/^ *Candidate: [0-9]*:1\.\([0-9]*\).*/\1/p')
	[ -n "$minor" ] && [ "$minor" -ge 21 ]
}

install_go() {
	need_apt "Go (1.21 or later)"
	update
	# Without them, Go could not fetch anything.
	[ -e /etc/ssl/certs/ca-certificates.crt ] || install ca-certificates
	if candidate_is_new_enough; then
		install golang-go
	else
		local source
		if ! apt-cache policy | grep bookworm-backports >/dev/null; then
			source=$(backports_source) || fail "Go 1.21 or later is missing, and no mirror of Debian 12 was found in apt's sources; install Go by hand"
			echo "deps: adding bookworm-backports to apt's sources ($backports_list)"
			echo "$source" | "${as_root[@]}" tee "$backports_list" >/dev/null
			updated=
			update
		fi
		suite=bookworm-backports install golang-go
	fi
	"$here/find-go.sh" >/dev/null || fail "Go 1.21 or later is still missing after its installation"
}

server_there || install_server
"$here/find-go.sh" >/dev/null || install_go

# The package holds a program and its configuration: it starts nothing.
if [[ $what = backup || $what = test ]] && ! command -v pgbackrest >/dev/null; then
	need_apt pgBackRest
	install pgbackrest
fi

if [ "$what" = test ]; then
	missing=()
	command -v ip >/dev/null || missing+=(iproute2)
	command -v ps >/dev/null || missing+=(procps)
	command -v openssl >/dev/null || missing+=(openssl)
	# The race detector needs a C compiler.
	command -v gcc >/dev/null || missing+=(gcc libc6-dev)
	# A load balancer as users have it; its service is not started.
	[ -x /usr/sbin/haproxy ] || missing+=(haproxy)
	if [ ${#missing[@]} -gt 0 ]; then
		need_apt "${missing[*]}"
		install_stopped "${missing[@]}"
	fi
	# The S3 server of the tests.
	"$here/tool.sh" versitygw github.com/versity/versitygw/cmd/versitygw v1.8.0 >/dev/null
fi

if [ "$what" = chaos ] || [ "$what" = patroni ]; then
	missing=()
	command -v ip >/dev/null || missing+=(iproute2)
	command -v iptables >/dev/null || missing+=(iptables)
	command -v mkfs.ext4 >/dev/null || missing+=(e2fsprogs)
	command -v fsfreeze >/dev/null || missing+=(util-linux)
	[ "$what" = chaos ] || [ -x /usr/bin/patroni ] || missing+=(patroni python3-etcd)
	if [ ${#missing[@]} -gt 0 ]; then
		need_apt "${missing[*]}"
		install_stopped "${missing[@]}"
	fi
fi
