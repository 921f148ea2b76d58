package ctl

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/etcdserver/etcdtest"
)

// etcdWith starts an etcd that holds the keys of a recorded state.
func etcdWith(t *testing.T, state string) (*etcdtest.Cluster, *clientv3.Client) {
	t.Helper()
	server := etcdtest.Start(t, etcdtest.Options{})
	client, err := clientv3.New(clientv3.Config{Endpoints: server.URLs(), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	data, err := os.ReadFile(filepath.Join("testdata/golden", state, "etcd.json"))
	if err != nil {
		t.Fatal(err)
	}
	var keys []struct{ Key, Value string }
	if err := json.Unmarshal(data, &keys); err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if _, err := client.Put(t.Context(), k.Key, k.Value); err != nil {
			t.Fatal(err)
		}
	}
	return server, client
}

// TestAgainstEtcd: the list of a real etcd, a failover request written to it,
// and what is said once it is gone.
func TestAgainstEtcd(t *testing.T) {
	const state = "07-member-stopped-failsafe-slots"
	server, client := etcdWith(t, state)
	newApp := func() *testApp {
		app := newTestApp(t, nil)
		app.Environ = []string{"PATRONI_SCOPE=pg-ha-cluster", "PATRONI_ETCD3_HOST=" + server.Members[0].Addr()}
		return app
	}

	app := newApp()
	if code := app.run("list"); code != 0 {
		t.Fatalf("exit %d: %s", code, app.err.String())
	}
	want := recordings(t, filepath.Join("testdata/golden", state, "cli.txt"))[0]
	if want.args != "list" || trim(app.out.String()) != trim(want.stdout) {
		t.Errorf("got\n%s\nwant\n%s", app.out.String(), want.stdout)
	}

	// Without a leader the order goes to the candidate; without its address,
	// into etcd.
	if _, err := client.Delete(t.Context(), goldenBase+"/leader"); err != nil {
		t.Fatal(err)
	}
	silent := `{"conn_url":"postgres://192.0.2.2:5432/postgres","state":"running","role":"replica","version":"4.1.4"}`
	if _, err := client.Put(t.Context(), goldenBase+"/members/pg-db-02", silent); err != nil {
		t.Fatal(err)
	}
	app = newApp()
	if code := app.run("failover", "--candidate", "pg-db-02", "--force"); code != 0 {
		t.Fatalf("exit %d: %s", code, app.err.String())
	}
	got, err := client.Get(t.Context(), goldenBase+"/failover")
	if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != `{"member":"pg-db-02"}` || got.Kvs[0].Lease != 0 {
		t.Errorf("failover key: %v, %v", got, err)
	}

	server.Members[0].Stop()
	app = newApp()
	start := time.Now()
	code := app.run("list")
	if took := time.Since(start); code != 1 || took > dcsTimeout+2*time.Second {
		t.Errorf("exit %d after %v", code, took)
	}
	text := app.err.String()
	if strings.Count(text, "\n") != 1 || !strings.Contains(text, "http://"+server.Members[0].Addr()) {
		t.Errorf("want one line that names the endpoint, got %q", text)
	}
}

// TestEtcdWithPasswords: no password, a wrong one, and a user that may only read.
func TestEtcdWithPasswords(t *testing.T) {
	server, client := etcdWith(t, healthy)
	ctx := t.Context()
	may := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	may(client.RoleAdd(ctx, "reader"))
	may(client.RoleGrantPermission(ctx, "reader", "/service/", clientv3.GetPrefixRangeEnd("/service/"), clientv3.PermissionType(clientv3.PermRead)))
	may(client.RoleAdd(ctx, "root"))
	for user, role := range map[string]string{"root": "root", "ops": "reader"} {
		may(client.UserAdd(ctx, user, "right"))
		may(client.UserGrantRole(ctx, user, role))
	}
	may(client.AuthEnable(ctx))

	for name, c := range map[string]struct {
		environ []string
		lines   []string
		verb    string
	}{
		"none":  {nil, []string{"list", "list --all", "pause"}, "read"},
		"wrong": {[]string{"PATRONI_ETCD3_USERNAME=ops", "PATRONI_ETCD3_PASSWORD=canary"}, []string{"list", "list --all", "pause", "edit-config -s ttl=31 --force", "switchover --force"}, "read"},
		"may not write": {[]string{"PATRONI_ETCD3_USERNAME=ops", "PATRONI_ETCD3_PASSWORD=right"},
			[]string{"edit-config -s ttl=31 --force", "remove pg-ha-cluster"}, ""},
	} {
		for _, line := range c.lines {
			t.Run(name+"/"+line, func(t *testing.T) {
				app := newTestApp(t, nil)
				app.Environ = append([]string{"PATRONI_SCOPE=pg-ha-cluster", "PATRONI_ETCD3_HOST=" + server.Members[0].Addr()}, c.environ...)
				app.answer("pg-ha-cluster\nYes I am aware\npg-db-02\n")
				oneLineOf(t, app, app.run(strings.Fields(line)...), "Error: cannot "+c.verb, "http://"+server.Members[0].Addr(), "refused by etcd", "check the user, the password and the permissions")
				if strings.Contains(app.err.String()+app.out.String(), "canary") {
					t.Errorf("the password shows in %q", app.err.String())
				}
			})
		}
	}
}
