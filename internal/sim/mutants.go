package sim

// Mutant is a guard removed, by a wrapper around what the loop works with: the
// production code stays as it is. A simulator that does not catch it is broken.
type Mutant struct {
	ID, What string
	Catches  []string // invariants, any of which may tell
	// Faults are the kinds to play; none: as the seed chooses.
	Faults []string
	// Failsafe turns that mode on, Sync draws one of the synchronous ones.
	Failsafe, Sync bool
	// Budget is how long the hunt may take, in seconds of a core of the machine
	// that calibrate calls 1.
	Budget float64
}

// mutant returns the mutant of that name, one without faults for "".
func mutant(id string) Mutant {
	for _, m := range Mutants {
		if m.ID == id {
			return m
		}
	}
	return Mutant{}
}

// Absent are the mutants of safety C.8 that cannot be told from the system as it
// is, or take away what there is not.
var Absent = map[string]string{
	"M5": "claim without the compare of /sync: among members of pgha it forbids nothing that the others do not. Every write of /sync compares the leader key's " +
		"creation revision (S10), and a snapshot is of one revision; so a write that a snapshot without that key lacks needs a leadership since, " +
		"whose claim wrote /status, which is compared. It is for whoever writes /sync without holding the key: a Patroni leader (it compares /sync alone, " +
		"and may be late) or a hand, which no schedule has. That it is made, is held by the suite of pkg/dcs/dcstest",
}

// Mutants are the others of safety C.8, and some of our own (from M28 on).
var Mutants = []Mutant{
	{"M1", "the deadline counts from the answer, not from the send", []string{"S7"}, nil, false, false, 5},
	{"M2", "a keepalive alone extends the deadline", []string{"S7", "S1", "S8"}, []string{"etcd loses", "false keepalive", "early revoke"}, false, false, 10},
	{"M3", "no hold-off", []string{"S1", "S14"}, []string{"early revoke", "agent hang", "cut etcd"}, false, false, 10},
	{"M4", "claim without the compare of /status", []string{"S1", "S14"}, []string{"slow watch", "early revoke", "switchover"}, false, false, 20},
	{"M6", "WAL positions are read without a freeze", []string{"S3"}, []string{"pause", "agent crash", "agent hang", "cut etcd", "leash hangs"}, false, true, 20},
	{"M7", "a freeze is answered before the WAL receiver has ended", []string{"S3"}, []string{"pause", "agent hang", "leash hangs"}, false, true, 20},
	{"M8", "the server stops waiting for a standby before it has left /sync", []string{"S5", "S3"}, []string{"cut streams", "power", "sync mode"}, false, true, 5},
	{"M9", "a standby enters /sync before the server waits for it", []string{"S5", "S3"}, []string{"cut streams", "power", "sync mode"}, false, true, 5},
	{"M10", "/history is written without the epoch", []string{"S10"}, []string{"switchover"}, false, false, 20},
	{"M11", "promotion before the leash confirmed", []string{"S6", "S8", "S1"}, nil, false, false, 5},
	{"M12", "the leash forgets the epoch that it killed for", []string{"S8"}, []string{"agent hang", "agent crash"}, false, false, 10},
	{"M13", "the leash kills the postmaster only", []string{"S8", "S1"}, []string{"agent hang", "agent crash"}, false, false, 5},
	{"M14", "maximum_lag_on_failover is ignored", []string{"S4"}, []string{"cut streams", "agent hang"}, false, false, 5},
	{"M15", "the timelines of /history and of the beat are ignored", []string{"S2"}, []string{"failover", "cut all", "agent crash"}, false, false, 10},
	{"M16", "rewind before the checkpoint of the new primary", []string{"S13"}, []string{"server crash", "power", "agent crash"}, false, false, 10},
	{"M17", "a directory with a marker is taken for a whole one", []string{"S9"}, []string{"trap", "power"}, false, false, 5},
	{"M18", "clocks run 20% apart", []string{"S1", "S14"}, []string{"agent hang", "agent crash"}, false, false, 10},
	{"M19", "a majority of the members of /failsafe is enough", []string{"S7", "S1", "S8"}, []string{"etcd down", "cut peers", "agent crash"}, true, false, 20},
	{"M20", "an etcd that went back is accepted", []string{"S11", "S3", "S2", "S1"}, []string{"etcd restored", "server crash", "power", "agent crash"}, false, false, 10},
	{"M21", "role endpoints answer from the status of the last turn", []string{"S14"}, []string{"cut etcd", "agent hang"}, false, false, 5},
	{"M22", "requests have no deadline", []string{"S7", "L1", "L3", "L4"}, []string{"cut etcd", "etcd loses"}, false, false, 10},
	{"M23", "the demotion waits for etcd", []string{"S7"}, []string{"cut etcd", "etcd down"}, false, false, 10},
	{"M24", "a scheduled switchover whose time has passed is carried out all the same", []string{"S12"}, []string{"scheduled switchover", "agent hang", "pause", "cut etcd"}, false, false, 20},
	{"M25", "a frozen standby never streams again", []string{"L3", "L1"}, []string{"cut etcd", "agent crash"}, false, true, 10},
	{"M26", "the sitting holder takes the key again without the compare of /status", []string{"S1"}, []string{"early revoke", "etcd delays"}, false, false, 10},
	{"M27", "resume does not arm the leash", []string{"S8"}, []string{"pause"}, false, false, 5},
	{"M28", "one answer is enough for a failsafe round", []string{"S7", "S1", "S8"}, []string{"etcd down", "cut peers", "agent crash"}, true, false, 20},
	{"M29", "a promise to a leader is forgotten at once", []string{"S1", "S14", "S8", "S7"}, []string{"cut etcd", "cut peers"}, true, false, 20},
	{"M30", "members other than the order's do not see a restore order: they race", []string{"R2"}, []string{"restore", "trap", "agent crash"}, false, false, 20},
	{"M31", "every member takes a restore order for its own", []string{"R2"}, []string{"restore", "trap", "agent crash"}, false, false, 20},
	{"M32", "a directory with half a restore in it is taken for a whole one", []string{"S9", "R3", "R1"}, []string{"restore", "trap", "power"}, false, false, 20},
	{"M33", "the leash is not needed for a restore", []string{"R3", "S8", "S6"}, []string{"restore", "trap", "leash killed"}, false, false, 20},
	{"M34", "the leash kills late", []string{"S8", "S1"}, []string{"agent hang", "agent crash"}, false, false, 10},
	{"M36", "a candidate ignores the numbers that claims announced", []string{"S2"}, nil, false, false, 10},
	{"M37", "a standby counts as caught up as soon as it streams", []string{"S3"}, []string{"cut streams", "power", "sync dies", "server crash"}, false, true, 20},
	{"M38", "who is not in /sync may be elected", []string{"S3"}, []string{"cut streams", "power", "server crash"}, false, true, 10},
	{"M39", "no votes are needed in quorum mode", []string{"S3"}, []string{"cut streams", "power", "server crash"}, false, true, 20},
	{"M40", "a round that was given up overwrites the beat of a later one", []string{"S1", "S14"}, []string{"etcd delays", "config"}, false, false, 10},
	{"M35", "a server whose backends outlived it counts as stopped", []string{"S6", "S1", "S8"}, []string{"postmaster killed", "leash hangs"}, false, false, 10},
}
