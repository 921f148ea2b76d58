package postgres

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/pgha/pgha/pkg/config"
)

// gateway is a copy of versitygw, an S3 server, that this process may run.
var gateway string

// keepGateway copies the program before root is given up: it is installed
// where only root can look.
func keepGateway() {
	from := os.Getenv("PGHA_VERSITYGW")
	if from == "" {
		home, _ := os.UserHomeDir()
		from = filepath.Join(home, ".cache", "pgha-tools", "versitygw")
	}
	program, err := os.ReadFile(from)
	if err != nil {
		return
	}
	dir, err := os.MkdirTemp("", "versitygw")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err == nil {
		gateway = filepath.Join(dir, "versitygw")
		err = os.WriteFile(gateway, program, 0o755)
	}
	if u, lerr := user.Lookup("postgres"); err == nil && lerr == nil && os.Geteuid() == 0 {
		uid, _ := strconv.Atoi(u.Uid)
		err = os.Chown(dir, uid, -1) // who must be able to remove it
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot copy versitygw:", err)
	}
}

// objectStore is a running S3 server with TLS.
type objectStore struct {
	t          *testing.T
	port       int
	root, cert string
	key        string
	cmd        *exec.Cmd
}

const (
	storeKey    = "testkey"
	storeSecret = "test/secret+1="
	storeRegion = "eu-test-1"
	storeBucket = "pgha-bucket"
)

func startObjectStore(t *testing.T) *objectStore {
	t.Helper()
	if gateway == "" {
		if os.Getenv("PGHA_TEST_NO_S3") != "" {
			t.Skip("PGHA_TEST_NO_S3 is set and versitygw is not installed")
		}
		t.Fatal("versitygw is not installed: GOBIN=~/.cache/pgha-tools go install github.com/versity/versitygw/cmd/versitygw@v1.8.0, or set PGHA_TEST_NO_S3=1")
	}
	dir := t.TempDir()
	o := &objectStore{t: t, port: freePort(t), root: filepath.Join(dir, "buckets"), cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem")}
	must(t, os.MkdirAll(filepath.Join(o.root, storeBucket), 0o755))
	must(t, selfSigned(o.cert, o.key))
	o.start()
	t.Cleanup(o.stop)
	return o
}

func (o *objectStore) start() {
	o.t.Helper()
	addr := "127.0.0.1:" + strconv.Itoa(o.port)
	o.cmd = exec.Command(gateway, "--port", addr, "--region", storeRegion, "--cert", o.cert, "--key", o.key, "--quiet", "posix", o.root)
	o.cmd.Env = []string{"ROOT_ACCESS_KEY=" + storeKey, "ROOT_SECRET_KEY=" + storeSecret, "HOME=/", "PATH=/usr/bin:/bin"}
	o.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(o.t, o.cmd.Start())
	eventually(o.t, "the object store answers", func() bool {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func (o *objectStore) stop() {
	if o.cmd == nil {
		return
	}
	_ = o.cmd.Process.Kill()
	_ = o.cmd.Wait()
	o.cmd = nil
}

// repo is the configuration of a repository in the store.
func (o *objectStore) repo() config.Repo {
	return config.Repo{
		Type: "s3", Path: "/repo", Bucket: storeBucket, Endpoint: "127.0.0.1", Port: o.port, Region: storeRegion, URIStyle: "path",
		KeyFile: o.keyFile(storeKey, storeSecret), VerifyTLS: true, CAFile: o.cert,
	}
}

func (o *objectStore) keyFile(key, secret string) string {
	return writeTestFile(o.t, "s3key", "key="+key+"\nsecret="+secret+"\n", 0o600)
}

func selfSigned(certPath, keyPath string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "localhost"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"localhost", "127.0.0.1"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(certPath, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return err
	}
	return os.WriteFile(keyPath, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600)
}

// withBackup configures native backups into a repository.
func withBackup(repo config.Repo) func(*config.Postgres) {
	return func(c *config.Postgres) {
		dir := filepath.Dir(c.DataDir)
		c.RunDir = filepath.Join(dir, "run")
		c.Parameters["archive_timeout"] = "0"
		c.Backup = config.Backup{
			Enabled: true, Archive: true, Restore: true, Stanza: "main", ProcessMax: 2, Repo: repo, RetentionFull: 2,
			Options: []config.Option{{Name: "io-timeout", Value: "1"}, {Name: "archive-timeout", Value: "20"}, {Name: "repo1-bundle", Flag: true}},
		}
	}
}

// posixRepo is an empty directory for a repository.
func posixRepo(t *testing.T) config.Repo {
	t.Helper()
	if _, err := exec.LookPath("pgbackrest"); err != nil {
		t.Skip("pgbackrest is not installed")
	}
	return config.Repo{Type: "posix", Path: filepath.Join(ramDir(t), "repo")}
}

// longContext is for tests that make several backups.
func longContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// ramDir is a directory in memory where there is one: pgBackRest syncs each of
// a thousand files, one by one.
func ramDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "pgha")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
