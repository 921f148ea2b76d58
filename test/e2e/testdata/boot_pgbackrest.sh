#!/bin/bash
# Called with --scope=NAME and --datadir=DIRECTORY when a cluster is to be made.
set -eu
for word in "$@"; do
	case $word in
	--datadir=*) data=${word#--datadir=} ;;
	esac
done
pgbackrest="pgbackrest --stanza=pg-ha-cluster"
if $pgbackrest info | grep -q 'full backup'; then
	exec $pgbackrest restore --delta --pg1-path="$data"
fi
exec ${bin}/initdb --pgdata="$data" --username=postgres --encoding=UTF8 --data-checksums --locale=C.UTF-8
