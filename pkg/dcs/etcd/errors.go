package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
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
	rpctypes.ErrNoLeader, rpctypes.ErrNotLeader, rpctypes.ErrTooManyRequests,
	rpctypes.ErrNoSpace, rpctypes.ErrUnhealthy, rpctypes.ErrNotCapable, errStaleNode,
}

var authErrors = []error{
	rpctypes.ErrInvalidAuthToken, rpctypes.ErrUserEmpty,
	rpctypes.ErrAuthOldRevision, rpctypes.ErrPermissionDenied,
}

// judge maps the error of an attempt.
func judge(err error, sent bool) verdict {
	err = rpctypes.Error(err)
	is := func(target error) bool { return errors.Is(err, target) }
	switch {
	case err == nil:
		return done
	case slices.ContainsFunc(refusals, is):
		return noEffect
	case is(rpctypes.ErrLeaseNotFound):
		return leaseLost
	case slices.ContainsFunc(authErrors, is):
		return reauth
	}
	switch codeOf(err) {
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

// codeOf returns the gRPC code of an error of etcd, which clientv3 has
// stripped of its status, or of gRPC.
func codeOf(err error) codes.Code {
	var e rpctypes.EtcdError
	if errors.As(err, &e) {
		return e.Code()
	}
	return status.Code(err)
}

func late(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded
}

// fail builds the error of a request: what, which sentinel, why.
func fail(op string, sentinel, why error) error {
	return fmt.Errorf("%s: %w: %s", op, sentinel, reason(why))
}

func reason(err error) string {
	if late(err) {
		return "no answer in time"
	}
	text := err.Error()
	if st, ok := status.FromError(err); ok {
		text = st.Message()
	}
	return withoutChain(strings.ReplaceAll(text, "\n", " "))
}

// withoutChain leaves of gRPC's words about a connection that failed what an
// operator needs: the address, and why.
func withoutChain(text string) string {
	cause, found := strings.CutPrefix(text, `connection error: desc = "`)
	if !found {
		return text
	}
	cause = strings.TrimPrefix(strings.TrimPrefix(strings.TrimSuffix(cause, `"`), "transport: "), "Error while dialing: ")
	if strings.HasPrefix(cause, "error reading server preface: ") { // connected, and then silence or an end
		if strings.HasSuffix(cause, ": use of closed network connection") || strings.HasSuffix(cause, ": i/o timeout") {
			return "no answer in time"
		}
		return "the connection was closed without an answer"
	}
	if dial, found := strings.CutPrefix(cause, "dial tcp "); found {
		cause = strings.NewReplacer(": connect: ", ": ", ": i/o timeout", ": no answer in time").Replace(dial)
	}
	return cause
}
