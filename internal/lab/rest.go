package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// restTimeout bounds one request of the rig. A host that lost its network does
// not answer at all, and others are asked at the same time.
const restTimeout = time.Second

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// dialClient connects as a client on the cluster's network.
func (l *Lab) dialClient() dialFunc {
	if l.wires == nil {
		return (*namespace)(nil).dial
	}
	return l.wires.hub.dial
}

// dialOn connects as a program on the node itself would.
func (l *Lab) dialOn(n *Node) dialFunc { return n.host.ns.dial }

func newRESTClient(dial dialFunc) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return dial(ctx, network, address)
		},
		DisableKeepAlives: true,
	}}
}

// get asks a REST API and decodes its answer into out, if given.
func (l *Lab) get(ctx context.Context, hostPort, path string, out any) (int, error) {
	return l.do(ctx, restTimeout, http.MethodGet, hostPort, path, nil, out)
}

func (l *Lab) do(ctx context.Context, limit time.Duration, method, hostPort, path string, in, out any) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var body io.Reader
	if in != nil {
		doc, err := json.Marshal(in)
		if err != nil {
			return 0, err
		}
		body = bytes.NewReader(doc)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+hostPort+path, body)
	if err != nil {
		return 0, err
	}
	resp, err := l.rest.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	doc, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return 0, err
	}
	switch out := out.(type) {
	case nil:
	case *string:
		*out = string(doc)
	default:
		if err := json.Unmarshal(doc, out); err != nil {
			return resp.StatusCode, fmt.Errorf("decode answer of %s%s: %w", hostPort, path, err)
		}
	}
	return resp.StatusCode, nil
}

// Get asks a node's REST API, as a client on the network. The answer's body is
// decoded into out: nil, a *string for the raw text, or anything for JSON.
func (l *Lab) Get(ctx context.Context, n *Node, path string, out any) (status int, err error) {
	return l.get(ctx, n.REST, path, out)
}

// Cluster is the part of GET /cluster the rig looks at (wire contract §5.6).
type Cluster struct {
	Members []Member `json:"members"`
}

// Member is one entry of Cluster.
type Member struct {
	Name     string `json:"name"`
	Role     string `json:"role"`
	State    string `json:"state"`
	Timeline int    `json:"timeline"`
	Lag      any    `json:"lag"`
}

func (c Cluster) String() string {
	var b strings.Builder
	for _, m := range c.Members {
		fmt.Fprintf(&b, "[%s %s %s tl=%d] ", m.Name, m.Role, m.State, m.Timeline)
	}
	return strings.TrimSpace(b.String())
}

// Leaders asks every node GET /primary at the same time, and gives those that
// answer 200.
func (l *Lab) Leaders(ctx context.Context) []*Node {
	var (
		mu  sync.Mutex
		out []*Node
		wg  sync.WaitGroup
	)
	for _, n := range l.Nodes {
		wg.Go(func() {
			if code, err := l.get(ctx, n.REST, "/primary", nil); err == nil && code == http.StatusOK {
				mu.Lock()
				defer mu.Unlock()
				out = append(out, n)
			}
		})
	}
	wg.Wait()
	return out
}

// WaitLeader waits until exactly one node answers /primary, and ok(node) holds;
// a nil ok accepts any.
func (l *Lab) WaitLeader(ctx context.Context, ok func(*Node) bool) (*Node, error) {
	var leader *Node
	err := Poll(ctx, func() bool {
		found := l.Leaders(ctx)
		if len(found) != 1 || ok != nil && !ok(found[0]) {
			return false
		}
		leader = found[0]
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("wait for a primary: %w", err)
	}
	return leader, nil
}

// Except accepts every node but one; for WaitLeader.
func Except(n *Node) func(*Node) bool { return func(o *Node) bool { return o != n } }

// Only accepts one node; for WaitLeader.
func Only(n *Node) func(*Node) bool { return func(o *Node) bool { return o == n } }

// WaitStreaming waits until the nodes given (default: all) are the members of a
// cluster with one running leader whose other members stream on its timeline, as each
// of them sees it: one that was stopped for a while remembers better times.
func (l *Lab) WaitStreaming(ctx context.Context, nodes ...*Node) (Cluster, error) {
	if len(nodes) == 0 {
		nodes = l.Nodes
	}
	var last Cluster
	err := Poll(ctx, func() bool {
		for _, n := range nodes {
			var c Cluster
			if code, err := l.get(ctx, n.REST, "/cluster", &c); err != nil || code != http.StatusOK {
				return false
			}
			if last = c; !streaming(c, n, nodes) {
				return false
			}
		}
		return !l.patroniRuns() || l.replicating(ctx, len(nodes)-1)
	})
	if err != nil {
		return last, fmt.Errorf("wait until all stream, last seen %s: %w", last, err)
	}
	return last, nil
}

// streaming tells whether, as the node by sees it, exactly one of nodes leads and the
// rest stream on its timeline. Members beyond nodes do not matter.
func streaming(c Cluster, by *Node, nodes []*Node) bool {
	timeline, leaders, replicas := 0, 0, 0
	for _, m := range c.Members {
		if m.Role == "leader" && m.State == "running" {
			leaders++
			timeline = m.Timeline
		}
	}
	for _, m := range c.Members {
		for _, n := range nodes {
			// To Patroni before 4 a streaming replica is running, and it does not say
			// of itself that it streams; to pgha one that runs does not stream.
			streams := m.State == "streaming" || m.State == "running" && (by.patroni != "" || n.patroni != "")
			if m.Name == n.Name && m.Role != "leader" && streams && m.Timeline == timeline {
				replicas++
			}
		}
	}
	return leaders == 1 && replicas == len(nodes)-1
}

// replicating asks the primary itself whether so many replicas stream from it.
func (l *Lab) replicating(ctx context.Context, replicas int) bool {
	leaders := l.Leaders(ctx)
	if len(leaders) != 1 {
		return false
	}
	var n int
	err := l.query(ctx, leaders[0], func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'").Scan(&n)
	})
	return err == nil && n >= replicas
}

// Switchover asks the leader to hand over to candidate (nil: to anybody) and
// returns when the API says it is done.
func (l *Lab) Switchover(ctx context.Context, leader, candidate *Node) error {
	request := map[string]string{"leader": leader.Name}
	if candidate != nil {
		request["candidate"] = candidate.Name
	}
	var text string
	code, err := l.do(ctx, 60*time.Second, http.MethodPost, leader.REST, "/switchover", request, &text)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("status %d: %s", code, text)
	}
	if err != nil {
		return fmt.Errorf("switchover from %s: %w", leader.Name, err)
	}
	return nil
}

// Send sends a request with a JSON body (nil: none) to a node, and gives the
// status and the text of the answer.
func (l *Lab) Send(ctx context.Context, n *Node, method, path string, in any) (status int, text string, err error) {
	status, err = l.do(ctx, 120*time.Second, method, n.REST, path, in, &text)
	return status, text, err
}

// Patch changes the cluster's dynamic configuration through any node.
func (l *Lab) Patch(ctx context.Context, change map[string]any) error {
	var errs []error
	for _, n := range l.Nodes {
		var text string
		code, err := l.do(ctx, 10*time.Second, http.MethodPatch, n.REST, "/config", change, &text)
		if err == nil && code == http.StatusOK {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("%s: status %d: %s", n.Name, code, text)
		}
		errs = append(errs, err)
	}
	return fmt.Errorf("change dynamic configuration: %w", errors.Join(errs...))
}

// Switch is one line of the cluster's history: timeline TL ended at LSN.
type Switch struct {
	TL  uint32
	LSN uint64
}

// History reads GET /history of a node, when it answers; ctx should have a deadline.
func (l *Lab) History(ctx context.Context, n *Node) ([]Switch, error) {
	var rows [][]any
	var last error
	err := Poll(ctx, func() bool {
		code, err := l.get(ctx, n.REST, "/history", &rows)
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("status %d", code)
		}
		last = err
		return err == nil
	})
	if err != nil {
		return nil, fmt.Errorf("read history: %w", errors.Join(last, err))
	}
	var out []Switch
	for _, row := range rows {
		if len(row) < 2 {
			continue
		}
		tl, ok1 := row[0].(float64)
		lsn, ok2 := row[1].(float64)
		if ok1 && ok2 {
			out = append(out, Switch{TL: uint32(tl), LSN: uint64(lsn)})
		}
	}
	return out, nil
}
