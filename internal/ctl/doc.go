// Package ctl is pghactl: it asks a cluster through etcd and the members' REST
// API and gives orders the same way, with the commands, tables, prompts and
// exit codes of patronictl (wire contract §6).
package ctl
