package doctor

import (
	"fmt"
	"strings"

	"github.com/pgha/pgha/pkg/ha"
)

func watchdogs(f *Facts) []Finding {
	if f.Local == nil {
		return nil
	}
	w := &f.Config.Local.Watchdog
	switch {
	case w.Mode == "required" && f.Local.Watchdog != "":
		return one(Error, f.Local.Member, "mend the device, or set watchdog.mode to automatic", "watchdog.mode is required and the device cannot be used, so this member is never promoted: %s", f.Local.Watchdog)
	case w.Mode == "automatic" && w.Present && f.Local.Watchdog != "":
		return one(Warning, f.Local.Member, "mend the device: modprobe softdog, and give it to the owner of PostgreSQL", "the watchdog that is configured will not be in force: %s", f.Local.Watchdog)
	case w.Mode == "off" || !w.Present:
		return one(Notice, f.Local.Member, "set watchdog.mode to automatic where the host has a device", "no kernel watchdog is used: the leash alone stops PostgreSQL in time")
	}
	return nil
}

func programs(f *Facts) (out []Finding) {
	if f.Local == nil {
		return nil
	}
	if len(f.Local.Missing) > 0 {
		out = append(out, one(Error, f.Local.Member, "set postgresql.bin_dir, or install the package", "these programs cannot be run: %s", strings.Join(f.Local.Missing, ", "))...)
	}
	if f.Local.Versions != "" {
		out = append(out, one(Error, f.Local.Member, "set postgresql.bin_dir to the programs of the version that made the directory", "%s", f.Local.Versions)...)
	}
	return out
}

func permissions(f *Facts) (out []Finding) {
	if f.Public {
		out = append(out, one(Warning, "this host", "chmod 640 "+f.Path, "%s holds passwords and everybody may read it", f.Path)...)
	}
	if f.Local == nil {
		return out
	}
	if f.Local.Directory != "" {
		out = append(out, one(Error, f.Local.Member, "give it to the owner of PostgreSQL, with mode 700 or 750", "the data directory: %s", f.Local.Directory)...)
	}
	if f.Local.Parent != "" {
		out = append(out, one(Warning, f.Local.Member, "make the parent of the data directory writable for the owner of PostgreSQL", "%s: the journal and the marks of interrupted copies do not survive a reboot, and a copy cannot be renamed", f.Local.Parent)...)
	}
	return out
}

// Limits of a file system, in percent used.
const (
	diskFilling = 80
	diskFull    = 92
)

func disks(f *Facts) (out []Finding) {
	if f.Local == nil {
		return nil
	}
	const cure = "make room: a full pg_wal ends PostgreSQL; look at pghactl doctor's slots and archiving first"
	for _, d := range f.Local.Disks {
		if d.Total == 0 {
			continue
		}
		switch used := 100 - 100*d.Free/d.Total; {
		case used >= diskFull:
			out = append(out, one(Error, f.Local.Member, cure, "the file system of %s is %d %% full, %s are left", d.Path, used, size(d.Free))...)
		case used >= diskFilling:
			out = append(out, one(Warning, f.Local.Member, cure, "the file system of %s is %d %% full, %s are left", d.Path, used, size(d.Free))...)
		}
	}
	return out
}

func size(n int64) string {
	const step = 1024.0
	v, units := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for ; v >= step && i < len(units)-1; i++ {
		v /= step
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}

func slots(f *Facts) (out []Finding) {
	if f.Local == nil || f.Local.Server == nil {
		return nil
	}
	s := f.Local.Server
	if f.Config.Postgres.UseSlots && s.MaxSlotWALKeepSize == -1 && s.ServerVersion >= 130000 {
		out = append(out, one(Warning, inCluster, "set postgresql.parameters.max_slot_wal_keep_size in /config to what the disk of pg_wal can spare", "slots keep WAL without limit (max_slot_wal_keep_size is -1): a member that stays away fills the disk of the leader")...)
	}
	limit, volume := s.MaxSlotWALKeepSize, int64(0)
	if limit > 0 {
		limit <<= 20
	}
	if n := len(f.Local.Disks); n > 0 {
		volume = f.Local.Disks[n-1].Total // the last one is pg_wal's
	}
	for _, sl := range s.Slots {
		u := ha.SlotUsage{Kept: sl.Retained, Budget: f.Config.PGHA.SlotBudgets.Of(sl.Name, limit, volume)}
		switch {
		case sl.Lost:
			out = append(out, one(Warning, f.Local.Member, "make that member anew (pghactl reinit), or drop the slot", "the slot %s lost the WAL it needs", sl.Name)...)
		case u.Percent() >= ha.SlotTight:
			use := "its user is behind"
			if !sl.Active {
				use = "nobody uses it"
			}
			out = append(out, one(Warning, f.Local.Member, "bring its user back, or drop the slot; pgha.slot_wal_budget says how much it may keep", "the slot %s keeps %s of WAL of its budget of %s, and %s", sl.Name, size(sl.Retained), size(u.Budget), use)...)
		}
	}
	return out
}

func rewind(f *Facts) (out []Finding) {
	if f.Local == nil || f.Local.Server == nil {
		return nil
	}
	s, p := f.Local.Server, &f.Config.Postgres
	if !p.UsePgRewind {
		if p.RemoveDataDirOnDivergedTimeline || len(f.Members) < 2 {
			return nil
		}
		return one(Notice, inCluster, "set postgresql.use_pg_rewind to true in /config", "use_pg_rewind is off: a former leader whose WAL went another way does not come back by itself")
	}
	if !s.DataChecksums && !s.WALLogHints {
		out = append(out, one(Error, inCluster, "set postgresql.parameters.wal_log_hints to on in /config and restart, or make the cluster with data checksums", "use_pg_rewind is on, but there are neither data checksums nor wal_log_hints: pg_rewind will refuse")...)
	}
	switch {
	case len(s.RewindUserMissing) > 0:
		cure := "as a superuser on the leader: GRANT EXECUTE ON FUNCTION " + strings.Join(s.RewindUserMissing, ", ") + " TO " + p.Rewind.Username
		out = append(out, one(Error, inCluster, cure, "the user of pg_rewind, %s, may not call %s", p.Rewind.Username, strings.Join(s.RewindUserMissing, ", "))...)
	case s.RewindUserUnchecked != "":
		out = append(out, one(Error, inCluster, "set postgresql.authentication.rewind, and create that role", "pg_rewind cannot log in: %s", s.RewindUserUnchecked)...)
	}
	return out
}

func archiving(f *Facts) (out []Finding) {
	if f.Local == nil || f.Local.Archive == nil {
		return nil
	}
	a := f.Local.Archive
	switch {
	case a.Failing:
		out = append(out, one(Error, f.Local.Member, "see PostgreSQL's log for what archive_command answers; until it works, pg_wal grows", "archiving fails at %s since %s; %d segments wait", a.LastFailed, a.LastFailTime.UTC().Format("2006-01-02T15:04:05Z"), a.ReadyFiles)...)
	case a.ReadyFiles > 100:
		out = append(out, one(Warning, f.Local.Member, "archive in parallel, or see why it is slow", "%d segments wait to be archived", a.ReadyFiles)...)
	case !a.On && f.Config.Postgres.Parameters["archive_mode"] == "on" && !serverIsStandby(f):
		out = append(out, one(Error, f.Local.Member, "set archive_command, or archive_mode to off", "archive_mode is on, but there is no archive_command: WAL is kept for ever")...)
	}
	return out
}

func serverIsStandby(f *Facts) bool { return f.Local.Server != nil && f.Local.Server.InRecovery }
