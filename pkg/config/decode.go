package config

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// parseDecimal reads plain decimal text, as Python's int() does.
func parseDecimal(s string) (int64, bool) {
	v, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	return v, err == nil
}

// decodeLocal builds the typed form of a checked tree. Values of a wrong type
// were reported by the checker and read as unset here.
func decodeLocal(root *node) *Local {
	l := &Local{
		Scope:     root.strAt("", "scope"),
		Name:      root.strAt(root.strAt("", "postgresql", "name"), "name"),
		Namespace: root.strAt("service", "namespace"),
		Log:       decodeLog(root.get("log")),
		RestAPI:   decodeRestAPI(root.get("restapi")),
		Bootstrap: decodeBootstrap(root.get("bootstrap")),
		Watchdog:  decodeWatchdog(root.get("watchdog")),
		Tags:      decodeTags(root.get("tags")),
		PGHA:      decodePGHA(root.get("pgha")),
		root:      root,
	}
	l.Ctl = decodeCtl(root.get("ctl"), l.RestAPI)
	for _, kind := range []string{"etcd", "etcd3"} {
		if sec := root.get(kind); sec.isMap() && sec.truthy() {
			l.Etcd, _ = decodeEtcd(kind, sec)
			if p := root.pair(kind); p.line > 0 {
				l.Etcd.Line = p.line
			}
			break
		}
	}
	return l
}

func decodeLog(n *node) Log {
	l := Log{
		Type:           n.strAt("plain", "type"),
		Level:          logLevel(n.strAt("INFO", "level")),
		TracebackLevel: strings.ToUpper(n.strAt("ERROR", "traceback_level")),
		DateFormat:     n.strAt("", "dateformat"),
		MaxQueueSize:   int(n.intAt(1000, "", "max_queue_size")),
		Dir:            n.strAt("", "dir"),
		FileSize:       n.intAt(25000000, "", "file_size"),
		FileNum:        int(n.intAt(4, "", "file_num")),
		Mode:           int(n.intAt(-1, "", "mode")),
		Loggers:        decodeOptions(n.get("loggers")),
		Deduplicate:    n.boolAt(false, "deduplicate_heartbeat_logs"),
	}
	if f := n.get("static_fields"); f.isMap() {
		l.StaticFields = f.settings()
	}
	if f := n.get("format"); f.isList() {
		l.Fields = decodeOptions(f)
	} else {
		l.Format = f.str()
	}
	return l
}

// logLevel maps the aliases of level names.
func logLevel(s string) string {
	switch s {
	case "WARN":
		return "WARNING"
	case "FATAL":
		return "CRITICAL"
	}
	return s
}

func decodeRestAPI(n *node) RestAPI {
	r := RestAPI{
		Listen:                  n.strAt("", "listen"),
		CertFile:                n.strAt("", "certfile"),
		KeyFile:                 n.strAt("", "keyfile"),
		KeyFilePassword:         Secret(n.strAt("", "keyfile_password")),
		CAFile:                  n.strAt("", "cafile"),
		Ciphers:                 n.strAt("", "ciphers"),
		VerifyClient:            strings.ToLower(n.strAt("", "verify_client")),
		Allowlist:               n.get("allowlist").strings(),
		AllowlistIncludeMembers: n.boolAt(false, "allowlist_include_members"),
		HTTPExtraHeaders:        decodeOptions(n.get("http_extra_headers")),
		HTTPSExtraHeaders:       decodeOptions(n.get("https_extra_headers")),
		RequestQueueSize:        int(n.intAt(5, "", "request_queue_size")),
		ServerTokens:            strings.ToLower(n.strAt("original", "server_tokens")),
	}
	r.Username, r.Password = decodeCredentials(n)
	r.ConnectAddress = n.strAt(r.Listen, "connect_address")
	return r
}

// decodeCredentials reads authentication of the sections restapi and ctl, or auth,
// its older form.
func decodeCredentials(n *node) (username string, password Secret) {
	if a := n.get("authentication"); a != nil {
		return a.strAt("", "username"), Secret(a.strAt("", "password"))
	}
	username, text, _ := strings.Cut(n.strAt("", "auth"), ":")
	return username, Secret(text)
}

func decodeCtl(n *node, r RestAPI) Ctl {
	c := Ctl{
		Insecure:        n.boolAt(false, "insecure"),
		CACert:          n.strAt(r.CAFile, "cacert"),
		CertFile:        n.strAt("", "certfile"),
		KeyFile:         n.strAt("", "keyfile"),
		KeyFilePassword: Secret(n.strAt("", "keyfile_password")),
	}
	c.Username, c.Password = decodeCredentials(n)
	if c.Username == "" && !c.Password.IsSet() {
		c.Username, c.Password = r.Username, r.Password
	}
	return c
}

// decodeEtcd resolves the endpoints of an etcd section (wire contract §1.6):
// proxy, else url, else hosts, else host. Its errors never show a URL, which
// may hold a password.
func decodeEtcd(kind string, n *node) (Etcd, error) {
	e := Etcd{
		Kind:       kind,
		Protocol:   n.strAt("http", "protocol"),
		Username:   n.strAt("", "username"),
		Password:   Secret(n.strAt("", "password")),
		CACert:     n.strAt("", "cacert"),
		Cert:       n.strAt("", "cert"),
		Key:        n.strAt("", "key"),
		SRV:        n.strAt(n.strAt(n.strAt("", "srv_domain"), "discovery_srv"), "srv"),
		SRVSuffix:  n.strAt("", "srv_suffix"),
		UseProxies: n.boolAt(false, "use_proxies"),
		Line:       n.line,
	}
	port := int(n.intAt(2379, "", "port"))
	switch {
	case n.get("proxy").truthy():
		e.UseProxies = true
		return e, e.setURL("proxy", n.strAt("", "proxy"))
	case n.get("url").truthy():
		return e, e.setURL("url", n.strAt("", "url"))
	case n.get("hosts").truthy():
		return e, e.setHosts(n.get("hosts"), port)
	case n.get("host").truthy():
		host, p, err := SplitHostPort(n.strAt("", "host"), port)
		if err != nil {
			return e, err
		}
		if !n.get("port").isNull() {
			p = port
		}
		e.Hosts = []string{JoinHostPort(host, p)}
		return e, nil
	case e.SRV != "":
		return e, nil
	}
	return e, errors.New("names no etcd server")
}

// setURL takes an endpoint with optional credentials.
func (e *Etcd) setURL(key, text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("%s is not a URL such as https://192.0.2.1:2379", key)
	}
	port := u.Port()
	if port == "" {
		port = "2379"
	}
	p, err := strconv.Atoi(port)
	if err != nil {
		return fmt.Errorf("%s has a bad port", key)
	}
	e.Protocol, e.Hosts = u.Scheme, []string{JoinHostPort(u.Hostname(), p)}
	if u.User != nil {
		e.Username = u.User.Username()
		pw, _ := u.User.Password()
		e.Password = Secret(pw)
	}
	return nil
}

// setHosts takes a list, or a comma-separated text.
func (e *Etcd) setHosts(n *node, port int) error {
	hosts := n.strings()
	if n.isScalar() {
		hosts = strings.Split(n.str(), ",")
	}
	for _, h := range hosts {
		h = strings.Trim(strings.TrimSpace(h), `"'`)
		if h == "" {
			continue
		}
		if strings.Contains(h, "://") {
			return errors.New("hosts takes host:port entries, not URLs")
		}
		host, p, err := SplitHostPort(h, port)
		if err != nil {
			return err
		}
		if host == "" || p < 1 || p > 65535 {
			return fmt.Errorf("%q is not host:port", h)
		}
		e.Hosts = append(e.Hosts, JoinHostPort(host, p))
	}
	if len(e.Hosts) == 0 {
		return errors.New("hosts is empty")
	}
	return nil
}

// decodeOptions reads a list of flags and one-pair maps, or a map, in order.
// Entries without a value in the map form are skipped.
func decodeOptions(n *node) []Option {
	var out []Option
	if n.isMap() {
		for _, p := range n.pairs {
			if p.value.isScalar() && p.value.str() != "" {
				out = append(out, Option{Name: p.key, Value: p.value.str()})
			}
		}
		return out
	}
	if !n.isList() {
		return nil
	}
	for _, it := range n.items {
		switch {
		case it.isScalar():
			out = append(out, Option{Name: it.str(), Flag: true})
		case it.isMap():
			for _, p := range it.pairs {
				if p.value.isScalar() {
					out = append(out, Option{Name: p.key, Value: p.value.str()})
				}
			}
		}
	}
	return out
}

func decodeBootstrap(n *node) Bootstrap {
	b := Bootstrap{
		Present:       n.truthy(),
		InitDB:        decodeOptions(n.get("initdb")),
		PGHBA:         n.get("pg_hba").strings(),
		Method:        n.strAt("initdb", "method"),
		PostBootstrap: n.strAt(n.strAt("", "post_init"), "post_bootstrap"),
	}
	if b.Method != "initdb" && n.get(b.Method, "command").truthy() {
		b.Custom = decodeMethod(b.Method, n.get(b.Method))
	} else if b.Method == NativeMethod {
		b.Repository = decodeRepositoryBootstrap(n.get(NativeMethod))
	}
	doc := newMap()
	if dcs := n.get("dcs"); dcs.isMap() {
		doc = dcs.clone()
	}
	// An unusable timing was reported as an error; the document stays as it is.
	_ = adjustTiming(doc)
	b.DCS = doc.json()
	return b
}

func decodeMethod(name string, n *node) *CustomMethod {
	m := &CustomMethod{
		Name:                     name,
		Command:                  n.strAt(name, "command"),
		NoParams:                 n.boolAt(false, "no_params"),
		NoLeader:                 n.boolAt(false, "no_leader"),
		KeepData:                 n.boolAt(false, "keep_data"),
		KeepExistingRecoveryConf: n.boolAt(false, "keep_existing_recovery_conf"),
		RecoveryConf:             scalarMap(n.get("recovery_conf")),
	}
	if !n.isMap() {
		return m
	}
	for _, p := range n.pairs {
		if p.key != "command" && p.key != "recovery_conf" {
			m.Options = append(m.Options, Option{Name: p.key, Value: p.value.printed()})
		}
	}
	return m
}

// scalarMap reads a map of GUC-like values, lower-casing nothing.
func scalarMap(n *node) map[string]string {
	if !n.isMap() {
		return nil
	}
	out := make(map[string]string, len(n.pairs))
	for _, p := range n.pairs {
		if v, ok := gucValue(p.value); ok {
			out[p.key] = v
		}
	}
	return out
}

func decodeWatchdog(n *node) Watchdog {
	w := Watchdog{
		Device:       n.strAt("/dev/watchdog", "device"),
		SafetyMargin: int(n.intAt(5, "s", "safety_margin")),
		Driver:       n.strAt("default", "driver"),
		Present:      n.truthy(),
	}
	switch strings.ToLower(n.strAt("automatic", "mode")) {
	case "auto", "automatic", "on", "true":
		w.Mode = "automatic"
	case "require", "required":
		w.Mode = "required"
	default:
		w.Mode = "off"
	}
	return w
}

func decodePGHA(n *node) PGHA {
	p := PGHA{
		Leash:         strings.ToLower(n.strAt("auto", "leash")),
		RestAPIStrict: n.boolAt(false, "restapi_strict"),
		VerifyPeers:   n.boolAt(false, "verify_peers"),
		DCSCommands:   !strings.EqualFold(n.strAt("allow", "dcs_commands"), "deny"),
		RunDir:        n.strAt("", "run_dir"),
		Backup:        decodeBackup(n.get("backup")),
		LogKeep:       seconds(max(n.intAt(0, "s", "postgresql_log_keep"), 0)),
		SlotBudgets:   decodeSlotBudgets(n),
	}
	if v, ok := parseBoolText(p.Leash); ok {
		p.Leash = "off"
		if v {
			p.Leash = "on"
		}
	}
	if v, ok := parseBoolText(n.strAt("", "dcs_commands")); ok {
		p.DCSCommands = v
	}
	return p
}
