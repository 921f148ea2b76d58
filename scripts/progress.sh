#!/usr/bin/env bash
# progress.sh WHAT COMMAND...: runs the command; whenever it has printed nothing
# for 15 s, a line says that WHAT goes on, and for how long.
set -uo pipefail
what=$1
shift

"$@" 2>&1 | {
	held=
	while :; do
		if IFS= read -r -t 15 line; then
			printf '%s\n' "$held$line"
			held=
		elif [ $? -gt 128 ]; then # nothing came, or a line without its end
			held+=$line
			printf '... %s (%d s)\n' "$what" "$SECONDS"
		else
			break
		fi
	done
	printf '%s' "$held$line"
}
exit "${PIPESTATUS[0]}"
