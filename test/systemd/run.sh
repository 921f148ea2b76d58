#!/usr/bin/env bash
# Boots a Debian bookworm with a real systemd in a container, installs programs
# and units as the README says, and checks what the units promise. As root.
#
#   test/systemd/run.sh [BIN]       BIN: directory of the programs (default: bin)
#
# PGHA_SYSTEMD_TREE  where the Debian is kept between runs
# PGHA_SYSTEMD_KEEP  directory to keep the journal in
set -euo pipefail
cd "$(dirname "$0")/../.."

bin=${1:-bin}
tree=${PGHA_SYSTEMD_TREE:-/var/cache/pgha-systemd/bookworm}
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
work=$(mktemp -d /tmp/pgha-systemd.XXXXXX)
root=$work/root
cgroups=(/sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified) # v2; v1 and hybrid
cgroup=${work##*/}
nspawn=
leader=
failures=0

fail() {
	echo "systemd: $*" >&2
	exit 1
}

cleanup() {
	if [ -n "$nspawn" ]; then
		[ -z "${PGHA_SYSTEMD_KEEP:-}" ] || keep
		# Its init takes all of the container with it.
		[ -z "$leader" ] || kill -KILL "$leader" 2>/dev/null || kill -KILL "$nspawn" 2>/dev/null || true
		wait "$nspawn" 2>/dev/null || true
	fi
	# The last processes may hold it for an instant.
	until_true 10 unmounted && rm -rf "$work"
	for at in "${cgroups[@]}"; do
		find "$at/$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || true
	done
}

unmounted() { ! mountpoint -q "$root" || umount "$root" 2>/dev/null; }

keep() {
	mkdir -p "$PGHA_SYSTEMD_KEEP"
	chroot "$root" journalctl --no-pager -o short-precise -D /var/log/journal >"$PGHA_SYSTEMD_KEEP/journal" || true
	cp "$work/console" "$PGHA_SYSTEMD_KEEP/"
}

# --- the tree -----------------------------------------------------------------

host_packages() {
	local missing=()
	command -v systemd-nspawn >/dev/null || missing+=(systemd-container)
	command -v debootstrap >/dev/null || missing+=(debootstrap)
	command -v curl >/dev/null || missing+=(curl)
	[ ${#missing[@]} -gt 0 ] || return 0
	echo "systemd: installing ${missing[*]}"
	if ! { apt-get update -q && apt-get install -q -y --no-install-recommends "${missing[@]}"; } >"$work/log" 2>&1; then
		tail -n 20 "$work/log" >&2
		fail "cannot install ${missing[*]}"
	fi
}

make_tree() {
	[ ! -e "$tree/.complete" ] || return 0
	echo "systemd: making a Debian in $tree (some minutes, once)"
	rm -rf "$tree"
	mkdir -p "$tree"
	if ! build_tree >"$work/log" 2>&1; then
		tail -n 20 "$work/log" >&2
		fail "cannot make the Debian in $tree"
	fi
	touch "$tree/.complete"
}

build_tree() {
	debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,procps,curl,ca-certificates,postgresql-common \
		bookworm "$tree" ${PGHA_DEBIAN_MIRROR:+"$PGHA_DEBIAN_MIRROR"} &&
		mkdir -p "$tree/etc/postgresql-common/createcluster.d" &&
		echo "create_main_cluster = false" >"$tree/etc/postgresql-common/createcluster.d/none.conf" &&
		chroot "$tree" apt-get install -q -y --no-install-recommends postgresql-15 &&
		chroot "$tree" systemctl disable postgresql
}

# What the README's tutorial has the reader do, on one host and loopback.
install_pgha() {
	mkdir -p "$work/upper" "$work/work" "$root"
	mount -t overlay overlay -o "lowerdir=$tree,upperdir=$work/upper,workdir=$work/work" "$root" 2>/dev/null ||
		cp -a "$tree/." "$root/"
	install -m 755 "$bin"/pgha-agent "$bin"/pgha-leash "$bin"/pgha-etcd "$bin"/pghactl "$root/usr/bin/"
	install -m 644 deploy/systemd/*.service "$root/etc/systemd/system/"
	chroot "$root" useradd --system --home /var/lib/etcd etcd
	etcd_of etcd1=http://127.0.0.1:2380
	mkdir -p "$root/etc/patroni"
	patroni_yml 4MB
	chroot "$root" systemctl --quiet enable etcd pgha-agent
	# For the test only: short deadlines, and a systemd that says what it was told.
	mkdir -p "$root/etc/systemd/system/pgha-agent.service.d" "$root/etc/systemd/system.conf.d" \
		"$root/etc/systemd/journald.conf.d" "$root/var/log/journal"
	printf '[Service]\nTimeoutStartSec=7s\nWatchdogSec=8s\n' >"$root/etc/systemd/system/pgha-agent.service.d/test.conf"
	printf '[Manager]\nLogLevel=debug\nLogTarget=journal\n' >"$root/etc/systemd/system.conf.d/test.conf"
	oom_score=-1000
	if ! (echo "$oom_score" >"/proc/$BASHPID/oom_score_adj") 2>/dev/null; then
		oom_score=500 # this host may not lower it; a raised one shows the same
		printf 'OOMScoreAdjust=%s\n' "$oom_score" >>"$root/etc/systemd/system/pgha-agent.service.d/test.conf"
	fi
	printf '[Journal]\nStorage=persistent\nRateLimitBurst=0\n' >"$root/etc/systemd/journald.conf.d/test.conf"
}

etcd_of() { # etcd_of MEMBERS: the first of these members
	cat >"$root/etc/default/etcd" <<-X
		ETCD_OPTIONS="--name etcd1 --data-dir /var/lib/etcd/data \\
		  --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \\
		  --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \\
		  --initial-cluster $1 \\
		  --initial-cluster-state new --initial-cluster-token pg-ha-cluster"
	X
}

patroni_yml() { # patroni_yml WORK_MEM
	cat >"$root/etc/patroni/patroni.yml" <<-X
		scope: pg-ha-cluster
		namespace: /opt/pgsql/patroni/
		name: pg-db-01
		restapi:
		  listen: 127.0.0.1:8008
		  connect_address: 127.0.0.1:8008
		  authentication: {username: admin, password: choose-one}
		etcd3:
		  hosts: 127.0.0.1:2379
		bootstrap:
		  dcs:
		    ttl: 30
		    loop_wait: 10
		    retry_timeout: 10
		  initdb:
		    - encoding: UTF8
		    - data-checksums
		postgresql:
		  listen: 127.0.0.1:5432
		  connect_address: 127.0.0.1:5432
		  data_dir: /var/lib/postgresql/pgha
		  bin_dir: /usr/lib/postgresql/15/bin
		  authentication:
		    superuser: {username: postgres, password: choose-one}
		    replication: {username: replicator, password: choose-one}
		  pg_hba:
		    - local all all peer
		    - host replication replicator 127.0.0.1/32 scram-sha-256
		    - host all all 127.0.0.1/32 scram-sha-256
		  parameters:
		    unix_socket_directories: /var/run/postgresql
		    work_mem: $1
	X
	chroot "$root" chown postgres: /etc/patroni/patroni.yml
	chmod 600 "$root/etc/patroni/patroni.yml"
}

boot() {
	(
		# A cgroup of its own, for a host without a systemd that hands them out.
		for at in "${cgroups[@]}"; do
			[ -e "$at/cgroup.procs" ] || continue
			mkdir -p "$at/$cgroup" && echo "$BASHPID" >"$at/$cgroup/cgroup.procs"
		done
		exec systemd-nspawn --quiet -D "$root" -b --register=no --keep-unit --private-network --console=pipe
	) </dev/null >"$work/console" 2>&1 &
	nspawn=$!
	until_true 30 booted || { tail -n 20 "$work/console" >&2; fail "the container does not boot"; }
}

booted() {
	leader=$(pgrep -P "$nspawn" | head -n 1) && [ -n "$leader" ] && in_it systemctl show-environment >/dev/null 2>&1
}

in_it() { nsenter -t "$leader" -a -- "$@"; }

# --- questions ----------------------------------------------------------------

until_true() { # until_true SECONDS COMMAND...
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.1
	done
}

check() { # check TEXT COMMAND...: one line
	local text=$1 from=$SECONDS
	shift
	if "$@"; then
		echo "ok    $text ($((SECONDS - from)) s)"
	else
		echo "FAIL  $text ($((SECONDS - from)) s): $*"
		failures=$((failures + 1))
		{
			in_it systemctl --no-pager --lines=0 status pgha-agent etcd
			in_it journalctl -q --no-pager -o short-precise -n 20 -t pgha-agent -t pgha-etcd
		} 2>&1 | sed 's/^/      /' || true
	fi
}

show() { in_it systemctl show --value -p "$2" "$1"; } # show UNIT PROPERTY
is() { [ "$(show "$1" "$2")" = "$3" ]; }              # is UNIT PROPERTY VALUE
agent() { show pgha-agent MainPID; }
status_says() { [[ $(show pgha-agent StatusText) == *"$1"* ]]; }
sql() { in_it runuser -u postgres -- psql -XAtq -d postgres -c "$1" 2>/dev/null; }
rest() { in_it curl -sf -o /dev/null "http://127.0.0.1:8008/$1"; }
postmaster() { in_it head -n 1 /var/lib/postgresql/pgha/postmaster.pid 2>/dev/null; }
leash() { in_it pgrep -x pgha-leash; }
logged() { in_it journalctl -q _PID=1 -o cat --no-pager | grep "pgha-agent.service: $1" >/dev/null; } # by systemd
told() { logged "Got notification message.*$1"; }

# Whether the main process of a unit is that old, and still on its way up.
starts_for() { # starts_for UNIT SECONDS
	local since up
	is "$1" ActiveState activating || return 1
	since=$(show "$1" ExecMainStartTimestampMonotonic)
	up=$(in_it sed 's/[ .].*//' /proc/uptime)
	[ "$since" -gt 0 ] && [ $((up - since / 1000000)) -ge "$2" ]
}

cgroup_members() { # every process in the agent's cgroup, v1 or v2
	in_it sh -c 'grep -lE "^(0:|[0-9]+:name=systemd):.*/system.slice/pgha-agent.service$" /proc/[0-9]*/cgroup 2>/dev/null | cut -d/ -f3'
}

# --- checks -------------------------------------------------------------------

verify() {
	local said
	said=$(in_it systemd-analyze verify /etc/systemd/system/pgha-agent.service /etc/systemd/system/etcd.service 2>&1) && [ -z "$said" ] && return
	echo "$said"
	return 1
}

all_in_cgroup() {
	local members pid
	members=$(cgroup_members)
	for pid in $(agent) $(leash) $(in_it pgrep -x postgres); do
		grep -qx "$pid" <<<"$members" || { echo "process $pid is not in the cgroup"; return 1; }
	done
	[ "$(in_it pgrep -cx postgres)" -ge 5 ]
}

environ() { in_it cat "/proc/$1/environ" | tr '\0' '\n'; }
environment_is_clean() {
	local pid
	for pid in $(leash) $(in_it pgrep -x postgres); do
		if environ "$pid" | grep -E '^(NOTIFY_SOCKET|WATCHDOG_[A-Z]*|PATRONI_[A-Z_]*)='; then return 1; fi
	done
	environ "$(agent)" | grep '^NOTIFY_SOCKET=' >/dev/null # the same look finds what is there
}

oom() { in_it cat "/proc/$1/oom_score_adj"; }
spared_by_oom() {
	[ "$(oom "$(agent)")" = "$oom_score" ] && [ "$(oom "$(leash)")" = "$oom_score" ] && [ "$(oom "$(postmaster)")" = "$oom_score" ] &&
		[ "$(oom "$(in_it pgrep -f 'postgres: .*checkpointer')")" = 0 ]
}

# The server that ran before runs still, under the same leash, and leads.
untouched() { # untouched POSTMASTER LEASH
	[ "$(postmaster)" = "$1" ] && [ "$(leash)" = "$2" ] && in_it kill -0 "$1" && rest primary && status_says "the leader with the lock"
}

restarted() { # restarted OLD_PID
	is pgha-agent ActiveState active && [ "$(agent)" != "$1" ]
}

not_ready() { ! told READY=1; }
ready_at_first() { told READY=1 && is pgha-agent NRestarts 0; }
work_mem() { [ "$(sql "show work_mem")" = "$1" ]; }
announced_reload() { told RELOADING=1 && until_true 5 is pgha-agent SubState running; }
same_process() { [ "$(agent)" = "$1" ]; }
quiet_since() { [ $((SECONDS - $1)) -ge 20 ] && is pgha-agent NRestarts "$2"; } # quiet_since START RESTARTS
kept() { [ "$(sql "select v from kept")" = 42 ]; }
powered_off() { ! kill -0 "$nspawn" 2>/dev/null; }
nothing_left() { [ -z "$(cgroup_members)" ] && no_agents; }
no_agents() { # also not elsewhere
	local name
	for name in postgres pgha-leash pgha-agent; do
		if in_it pgrep -x "$name" >/dev/null; then return 1; fi
	done
}
left_in_order() { is pgha-agent ActiveState inactive && is pgha-agent Result success && is pgha-agent ExecMainStatus 0; }
timed_stop() { in_it timeout 60 systemctl stop pgha-agent && left_in_order; }
shut_down() {
	[[ $(chroot "$root" /usr/lib/postgresql/15/bin/pg_controldata /var/lib/postgresql/pgha) =~ "cluster state:"\ *"shut down"$'\n' ]]
}
leads() { rest primary && status_says "I am (pg-db-01), the leader with the lock"; }

[ "$(id -u)" -eq 0 ] || fail "boots a container: run it as root"
[ -x "$bin/pgha-agent" ] || fail "no programs in $bin: make build"
trap cleanup EXIT
host_packages
make_tree
install_pgha
# The first of three etcd members, alone: nothing has a majority, and waits.
etcd_of etcd1=http://127.0.0.1:2380,etcd2=http://127.0.0.1:12380,etcd3=http://127.0.0.1:22380
boot

check "units are what systemd understands" verify
check "etcd without a majority: not active, waits" until_true 20 starts_for etcd 5
check "etcd without a majority: no start timeout" is etcd TimeoutStartUSec infinity
check "no etcd at boot: the agent waits beyond its start timeout of 7 s" until_true 40 starts_for pgha-agent 15
check "no etcd at boot: the agent was not killed meanwhile" is pgha-agent NRestarts 0
check "no etcd at boot: systemctl status says what it waits for" status_says "waiting for etcd"
check "no etcd at boot: READY was not sent" not_ready
check "no etcd at boot: systemctl stop ends in order, status 0" timed_stop
in_it systemctl start --no-block pgha-agent

in_it systemctl stop etcd
rm -rf "$root/var/lib/etcd/data"
etcd_of etcd1=http://127.0.0.1:2380
check "etcd starts" in_it timeout 30 systemctl start etcd
check "the agent becomes active when etcd is there, in the same process" until_true 30 is pgha-agent ActiveState active
check "and was ready by its own word" ready_at_first
check "it leads, and systemctl status says so" until_true 60 leads

check "agent, leash and postgres are in the unit's cgroup" all_in_cgroup
check "leash and postgres know nothing of systemd's socket" environment_is_clean
check "the kernel spares agent, leash and postmaster, not the backends" spared_by_oom
sql "create table kept (v int); insert into kept values (42)"

server=$(postmaster) holder=$(leash) old=$(agent)
in_it kill -KILL "$old"
check "kill -9 of the agent: systemd starts it again" until_true 15 restarted "$old"
check "and it takes over the running server" until_true 20 untouched "$server" "$holder"

old=$(agent)
patroni_yml 8MB
check "systemctl reload" in_it systemctl reload pgha-agent
check "the new configuration is in force" until_true 20 work_mem 8MB
check "reload was announced and its end too" announced_reload
check "in the same process" same_process "$old"
check "and without a change of the server" untouched "$server" "$holder"

# loop_wait is longer than half of the watchdog's 8 seconds.
check "the watchdog is content with a quiet agent for 20 s" until_true 30 quiet_since $SECONDS "$(show pgha-agent NRestarts)"
old=$(agent)
in_it kill -STOP "$old"
check "a stopped agent: the watchdog ends it, systemd starts it again" until_true 20 restarted "$old"
check "and it takes over the running server" until_true 20 untouched "$server" "$holder"
check "it was the watchdog" logged "Watchdog timeout"

killed_often() {
	local pid
	for _ in 1 2 3 4 5 6; do # systemd's own limit is 5 starts in 10 s
		pid=$(agent)
		in_it kill -9 "$pid"
		until_true 15 restarted "$pid" || return 1
	done
}
check "killed six times in a row: systemd does not give up" killed_often
check "and it takes over the running server" until_true 20 untouched "$server" "$holder"

check "systemctl stop: ends in order, status 0" timed_stop
check "and nothing is left" nothing_left
check "postgres was shut down, not killed" shut_down
check "start again" in_it timeout 60 systemctl start pgha-agent
check "it leads again" until_true 60 leads
check "the data are kept" kept

in_it systemctl stop etcd
check "without etcd: systemctl stop ends in order all the same" timed_stop
check "and nothing is left" nothing_left
in_it systemctl start etcd
check "start again" in_it timeout 60 systemctl start pgha-agent
check "it leads again" until_true 90 leads

in_it systemctl poweroff
check "poweroff of the host: done within a minute" until_true 60 powered_off
check "postgres was shut down, not killed" shut_down

[ "$failures" -eq 0 ] || fail "$failures checks failed"
echo "systemd: all well, $SECONDS s"
