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
		kill -KILL "$nspawn" 2>/dev/null || true
		wait "$nspawn" 2>/dev/null || true
	fi
	for _ in 1 2 3 4 5; do # the last processes may hold it for an instant
		mountpoint -q "$root" || break
		umount "$root" || sleep 1
	done
	mountpoint -q "$root" || rm -rf "$work"
}

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
	apt-get update -q >"$work/log" 2>&1 && apt-get install -q -y --no-install-recommends "${missing[@]}" >>"$work/log" 2>&1 ||
		{ tail -n 20 "$work/log" >&2; fail "cannot install ${missing[*]}"; }
}

make_tree() {
	[ ! -e "$tree/.complete" ] || return 0
	echo "systemd: making a Debian in $tree (some minutes, once)"
	rm -rf "$tree"
	mkdir -p "$tree"
	{
		debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,procps,curl,ca-certificates,postgresql-common \
			bookworm "$tree" "${PGHA_DEBIAN_MIRROR:-http://deb.debian.org/debian}"
		mkdir -p "$tree/etc/postgresql-common/createcluster.d"
		echo "create_main_cluster = false" >"$tree/etc/postgresql-common/createcluster.d/none.conf"
		chroot "$tree" apt-get install -q -y --no-install-recommends postgresql-15
		chroot "$tree" systemctl disable postgresql
	} >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; fail "cannot make the Debian in $tree"; }
	touch "$tree/.complete"
}

# What the README's tutorial has the reader do, on one host and loopback.
install_pgha() {
	mkdir -p "$work/upper" "$work/work" "$root"
	mount -t overlay overlay -o "lowerdir=$tree,upperdir=$work/upper,workdir=$work/work" "$root"
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
	systemd-nspawn --quiet -D "$root" -b --register=no --keep-unit --private-network --console=pipe \
		</dev/null >"$work/console" 2>&1 &
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
		in_it systemctl --no-pager --lines=15 status pgha-agent etcd 2>&1 | sed 's/^/      /' || true
	fi
}

show() { in_it systemctl show --value -p "$2" "$1"; } # show UNIT PROPERTY
is() { [ "$(show "$1" "$2")" = "$3" ]; }              # is UNIT PROPERTY VALUE
agent() { show pgha-agent MainPID; }
status_says() { show pgha-agent StatusText | grep -q "$1"; }
sql() { in_it runuser -u postgres -- psql -XAtq -d postgres -c "$1" 2>/dev/null; }
rest() { in_it curl -sf -o /dev/null "http://127.0.0.1:8008/$1"; }
postmaster() { in_it head -n 1 /var/lib/postgresql/pgha/postmaster.pid 2>/dev/null; }
leash() { in_it pgrep -x pgha-leash; }
told() { # told TEXT: the agent's unit sent this to systemd, in this boot
	in_it journalctl -b -q _PID=1 -o cat --no-pager | grep "pgha-agent.service: Got notification message" | grep -q "$1"
}

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

environment_is_clean() {
	local pid
	for pid in $(leash) $(in_it pgrep -x postgres); do
		if in_it tr '\0' '\n' </dev/null >/dev/null && in_it sh -c "tr '\\0' '\\n' </proc/$pid/environ" |
			grep -E '^(NOTIFY_SOCKET|WATCHDOG_[A-Z]*|PATRONI_[A-Z_]*)='; then
			return 1
		fi
	done
	# The same look finds what is there.
	in_it sh -c "tr '\\0' '\\n' </proc/$(agent)/environ" | grep -q '^NOTIFY_SOCKET='
}

oom() { in_it cat "/proc/$1/oom_score_adj"; }
spared_by_oom() {
	[ "$(oom "$(agent)")" = -1000 ] && [ "$(oom "$(leash)")" = -1000 ] && [ "$(oom "$(postmaster)")" = -1000 ] &&
		[ "$(oom "$(in_it pgrep -f 'postgres: .*checkpointer')")" = 0 ]
}

# The server that ran before runs still, under the same leash, and leads.
untouched() { # untouched POSTMASTER LEASH
	[ "$(postmaster)" = "$1" ] && [ "$(leash)" = "$2" ] && in_it kill -0 "$1" && rest primary && status_says "the leader with the lock"
}

restarted() { # restarted OLD_PID
	is pgha-agent ActiveState active && [ "$(agent)" != "$1" ]
}

nothing_left() { [ -z "$(cgroup_members)" ]; }
no_agents() { ! in_it pgrep -x 'postgres|pgha-leash|pgha-agent' >/dev/null; }
left_in_order() { is pgha-agent ActiveState inactive && is pgha-agent Result success && is pgha-agent ExecMainStatus 0; }
timed_stop() { in_it timeout 60 systemctl stop pgha-agent && left_in_order; }
shut_down() { chroot "$root" runuser -u postgres -- /usr/lib/postgresql/15/bin/pg_controldata /var/lib/postgresql/pgha | grep -q 'state: *shut down$'; }
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
check "no etcd at boot: READY was not sent" eval '! told READY=1'

in_it systemctl stop etcd
rm -rf "$root/var/lib/etcd/data"
etcd_of etcd1=http://127.0.0.1:2380
check "etcd starts" in_it timeout 30 systemctl start etcd
check "the agent becomes active when etcd is there, in the same process" until_true 30 is pgha-agent ActiveState active
check "and was ready by its own word" eval 'told READY=1 && is pgha-agent NRestarts 0'
check "it leads, and systemctl status says so" until_true 60 leads

check "agent, leash and postgres are in the unit's cgroup" all_in_cgroup
check "leash and postgres know nothing of systemd's socket" environment_is_clean
check "the kernel spares agent, leash and postmaster, not the backends" spared_by_oom
sql "create table kept (v int); insert into kept values (42)"

server=$(postmaster) holder=$(leash) old=$(agent)
in_it kill -9 "$old"
check "kill -9 of the agent: systemd starts it again" until_true 15 restarted "$old"
check "and it takes over the running server" until_true 20 untouched "$server" "$holder"

old=$(agent)
patroni_yml 8MB
check "systemctl reload" in_it systemctl reload pgha-agent
check "the new configuration is in force" until_true 20 eval '[ "$(sql "show work_mem")" = 8MB ]'
check "reload was announced and its end too" eval 'told RELOADING=1 && until_true 5 is pgha-agent SubState running'
check "in the same process" eval '[ "$(agent)" = "$old" ] && untouched "$server" "$holder"'

# loop_wait is longer than half of the watchdog's 8 seconds.
restarts=$(show pgha-agent NRestarts)
watched=$SECONDS
check "the watchdog is content with a quiet agent for 20 s" until_true 30 eval '[ $((SECONDS - watched)) -ge 20 ] && is pgha-agent NRestarts "$restarts"'
in_it kill -STOP "$old"
check "a stopped agent: the watchdog ends it, systemd starts it again" until_true 20 restarted "$old"
check "and it takes over the running server" until_true 20 untouched "$server" "$holder"
check "it was the watchdog" eval 'in_it journalctl -b -q --no-pager -o cat | grep -q "pgha-agent.service: Watchdog timeout"'

check "systemctl stop: ends in order, status 0" timed_stop
check "and nothing is left" eval 'nothing_left && no_agents'
check "postgres was shut down, not killed" shut_down
check "start again" in_it timeout 60 systemctl start pgha-agent
check "it leads again" until_true 60 leads
check "the data are kept" eval '[ "$(sql "select v from kept")" = 42 ]'

in_it systemctl stop etcd
check "without etcd: systemctl stop ends in order all the same" timed_stop
check "and nothing is left" eval 'nothing_left && no_agents'
in_it systemctl start etcd
check "start again" in_it timeout 60 systemctl start pgha-agent
check "it leads again" until_true 90 leads

in_it systemctl poweroff
check "poweroff of the host: done within a minute" until_true 60 eval '! kill -0 $nspawn 2>/dev/null'
check "postgres was shut down, not killed" shut_down

[ "$failures" -eq 0 ] || fail "$failures checks failed"
echo "systemd: all well, $SECONDS s"
