package etcd

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
)

// ProbeV2 reports whether the key space of protocol v2 holds keys of the
// cluster at base: then a Patroni configured with "etcd:" uses the scope, and
// what it writes there cannot be seen through v3. Each endpoint is asked over
// plain HTTP(S). One that does not answer, answers anything but JSON, or does
// not know the path (v2 is off by default since etcd 3.4) says no. The text
// names the endpoint that said yes.
func ProbeV2(ctx context.Context, endpoints []string, config *tls.Config, base string) (found bool, endpoint string) {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		says string
	)
	for _, text := range endpoints {
		url, err := normalise(text)
		if err != nil {
			continue
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			if probeV2(ctx, url, config, base) == nil {
				mu.Lock()
				says = url
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	return says != "", says
}

func probeV2(ctx context.Context, url string, config *tls.Config, base string) error {
	body, err := httpGet(ctx, &Config{TLS: config}, url+"/v2/keys"+base+"/")
	if err != nil {
		return err
	}
	var answer struct {
		Action string `json:"action"`
		Node   *struct {
			Nodes []json.RawMessage `json:"nodes"`
		} `json:"node"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("not the v2 API: %w", err)
	}
	if answer.Action != "get" || answer.Node == nil || len(answer.Node.Nodes) == 0 {
		return fmt.Errorf("no keys: %s", http.StatusText(http.StatusNotFound))
	}
	return nil
}
