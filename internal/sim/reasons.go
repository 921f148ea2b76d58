package sim

import "github.com/pgha/pgha/pkg/ha"

// unreached says why some reasons are never decided for here. A reason that is
// never met and not in this table fails the long run.
var unreached = map[ha.Reason]string{
	ha.NoReason:                "not a reason: the zero value",
	ha.LeaderPromoting:         "only after a promotion that failed in pause; the model's promotions end or their server does",
	ha.LeaderRepairsInitialize: "nobody deletes /initialize here: that is a matter of a lost etcd",
	ha.LeaderRepairsConfig:     "nobody deletes /config here",
	ha.LeaderSlots:             "slots are not modelled",
	ha.SecondarySlots:          "slots are not modelled",
	ha.SecondaryCopiesSlots:    "slots are not modelled",
	ha.LeaderTooLate:           "rarely: an agent that hung between the claim and the promotion",
	ha.LeaderUnwatched:         "watchdog mode required is not modelled; the tables of pkg/ha have it",
	ha.LeaderBehind:            "a member behind the cluster's timeline is not elected, so it never leads",
	ha.RewindImpossible:        "pg_rewind is always allowed here",
	ha.StartTimeout:            "rarely: a start that a hung disk prolongs beyond primary_start_timeout",
	ha.ElectionBacksOff:        "primary_race_backoff is off here",
	ha.ElectionReclaims:        "a second turn without the key before the claim of rule (d) is answered: claims are answered within the turn",
	ha.BootstrapCleans:         "initdb does not fail in the model",
	ha.BootstrapGaveUp:         "initdb does not fail in the model",
	ha.BootstrapResumes:        "a bootstrap that is cut off is begun anew: the model has no half-published cluster",
	ha.CloneWithoutLeader:      "there is no method that needs no leader",
	ha.ForeignSystem:           "there is one cluster",
	ha.NoSystemID:              "control files can always be read",
	ha.JoinAborted:             "no replica of before pgha joins",
	ha.ClaimsInitialize:        "no data directory of before pgha joins",
	ha.LeaderRefused:           "pre_promote is not modelled; the tables of pkg/ha have it",
	ha.QuarantineClaims:        "rarely: in a pause, by a running primary, after a return to a moment without a leader key",
	ha.SecondaryResumes:        "nobody pauses replay here",
	ha.SecondaryOfStandby:      "standby clusters are not modelled: there is one cluster",
	ha.StandbyNoAction:         "standby clusters are not modelled: there is one cluster",
	ha.StandbyAsks:             "standby clusters are not modelled: there is one cluster",
	ha.StandbyRefused:          "standby clusters are not modelled: there is one cluster",
	ha.StandbyDemotes:          "standby clusters are not modelled: there is one cluster",
	ha.StandbyStarts:           "standby clusters are not modelled: there is one cluster",
	ha.StandbyBootstraps:       "standby clusters are not modelled: there is one cluster",
	ha.StandbyHandsOver:        "standby clusters are not modelled: there is one cluster",
	ha.StoppingWaits:           "rarely: an agent asked to end while an operation runs that cannot be cancelled",
}

// unstoppable are the points at which no agent is ever stopped, with the reason.
var unstoppable = map[effect]string{effInitialize: "only after a failed initdb"}
