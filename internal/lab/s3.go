package lab

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	s3ProgramName = "versitygw"
	s3Region      = "eu-frankfurt-1"
	// Bucket is the name of the bucket of a BackupS3 lab.
	Bucket = "pgha-backups"
)

// s3Server is the host with the S3 server of a lab.
type s3Server struct {
	host        *host
	port        int
	key, secret string
}

func (s *s3Server) listen() string { return join(s.host.addr, s.port) }

func (s *s3Server) path(name string) string { return filepath.Join(s.host.dir, name) }

func (l *Lab) planS3() {
	l.s3 = &s3Server{
		host: l.newHost("s3-01", l.opts.Nodes+l.opts.Etcd+1),
		port: l.port(9000, 180),
	}
}

// prepareS3 makes the bucket (a directory below the gateway's root), the key pair
// and a certificate that nobody has signed: the nodes do not verify it.
func (l *Lab) prepareS3() error {
	s := l.s3
	random := make([]byte, 24)
	if _, err := rand.Read(random); err != nil {
		return err
	}
	s.key, s.secret = hex.EncodeToString(random[:8]), hex.EncodeToString(random[8:])
	for _, dir := range []string{"buckets", "buckets/" + Bucket} {
		if err := l.makeOwnDir(s.path(dir)); err != nil {
			return err
		}
	}
	cert, key, err := selfSigned(s.host.addr)
	if err != nil {
		return fmt.Errorf("make certificate of the S3 server: %w", err)
	}
	if err := l.writeSecret(s.path("cert.pem"), cert); err != nil {
		return err
	}
	if err := l.writeSecret(s.path("key.pem"), key); err != nil {
		return err
	}
	for _, n := range l.Nodes {
		if err := l.WriteKeyFile(n, s.key, s.secret); err != nil {
			return err
		}
	}
	return nil
}

// WriteKeyFile writes a node's S3 key. Empty values mean the right ones.
func (l *Lab) WriteKeyFile(n *Node, key, secret string) error {
	if key == "" {
		key = l.s3.key
	}
	if secret == "" {
		secret = l.s3.secret
	}
	return l.writeSecret(l.KeyFile(n), fmt.Appendf(nil, "key=%s\nsecret=%s\n", key, secret))
}

// writeSecret writes a file that only the servers' account can read.
func (l *Lab) writeSecret(path string, content []byte) error {
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return l.give(path)
}

func selfSigned(address string) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: "s3.lab"},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses:  []net.IP{net.ParseIP(address)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return block("CERTIFICATE", der), block("EC PRIVATE KEY", keyDER), nil
}

func block(kind string, der []byte) []byte {
	var b bytes.Buffer
	_ = pem.Encode(&b, &pem.Block{Type: kind, Bytes: der}) // a buffer takes everything
	return b.Bytes()
}

// s3Config is pgha.backup.repo of a node of a BackupS3 lab.
func (l *Lab) s3Config(n *Node) map[string]any {
	return map[string]any{
		"type":          "s3",
		"path":          "/" + l.opts.Scope,
		"s3_bucket":     Bucket,
		"s3_endpoint":   l.s3.host.addr,
		"s3_port":       l.s3.port,
		"s3_region":     s3Region,
		"s3_uri_style":  "path",
		"s3_verify_tls": false,
		"s3_key_file":   l.KeyFile(n),
	}
}

// StartS3 starts the S3 server and waits until it speaks TLS; nothing happens
// where there is none or it runs.
func (l *Lab) StartS3(ctx context.Context) error {
	if l.s3 == nil {
		return nil
	}
	s := l.s3
	l.opts.Progress("starting the S3 server: " + s.listen())
	env := append(l.environ(), "ROOT_ACCESS_KEY="+s.key, "ROOT_SECRET_KEY="+s.secret)
	err := l.runWith(s.host, "s3.log", env, l.opts.S3Program,
		"--port", s.listen(), "--region", s3Region, "--quiet",
		"--cert", s.path("cert.pem"), "--key", s.path("key.pem"),
		"posix", s.path("buckets"))
	if err != nil {
		return err
	}
	err = Poll(ctx, func() bool { return l.s3Answers(ctx) })
	if err != nil {
		return fmt.Errorf("wait for the S3 server: %w\n%s", err, tail(s.path("s3.log"), 10))
	}
	return nil
}

func (l *Lab) s3Answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, restTimeout)
	defer cancel()
	conn, err := l.dialClient()(ctx, "tcp", l.s3.listen())
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	return tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx) == nil
}

// StopS3 kills the S3 server: connections are refused from then on.
func (l *Lab) StopS3() error { return l.s3.host.order(order{Do: "killall"}) }

// RemoveBucket takes the bucket away, or (false) puts it back as it was.
func (l *Lab) RemoveBucket(away bool) error {
	from, to := l.s3.path("buckets/"+Bucket), l.s3.path(Bucket+".away")
	if !away {
		from, to = to, from
	}
	if err := os.Rename(from, to); err != nil {
		return fmt.Errorf("move bucket: %w", err)
	}
	return nil
}
