package postgres

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/pgha/pgha/pkg/config"
)

// The key of a client certificate may be encrypted (sslpassword).
func TestEncryptedClientKey(t *testing.T) {
	n, dir := newNode(t, "n"), t.TempDir()
	cert, key := filepath.Join(dir, "crt.pem"), filepath.Join(dir, "key.pem")
	must(t, selfSigned(cert, key))
	text, err := os.ReadFile(key)
	must(t, err)
	block, _ := pem.Decode(text)
	//nolint:staticcheck // the old form is the one that pgx reads
	block, err = x509.EncryptPEMBlock(rand.Reader, block.Type, block.Bytes, []byte("open sesame"), x509.PEMCipherAES256)
	must(t, err)
	must(t, os.WriteFile(key, pem.EncodeToMemory(block), 0o600))
	for password, ok := range map[config.Secret]bool{"open sesame": true, "": false, "wrong": false} {
		a := config.Auth{Username: "u", SSLMode: "require", SSLCert: cert, SSLKey: key, SSLPassword: password}
		cfg, err := n.connConfig(Upstream{Host: "h", Port: "1"}, a, "test", nil)
		if (err == nil) != ok || ok && len(cfg.TLSConfig.Certificates) != 1 {
			t.Errorf("with the password %q: %v", password.Reveal(), err)
		}
	}
}
