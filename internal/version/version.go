// Package version knows which build this is.
package version

import "runtime/debug"

// Patroni is the version whose wire contract every pgha binary speaks, and the
// one published in member keys, where peers compare it as a tuple of integers.
const Patroni = "4.1.4"

// stamped is set by the release build (-ldflags "-X …/version.stamped=1.2.3").
var stamped string

// Version returns the version of this build: the release's stamp, else what
// the Go toolchain recorded, else "devel".
func Version() string {
	if stamped != "" {
		return stamped
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	return fromBuildInfo(info)
}

// fromBuildInfo prefers the module version and falls back to the commit, which
// is marked when the tree it was built from had changes.
func fromBuildInfo(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	commit, dirty := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if commit == "" {
		return "devel"
	}
	return "devel-" + commit[:min(12, len(commit))] + dirty
}
