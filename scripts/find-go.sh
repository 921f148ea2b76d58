#!/bin/sh
# Prints the go command to use, or fails. Any Go from 1.21 on will do: its
# toolchain switch brings the version that go.mod names.
usable() {
	version=$(GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null) || return 1
	minor=$(printf '%s\n' "$version" | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
	[ -n "$minor" ] && [ "$minor" -ge 21 ]
}

for go in "$(command -v go 2>/dev/null)" /usr/local/go/bin/go /usr/lib/go/bin/go; do
	if [ -n "$go" ] && usable "$go"; then
		echo "$go"
		exit 0
	fi
done
exit 1
