package restapi

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// BenchmarkHandler measures the handlers alone.
func BenchmarkHandler(b *testing.B) {
	for _, path := range []string{"/primary", "/replica?lag=1MB", "/health", "/patroni", "/cluster", "/metrics"} {
		b.Run(path[1:], func(b *testing.B) {
			h := newServer(b, newAgent(b, "healthy-async", "pg-db-02"), Settings{}).Handler()
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil))
			}
		})
	}
}

// BenchmarkWire measures requests over 16 kept connections, client included.
func BenchmarkWire(b *testing.B) {
	for _, path := range []string{"/primary", "/replica", "/health", "/patroni", "/cluster", "/metrics"} {
		b.Run(path[1:], func(b *testing.B) {
			s := start(b, newAgent(b, "healthy-async", "pg-db-02"), Settings{})
			work := make(chan struct{}, 64)
			var wg sync.WaitGroup
			for range 16 {
				conn, err := net.Dial("tcp", s.Addr().String())
				if err != nil {
					b.Fatal(err)
				}
				defer func() { _ = conn.Close() }()
				wg.Go(func() {
					r := bufio.NewReader(conn)
					for range work {
						_, _ = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
						resp, err := http.ReadResponse(r, nil)
						if err != nil {
							b.Error(err)
							return
						}
						_, _ = io.Copy(io.Discard, resp.Body)
					}
				})
			}
			b.ResetTimer()
			for range b.N {
				work <- struct{}{}
			}
			close(work)
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
		})
	}
}
