// Package restapi serves and speaks the REST API on port 8008 (wire contract
// §5). Server answers load balancers, Prometheus, operators and peers from the
// published ha.View; Client is the other side, used by the loop, which elects
// by its peers' answers, and by pghactl.
//
// The rules are pure: Evaluate (health.go) maps a path, its query, a View and
// the clock to a status code. A health check never waits for PostgreSQL or
// etcd; WAL positions come from a Sampler, which shares one query among all
// requests of a tenth of a second and gives up quickly.
package restapi
