package etcd

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// LoadTLS reads the files that the etcd section of a configuration names (wire
// contract §1.6); an empty key means that it is in the file of the certificate.
// Nil without any file: Config.TLS then means the system's roots.
func LoadTLS(cacert, cert, key string) (*tls.Config, error) {
	if cacert == "" && cert == "" {
		return nil, nil //nolint:nilnil // no files is no error
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if cacert != "" {
		pem, err := os.ReadFile(cacert)
		if err != nil {
			return nil, fmt.Errorf("etcd cacert: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("etcd cacert: no certificate in %s; it must be PEM", cacert)
		}
	}
	if cert != "" {
		if key == "" {
			key = cert
		}
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("etcd cert and key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
