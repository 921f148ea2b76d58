package ha

import "strings"

// Reason is why a decision was taken. Tests compare codes, logs print texts,
// and the simulator counts which codes were ever reached.
type Reason int

// The reasons. Texts follow the lines that log scrapers know (wire contract §1.3).
const (
	NoReason Reason = iota
	LeaseRenewal
	LeaderNoAction
	LeaderArming
	LeaderPromotes
	LeaderPromoting
	LeaderNoQuery
	LeaderRepairsInitialize
	LeaderRepairsConfig
	LeaderWritesHistory
	LeaderSlots
	LeaderWritesFailsafe
	SyncPublishes
	SyncSetsNames
	SyncGivesBack
	SyncCatchesUp
	SyncLeaves
	LeaderTooLate
	LeaderUnarmed
	LeaderUnwatched
	LeaderBehind
	LeaderRefused
	SecondaryNoAction
	SecondaryOfStandby
	SecondaryFollows
	SecondaryNoUpstream
	SecondarySlots
	SecondaryCopiesSlots
	SecondaryThaws
	SecondaryResumes
	SecondaryDisarms
	DemoteNoLock
	DemoteOffline
	OfflineReadOnly
	OfflineWaiting
	FailsafeHolds
	FailsafeFollows
	DivergenceChecking
	RewindWaitsForLeader
	RewindRunning
	RewindImpossible
	ReinitDiverged
	StopForRewind
	CrashRecoveryRunning
	StartAsPrimary
	StartAsStandby
	StartReadOnly
	StartRetryLater
	StartTimeout
	StartingUp
	StartFailedRelease
	CrashFailover
	CrashLoop
	CrashLoopWaits
	CrashAskPeers
	FaultAsksPeers
	FaultHandsOver
	FaultStays
	FaultUnproven
	DiskAwaited
	HandOver
	HandOverYield
	HandOverStops
	HandOverEarly
	HandOverAsks
	SwitchoverAsks
	FailoverCleaned
	ElectionAsks
	ElectionHoldOff
	ElectionBacksOff
	ElectionFreezes
	ElectionWins
	ElectionReclaims
	ElectionRefused
	ElectionYields
	ElectionWaitsForMore
	ElectionWaitsForAll
	TakeBackOwn
	TakeBackLatched
	TakeBackStale
	TakeBackFinished
	BootstrapClaims
	BootstrapInitDB
	BootstrapPost
	BootstrapPublishes
	BootstrapLeader
	BootstrapWaits
	BootstrapCleans
	BootstrapGaveUp
	BootstrapResumes
	CloneRuns
	CloneWithoutLeader
	CloneRetryLater
	CloneHeld
	CloneWaits
	DataDirBad
	DataDirRelease
	ForeignSystem
	NoSystemID
	JoinAborted
	ClaimsInitialize
	RestoreRuns
	RestoreAwaited
	RestoreClaims
	RestorePublishes
	RestoreFails
	ReinitStops
	RestartRuns
	RestartScheduled
	RestartDropped
	OperationRuns
	OperationCancelled
	PausedNoAction
	PausedLeaves
	PausedSuspends
	PausedReleases
	PausedPromotes
	Quarantined
	QuarantineClaims
	QuarantineDrops
	QuarantineStarts
	StandbyNoAction
	StandbyAsks
	StandbyRefused
	StandbyDemotes
	StandbyStarts
	StandbyBootstraps
	StandbyHandsOver
	StoppingServer
	StoppingWaits
	Stopped
	reasons // number of reasons
)

var reasonTexts = [reasons]string{
	NoReason:                "no reason given",
	LeaseRenewal:            "renewing the leader lease",
	LeaderNoAction:          "no action. I am (%me), the leader with the lock",
	LeaderArming:            "telling the leash the deadline of my leadership",
	LeaderPromotes:          "promoted self to leader by acquiring session lock",
	LeaderPromoting:         "waiting for the promotion to finish",
	LeaderNoQuery:           "the server does not answer the monitoring query; keeping the lock",
	LeaderRepairsInitialize: "restoring the system identifier in /initialize",
	LeaderRepairsConfig:     "restoring /config from the local copy",
	LeaderWritesHistory:     "updating the timeline history",
	LeaderSlots:             "updating replication slots",
	LeaderWritesFailsafe:    "updating /failsafe: the members that must agree while etcd is away",
	SyncPublishes:           "publishing the synchronous standbys: %d",
	SyncSetsNames:           "setting synchronous_standby_names to %d",
	SyncGivesBack:           "synchronous mode is off: synchronous_standby_names is the configuration's again",
	SyncLeaves:              "waiting to be relieved of synchronous duty before the server is stopped",
	SyncCatchesUp:           "waiting for standbys to catch up for synchronous replication",
	LeaderTooLate:           "too little is left of the lease to promote; waiting for the next renewal",
	LeaderUnarmed:           "giving the leadership away, because the leash did not take its deadline: %d",
	LeaderUnwatched:         "giving the leadership away, because the watchdog is required and not in force: %d",
	LeaderRefused:           "giving the leadership away, because pre_promote refused the promotion",
	LeaderBehind:            "giving the leadership away, because my timeline is older than the cluster's",
	SecondaryNoAction:       "no action. I am (%me), a secondary, and following a leader (%d)",
	SecondaryOfStandby:      "no action. I am (%me), a secondary, and following a standby leader (%d)",
	SecondaryFollows:        "following a new leader (%d)",
	SecondaryNoUpstream:     "no action. I am (%me), a secondary, and waiting for the leader (%d) to be running",
	SecondarySlots:          "updating replication slots",
	SecondaryCopiesSlots:    "copying logical slots from the leader: %d",
	SecondaryThaws:          "asking etcd whether it still is the leader, before streaming from anybody: %d",
	SecondaryResumes:        "resuming WAL replay, which PostgreSQL has paused",
	SecondaryDisarms:        "telling the leash that I am not the leader",
	DemoteNoLock:            "demoting self because I do not hold the lock: %d",
	DemoteOffline:           "demoting self because etcd is not accessible and I was a leader: %d",
	OfflineReadOnly:         "starting read-only, etcd is not accessible",
	OfflineWaiting:          "etcd is not accessible: %d",
	FailsafeHolds:           "continue to run as a leader because failsafe mode is enabled and all members are accessible",
	FailsafeFollows:         "no action. The leader (%d) lives by the failsafe mode, and I agreed to it",
	DivergenceChecking:      "comparing the local WAL with the leader's (%d)",
	RewindWaitsForLeader:    "waiting for the leader (%d) to finish its checkpoint before pg_rewind",
	RewindRunning:           "running pg_rewind from %d",
	RewindImpossible:        "the local WAL diverged from the leader's (%d), and pg_rewind is not possible or not allowed; starting anyway",
	ReinitDiverged:          "reinitializing due to diverged timelines, from %d",
	StopForRewind:           "stopping to run pg_rewind",
	CrashRecoveryRunning:    "doing crash recovery in a single user mode",
	StartAsPrimary:          "starting primary after failure",
	StartAsStandby:          "starting as a secondary of %d",
	StartReadOnly:           "starting as readonly because there is no leader to follow",
	StartRetryLater:         "the server did not start; trying again: %d",
	StartTimeout:            "terminated by start timeout; giving the leadership away",
	StartingUp:              "the server is still starting up",
	StartFailedRelease:      "the server did not start; giving the leadership away: %d",
	CrashFailover:           "released leader key after a crash, because primary_start_timeout is 0",
	CrashLoop:               "giving the leadership away, because the server crashes again and again",
	CrashLoopWaits:          "the server crashes again and again, and no other member can take over; starting it once per period",
	CrashAskPeers:           "looking for a node that could take over",
	FaultAsksPeers:          "looking for a member that could take over from a server that is not well",
	FaultHandsOver:          "giving the leadership away, because %d",
	FaultUnproven:           "the server was killed and is not gone yet: giving the leader key back without it",
	DiskAwaited:             "not rewinding, because %d",
	FaultStays:              "keeping the lock although %d: no other member can take over",
	HandOver:                "handing the leadership over: stopping the server",
	HandOverYield:           "waiting for somebody else to take the leadership",
	HandOverStops:           "the server is stopped: releasing the leader key",
	HandOverEarly:           "the server has written everything, and a member has it: releasing the leader key before the server is gone",
	HandOverAsks:            "looking for a member that has everything the stopping server has written",
	SwitchoverAsks:          "asking candidates for their state",
	FailoverCleaned:         "dropping a switchover or failover request: %d",
	ElectionAsks:            "asking other members for their WAL position",
	ElectionHoldOff:         "no leader; waiting until the last one must have stopped (%d)",
	ElectionBacksOff:        "no leader; giving the last primary time, whose WAL may still arrive (primary_race_backoff)",
	ElectionFreezes:         "no leader: ending my WAL receiver before WAL positions are compared",
	ElectionWins:            "acquiring the leader key",
	ElectionReclaims:        "the leader key vanished before my deadline; taking it again",
	ElectionRefused:         "not taking part in the race: %d",
	ElectionYields:          "I gave the leadership away; letting others go first",
	ElectionWaitsForAll:     "etcd does not know how far the last leader was: waiting for %d to tell how far their WAL goes",
	ElectionWaitsForMore:    "waiting for a node that has the WAL up to %d, where the last leader ended in good order",
	TakeBackOwn:             "the leader key is mine from before; renewing it",
	TakeBackStale:           "the leader key is mine from before etcd went back; releasing it, since somebody may have led after me",
	TakeBackLatched:         "the leader key is mine, but its deadline has passed; releasing it",
	TakeBackFinished:        "marking my former leadership as over",
	BootstrapClaims:         "trying to bootstrap a new cluster",
	BootstrapInitDB:         "bootstrap in progress: initdb",
	BootstrapPost:           "bootstrap in progress: creating roles",
	BootstrapPublishes:      "bootstrap in progress: publishing the cluster",
	BootstrapLeader:         "initialized a new cluster",
	BootstrapWaits:          "waiting for leader to bootstrap",
	BootstrapCleans:         "removing initialize key after failed attempt to bootstrap the cluster",
	BootstrapGaveUp:         "failed to bootstrap the cluster: %d",
	CloneRuns:               "bootstrap from %d in progress",
	CloneWithoutLeader:      "bootstrap in progress, by a method that needs no leader",
	CloneHeld:               "an operator cancelled the copy; run `pghactl reinit` for this member, or restart its agent, to make a new one",
	BootstrapResumes:        "going on with the interrupted bootstrap of the cluster",
	RestoreRuns:             "restoring the cluster from backup %d, as ordered",
	RestoreAwaited:          "no action while %d is to restore the cluster; if it does not come back, take the order back: `pghactl restore --cancel`",
	RestoreClaims:           "taking the leader key to carry out the restore order",
	RestorePublishes:        "the cluster is restored; publishing it",
	RestoreFails:            "ending the restore order: %d",
	ReinitStops:             "stopping to make this member anew, as requested",
	RestartRuns:             "restarting the server, as requested",
	RestartScheduled:        "restarting the server, as scheduled",
	RestartDropped:          "dropping the scheduled restart: %d",
	CloneRetryLater:         "the copy failed; trying again: %d",
	CloneWaits:              "waiting for the leader (%d) to be running before copying it",
	DataDirBad:              "the data directory cannot be used: %d",
	DataDirRelease:          "the data directory is empty or unreadable: releasing the leader key",
	ForeignSystem:           "system ID mismatch, this node belongs to a different cluster: its identifier is %d",
	NoSystemID:              "the system identifier of the data directory cannot be read; reinitialize this member",
	JoinAborted:             "the server runs as a replica, but the cluster has no system identifier; not touching it",
	ClaimsInitialize:        "publishing the system identifier of the existing data directory",
	OperationRuns:           "in progress: %d",
	OperationCancelled:      "cancelling: %d",
	PausedNoAction:          "PAUSE: no action. I am (%me)%d",
	PausedLeaves:            "PAUSE: the server is left as it is: %d",
	PausedSuspends:          "PAUSE: suspending the leash",
	PausedReleases:          "PAUSE: released the leader key: %d",
	PausedPromotes:          "PAUSE: promoting self on an operator's request",
	Quarantined:             "QUARANTINE: %d. Nothing is promoted, rewound, copied or initialized before a running primary publishes itself again; if what etcd holds is right, run `pghactl accept-dcs`",
	QuarantineClaims:        "QUARANTINE: taking the leader key, because I run as the primary: %d",
	QuarantineDrops:         "QUARANTINE: I run as the primary; removing the leader key of before, of %d, which nobody renews",
	QuarantineStarts:        "QUARANTINE: starting read-only: %d",
	StandbyNoAction:         "no action. I am (%me), the standby leader with the lock",
	StandbyAsks:             "asking %d, of which this is a standby cluster, which system it is",
	StandbyRefused:          "not becoming a standby of %d",
	StandbyDemotes:          "this is a standby cluster of %d now: stopping the primary",
	StandbyStarts:           "starting as the standby leader, following %d",
	StandbyBootstraps:       "bootstrap in progress: copying %d",
	StandbyHandsOver:        "handing the leadership of the standby cluster over: releasing the leader key",
	StoppingServer:          "stopping the server because the agent was asked to end",
	StoppingWaits:           "waiting for a running operation to end: %d",
	Stopped:                 "stopped",
}

// String returns the text without its particulars.
func (r Reason) String() string {
	if r < 0 || r >= reasons {
		return "unknown reason"
	}
	return reasonTexts[r]
}

// Text returns the sentence of the decision for the member called me.
func (d Decision) Text(me string) string {
	s := strings.ReplaceAll(d.Reason.String(), "%me", me)
	if !strings.Contains(s, "%d") {
		return s
	}
	s = strings.Replace(s, "%d", d.Detail, 1)
	return strings.TrimSuffix(s, ": ")
}

// Reasons is how many reasons there are, for coverage.
const Reasons = int(reasons)

// Code returns the name of the reason for programs: "leader_promotes". It does
// not change when the text does.
func (r Reason) Code() string {
	if r < 0 || r >= reasons {
		return "unknown"
	}
	return reasonCodes[r]
}
