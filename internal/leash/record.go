package leash

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The record is 4 KiB of memory shared by agent and leash, as 64-bit words.
// Each side writes one block and reads the other. A block is: sequence (odd
// while it is written), values, checksum. Nothing here makes a system call.
const (
	recordSize  = 4096
	recordMagic = 0x6873_6165_6c61_6867 // "ghaleash"

	wordMagic, wordVersion, wordBoot = 0, 1, 2 // boot id: 2 words
	blockAgent, agentWords           = 8, 2
	blockLeash, leashWords           = 32, 10
	wordBeat                         = 64 // on its own: a torn beat cannot be
)

var errRecord = errors.New("record: not one of this boot and version")

// published is the block of the leash.
type published struct {
	Armed, Suspended bool
	Epoch, Deadline  int64
	Highest, Latched int64
	Lmax             int64
	Etcd             uint64 // 0 in the record of an earlier version
	PID, ServerPID   int64
	Phase            Phase
}

type record struct {
	mem   []byte
	words *[recordSize / 8]uint64
	salt  uint32 // checksum of boot id and version: an old block never passes
}

// openRecord maps the file. Only the leash, under its lock, creates one.
func openRecord(path string, create bool) (*record, error) {
	flags := unix.O_RDWR | unix.O_CLOEXEC | unix.O_NOFOLLOW
	if create {
		flags |= unix.O_CREAT
	}
	fd, err := unix.Open(path, flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	if create {
		// All blocks now: a write to a hole on a full tmpfs is SIGBUS.
		if err := unix.Fallocate(fd, 0, 0, recordSize); err != nil {
			return nil, fmt.Errorf("allocate %s: %w", path, err)
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("stat %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != recordSize || int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0 {
		return nil, fmt.Errorf("open %s: not a private file of %d bytes owned by uid %d", path, recordSize, os.Geteuid())
	}
	mem, err := unix.Mmap(fd, 0, recordSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	return &record{mem: mem, words: (*[recordSize / 8]uint64)(unsafe.Pointer(&mem[0]))}, nil
}

func (r *record) close() {
	_ = unix.Munmap(r.mem) // only fails for a bad address
	r.mem, r.words = nil, nil
}

// check tells whether the record is of this boot and version, and must pass
// before any other method is used.
func (r *record) check(boot [2]uint64) error {
	r.salt = salt(boot)
	if r.load(wordMagic) != recordMagic || r.load(wordVersion) != Protocol ||
		r.load(wordBoot) != boot[0] || r.load(wordBoot+1) != boot[1] {
		return errRecord
	}
	return nil
}

// reset makes an empty record of this boot.
func (r *record) reset(boot [2]uint64) {
	for i := range r.words {
		r.store(i, 0)
	}
	r.salt = salt(boot)
	r.store(wordVersion, Protocol)
	r.store(wordBoot, boot[0])
	r.store(wordBoot+1, boot[1])
	r.store(wordMagic, recordMagic)
	r.publish(published{})
}

func salt(boot [2]uint64) uint32 {
	var b [24]byte
	binary.LittleEndian.PutUint64(b[0:], boot[0])
	binary.LittleEndian.PutUint64(b[8:], boot[1])
	binary.LittleEndian.PutUint64(b[16:], Protocol)
	return crc32.ChecksumIEEE(b[:])
}

func (r *record) load(i int) uint64     { return atomic.LoadUint64(&r.words[i]) }
func (r *record) store(i int, v uint64) { atomic.StoreUint64(&r.words[i], v) }

// LastExtension reads the deadline that an agent gave last to the leash of a run
// directory, running or not; the zero value when there was none. It is for those who
// look on: whoever acts on a deadline has it from Status.
func LastExtension(runDir string) (Extension, error) {
	boot, err := bootID()
	if err != nil {
		return Extension{}, err
	}
	doc, err := os.ReadFile(filepath.Join(runDir, recordName))
	if err != nil {
		return Extension{}, fmt.Errorf("read record: %w", err)
	}
	if len(doc) != recordSize {
		return Extension{}, fmt.Errorf("read record: %d bytes, not %d", len(doc), recordSize)
	}
	var words [recordSize / 8]uint64
	for i := range words {
		words[i] = binary.NativeEndian.Uint64(doc[8*i:])
	}
	r := &record{words: &words}
	if err := r.check(boot); err != nil {
		return Extension{}, err
	}
	e := r.extension()
	if p, ok := r.published(); ok && p.Deadline > e.Deadline {
		e = Extension{Epoch: p.Epoch, Deadline: p.Deadline}
	}
	return e, nil
}

// writeBlock is for one writer at a time. A writer that died half way left an
// odd sequence; the next one goes on from there.
func (r *record) writeBlock(at int, values []uint64) {
	seq := r.load(at) | 1
	r.store(at, seq)
	for i, v := range values {
		r.store(at+1+i, v)
	}
	r.store(at+1+len(values), uint64(r.sum(values)))
	r.store(at, seq+1)
}

// readBlock fails if the block is being written, was left half written, or
// does not match its checksum. It never waits for the writer.
func (r *record) readBlock(at int, values []uint64) bool {
	for range 8 {
		seq := r.load(at)
		if seq&1 == 1 {
			continue
		}
		for i := range values {
			values[i] = r.load(at + 1 + i)
		}
		sum := r.load(at + 1 + len(values))
		if r.load(at) == seq {
			return sum == uint64(r.sum(values))
		}
	}
	return false
}

func (r *record) sum(values []uint64) uint32 {
	var b [8]byte
	sum := r.salt
	for _, v := range values {
		binary.LittleEndian.PutUint64(b[:], v)
		sum = crc32.Update(sum, crc32.IEEETable, b[:])
	}
	return sum
}

func (r *record) writeExtension(e Extension) {
	r.writeBlock(blockAgent, []uint64{uint64(e.Epoch), uint64(e.Deadline)})
}

// extension is the last whole extension, or the zero value.
func (r *record) extension() Extension {
	var v [agentWords]uint64
	if !r.readBlock(blockAgent, v[:]) {
		return Extension{}
	}
	return Extension{Epoch: int64(v[0]), Deadline: int64(v[1])}
}

func (r *record) publish(p published) {
	var flags uint64
	if p.Armed {
		flags |= 1
	}
	if p.Suspended {
		flags |= 2
	}
	r.writeBlock(blockLeash, []uint64{flags, uint64(p.Epoch), uint64(p.Deadline), uint64(p.Highest),
		uint64(p.Latched), uint64(p.Lmax), uint64(p.PID), uint64(p.ServerPID), uint64(p.Phase), p.Etcd})
}

func (r *record) published() (published, bool) {
	var v [leashWords]uint64
	if !r.readBlock(blockLeash, v[:]) {
		return published{}, false
	}
	return published{
		Armed: v[0]&1 != 0, Suspended: v[0]&2 != 0, Epoch: int64(v[1]), Deadline: int64(v[2]),
		Highest: int64(v[3]), Latched: int64(v[4]), Lmax: int64(v[5]), PID: int64(v[6]),
		ServerPID: int64(v[7]), Phase: Phase(v[8]), Etcd: v[9],
	}, true
}

// highestEver reads a block that was left half written: the largest epoch in
// it, whatever its checksum.
func (r *record) highestEver() int64 {
	return int64(max(r.load(blockLeash+2), r.load(blockLeash+4), r.load(blockLeash+5)))
}

func (r *record) beat(now int64)  { r.store(wordBeat, uint64(now)) }
func (r *record) lastBeat() int64 { return int64(r.load(wordBeat)) }

// bootID identifies this boot of the kernel.
func bootID() ([2]uint64, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return [2]uint64{}, fmt.Errorf("read boot id: %w", err)
	}
	hex := strings.ReplaceAll(strings.TrimSpace(string(text)), "-", "")
	var id [2]uint64
	if len(hex) != 32 {
		return id, fmt.Errorf("read boot id: %d digits", len(hex))
	}
	if _, err := fmt.Sscanf(hex, "%016x%016x", &id[0], &id[1]); err != nil {
		return id, fmt.Errorf("read boot id: %w", err)
	}
	return id, nil
}
