package leash

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func FuzzCut(f *testing.F) {
	good, _ := encode(request{ID: 1, Op: opStatus})
	f.Add(good)
	f.Add(append(append([]byte{}, good...), good[:3]...))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, buf []byte) {
		body, rest, err := cut(buf)
		if err != nil || body == nil {
			if !bytes.Equal(rest, buf) {
				t.Error("an incomplete message was consumed")
			}
			return
		}
		if headerSize+len(body)+len(rest) != len(buf) || len(body) > maxMessage {
			t.Errorf("%d bytes cut into %d and %d", len(buf), len(body), len(rest))
		}
	})
}

func TestEncodeRefusesLargeMessages(t *testing.T) {
	if _, err := encode(request{Reason: strings.Repeat("x", maxMessage)}); !errors.Is(err, errMessageSize) {
		t.Errorf("got %v", err)
	}
}

func testRecord(t testing.TB) *record {
	t.Helper()
	r, err := openRecord(filepath.Join(t.TempDir(), recordName), true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	r.reset([2]uint64{1, 2})
	return r
}

func TestRecord(t *testing.T) {
	r := testRecord(t)
	if e := r.extension(); e != (Extension{}) {
		t.Errorf("an empty record extends: %+v", e)
	}
	want := Extension{Epoch: 7, Deadline: 1 << 60}
	r.writeExtension(want)
	if e := r.extension(); e != want {
		t.Errorf("got %+v", e)
	}
	p := published{Armed: true, Epoch: 7, Deadline: 9, Highest: 8, Latched: 6, Lmax: 5, PID: 4, ServerPID: 3, Phase: Fencing, Etcd: 1 << 63}
	r.publish(p)
	if got, ok := r.published(); !ok || got != p {
		t.Errorf("got %+v, %v", got, ok)
	}

	r.store(blockAgent, r.load(blockAgent)|1) // a writer died half way
	if e := r.extension(); e != (Extension{}) {
		t.Errorf("a torn record extends: %+v", e)
	}
	r.writeExtension(want)
	if e := r.extension(); e != want {
		t.Errorf("the writer after a dead one: %+v", e)
	}
	r.store(blockAgent+2, 12345) // a value the checksum does not cover
	if e := r.extension(); e != (Extension{}) {
		t.Errorf("a garbled record extends: %+v", e)
	}
	if err := r.check([2]uint64{1, 3}); err == nil {
		t.Error("a record of another boot was taken")
	}
	r.writeExtension(want)
	r.salt = salt([2]uint64{1, 2})
	if e := r.extension(); e != (Extension{}) {
		t.Errorf("an extension of another boot: %+v", e)
	}
}

// TestRecordConcurrent: a reader sees whole extensions, whenever it looks.
// TestLastExtension: the record of a leash that is gone tells its last deadline, and
// one of another boot tells nothing.
func TestLastExtension(t *testing.T) {
	dir := t.TempDir()
	if _, err := LastExtension(dir); err == nil {
		t.Error("a deadline without a record")
	}
	r, err := openRecord(filepath.Join(dir, recordName), true)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	r.reset(boot)
	r.publish(published{Epoch: 7, Deadline: 100})
	if e, err := LastExtension(dir); err != nil || e != (Extension{Epoch: 7, Deadline: 100}) {
		t.Errorf("as armed: %+v, %v", e, err)
	}
	r.writeExtension(Extension{Epoch: 7, Deadline: 200})
	if e, err := LastExtension(dir); err != nil || e != (Extension{Epoch: 7, Deadline: 200}) {
		t.Errorf("extended: %+v, %v", e, err)
	}
	boot[0]++
	r.reset(boot)
	if e, err := LastExtension(dir); !errors.Is(err, errRecord) {
		t.Errorf("another boot: %+v, %v", e, err)
	}
}

func TestRecordConcurrent(t *testing.T) {
	r := testRecord(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := int64(1); i <= 20_000; i++ {
			r.writeExtension(Extension{Epoch: i, Deadline: -i})
		}
	}()
	for {
		if e := r.extension(); e.Epoch != -e.Deadline {
			t.Fatalf("a torn extension: %+v", e)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

// FuzzRecord: whatever is in the memory, a deadline never moves beyond the clamp.
func FuzzRecord(f *testing.F) {
	f.Add(uint64(2), int64(5), at+900, uint64(0))
	f.Add(uint64(3), int64(5), at+lmax+1, uint64(1))
	f.Fuzz(func(t *testing.T, seq uint64, epoch, deadline int64, sum uint64) {
		r := testRecord(t)
		r.writeExtension(Extension{epoch, deadline})
		if sum&1 == 1 {
			r.store(blockAgent, seq)
			r.store(blockAgent+1+agentWords, sum)
		}
		s, _, _ := Step(armed(), r.extension(), Tick{}, at)
		if s.Deadline < at+500 || s.Deadline > at+lmax || (s.Deadline != at+500 && epoch != 5) {
			t.Errorf("deadline %d by epoch %d", s.Deadline, epoch)
		}
	})
}

func TestOpenRecordRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, make := range map[string]func(path string) error{
		"short":    func(p string) error { return os.WriteFile(p, []byte("x"), 0o600) },
		"readable": func(p string) error { return os.WriteFile(p, make([]byte, recordSize), 0o644) },
		"link":     func(p string) error { return os.Symlink("/dev/null", p) },
	} {
		path := filepath.Join(dir, name)
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		if r, err := openRecord(path, false); err == nil {
			r.close()
			t.Errorf("%s: opened", name)
		}
	}
}

func TestRestoreAfterTornRecord(t *testing.T) {
	r := testRecord(t)
	r.publish(published{Armed: true, Epoch: 9, Highest: 9, Latched: 4})
	r.store(blockLeash, r.load(blockLeash)|1)
	if _, ok := r.published(); ok {
		t.Fatal("a torn block was read")
	}
	if got := r.highestEver(); got != 9 {
		t.Errorf("highest epoch %d, want 9", got)
	}
}

// TestSocket: files are private, and a peer that misbehaves costs only itself.
func TestSocket(t *testing.T) {
	r := newRig(t).spawn()
	for name, want := range map[string]os.FileMode{"": 0o700, socketName: 0o600, recordName: 0o600, lockName: 0o600} {
		info, err := os.Stat(filepath.Join(r.run, name))
		r.must(err)
		if info.Mode().Perm() != want {
			t.Errorf("%q has mode %o, want %o", name, info.Mode().Perm(), want)
		}
	}
	stranger := func() net.Conn {
		c, err := net.Dial("unix", filepath.Join(r.run, socketName))
		r.must(err)
		r.must(c.SetDeadline(time.Now().Add(3 * time.Second)))
		t.Cleanup(func() { c.Close() })
		return c
	}
	ended := func(what string, c net.Conn) {
		t.Helper()
		if n, err := c.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
			t.Errorf("%s: read %d bytes, %v; want the end", what, n, err)
		}
	}
	large := stranger()
	r.must(binary.Write(large, binary.LittleEndian, uint32(maxMessage+1)))
	ended("a large message", large)

	garbage := stranger()
	_, err := garbage.Write([]byte{3, 0, 0, 0, 'x', 'y', 'z'})
	r.must(err)
	ended("no JSON", garbage)

	rude := stranger()
	frame, err := encode(request{ID: 1, Op: opArm, Epoch: 1, Deadline: in(time.Second)})
	r.must(err)
	_, err = rude.Write(frame)
	r.must(err)
	head := make([]byte, headerSize)
	_, err = rude.Read(head)
	r.must(err)
	body := make([]byte, binary.LittleEndian.Uint32(head))
	_, err = rude.Read(body)
	r.must(err)
	var rep reply
	r.must(json.Unmarshal(body, &rep))
	if rep.Refusal == nil || rep.Status.Armed {
		t.Errorf("armed without a hello: %s", body)
	}

	deaf := stranger() // asks and never reads
	hello, err := encode(request{ID: 1, Op: opHello, Protocol: Protocol})
	r.must(err)
	_, err = deaf.Write(hello)
	r.must(err)
	ask, err := encode(request{ID: 2, Op: opStatus})
	r.must(err)
	for err == nil {
		_, err = deaf.Write(bytes.Repeat(ask, 100))
	}
	if os.IsTimeout(err) {
		t.Error("a peer that does not read was not cut off")
	}
	_, err = r.agent.Status(r.ctx)
	r.must(err)
	_, err = r.agent.call(r.ctx, request{Op: "dance"})
	r.refused(err, CodeInvalid)
	for _, other := range []int{Protocol - 1, Protocol + 1} { // an agent of another version: told so, and nothing else happens
		_, err = r.agent.call(r.ctx, request{Op: opHello, Protocol: other})
		r.refused(err, CodeProtocol)
		if text := err.Error(); strings.Contains(text, "\n") || !strings.Contains(text, fmt.Sprintf("agent speaks protocol %d", other)) || !strings.Contains(text, "stop PostgreSQL") {
			t.Errorf("the refusal says %q", text)
		}
	}
}

func TestParseStat(t *testing.T) {
	tail := " 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 4242 0 0"
	p, ok := parseStat([]byte("17 (a) (b c) S 3 17 17" + tail + "\n"))
	if want := (proc{pid: 17, ppid: 3, state: 'S', start: 0}); !ok || p.pid != want.pid || p.ppid != 3 || p.state != 'S' {
		t.Errorf("got %+v, %v", p, ok)
	}
	for _, bad := range []string{"", "17", "17 (x", "17 (x) S", "x (y) S 1" + tail} {
		if _, ok := parseStat([]byte(bad)); ok {
			t.Errorf("%q was taken", bad)
		}
	}
	self, ok := readProc(os.Getpid())
	if !ok || self.ppid != os.Getppid() || self.start == 0 {
		t.Errorf("self: %+v, %v", self, ok)
	}
}

func TestParsePidFile(t *testing.T) {
	full := "123\n/data\n1700000000\n5432\n/tmp\n*\n  5432001     98306\nready   \n"
	f, err := parsePidFile(full)
	if err != nil || f.pid != 123 || f.shm != (shm{key: 5432001, id: 98306, known: true}) {
		t.Errorf("got %+v, %v", f, err)
	}
	early, err := parsePidFile("123\n/data\n1700000000\n")
	if err != nil || early.pid != 123 || early.shm.known {
		t.Errorf("got %+v, %v", early, err)
	}
	if f, err := parsePidFile("-55\n"); err != nil || f.pid != -55 {
		t.Errorf("single-user: %+v, %v", f, err)
	}
	for _, bad := range []string{"", "x\n"} {
		if _, err := parsePidFile(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
