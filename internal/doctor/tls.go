package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs/etcd"
	"github.com/pgha/pgha/pkg/restapi"
)

// Certificate is what an endpoint presents in a TLS handshake.
type Certificate struct {
	Where, Addr string
	// Silence is why there was no handshake, though somebody listens there.
	Silence string
	// From and Until are when the chain is valid.
	From, Until time.Time
	Chain       string // why it is not trusted, its dates aside; "" if it is
	Name        string // why it is not one of this host's; "" if it is
}

// tlsTime bounds one handshake.
const tlsTime = 5 * time.Second

// endpoint is where TLS is to be spoken, and how its certificate is verified.
type endpoint struct {
	where, url string
	tls        *tls.Config
}

// askCertificates connects to every member's REST API and to etcd's endpoints, as
// far as they are to speak TLS.
func (f *Facts) askCertificates(ctx context.Context) {
	var ends []endpoint
	rest, err := restapi.ClientTLS(f.Config.Local.Ctl, false)
	if err != nil {
		f.Skipped = append(f.Skipped, "certificates of the REST API: "+errText(err))
		rest = nil
	}
	for i := range f.Members {
		if m := &f.Members[i]; rest != nil {
			ends = append(ends, endpoint{m.Name, m.APIURL, rest})
		}
	}
	e := &f.Config.Local.Etcd
	conf, err := etcd.LoadTLS(e.CACert, e.Cert, e.Key)
	if conf == nil { // no file is named: the system's authorities
		conf = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if err != nil {
		f.Skipped = append(f.Skipped, "certificates of etcd: "+errText(err))
	} else {
		for _, u := range f.etcdURLs(e) {
			ends = append(ends, endpoint{inEtcd, u, conf})
		}
	}
	found := make([]*Certificate, len(ends))
	var group sync.WaitGroup
	for i := range ends {
		group.Go(func() { found[i] = ends[i].ask(ctx, f.Now) })
	}
	group.Wait()
	for _, c := range found {
		if c != nil {
			f.Certificates = append(f.Certificates, *c)
		}
	}
}

// etcdURLs are the endpoints of the file, and those etcd itself names.
func (f *Facts) etcdURLs(e *config.Etcd) []string {
	urls := e.Endpoints()
	if f.Etcd != nil {
		for _, ep := range f.Etcd.Endpoints {
			if !slices.Contains(urls, ep.URL) {
				urls = append(urls, ep.URL)
			}
		}
	}
	return urls
}

// ask makes a handshake and verifies what was presented: dates, chain and name
// each for itself. Nil: no TLS is to be spoken there, or nobody listens, which
// other checks tell of.
func (e *endpoint) ask(ctx context.Context, now time.Time) *Certificate {
	u, err := url.Parse(e.url)
	if err != nil || u.Scheme != "https" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, tlsTime)
	defer cancel()
	addr := u.Host
	if u.Port() == "" {
		addr = net.JoinHostPort(u.Hostname(), "443")
	}
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil
	}
	defer func() { _ = raw.Close() }()
	conf := e.tls.Clone()
	conf.InsecureSkipVerify = true //nolint:gosec // verified below, in parts
	conf.ServerName = u.Hostname()
	c := &Certificate{Where: e.where, Addr: addr}
	conn := tls.Client(raw, conf)
	if err := conn.HandshakeContext(ctx); err != nil {
		c.Silence = errText(err)
		return c
	}
	c.judge(conn.ConnectionState().PeerCertificates, conf.RootCAs, u.Hostname(), now)
	return c
}

func (c *Certificate) judge(chain []*x509.Certificate, roots *x509.CertPool, host string, now time.Time) {
	if len(chain) == 0 {
		c.Silence = "it presents no certificate"
		return
	}
	leaf := chain[0]
	c.From, c.Until = leaf.NotBefore, leaf.NotAfter
	o := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), CurrentTime: now}
	for _, more := range chain[1:] {
		o.Intermediates.AddCert(more)
		if more.NotAfter.Before(c.Until) {
			c.Until = more.NotAfter
		}
		if more.NotBefore.After(c.From) {
			c.From = more.NotBefore
		}
	}
	if now.Before(c.From) || now.After(c.Until) {
		o.CurrentTime = c.From // whom it is by does not depend on the date
	}
	var expired x509.CertificateInvalidError
	if _, err := leaf.Verify(o); errors.As(err, &expired) && expired.Reason == x509.Expired {
		c.Chain = "its authority has expired"
	} else if err != nil {
		c.Chain = errText(err)
	}
	if err := leaf.VerifyHostname(host); err != nil {
		c.Name = errText(err)
	}
}

// certificateSoon is how long before its end a certificate is worth a warning.
const certificateSoon = 14 * 24 * time.Hour

// certificates judges what was presented. etcd's are always verified; those of
// members by pghactl and, with pgha.verify_peers, by the other members.
func certificates(f *Facts) (out []Finding) {
	for i := range f.Certificates {
		c := &f.Certificates[i]
		verified := Error
		if c.Where != inEtcd && !f.Config.PGHA.VerifyPeers {
			verified = Warning
		}
		say := func(s Severity, cure, seen string, args ...any) {
			out = append(out, one(s, c.Where, cure, "at "+c.Addr+" "+seen, args...)...)
		}
		day := c.Until.UTC().Format(time.DateOnly)
		switch {
		case c.Silence != "":
			say(Error, "see which certificate and key it is configured with, and whether it wants one of its clients", "there is no TLS handshake: %s", c.Silence)
			continue
		case f.Now.After(c.Until):
			say(verified, "renew it, and reload", "the certificate has expired on %s", day)
		case f.Now.Before(c.From):
			say(verified, "check the clocks, or wait", "the certificate is not valid before %s", c.From.UTC().Format(time.DateOnly))
		case c.Until.Sub(f.Now) < certificateSoon:
			say(Warning, "renew it, and reload", "the certificate expires on %s", day)
		}
		cure := "let ctl.cacert name the authority that has signed it"
		if c.Where == inEtcd {
			cure = "let etcd3.cacert name the authority that has signed it"
		}
		if c.Chain != "" {
			say(verified, cure, "the certificate is not trusted here: %s", c.Chain)
		}
		if c.Name != "" {
			say(verified, "put the name or address by which it is called into the certificate (subjectAltName)", "the certificate is another's: %s", c.Name)
		}
	}
	return out
}
