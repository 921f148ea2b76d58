#!/usr/bin/env bash
# Runs every fuzz target of the module, one after the other: fuzz.sh GO TIME.
set -euo pipefail
go=$1 time=$2
found=0
while IFS=: read -r file name; do
	found=$((found + 1))
	echo "$name in $(dirname "$file")"
	"$go" test "./$(dirname "$file")" -run '^$' -fuzz "^$name\$" -fuzztime "$time"
done < <(grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sed -E 's|^\./||; s|:func |:|' | sort)
echo "$found fuzz targets"
[ "$found" -gt 0 ]
