package ha

import "github.com/pgha/pgha/pkg/dcs"

// unreadable: rows D1x-D3x for a directory that must not be touched.
func unreadable(o *Observation) Decision {
	if r := o.order(); r != nil && r.Member == o.Me.Name {
		d, _ := o.endOrder(r, "the data directory cannot be used: "+o.PG.Problem)
		return d
	}
	if o.leaderIsMe() || o.Memory.Lease.Epoch != 0 {
		return o.then(o.releaseKey(o.PG.Process == ProcessDown), DataDirRelease)
	}
	return o.rest(DataDirBad, o.PG.Problem)
}

func (o *Observation) leaderIsMe() bool { return o.DCS.Cluster.LeaderName() == o.Me.Name }

// releaseKey releases the leader key as the snapshot shows it.
func (o *Observation) releaseKey(clean bool) Release {
	r := Release{Epoch: o.Memory.Lease.Epoch, Clean: clean}
	if o.leaderIsMe() {
		r.Epoch = o.DCS.Cluster.Leader.Epoch
	}
	return r
}

// emptyDirectory is table D for an empty directory, or one that an interrupted
// clone, rewind or restore left half made.
func emptyDirectory(o *Observation) Decision {
	m, c := &o.Memory, o.DCS.Cluster
	switch {
	case o.PG.HalfBootstrap && o.published(): // this node died when nothing else was left to do
		return o.then(FinishBootstrap{}, BootstrapPublishes)
	case o.PG.Process != ProcessDown:
		return o.begin(Stop{Mode: StopImmediate}, DataDirBad, o.PG.Problem)
	case o.leaderIsMe() || m.Lease.Epoch != 0: // D2x
		return o.then(o.releaseKey(true), DataDirRelease)
	case c.Leader != nil:
		return cloneFromCluster(o)
	case o.Settings.Standby.On && o.PG.DataDir == DataDirHalfMade && c.Initialize != nil && c.Initialize.SystemID == "":
		m.Bootstrap = BootstrapWon // nobody but who makes such a cluster copies anything before it has a name
		return o.then(nil, BootstrapResumes)
	case o.PG.HalfBootstrap && o.PG.Resumable && c.Initialize != nil && c.Initialize.SystemID == "":
		m.Bootstrap = BootstrapWon // what was restored for it is kept
		return o.then(nil, BootstrapResumes)
	case o.PG.HalfBootstrap && c.Initialize != nil && c.Initialize.SystemID == "":
		m.Bootstrap = BootstrapFailed // this node died while making the cluster: undo, begin anew
		return o.then(nil, BootstrapCleans)
	case o.cloneAlone(), o.clonesRemote():
		return cloneAlone(o)
	case o.PG.DataDir == DataDirHalfMade:
		return o.rest(DataDirBad, o.PG.Problem+"; nobody is there to copy from") // leave what is there
	case c.Initialize == nil && !o.Settings.NoFailover && o.Me.CanBootstrap && (o.watchdogFault() == "" || o.Settings.Standby.On): // D5x
		return o.then(WriteInitialize{}, BootstrapClaims)
	default: // D8x
		return o.rest(BootstrapWaits)
	}
}

// cloneAlone: row D7x. There is nobody to copy from, but a method that needs nobody.
func (o *Observation) cloneAlone() bool {
	i := o.DCS.Cluster.Initialize
	return o.Settings.CloneWithoutLeader && i != nil && dcs.InitializeValid(i.SystemID) &&
		(o.PG.DataDir == DataDirEmpty || o.PG.Resumable && !o.PG.HalfBootstrap)
}

func cloneAlone(o *Observation) Decision {
	if o.Memory.Reinit.Held {
		return o.rest(CloneHeld)
	}
	if left, due := o.retryDue(o.Memory.FailedOp); !due && o.Op.Kind == OpClone {
		return o.wait(left, CloneRetryLater, o.Op.Error)
	}
	if o.clonesRemote() {
		remote := o.Settings.Standby.Remote
		return o.begin(Clone{From: remote, Wipe: o.PG.DataDir != DataDirEmpty}, CloneRuns, remote.Member)
	}
	return o.begin(Clone{}, CloneWithoutLeader)
}

// cloneFromCluster: row D6x.
func cloneFromCluster(o *Observation) Decision {
	if o.Memory.Reinit.Held {
		return o.rest(CloneHeld)
	}
	if left, due := o.retryDue(o.Memory.FailedOp); !due && o.Op.Kind == OpClone {
		return o.wait(left, CloneRetryLater, o.Op.Error)
	}
	leader, ready := o.upstream(o.DCS.Cluster.LeaderName())
	if !ready {
		return o.rest(CloneWaits, leader.Member)
	}
	src := o.copySource(leader)
	return o.begin(Clone{From: src, Wipe: o.PG.DataDir != DataDirEmpty}, CloneRuns, src.Member)
}

// copySource is whom to copy from (ha-behaviour 6.3): one of the members tagged
// for that, not the same for everybody. After a copy that failed all of them and
// the leader take turns, since what failed once may go on failing.
func (o *Observation) copySource(leader Upstream) Upstream {
	var tagged []Upstream
	for _, mem := range o.DCS.Cluster.Members {
		if mem.Tags.Bool("clonefrom") && mem.State == "running" && mem.ConnURL != "" && mem.Name != o.Me.Name && mem.Name != leader.Member {
			tagged = append(tagged, Upstream{Member: mem.Name, ConnURL: mem.ConnURL})
		}
	}
	turn := 0
	for _, b := range []byte(o.Me.Name) {
		turn += int(b)
	}
	switch {
	case len(tagged) == 0:
		return leader
	case o.Op.Kind == OpClone && o.Op.Error != "":
		tagged = append(tagged, leader)
		turn = int(o.Op.Serial % int64(len(tagged)))
	}
	return tagged[turn%len(tagged)]
}

// bootstrapping is table C: this node makes the new cluster.
func bootstrapping(o *Observation) Decision {
	m, c := &o.Memory, o.DCS.Cluster
	switch m.Bootstrap {
	case BootstrapWon:
		if s := &o.Settings.Standby; s.On {
			return o.begin(Bootstrap{From: s.Remote}, StandbyBootstraps, s.Remote.Member)
		}
		return o.begin(Bootstrap{}, BootstrapInitDB)
	case BootstrapMade:
		return o.begin(PostBootstrap{}, BootstrapPost)
	case BootstrapRoles: // C4
		switch {
		case o.PG.Process == ProcessDown && o.published(): // a crash like any other
			m.Bootstrap = BootstrapNone
			return o.then(nil, BootstrapLeader)
		case o.PG.Process == ProcessDown:
			m.Bootstrap = BootstrapFailed
			return o.then(nil, BootstrapCleans)
		case c.Initialize == nil || c.Initialize.SystemID != o.PG.SystemID:
			return o.then(WriteInitialize{SystemID: o.PG.SystemID, Revision: initializeRevision(c)}, BootstrapPublishes)
		case o.PG.HalfBootstrap: // the mark stayed till now: who dies before begins anew
			return o.then(FinishBootstrap{}, BootstrapPublishes)
		case c.Config == nil:
			return o.then(WriteConfig{}, BootstrapPublishes)
		case c.Leader == nil:
			return o.then(Claim{}, BootstrapPublishes)
		case !o.armed() && m.Lease.Epoch != 0 && !o.armFailed() && !o.Settings.Standby.On: // a refusal is for lead to answer
			return o.then(ArmLeash{}, LeaderArming)
		}
		m.Bootstrap = BootstrapNone
		return o.then(nil, BootstrapLeader)
	default: // C1
		return cleanBootstrap(o)
	}
}

func initializeRevision(c *dcs.Cluster) int64 { return c.ModRevision(dcs.KeyInitialize) }

// published tells whether the cluster already goes by this directory's identifier.
func (o *Observation) published() bool {
	i := o.DCS.Cluster.Initialize
	return i != nil && dcs.InitializeValid(i.SystemID) && i.SystemID == o.PG.SystemID
}

// cleanBootstrap undoes a bootstrap that failed, then ends the agent.
func cleanBootstrap(o *Observation) Decision {
	m, c := &o.Memory, o.DCS.Cluster
	switch {
	case o.PG.Process != ProcessDown:
		return o.begin(Stop{Mode: StopImmediate}, BootstrapCleans)
	case o.PG.DataDir != DataDirEmpty && o.PG.DataDir != DataDirUnreadable && o.Last.Action != (MoveAside{}):
		return o.then(MoveAside{}, BootstrapCleans)
	case c.Initialize != nil && c.Initialize.SystemID == "" && o.Last.Result != ResultFailed && (m.Dropping == 0 || m.Dropping == c.Initialize.ModRevision):
		m.Dropping = c.Initialize.ModRevision // a later one is somebody else's (S15)
		return o.then(DropInitialize{Revision: c.Initialize.ModRevision}, BootstrapCleans)
	default:
		return o.exit(1, BootstrapGaveUp, o.Op.Error)
	}
}
