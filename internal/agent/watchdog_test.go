package agent

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgha/pgha/internal/leash"
	"github.com/pgha/pgha/internal/watchdog"
	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/ha"
)

func withWatchdog(t *testing.T, text string) *config.Effective {
	t.Helper()
	path := filepath.Join(t.TempDir(), "patroni.yml")
	text = "name: n1\nscope: demo\netcd3: {host: '127.0.0.1:2379'}\nrestapi: {listen: '127.0.0.1:8008', connect_address: '127.0.0.1:8008'}\n" +
		"postgresql: {listen: '127.0.0.1:5432', connect_address: '127.0.0.1:5432', data_dir: /nowhere}\n" + text
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	local, problems, err := config.Load(path, nil)
	if err != nil || config.HasErrors(problems) {
		t.Fatalf("%v, %v", problems, err)
	}
	for _, p := range problems {
		if strings.Contains(p.String(), "watchdog") {
			t.Errorf("reported: %s", p)
		}
	}
	return config.EffectiveOf(local, nil)
}

// TestWatchdogOptions: the section and the lease make what the leash is told.
func TestWatchdogOptions(t *testing.T) {
	timing, err := ha.NewTiming(30*time.Second, 10*time.Second, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]struct {
		mode           leash.WatchdogMode
		device, driver string
		needs          string
	}{
		"": {leash.WatchdogAutomatic, "/dev/watchdog", watchdog.DriverLinux, ""},
		"watchdog: {mode: required, device: /dev/watchdog1, safety_margin: -1}\n": {leash.WatchdogRequired, "/dev/watchdog1", watchdog.DriverLinux, ""},
		"watchdog: {mode: automatic, device: /tmp/dog, driver: testing}\n":        {leash.WatchdogAutomatic, "/tmp/dog", watchdog.DriverTesting, ""},
		"watchdog: {mode: off}\n":                          {leash.WatchdogOff, "/dev/watchdog", watchdog.DriverLinux, ""},
		"pgha: {leash: off}\n":                             {leash.WatchdogOff, "/dev/watchdog", watchdog.DriverLinux, ""},
		"pgha: {leash: off}\nwatchdog: {mode: required}\n": {leash.WatchdogOff, "/dev/watchdog", watchdog.DriverLinux, "switch the leash on"},
	} {
		e := withWatchdog(t, text)
		o := watchdogOptions(e, timing)
		if o.Mode != want.mode || o.Device != want.device || o.Driver != want.driver ||
			o.Timeout != 5*time.Second || o.Longest != 9*time.Second || o.Tail != 2100*time.Millisecond {
			t.Errorf("%q: %+v, want %+v", text, o, want)
		}
		if got := settings(e).WatchdogRequired; got != strings.Contains(text, "required") {
			t.Errorf("%q: required %v", text, got)
		}
		err := watchdogNeedsLeash(e)
		if want.needs == "" && err != nil || want.needs != "" && (err == nil || !strings.Contains(err.Error(), want.needs)) {
			t.Errorf("%q: %v, want %q", text, err, want.needs)
		}
	}
}

// TestWatchdogFault: when a node that must have the watchdog counts as one without.
func TestWatchdogFault(t *testing.T) {
	dog := filepath.Join(t.TempDir(), "dog")
	if err := unix.Mkfifo(dog, 0o600); err != nil {
		t.Fatal(err)
	}
	o := leash.WatchdogOptions{Mode: leash.WatchdogRequired, Driver: watchdog.DriverTesting, Device: dog}
	with := func(w leash.WatchdogStatus, armed bool) leash.Status {
		return leash.Status{PID: 7, Armed: armed, Watchdog: &w}
	}
	attached := &leash.Client{}
	for _, c := range []struct {
		name   string
		client *leash.Client
		status leash.Status
		change func(*keeper, *leash.WatchdogOptions)
		want   string
	}{
		{name: "no leash yet, the device is there"},
		{name: "no leash yet, no device", change: func(_ *keeper, o *leash.WatchdogOptions) { o.Device += ".none" }, want: "does not exist"},
		{name: "not required", change: func(_ *keeper, o *leash.WatchdogOptions) { o.Mode, o.Device = leash.WatchdogAutomatic, "/none" }},
		{name: "an old leash", client: attached, status: leash.Status{PID: 7}, want: "of an earlier version"},
		{name: "in force", client: attached, status: with(leash.WatchdogStatus{InForce: true}, true)},
		{name: "in force, whatever the name says now", client: attached, status: with(leash.WatchdogStatus{InForce: true}, true),
			change: func(_ *keeper, o *leash.WatchdogOptions) { o.Device = "/none" }},
		{name: "lost", client: attached, status: with(leash.WatchdogStatus{Why: "it is gone", Failed: 1}, true), want: "it is gone"},
		{name: "required a moment ago, not told yet", client: attached, status: with(leash.WatchdogStatus{Why: "off"}, true),
			change: func(k *keeper, _ *leash.WatchdogOptions) { k.told = leash.WatchdogOptions{} }},
		{name: "an arm failed", client: attached, status: with(leash.WatchdogStatus{Why: "busy", Failed: leash.Now()}, false), want: "busy"},
		{name: "an arm failed long ago", client: attached, status: with(leash.WatchdogStatus{Why: "busy", Failed: leash.Now() - int64(2*time.Minute)}, false)},
		{name: "not armed", client: attached, status: with(leash.WatchdogStatus{Why: "it is opened later"}, false)},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := o
			k := newKeeper("/nowhere", func() leash.SpawnOptions { return leash.SpawnOptions{Watchdog: o} }, func() {}, slog.New(slog.DiscardHandler))
			k.client, k.status, k.told = c.client, c.status, o
			if c.change != nil {
				c.change(k, &o)
			}
			got := k.Status().Watchdog
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("fault %q, want %q", got, c.want)
			}
		})
	}
}

// TestSayWatchdog: what will not be had is said once, in one line.
func TestSayWatchdog(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "",
		"watchdog: {mode: off}\n": "",
		"watchdog: {mode: required, device: /none}\n":        "ERROR: this node cannot become primary, because watchdog.mode is required: watchdog.device /none does not exist",
		"watchdog: {mode: automatic, device: /none}\n":       "WARNING: the kernel watchdog will not be in force: watchdog.device /none does not exist",
		"watchdog: {mode: automatic}\npgha: {leash: off}\n":  "INFO: the kernel watchdog is not used: pgha.leash is off",
		"watchdog: {device: /dev/null, safety_margin: 25}\n": "WARNING: watchdog.safety_margin 25 leaves less than loop_wait",
		"watchdog: {device: /dev/null, safety_margin: 20}\n": "",
		"watchdog: {device: /dev/null, safety_margin: -1}\n": "",
		"watchdog: {device: /dev/null, driver: something}\n": `WARNING: the kernel watchdog will not be in force: watchdog.driver "something" is not known`,
	} {
		var out bytes.Buffer
		a := &agent{}
		log, flush := logTo(t, &out)
		a.log = log
		a.config.Store(withWatchdog(t, text))
		a.sayWatchdog()
		flush()
		if want == "" && out.Len() > 0 || !strings.Contains(out.String(), want) || strings.Count(out.String(), "\n") > 1 {
			t.Errorf("%q: %q, want %q", text, out.String(), want)
		}
	}
}
