package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pgha/pgha/pkg/dcs"
)

var errClosed = errors.New("store is closed")

// verdict classifies the outcome of one attempt.
type verdict int

const (
	done      verdict = iota
	noEffect          // not served here; another endpoint may
	unknown           // may have had its effect
	reauth            // the token is not valid any more
	leaseLost         // definite
	rejected          // definite
)

// served nowhere near: etcd says so before it proposes anything.
var refusals = []error{
	rpctypes.ErrGRPCNoLeader, rpctypes.ErrGRPCNotLeader, rpctypes.ErrGRPCRequestTooManyRequests,
	rpctypes.ErrGRPCNoSpace, rpctypes.ErrGRPCUnhealthy, rpctypes.ErrGRPCNotCapable,
}

var authErrors = []error{
	rpctypes.ErrGRPCInvalidAuthToken, rpctypes.ErrGRPCUserEmpty,
	rpctypes.ErrGRPCAuthOldRevision, rpctypes.ErrGRPCPermissionDenied,
}

// judge maps the error of an attempt. Errors of etcd are told apart by their
// text, as etcd's own client does: the codes are too coarse.
func judge(err error, sent bool) verdict {
	if err == nil {
		return done
	}
	if errors.Is(err, errStaleNode) {
		return noEffect
	}
	st, _ := status.FromError(err)
	switch {
	case says(st, rpctypes.ErrGRPCLeaseNotFound):
		return leaseLost
	case saysAny(st, authErrors):
		return reauth
	case saysAny(st, refusals):
		return noEffect
	}
	switch st.Code() {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied,
		codes.FailedPrecondition, codes.OutOfRange, codes.ResourceExhausted, codes.Unauthenticated:
		return rejected
	case codes.Unimplemented:
		return noEffect
	}
	if sent {
		return unknown
	}
	return noEffect
}

func says(st *status.Status, grpcErr error) bool {
	return st != nil && st.Message() == status.Convert(grpcErr).Message()
}

func saysAny(st *status.Status, list []error) bool {
	for _, e := range list {
		if says(st, e) {
			return true
		}
	}
	return false
}

// fail builds the error of a request: what, which sentinel, why.
func fail(op string, sentinel, why error) error {
	if why == nil {
		return fmt.Errorf("%s: %w", op, sentinel)
	}
	return fmt.Errorf("%s: %w: %s", op, sentinel, reason(why))
}

func reason(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	text := err.Error()
	if st, ok := status.FromError(err); ok {
		text = st.Message()
	}
	return strings.ReplaceAll(text, "\n", " ")
}

func sentinelOf(v verdict) error {
	switch v {
	case leaseLost:
		return dcs.ErrLeaseLost
	case rejected, reauth:
		return dcs.ErrRejected
	case unknown:
		return dcs.ErrUnknown
	default:
		return dcs.ErrUnavailable
	}
}
