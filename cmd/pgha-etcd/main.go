// Command pgha-etcd runs one etcd member, for those who have no etcd yet. Its
// flags are etcd's own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	etcdversion "go.etcd.io/etcd/api/v3/version"

	"github.com/pgha/pgha/internal/etcdserver"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run returns the exit code: 0 after a clean stop, 1 when the member failed, 2
// for bad flags.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cfg, version, err := parse(args, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "pgha-etcd: %v\n", err)
		return 2
	case version:
		fmt.Fprintf(stdout, "pgha-etcd %s\netcd %s\n", buildVersion(), etcdversion.Version)
		return 0
	}
	err = etcdserver.Run(ctx, cfg, func() {
		if err := notify(os.Getenv("NOTIFY_SOCKET"), "READY=1"); err != nil {
			fmt.Fprintf(stderr, "pgha-etcd: tell systemd: %v\n", err)
		}
	})
	if err != nil {
		fmt.Fprintf(stderr, "pgha-etcd: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
		return 1
	}
	return 0
}

func parse(args []string, help io.Writer) (cfg etcdserver.Config, version bool, err error) {
	fs := flag.NewFlagSet("pgha-etcd", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	list := func(to *[]string, name, usage string) {
		fs.Func(name, usage, func(s string) error {
			*to = strings.Split(s, ",")
			return nil
		})
	}
	fs.StringVar(&cfg.Name, "name", "default", "name of this member")
	fs.StringVar(&cfg.DataDir, "data-dir", "", "data directory (default NAME.etcd)")
	list(&cfg.ListenClient, "listen-client-urls", "`URLs` to listen on for clients (default http://127.0.0.1:2379)")
	list(&cfg.AdvertiseClient, "advertise-client-urls", "`URLs` clients are told (default: those listened on)")
	list(&cfg.ListenPeer, "listen-peer-urls", "`URLs` to listen on for other members (default http://127.0.0.1:2380)")
	list(&cfg.AdvertisePeer, "initial-advertise-peer-urls", "`URLs` other members are told (default: those listened on)")
	fs.StringVar(&cfg.InitialCluster, "initial-cluster", "", "`NAME=URL,...` of all members (default: this one alone)")
	fs.StringVar(&cfg.ClusterState, "initial-cluster-state", "new", "new or existing")
	fs.StringVar(&cfg.ClusterToken, "initial-cluster-token", "etcd-cluster", "tells clusters apart during bootstrap")
	heartbeat := fs.Int("heartbeat-interval", 100, "`milliseconds` between heartbeats of the leader")
	election := fs.Int("election-timeout", 1000, "`milliseconds` without heartbeat before an election")
	fs.StringVar(&cfg.ClientTLS.CertFile, "cert-file", "", "certificate for clients' TLS")
	fs.StringVar(&cfg.ClientTLS.KeyFile, "key-file", "", "key of the certificate")
	fs.StringVar(&cfg.ClientTLS.TrustedCAFile, "trusted-ca-file", "", "CA of client certificates")
	fs.BoolVar(&cfg.ClientTLS.ClientCertAuth, "client-cert-auth", false, "demand client certificates")
	fs.StringVar(&cfg.PeerTLS.CertFile, "peer-cert-file", "", "certificate for peers' TLS")
	fs.StringVar(&cfg.PeerTLS.KeyFile, "peer-key-file", "", "key of the certificate")
	fs.StringVar(&cfg.PeerTLS.TrustedCAFile, "peer-trusted-ca-file", "", "CA of peer certificates")
	fs.BoolVar(&cfg.PeerTLS.ClientCertAuth, "peer-client-cert-auth", false, "demand peer certificates")
	fs.StringVar(&cfg.LogLevel, "log-level", "warn", "debug, info, warn, error")
	fs.BoolVar(&version, "version", false, "print the version and leave")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fs.SetOutput(help)
			fs.PrintDefaults()
		}
		return cfg, false, err
	}
	if fs.NArg() > 0 {
		return cfg, false, fmt.Errorf("unexpected argument %q: all settings are flags", fs.Arg(0))
	}
	cfg.Heartbeat = time.Duration(*heartbeat) * time.Millisecond
	cfg.ElectionTimeout = time.Duration(*election) * time.Millisecond
	return cfg, version, nil
}

func buildVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "devel"
}

// notify sends state to systemd's socket; no socket, nothing to do.
func notify(socket, state string) error {
	if socket == "" {
		return nil
	}
	if socket[0] == '@' {
		socket = "\x00" + socket[1:]
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte(state))
	return err
}
