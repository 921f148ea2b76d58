// Package ha decides what a node of a PostgreSQL cluster does next.
//
// Decide is a function of one Observation and nothing else: no clock, no I/O,
// no logger, no randomness, no goroutine. The loop (package loop) gathers the
// facts, calls Decide, performs the one action it returns, and looks again.
// Whatever facts cannot tell travels in Memory, from one decision into the
// next observation.
//
// Rows of the behaviour tables this package implements are named in comments
// and tests by their identifiers (S3, U1, R2, ...).
package ha
