package lab

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Scope is the cluster name of a lab that is not given another.
const Scope = "pg-ha-cluster"

// Namespace is where the keys of a lab's clusters are in etcd.
const Namespace = "/opt/pgsql/patroni/"

// Lab is a cluster of real processes. Its methods may be called from one
// goroutine at a time; the workloads run beside it.
type Lab struct {
	Nodes []*Node

	opts     Options
	account  account
	bin      string // directory of the pgha programs, readable by the account
	password string // of the superuser and the replication user
	wires    *wires // nil on loopback
	etcd     []*member
	s3       *s3Server // nil without a repository in S3
	rest     *http.Client
}

// Node is one database host.
type Node struct {
	Name     string
	Addr     string // host:port of PostgreSQL
	REST     string // host:port of the REST API
	Dir      string
	Config   string // path of its patroni.yml
	DataDir  string
	AgentLog string
	Env      []string // more of the agent's environment

	patroni string // path of Patroni's agent, if that is this node's
	host    *host
	disk    *volume  // nil without Options.Volume
	dog     *dog     // nil without Options.Watchdog
	freezer *freezer // nil unless frozen
}

// member is one etcd member.
type member struct {
	host         *host
	client, peer string // host:port
}

// New prepares a lab: directories, configuration files, network and the hosts'
// init processes. Nothing else runs yet. On success the caller owes a Close.
func New(opts Options) (*Lab, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	l := &Lab{opts: opts}
	if err := l.prepare(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Lab) prepare() error {
	var err error
	if l.account, err = lookupAccount(l.opts.User); err != nil {
		return err
	}
	l.password = l.opts.Password
	if l.password == "" {
		secret := make([]byte, 8)
		if _, err := rand.Read(secret); err != nil {
			return err
		}
		l.password = hex.EncodeToString(secret)
	}
	if err := l.makeDirs(); err != nil {
		return err
	}
	l.plan()
	if err := l.checkPorts(); err != nil {
		return err
	}
	if l.opts.Network == Namespaces {
		addrs := map[string]string{}
		for _, h := range l.hosts() {
			addrs[h.name] = h.addr
		}
		if l.wires, err = newWires(addrs); err != nil {
			return err
		}
		for _, h := range l.hosts() {
			h.ns = l.wires.hosts[h.name]
		}
	}
	l.rest = newRESTClient(l.dialClient())
	if err := l.makeHomes(); err != nil {
		return err
	}
	for _, h := range l.hosts() {
		if err := l.makeOwnDir(h.dir); err != nil {
			return err
		}
		if err := h.start(l.opts.InitCommand); err != nil {
			return err
		}
	}
	if err := l.prepareRepository(); err != nil {
		return err
	}
	for _, n := range l.Nodes {
		if err := l.furnishNode(n); err != nil {
			return err
		}
	}
	return nil
}

// furnishNode gives a node its disk, its watchdog and its configuration.
func (l *Lab) furnishNode(n *Node) error {
	if n.disk != nil {
		if err := l.makeVolume(n); err != nil {
			return err
		}
	}
	if l.opts.Watchdog {
		if err := l.startDog(n); err != nil {
			return err
		}
	}
	return l.WriteConfig(n)
}

// makeDirs creates the lab's directory and, where the servers run as somebody
// else, copies the programs to where that user can execute them.
func (l *Lab) makeDirs() error {
	if entries, err := os.ReadDir(l.opts.Dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("use directory %s: it is not empty", l.opts.Dir)
	}
	if err := os.MkdirAll(l.opts.Dir, 0o755); err != nil {
		return fmt.Errorf("make lab directory: %w", err)
	}
	l.bin = l.opts.BinDir
	if !l.account.change {
		return nil
	}
	l.bin = filepath.Join(l.opts.Dir, "bin")
	if err := os.Mkdir(l.bin, 0o755); err != nil {
		return fmt.Errorf("make program directory: %w", err)
	}
	for _, name := range programs {
		if err := copyProgram(filepath.Join(l.opts.BinDir, name), filepath.Join(l.bin, name)); err != nil {
			return fmt.Errorf("copy %s: %w", name, err)
		}
	}
	if l.opts.Backup == BackupS3 {
		if err := copyProgram(l.opts.S3Program, filepath.Join(l.bin, s3ProgramName)); err != nil {
			return fmt.Errorf("copy %s: %w", s3ProgramName, err)
		}
		l.opts.S3Program = filepath.Join(l.bin, s3ProgramName)
	}
	return nil
}

func copyProgram(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

// makeOwnDir creates a directory that belongs to the servers' account.
func (l *Lab) makeOwnDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if !l.account.change {
		return nil
	}
	if err := os.Chown(dir, l.account.uid, l.account.gid); err != nil {
		return fmt.Errorf("give directory to %s: %w", l.opts.User, err)
	}
	return nil
}

// plan names the hosts and gives them addresses: those of the tutorial in
// namespaces, ports from BasePort on loopback.
func (l *Lab) plan() {
	for i := range l.opts.Nodes {
		name := fmt.Sprintf("%s-%02d", l.opts.NodePrefix, i+1)
		h := l.newHost(name, i+1)
		n := &Node{Name: name, Dir: h.dir, host: h, patroni: l.opts.Patroni}
		n.Addr = join(h.addr, l.port(5432, 10*i))
		n.REST = join(h.addr, l.port(8008, 10*i+1))
		n.Config = filepath.Join(h.dir, "patroni.yml")
		n.DataDir = filepath.Join(h.dir, "data")
		if l.opts.Volume > 0 {
			n.disk = &volume{size: l.opts.Volume, backing: filepath.Join(h.dir, "backing"), mount: filepath.Join(h.dir, "disk")}
			n.DataDir = filepath.Join(n.disk.mount, "data")
		}
		n.AgentLog = filepath.Join(h.dir, "agent.log")
		l.Nodes = append(l.Nodes, n)
	}
	for i := range l.opts.Etcd {
		h := l.newHost(fmt.Sprintf("etcd-%02d", i+1), l.opts.Nodes+1+i)
		l.etcd = append(l.etcd, &member{
			host:   h,
			client: join(h.addr, l.port(2379, 100+10*i)),
			peer:   join(h.addr, l.port(2380, 100+10*i+1)),
		})
	}
	if l.opts.Backup == BackupS3 {
		l.planS3()
	}
}

// checkPorts makes sure that nobody else has the ports of a loopback lab:
// another one would be taken for this one.
func (l *Lab) checkPorts() error {
	if l.opts.Network == Namespaces {
		return nil
	}
	var addrs []string
	for _, n := range l.Nodes {
		addrs = append(addrs, n.Addr, n.REST)
	}
	for _, m := range l.etcd {
		addrs = append(addrs, m.client, m.peer)
	}
	if l.s3 != nil {
		addrs = append(addrs, l.s3.listen())
	}
	for _, addr := range addrs {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			return fmt.Errorf("use ports %d to %d: %w; is another demo running? Choose others", l.opts.BasePort, l.opts.BasePort+199, err)
		}
		if err := ln.Close(); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) newHost(name string, number int) *host {
	addr := "127.0.0.1"
	if l.opts.Network == Namespaces {
		addr = "192.0.2." + strconv.Itoa(number)
	}
	return &host{name: name, addr: addr, dir: filepath.Join(l.opts.Dir, name)}
}

func (l *Lab) port(usual, offset int) int {
	if l.opts.Network == Namespaces {
		return usual
	}
	return l.opts.BasePort + offset
}

func join(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

func (l *Lab) hosts() []*host {
	var out []*host
	for _, m := range l.etcd {
		out = append(out, m.host)
	}
	for _, n := range l.Nodes {
		out = append(out, n.host)
	}
	if l.s3 != nil {
		out = append(out, l.s3.host)
	}
	return out
}

// Start starts etcd and the S3 server, if there is one, and when they answer all
// agents.
func (l *Lab) Start(ctx context.Context) error {
	if err := l.StartEtcd(ctx); err != nil {
		return err
	}
	if err := l.StartS3(ctx); err != nil {
		return err
	}
	for _, n := range l.Nodes {
		if err := l.StartAgent(n); err != nil {
			return err
		}
	}
	return nil
}

// StartEtcd starts every etcd member that does not run and waits until each
// says it is healthy.
func (l *Lab) StartEtcd(ctx context.Context) error {
	l.opts.Progress("starting etcd: " + strings.Join(l.Endpoints(), ", "))
	for i := range l.etcd {
		if err := l.StartEtcdMember(i); err != nil {
			return err
		}
	}
	for i := range l.etcd {
		if err := l.WaitEtcd(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// StartEtcdMember starts one etcd member and returns at once.
func (l *Lab) StartEtcdMember(i int) error {
	m := l.etcd[i]
	var cluster []string
	for _, other := range l.etcd {
		cluster = append(cluster, other.host.name+"=http://"+other.peer)
	}
	return l.run(m.host, "etcd.log", "pgha-etcd",
		"--name", m.host.name,
		"--data-dir", filepath.Join(m.host.dir, "data"),
		"--listen-client-urls", "http://"+m.client,
		"--advertise-client-urls", "http://"+m.client,
		"--listen-peer-urls", "http://"+m.peer,
		"--initial-advertise-peer-urls", "http://"+m.peer,
		"--initial-cluster", strings.Join(cluster, ","),
		"--initial-cluster-state", "new",
		"--initial-cluster-token", l.opts.Scope,
		"--heartbeat-interval", strconv.FormatInt(etcdHeartbeat.Milliseconds(), 10),
		"--election-timeout", strconv.FormatInt(etcdElection.Milliseconds(), 10),
	)
}

// StopEtcdMember kills one etcd member's process.
func (l *Lab) StopEtcdMember(i int) error {
	return l.etcd[i].host.order(order{Do: "killall"})
}

// LoseEtcd kills every etcd member and removes what they stored, as if their
// machines were gone. StartEtcd then starts empty ones.
func (l *Lab) LoseEtcd() error {
	for i, m := range l.etcd {
		if err := l.StopEtcdMember(i); err != nil {
			return err
		}
		if err := os.RemoveAll(filepath.Join(m.host.dir, "data")); err != nil {
			return fmt.Errorf("remove data of %s: %w", m.host.name, err)
		}
	}
	return nil
}

// WaitEtcd waits until a member says it is healthy.
func (l *Lab) WaitEtcd(ctx context.Context, i int) error {
	m := l.etcd[i]
	err := Poll(ctx, func() bool {
		var health struct {
			Health string `json:"health"`
		}
		code, err := l.get(ctx, m.client, "/health", &health)
		return err == nil && code == http.StatusOK && health.Health == "true"
	})
	if err != nil {
		return fmt.Errorf("wait for etcd member %s: %w\n%s", m.host.name, err, tail(filepath.Join(m.host.dir, "etcd.log"), 10))
	}
	return nil
}

// StartAgent starts the agent of a node; nothing happens when it runs.
func (l *Lab) StartAgent(n *Node) error {
	l.opts.Progress("starting the agent of " + n.Name)
	program := filepath.Join(l.bin, "pgha-agent")
	if n.patroni != "" {
		program = n.patroni
	}
	return l.runWith(n.host, "agent.log", append(l.environ(), n.Env...), program, n.Config)
}

// UsePatroni makes Patroni's agent at path this node's; "" makes it pgha's
// again. What runs goes on until it is stopped.
func (l *Lab) UsePatroni(n *Node, path string) { n.patroni = path }

// patroniRuns tells whether Patroni's agent is some node's.
func (l *Lab) patroniRuns() bool {
	return slices.ContainsFunc(l.Nodes, func(n *Node) bool { return n.patroni != "" })
}

// Supervise tells whether the node's agent is started again when it ends, as
// systemd would.
func (l *Lab) Supervise(n *Node, on bool) error {
	return n.host.order(order{Do: "supervise", On: on})
}

// environ is the environment of everything that runs on a host.
func (l *Lab) environ() []string {
	return []string{"PATH=" + l.opts.PGBin + ":/usr/local/bin:/usr/bin:/bin", "HOME=" + l.account.home, "LANG=C.UTF-8"}
}

func (l *Lab) run(h *host, log, name string, args ...string) error {
	return l.runWith(h, log, l.environ(), filepath.Join(l.bin, name), args...)
}

func (l *Lab) runWith(h *host, log string, env []string, path string, args ...string) error {
	return h.order(order{Do: "start", Program: &program{
		Argv: append([]string{path}, args...),
		Env:  env,
		Dir:  h.dir,
		Log:  filepath.Join(h.dir, log),
		UID:  l.account.uid,
		GID:  l.account.gid,
		Su:   l.account.change,
	}})
}

// Endpoints lists the etcd client addresses.
func (l *Lab) Endpoints() []string {
	var out []string
	for _, m := range l.etcd {
		out = append(out, m.client)
	}
	return out
}

// Node finds a node by name; nil when there is none.
func (l *Lab) Node(name string) *Node {
	for _, n := range l.Nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// Options gives the options in force, defaults filled in.
func (l *Lab) Options() Options { return l.opts }

// Password is that of the superuser and of the replication user.
func (l *Lab) Password() string { return l.password }

// DSN is a connection string for the superuser. It holds the lab's password.
func (l *Lab) DSN(n *Node) string {
	return fmt.Sprintf("postgres://postgres:%s@%s/postgres", l.password, n.Addr)
}

// Close ends everything the lab started and takes down its network. The
// directory stays.
func (l *Lab) Close() error {
	results := make(chan error)
	hosts := l.hosts()
	var errs []error
	// What is frozen cannot be killed.
	for _, n := range l.Nodes {
		errs = append(errs, l.ThawHost(n))
		if n.disk != nil {
			errs = append(errs, n.disk.thaw())
		}
	}
	for _, h := range hosts {
		go func() { results <- h.close() }()
	}
	for range hosts {
		errs = append(errs, <-results)
	}
	for _, n := range l.Nodes {
		if n.dog != nil {
			n.dog.close()
		}
		if n.disk != nil {
			errs = append(errs, n.disk.remove())
		}
	}
	errs = append(errs, l.removeHomes())
	if l.wires != nil {
		l.wires.close()
	}
	if l.rest != nil {
		l.rest.CloseIdleConnections()
	}
	return errors.Join(errs...)
}

// seconds gives a duration as the whole seconds of a configuration file.
func seconds(d time.Duration) int { return int(d / time.Second) }
