package ha

// comeBack is 1.23.8: in pause a server that is down is left down, except the
// one that this node stopped to hand the leadership over. It becomes a standby
// of whoever leads now, rewound if it must be.
func comeBack(o *Observation) Decision {
	m := &o.Memory
	switch {
	case o.Leash.Armed != 0:
		return o.disarm()
	case o.DCS.Cluster.Leader != nil:
		return recoverMember(o)
	case o.Now < m.YieldUntil && o.others():
		return o.wait(m.YieldUntil.Sub(o.Now), HandOverYield)
	}
	if left, due := o.retryDue(m.FailedStart); !due {
		return o.wait(left, StartRetryLater, o.Op.Error)
	}
	return o.begin(Start{}, StartReadOnly) // nobody took over: it waits for an operator, open for reading
}
