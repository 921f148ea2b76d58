// Package logging is the agent's log: the section log of patroni.yml (wire
// contract §1.3) as a slog.Handler. Records are formatted by whoever logs and
// written by a goroutine of its own, so that a full disk or a pipe that nobody
// reads holds up nobody: what does not fit into the queue is counted and lost.
package logging
