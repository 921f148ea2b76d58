package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const srvRetry = 5 * time.Second

// discover resolves SRV records and keeps the endpoints in step with etcd's
// member list: at start, and every ten TTLs (wire contract §4.4).
func (s *Store) discover(ctx context.Context) {
	for {
		wait := 10 * s.wanted()
		if err := s.discoverOnce(ctx); err != nil {
			wait = srvRetry
			s.log.Debug("etcd endpoints could not be discovered", "error", reason(err))
		}
		if pause(ctx, wait) != nil {
			return
		}
	}
}

func (s *Store) wanted() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.want
}

func (s *Store) discoverOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.RetryTimeout)
	defer cancel()
	if s.cfg.SRV != "" && len(s.Endpoints()) == 0 {
		urls, err := lookupSRV(ctx, &s.cfg)
		if err != nil {
			return err
		}
		if err := s.pool.set(shuffle(urls)); err != nil {
			return err
		}
	}
	if s.cfg.UseProxies {
		return nil
	}
	urls, err := s.memberURLs(ctx)
	if err != nil || len(urls) == 0 {
		return err
	}
	return s.pool.set(shuffle(urls))
}

// memberURLs asks etcd for the client URLs of its members, each once.
func (s *Store) memberURLs(ctx context.Context) ([]string, error) {
	var resp *clientv3.MemberListResponse
	err := s.call(ctx, request{op: "list etcd members", repeatable: true, read: true}, func(ctx context.Context, ep *endpoint) (err error) {
		resp, err = ep.client.MemberList(ctx, clientv3.WithSerializable())
		return err
	})
	if err != nil {
		return nil, err
	}
	var urls []string
	for _, m := range resp.Members {
		if m.IsLearner {
			continue
		}
		urls = appendURLs(urls, m.ClientURLs)
	}
	return urls, nil
}

// appendURLs adds those of texts that are URLs and not yet in the list.
func appendURLs(urls, texts []string) []string {
	for _, text := range texts {
		if url, err := normalise(text); err == nil {
			urls = appendNew(urls, url)
		}
	}
	return urls
}

func shuffle(urls []string) []string {
	rand.Shuffle(len(urls), func(i, j int) { urls[i], urls[j] = urls[j], urls[i] })
	return urls
}

// srvLabels in the order Patroni tries them.
var srvLabels = []string{"etcd-client-ssl", "etcd-client", "etcd-ssl", "etcd", "etcd-server-ssl", "etcd-server"}

// lookupSRV returns the endpoints of the first label that has records. For the
// -server labels the records name peers, which are asked for client URLs.
func lookupSRV(ctx context.Context, cfg *Config) ([]string, error) {
	for _, label := range srvLabels {
		service := "_" + label
		if cfg.SRVSuffix != "" {
			service += "-" + cfg.SRVSuffix
		}
		_, records, err := net.DefaultResolver.LookupSRV(ctx, "", "", service+"._tcp."+cfg.SRV)
		if err != nil || len(records) == 0 {
			continue
		}
		scheme := "http"
		if strings.Contains(label, "-ssl") {
			scheme = "https"
		}
		var urls []string
		for _, r := range records {
			host := net.JoinHostPort(strings.TrimSuffix(r.Target, "."), strconv.Itoa(int(r.Port)))
			urls = appendNew(urls, scheme+"://"+host)
		}
		if strings.Contains(label, "-server") {
			return clientURLs(ctx, cfg, urls)
		}
		return urls, nil
	}
	return nil, fmt.Errorf("no SRV record of etcd under %s", cfg.SRV)
}

// clientURLs asks peers, one after the other, for the members of their
// cluster.
func clientURLs(ctx context.Context, cfg *Config, peers []string) ([]string, error) {
	last := errors.New("no peer")
	for _, peer := range peers {
		var members []struct {
			ClientURLs []string `json:"clientURLs"`
		}
		body, err := httpGet(ctx, cfg, peer+"/members")
		if err == nil {
			err = json.Unmarshal(body, &members)
		}
		if err != nil {
			last = err
			continue
		}
		var urls []string
		for _, m := range members {
			urls = appendURLs(urls, m.ClientURLs)
		}
		if len(urls) > 0 {
			return urls, nil
		}
	}
	return nil, fmt.Errorf("ask etcd peers for client URLs: %w", last)
}

func httpGet(ctx context.Context, cfg *Config, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	tr := &http.Transport{TLSClientConfig: cfg.TLS, DisableKeepAlives: true, Proxy: nil}
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", req.URL.Host, resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, 1<<20))
}

// Endpoints lists the endpoints known now, the preferred one first.
func (s *Store) Endpoints() []string {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	var urls []string
	for _, ep := range s.pool.eps {
		if ep == s.pool.first {
			urls = append([]string{ep.url}, urls...)
		} else {
			urls = append(urls, ep.url)
		}
	}
	return urls
}
