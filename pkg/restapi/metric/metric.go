// Package metric is what the REST API says of itself in numbers. How they are
// served is a matter of package prom: who only calls the API does not link it.
package metric

// Metric is one value, as it is now.
type Metric struct {
	Name, Help string
	Counter    bool // a gauge otherwise
	// Label and Is are the name and value of a label of its own; "": it has none.
	Label, Is string
	Value     float64
}
