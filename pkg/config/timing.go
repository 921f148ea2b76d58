package config

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// Timing is the triple that decides how long a failover takes and how long an
// etcd outage is survived.
type Timing struct {
	TTL, LoopWait, RetryTimeout time.Duration
}

// timingKeys are the three keys in seconds, with Patroni's defaults and our
// floors (wire contract §3.1).
var timingKeys = []struct {
	name     string
	def, min int64
}{
	{"ttl", 30, int64(MinTTL / time.Second)},
	{"loop_wait", 10, int64(MinLoopWait / time.Second)},
	{"retry_timeout", 10, int64(MinRetryTimeout / time.Second)},
}

// readTiming takes the three values of a /config document and applies
// Patroni's _validate_and_adjust_timeouts with our floors. Values that are not
// integers make the document unusable.
func readTiming(doc *node) (seconds [3]int64, err error) {
	for i, k := range timingKeys {
		seconds[i] = k.def
		n := doc.get(k.name)
		if n.isNull() {
			continue
		}
		v, ok := hardInt(n)
		if !ok {
			return seconds, fmt.Errorf("%s needs a whole number of seconds but holds %s", k.name, n.describe())
		}
		seconds[i] = min(max(v, k.min), maxInt31)
	}
	t, w, r := seconds[0], seconds[1], seconds[2]
	if 1+2*r > t {
		w, r = 1, (t-1)/2
	} else if w+2*r > t {
		w = t - 2*r
	}
	return [3]int64{t, w, r}, nil
}

// adjustTiming writes adjusted values into a document, as Patroni does before
// it stores one at bootstrap. Keys whose value stands are left untouched.
func adjustTiming(doc *node) error {
	adjusted, err := readTiming(doc)
	if err != nil {
		return err
	}
	for i, k := range timingKeys {
		v, ok := hardInt(doc.get(k.name))
		if !ok {
			v = k.def
		}
		if v != adjusted[i] {
			doc.set(k.name, newInt(adjusted[i]))
		}
	}
	return nil
}

func newTiming(s [3]int64) Timing {
	return Timing{TTL: seconds(s[0]), LoopWait: seconds(s[1]), RetryTimeout: seconds(s[2])}
}

// seconds converts without overflow.
func seconds(s int64) time.Duration {
	return time.Duration(min(max(s, -maxInt31), maxInt31)) * time.Second
}

// errTiming is wrapped by what Check returns.
var errTiming = errors.New("timing leaves no room for a failed renewal")

// Check applies the inequality of safety B.2: one failed renewal round must not
// demote the primary, so L-S >= W'+R with S >= 1 s. The values are expected
// adjusted (§3.1), the TTL as granted by etcd. The error says the numbers.
func (t Timing) Check() error {
	ttl := t.TTL.Seconds()
	k, margin := 2.0, 1.0
	switch {
	case ttl < 8:
		k, margin = 0.8, 0.3
	case ttl < 20:
		k, margin = 1.2, 0.5
	}
	budget := math.Floor((ttl-k-margin-2*0.001*ttl)*10+1e-9) / 10
	period := math.Min(t.LoopWait.Seconds(), ttl/3)
	need := period + t.RetryTimeout.Seconds()
	if budget-1 < need-1e-9 {
		return fmt.Errorf("%w: ttl %gs leaves %.1fs to act, loop_wait and retry_timeout need %.1fs; lower retry_timeout or raise ttl",
			errTiming, ttl, budget-1, need)
	}
	return nil
}

// checkTiming reports what §3.1 changes and what safety B.2 refuses.
func (c *checker) checkTiming(doc *node, path string) {
	adjusted, err := readTiming(doc)
	if err != nil {
		return // the wrong type is reported by the schema
	}
	var changes []string
	var at *pair
	for i, k := range timingKeys {
		p := doc.pair(k.name)
		if p != nil && at == nil {
			at = p
		}
		v, ok := hardInt(doc.get(k.name))
		if !ok {
			v = k.def
		}
		if v >= k.min && v != adjusted[i] {
			changes = append(changes, fmt.Sprintf("%s becomes %d", k.name, adjusted[i]))
		}
	}
	var where *node
	if at != nil {
		where = at.at()
	}
	if len(changes) > 0 {
		c.add(Warning, where, path, "loop_wait + 2*retry_timeout is greater than ttl: "+strings.Join(changes, ", "), "raise ttl, or lower the other two")
	}
	if err := newTiming(adjusted).Check(); err != nil {
		msg, cure, _ := strings.Cut(err.Error(), "; ")
		c.add(Error, where, path, msg, cure)
	}
}
