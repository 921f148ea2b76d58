// Package prom serves metrics to Prometheus.
package prom

import (
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pgha/pgha/pkg/restapi/metric"
)

// Exporter makes the handler that serves the metrics read gives, each with these
// labels, and whatever else the registry holds.
func Exporter(registry *prometheus.Registry) func(labels map[string]string, read func() []metric.Metric) http.Handler {
	return func(labels map[string]string, read func() []metric.Metric) http.Handler {
		registry.MustRegister(&collector{labels: labels, read: read, descs: map[string]*prometheus.Desc{}})
		return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
			DisableCompression: true, // scrapers are near, CPU on a database host is dear
		})
	}
}

// collector reads at scrape time. Which metrics there are may change, so it
// describes none beforehand.
type collector struct {
	labels prometheus.Labels
	read   func() []metric.Metric

	mu    sync.Mutex
	descs map[string]*prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	for _, m := range c.read() {
		kind := prometheus.GaugeValue
		if m.Counter {
			kind = prometheus.CounterValue
		}
		var values []string
		if m.Label != "" {
			values = []string{m.Is}
		}
		ch <- prometheus.MustNewConstMetric(c.desc(m), kind, m.Value, values...)
	}
}

func (c *collector) desc(m metric.Metric) *prometheus.Desc {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.descs[m.Name]
	if d == nil {
		var names []string
		if m.Label != "" {
			names = []string{m.Label}
		}
		d = prometheus.NewDesc(m.Name, m.Help, names, c.labels)
		c.descs[m.Name] = d
	}
	return d
}
