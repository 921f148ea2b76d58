//go:build e2e

package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pgha/pgha/internal/lab"
)

const (
	connections   = 16
	floodDuration = 3 * time.Second
	// floodPatience bounds one request.
	floodPatience = 5 * time.Second
)

// flood is what one endpoint stood.
type flood struct {
	rate   float64 // complete answers a second
	p99    time.Duration
	failed int
}

// flood asks for path on all connections as quickly as the answers come. Any
// complete answer counts, whatever its status.
func (s *subject) flood(n *lab.Node, path string) flood {
	s.Helper()
	client := &http.Client{Timeout: floodPatience, Transport: &http.Transport{
		MaxIdleConnsPerHost: connections,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return s.Dial(ctx, address)
		},
	}}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(s.ctx, floodDuration)
	defer cancel()
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		took  []float64
		out   flood
		began = lab.Boottime()
	)
	for range connections {
		wg.Go(func() {
			var mine []float64
			failed := 0
			for ctx.Err() == nil {
				at := lab.Boottime()
				// Not ctx: a request in flight at the end is answered, too.
				if err := fetch(s.ctx, client, "http://"+n.REST+path); err != nil {
					failed++
				}
				mine = append(mine, float64(lab.Boottime()-at))
			}
			mu.Lock()
			defer mu.Unlock()
			took, out.failed = append(took, mine...), out.failed+failed
		})
	}
	wg.Wait()
	out.rate = float64(len(took)-out.failed) / (lab.Boottime() - began).Seconds()
	out.p99 = time.Duration(quantile(took, 0.99))
	return out
}

func fetch(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}

// memory is what a process takes, in MB; pss counts shared pages by part.
type memory struct{ rss, pss float64 }

func memoryOf(pid int) (memory, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return memory{}, err
	}
	defer func() { _ = f.Close() }()
	var m memory
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			continue
		}
		kb, _ := strconv.ParseFloat(fields[1], 64)
		switch fields[0] {
		case "Rss:":
			m.rss = kb / 1024
		case "Pss:":
			m.pss = kb / 1024
		}
	}
	return m, lines.Err()
}

// processorTime is how long the threads that the processes have now have run.
func processorTime(pids []int) (sum time.Duration, err error) {
	for _, pid := range pids {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		if err != nil {
			return 0, err
		}
		for _, path := range threads {
			doc, err := os.ReadFile(path)
			if err != nil {
				continue // it has just ended
			}
			first, _, _ := strings.Cut(string(doc), " ")
			ns, err := strconv.ParseInt(first, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", path, err)
			}
			sum += time.Duration(ns)
		}
	}
	return sum, nil
}
