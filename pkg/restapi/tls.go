package restapi

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/pgha/pgha/pkg/config"
)

// serverTLS reads the certificate files of the restapi section.
func serverTLS(s Settings, log *slog.Logger) (*tls.Config, error) {
	cert, err := loadPair("restapi", s.CertFile, s.KeyFile, s.KeyFilePassword)
	if err != nil {
		return nil, err
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}
	if s.CAFile != "" {
		if conf.ClientCAs, err = loadCAs("restapi.cafile", s.CAFile); err != nil {
			return nil, err
		}
	}
	switch s.VerifyClient {
	case "required":
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	case "optional":
		conf.ClientAuth = tls.VerifyClientCertIfGiven
	}
	if s.Ciphers != "" {
		var unknown []string
		conf.CipherSuites, unknown = cipherSuites(s.Ciphers)
		if len(unknown) > 0 {
			log.Warn("restapi.ciphers: these names are not understood and have no effect; use OpenSSL names of single suites",
				"names", strings.Join(unknown, " "))
		}
	}
	return conf, nil
}

// ClientTLS makes the TLS settings for calling members (wire contract §1.5).
// Patroni's daemon calls its peers insecurely, whatever ctl says: with a client
// certificate the chain is still verified and only the host name is not,
// without one nothing is. insecure asks for that rule.
func ClientTLS(c config.Ctl, insecure bool) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CACert != "" {
		var err error
		if conf.RootCAs, err = loadCAs("ctl.cacert", c.CACert); err != nil {
			return nil, err
		}
	}
	if c.CertFile != "" {
		cert, err := loadPair("ctl", c.CertFile, c.KeyFile, c.KeyFilePassword)
		if err != nil {
			return nil, err
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	if insecure {
		conf.InsecureSkipVerify = true //nolint:gosec // the contract's rule; the chain is checked below
		if c.CertFile != "" {
			conf.VerifyConnection = verifyChain(conf.RootCAs)
		}
	}
	return conf, nil
}

// verifyChain verifies a server's certificate without its host name.
func verifyChain(roots *x509.CertPool) func(tls.ConnectionState) error {
	return func(cs tls.ConnectionState) error {
		o := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
		for _, c := range cs.PeerCertificates[1:] {
			o.Intermediates.AddCert(c)
		}
		_, err := cs.PeerCertificates[0].Verify(o)
		return err
	}
}

func loadCAs(setting, path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: no certificate in %s; it must hold PEM text", setting, path)
	}
	return pool, nil
}

// loadPair reads a certificate and its key; an empty keyFile means the key is in
// the certificate's file.
func loadPair(section, certFile, keyFile string, password config.Secret) (tls.Certificate, error) {
	if keyFile == "" {
		keyFile = certFile
	}
	certText, err := os.ReadFile(certFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s.certfile: %w", section, err)
	}
	keyText, err := os.ReadFile(keyFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s.keyfile: %w", section, err)
	}
	keyText, err = decryptKey(keyText, password)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s.keyfile: %s: %w", section, keyFile, err)
	}
	cert, err := tls.X509KeyPair(certText, keyText)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s.certfile: %s: %w", section, certFile, err)
	}
	return cert, nil
}

var errKeyPassword = errors.New("the key is encrypted and keyfile_password does not open it")

// decryptKey replaces an encrypted private key by the plain one.
func decryptKey(text []byte, password config.Secret) ([]byte, error) {
	var out []byte
	for rest := text; ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			return out, nil
		}
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY":
			der, err := decryptPKCS8(block.Bytes, []byte(password.Reveal()))
			if err != nil {
				return nil, err
			}
			block = &pem.Block{Type: "PRIVATE KEY", Bytes: der}
		case strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
			//nolint:staticcheck // the old format is weak, but existing files use it
			der, err := x509.DecryptPEMBlock(block, []byte(password.Reveal()))
			if err != nil {
				return nil, errKeyPassword
			}
			block = &pem.Block{Type: block.Type, Bytes: der}
		}
		out = append(out, pem.EncodeToMemory(block)...)
	}
}

// cipherSuites reads an OpenSSL cipher string as far as it names single suites.
// Go chooses TLS 1.3 suites and the order by itself.
func cipherSuites(list string) (ids []uint16, unknown []string) {
	byName := map[string]uint16{}
	for _, s := range tls.CipherSuites() {
		name := strings.TrimPrefix(s.Name, "TLS_")
		name = strings.NewReplacer("_WITH_", "-", "AES_128", "AES128", "AES_256", "AES256", "CBC_", "",
			"CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305").Replace(name)
		byName[strings.ReplaceAll(name, "_", "-")] = s.ID
	}
	for _, name := range strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(":, ", r) }) {
		if id, ok := byName[name]; ok {
			ids = append(ids, id)
			continue
		}
		unknown = append(unknown, name)
	}
	return ids, unknown
}
