package dcs

import (
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
)

// MaxValue is the largest value read, in bytes; a longer one is invalid.
const MaxValue = 64 << 10

// KV is one stored key with what etcd knows about it.
type KV struct {
	Key            string // full path
	Value          []byte
	CreateRevision int64
	ModRevision    int64
	LeaseID        int64
}

var errTooLarge = fmt.Errorf("value is larger than %d bytes", MaxValue)

// Decode builds the snapshot of the cluster at base from its keys, in any
// order; keys outside base are ignored. Bad values never fail: the key is
// listed in Invalid and left out, with two exceptions that keep what Patroni
// sees: a bad members/<name> is a member that has only its name, and a bad
// /leader is a leader without a name. ID and Revision are the caller's.
func Decode(base string, kvs []KV) *Cluster {
	c := &Cluster{}
	var optime *KV
	for i := range kvs {
		kv := &kvs[i]
		rel, ok := strings.CutPrefix(kv.Key, base+"/")
		if !ok {
			continue
		}
		key := Key(rel)
		if key == keyOptime {
			optime = kv
			continue
		}
		if err := c.decodeKey(key, kv); err != nil {
			c.invalid(key, kv.ModRevision, err)
		}
	}
	if optime != nil && c.Status == nil && c.Invalid[KeyStatus] == "" {
		if s, err := DecodeStatus(optime.Value); err == nil {
			c.Status = s
		}
	}
	sort.Slice(c.Members, func(i, j int) bool { return c.Members[i].Name < c.Members[j].Name })
	return c
}

func (c *Cluster) invalid(k Key, revision int64, err error) {
	if c.Invalid == nil {
		c.Invalid = map[Key]string{}
		c.invalidRevisions = map[Key]int64{}
	}
	c.Invalid[k] = err.Error()
	c.invalidRevisions[k] = revision
}

func (c *Cluster) decodeKey(key Key, kv *KV) (err error) {
	rev := kv.ModRevision
	switch key {
	case KeyLeader:
		c.Leader = &Leader{Epoch: kv.CreateRevision, LeaseID: kv.LeaseID}
		c.Leader.Name, err = decodeName(kv.Value)
	case KeyInitialize:
		var id string
		if id, err = decodeSystemID(kv.Value); err == nil {
			c.Initialize = &Initialize{SystemID: id, ModRevision: rev}
		}
	case KeyConfig:
		if c.Config, err = DecodeConfig(kv.Value); err == nil {
			c.Config.ModRevision = rev
		}
	case KeyFailover:
		if c.Failover, err = DecodeFailover(kv.Value); err == nil {
			c.Failover.ModRevision = rev
		}
	case KeySync:
		if c.Sync, err = DecodeSync(kv.Value); err == nil {
			c.Sync.ModRevision = rev
		}
	case KeyHistory:
		if c.History, err = DecodeHistory(kv.Value); err == nil {
			c.History.ModRevision = rev
		}
	case KeyStatus:
		if c.Status, err = DecodeStatus(kv.Value); err == nil {
			c.Status.ModRevision = rev
		}
	case KeyFailsafe:
		if c.Failsafe, err = DecodeFailsafe(kv.Value); err == nil {
			c.Failsafe.ModRevision = rev
		}
	default:
		name, ok := memberOf(key)
		if !ok {
			return nil
		}
		var m Member
		m, err = DecodeMember(name, kv.Value)
		m.ModRevision, m.LeaseID = rev, kv.LeaseID
		c.Members = append(c.Members, m)
	}
	return err
}

// ModRevision returns the mod revision of k, also when its value is invalid;
// 0 when the key is absent. It is what the guards of Claim and Write take.
// /leader and members count by presence in the snapshot only.
func (c *Cluster) ModRevision(k Key) int64 {
	if c == nil {
		return 0
	}
	if rev, ok := c.invalidRevisions[k]; ok {
		return rev
	}
	switch {
	case k == KeyInitialize && c.Initialize != nil:
		return c.Initialize.ModRevision
	case k == KeyConfig && c.Config != nil:
		return c.Config.ModRevision
	case k == KeyFailover && c.Failover != nil:
		return c.Failover.ModRevision
	case k == KeySync && c.Sync != nil:
		return c.Sync.ModRevision
	case k == KeyHistory && c.History != nil:
		return c.History.ModRevision
	case k == KeyStatus && c.Status != nil:
		return c.Status.ModRevision
	case k == KeyFailsafe && c.Failsafe != nil:
		return c.Failsafe.ModRevision
	}
	if name, ok := memberOf(k); ok {
		if m := c.Member(name); m != nil {
			return m.ModRevision
		}
	}
	return 0
}

// maxName bounds member names and identifiers; Patroni knows no limit, host
// names end at 253.
const maxName = 253

func decodeName(v []byte) (string, error) {
	if len(v) == 0 || len(v) > maxName || !cleanText(v) {
		return "", errors.New("not a member name")
	}
	return string(v), nil
}

func decodeSystemID(v []byte) (string, error) {
	if len(v) > maxName || !cleanText(v) {
		return "", errors.New("not a system identifier")
	}
	return string(v), nil
}

// DecodeConfig reads /config: any JSON object. Raw keeps the text.
func DecodeConfig(v []byte) (*Config, error) {
	if len(v) > MaxValue {
		return nil, errTooLarge
	}
	if _, err := object(v); err != nil {
		return nil, err
	}
	return &Config{Raw: json.RawMessage(v)}, nil
}

// DecodeFailsafe reads /failsafe: member names to API URLs.
func DecodeFailsafe(v []byte) (*Failsafe, error) {
	if len(v) > MaxValue {
		return nil, errTooLarge
	}
	pairs, err := object(v)
	if err != nil {
		return nil, err
	}
	f := &Failsafe{Members: make(map[string]string, len(pairs))}
	for _, p := range pairs {
		url := str(p.raw)
		if url == "" {
			return nil, fmt.Errorf("member %s: URL is not a string", clip(p.name))
		}
		f.Members[p.name] = url
	}
	return f, nil
}

// DecodeSync reads /sync. A value without a leader means "not active".
func DecodeSync(v []byte) (*Sync, error) {
	if len(v) > MaxValue {
		return nil, errTooLarge
	}
	f, err := fields(v)
	if err != nil {
		return nil, err
	}
	s := &Sync{Leader: str(f["leader"])}
	if s.Leader == "" {
		return s, nil
	}
	if raw := f["quorum"]; !isNull(raw) {
		n, err := integer(raw, 1000)
		if err != nil {
			return nil, fmt.Errorf("quorum: %w", err)
		}
		s.Quorum = int(n)
	}
	if raw := f["sync_standby"]; !isNull(raw) && raw[0] != '"' {
		return nil, errors.New("sync_standby is not a string")
	}
	for _, name := range strings.Split(str(f["sync_standby"]), ",") {
		if name = strings.TrimSpace(name); name != "" {
			s.Standbys = append(s.Standbys, name)
		}
	}
	return s, nil
}

// Has reports whether name is among the standbys; names of /sync compare
// without case (wire contract §4.3).
func (s *Sync) Has(name string) bool {
	if s == nil {
		return false
	}
	for _, n := range s.Standbys {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}

// Voter reports whether name is the leader of /sync or one of the standbys.
func (s *Sync) Voter(name string) bool {
	return s != nil && s.Leader != "" && (strings.EqualFold(s.Leader, name) || s.Has(name))
}
