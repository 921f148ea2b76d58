// Package configgen writes a patroni.yml to begin with (wire contract §7.1): a
// sample, or what a running server says about itself. What nobody but the
// operator can know is marked #FIXME.
package configgen
