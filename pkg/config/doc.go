// Package config reads what an operator writes: patroni.yml (a file or a
// directory), the PATRONI_* environment and the dynamic configuration under
// /config in the DCS (wire contract §1-§3).
//
// Load gives the node's own part (Local), ParseDynamic the cluster's (Dynamic),
// and EffectiveOf joins the two with Patroni's precedence rules (Effective).
// What is wrong or not understood comes back as Problems: one line each, with
// the place and the cure. One table (schema.go) knows every key.
package config
