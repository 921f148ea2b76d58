package ctl

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/pgha/pgha/pkg/config"
)

// defaultEtcdPort is that of etcd's clients.
const defaultEtcdPort = 2379

// withDCS returns a copy of local that uses the etcd of a DCS URL instead,
// [scheme://][host][:port][/namespace] (wire contract §6.1). Both etcd schemes
// mean the v3 protocol here: pgha speaks no other.
func withDCS(local *config.Local, dcsURL string) (*config.Local, error) {
	full := strings.TrimPrefix(dcsURL, "//") // a URL without its scheme
	if !strings.Contains(full, "://") {
		full = "etcd3://" + full
	}
	u, err := url.Parse(full)
	switch {
	case err != nil || u.User != nil || u.RawQuery != "":
		// The text is not repeated: it may hold a password.
		return nil, usageError{"-d: want [etcd3://][HOST][:PORT][/NAMESPACE]; user and password belong in the etcd3 section of the configuration file"}
	case u.Scheme != "etcd3" && u.Scheme != "etcd":
		return nil, fmt.Errorf("-d %s: %s is not supported; use etcd3://HOST:PORT", dcsURL, u.Scheme)
	}
	host, port := u.Hostname(), u.Port()
	if host == "" {
		host = "localhost"
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port == "" {
		port = fmt.Sprint(defaultEtcdPort)
	}
	out := *local
	out.Etcd = config.Etcd{Kind: "etcd3", Protocol: "http", Hosts: []string{host + ":" + port}}
	if u.Path != "" && u.Path != "/" {
		out.Namespace = u.Path
	}
	return &out, nil
}
