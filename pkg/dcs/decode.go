package dcs

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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
	var optime *Status
	for i := range kvs {
		kv := &kvs[i]
		if key, ok := relative(base, kv.Key); ok {
			value, err := decodeKey(key, kv)
			c.add(key, kv, value, err, &optime)
		}
	}
	slices.SortFunc(c.Members, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	c.finish(optime)
	return c
}

func relative(base, path string) (Key, bool) {
	if len(path) <= len(base) || path[len(base)] != '/' || path[:len(base)] != base {
		return "", false
	}
	return Key(path[len(base)+1:]), true
}

// add puts one decoded value into the snapshot.
func (c *Cluster) add(key Key, kv *KV, value any, err error, optime **Status) {
	if err != nil {
		c.invalid(key, kv.ModRevision, err)
	}
	switch v := value.(type) {
	case *Leader:
		c.Leader = v
	case *Initialize:
		c.Initialize = v
	case *Config:
		c.Config = v
	case *Failover:
		c.Failover = v
	case *Sync:
		c.Sync = v
	case *History:
		c.History = v
	case *Status:
		if key == keyOptime {
			*optime = v
		} else {
			c.Status = v
		}
	case *Failsafe:
		c.Failsafe = v
	case *Restore:
		c.Restore = v
	case *Backup:
		c.Backup = v
	case *BackupLock:
		c.BackupLock = v
	case *EventRing:
		c.Events = v
	case *Member:
		c.Members = append(c.Members, *v)
	}
}

// finish does what takes all keys together.
func (c *Cluster) finish(optime *Status) {
	if optime != nil && c.Status == nil && c.Invalid[KeyStatus] == "" {
		c.Status = optime
	}
}

func (c *Cluster) invalid(k Key, revision int64, err error) {
	if c.Invalid == nil {
		c.Invalid = map[Key]string{}
		c.invalidRevisions = map[Key]int64{}
	}
	c.Invalid[k] = err.Error()
	c.invalidRevisions[k] = revision
}

// decodeKey reads one key into a pointer to its type, nil for a key nobody
// knows. An error may come with a value: see Decode.
func decodeKey(key Key, kv *KV) (any, error) {
	rev := kv.ModRevision
	switch key {
	case keyOptime:
		if s, err := DecodeStatus(kv.Value); err == nil {
			return s, nil
		}
		return nil, nil
	case KeyLeader:
		l := &Leader{Epoch: kv.CreateRevision, LeaseID: kv.LeaseID}
		var err error
		l.Name, err = decodeName(kv.Value)
		return l, err
	case KeyInitialize:
		id, err := decodeSystemID(kv.Value)
		return value(&Initialize{SystemID: id, ModRevision: rev}, err, nil)
	case KeyConfig:
		v, err := DecodeConfig(kv.Value)
		return value(v, err, func() { v.ModRevision = rev })
	case KeyFailover:
		v, err := DecodeFailover(kv.Value)
		return value(v, err, func() { v.ModRevision = rev })
	case KeySync:
		v, err := DecodeSync(kv.Value)
		return value(v, err, func() { v.ModRevision = rev })
	case KeyHistory:
		v, err := DecodeHistory(kv.Value)
		return value(v, err, func() { v.ModRevision = rev })
	case KeyStatus:
		v, err := DecodeStatus(kv.Value)
		return value(v, err, func() { v.ModRevision = rev })
	case KeyFailsafe:
		v, err := DecodeFailsafe(kv.Value)
		return value(v, err, func() { v.ModRevision = rev })
	case KeyRestore:
		v, err := DecodeRestore(kv.Value)
		return value(v, err, func() { v.ModRevision = rev })
	case KeyBackup:
		v, err := DecodeBackup(kv.Value)
		return value(v, err, func() { v.ModRevision = rev })
	case KeyBackupLock:
		v, err := DecodeBackupLock(kv.Value)
		return value(v, err, func() { v.ModRevision, v.LeaseID = rev, kv.LeaseID })
	case KeyEvents:
		return &EventRing{Raw: kv.Value, ModRevision: rev}, nil
	}
	if name, ok := memberOf(key); ok {
		m, err := DecodeMember(name, kv.Value)
		m.ModRevision, m.LeaseID = rev, kv.LeaseID
		return &m, err
	}
	return nil, nil
}

// value completes v unless it could not be read; no typed nil comes out.
func value[T any](v *T, err error, complete func()) (any, error) {
	if err != nil {
		return nil, err
	}
	if complete != nil {
		complete()
	}
	return v, nil
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
	case k == KeyRestore && c.Restore != nil:
		return c.Restore.ModRevision
	case k == KeyBackup && c.Backup != nil:
		return c.Backup.ModRevision
	case k == KeyBackupLock && c.BackupLock != nil:
		return c.BackupLock.ModRevision
	case k == KeyEvents && c.Events != nil:
		return c.Events.ModRevision
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
	if _, err := parseObject(v); err != nil {
		return nil, err
	}
	return &Config{Raw: json.RawMessage(v)}, nil
}

// DecodeFailsafe reads /failsafe: member names to API URLs.
func DecodeFailsafe(v []byte) (*Failsafe, error) {
	if len(v) > MaxValue {
		return nil, errTooLarge
	}
	pairs, err := parseObject(v)
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
	f, err := parseObject(v)
	if err != nil {
		return nil, err
	}
	s := &Sync{Leader: str(f.get("leader"))}
	if s.Leader == "" {
		return s, nil
	}
	if raw := f.get("quorum"); !isNull(raw) {
		n, err := integer(raw, 1000)
		if err != nil {
			return nil, fmt.Errorf("quorum: %w", err)
		}
		s.Quorum = int(n)
	}
	if raw := f.get("sync_standby"); !isNull(raw) && raw[0] != '"' {
		return nil, errors.New("sync_standby is not a string")
	}
	for _, name := range strings.Split(str(f.get("sync_standby")), ",") {
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
