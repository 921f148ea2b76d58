# The two commands to know: make demo, make test.

GO = $(or $(shell scripts/find-go.sh),go)
# Debian builds Go with the toolchain switch off; go.mod may name a later one.
export GOTOOLCHAIN ?= auto
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS = -s -w -X github.com/pgha/pgha/internal/version.stamped=$(VERSION)
# Says every 15 s that something goes on when it does so in silence.
PROGRESS = scripts/progress.sh
# The tag leaves out gRPC's pages for browsers: without their templates the linker can
# drop every method that nothing calls, a sixth of each program.
BUILD = CGO_ENABLED=0 $(GO) build -tags grpcnotrace -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'
FUZZTIME ?= 10s
SIMTIME ?= 60s
CHAOSTIME ?= 2h
LONGMODES = sync,quorum
CHAOS = $(PROGRESS) breaking env PGHA_BIN=$(CURDIR)/bin $(GO) test -tags e2e -count=1 -timeout 12h -v ./test/chaos -run

.PHONY: all build man demo test vet unit e2e chaos chaos-quick chaos-long e2e-long backup interop interop-trixie test-pg17 bench systemd lint fuzz sim sim-long mutants cross clean

all: build

build:
	@echo "building the programs into bin/ (the first time takes some minutes)"
	@$(PROGRESS) building env $(BUILD) -o bin/ ./cmd/...

# A cluster of three nodes on this machine, shown act by act; the last act is
# about backups.
demo:
	@scripts/deps.sh backup
	@$(MAKE) --no-print-directory build
	bin/pghactl demo --tour --backup

# The manual pages of pghactl, into bin/man.
man:
	$(GO) run -buildvcs=false ./internal/ctl/manual bin/man

# Everything; installs what is missing.
test:
	@scripts/deps.sh test
	@$(MAKE) --no-print-directory vet unit e2e

vet:
	$(PROGRESS) vetting $(GO) vet ./...
	$(PROGRESS) vetting $(GO) vet -tags e2e ./test/...

unit:
	$(PROGRESS) testing $(GO) test -race -parallel 4 -timeout 20m ./...

# Real clusters; as root in network namespaces, otherwise on loopback.
e2e: build
	$(PROGRESS) testing $(GO) test -tags e2e -count=1 -timeout 90m -v ./test/e2e

# The rows that are too long for 'make test'; many of them about backups.
# ROWS=Disks runs those of that name only.
e2e-long:
	@scripts/deps.sh test
	@$(MAKE) --no-print-directory build
	$(PROGRESS) testing env PGHA_LONG=1 $(GO) test -tags e2e -count=1 -timeout 2h -v $(if $(ROWS),-run '$(ROWS)') ./test/e2e

# kill -9 at many points of backups and restores, all kinds of repositories.
backup:
	@$(MAKE) --no-print-directory e2e-long ROWS=Backup

# One cluster through many faults, as root; the tables go into docs/safety.md.
# ROWS=4,27 runs these rows only, PEER=patroni ours and Patroni with equal timings,
# MODES=async,sync other kinds of replication, TIMINGS=5/1/1 one set of timings
# (ttl/loop_wait/retry_timeout), SLACK=3 allows a busy machine three times the
# seconds until something happens (not for what must never be); CHAOS_RESUME=1 goes on where an
# interrupted run was.
chaos:
	@scripts/deps.sh $(if $(filter patroni,$(PEER)),patroni,chaos)
	@$(MAKE) --no-print-directory build
	$(CHAOS) 'TestChaos$$' -chaos.docs=$(CURDIR)/docs $(if $(ROWS),-chaos.rows=$(ROWS)) $(if $(PEER),-chaos.peer=$(PEER)) \
		$(if $(MODES),-chaos.modes=$(MODES)) $(if $(TIMINGS),-chaos.timings=$(TIMINGS)) $(if $(SLACK),-chaos.slack=$(SLACK)) $(if $(CHAOS_RESUME),-chaos.resume)

# Clusters with synchronous replication that live through ten faults each, one cluster
# after the other for CHAOSTIME; nothing acknowledged may be lost. The figures are added
# to those of earlier runs, in docs/safety.md.
chaos-long:
	@scripts/deps.sh chaos
	@$(MAKE) --no-print-directory build
	$(CHAOS) 'TestChaosLong$$' -chaos.docs=$(CURDIR)/docs -chaos.long=$(CHAOSTIME) -chaos.modes=$(or $(MODES),$(LONGMODES)) $(if $(SLACK),-chaos.slack=$(SLACK))

# A few short rows with a ttl of 5 s; nothing is written.
chaos-quick:
	@scripts/deps.sh chaos
	@$(MAKE) --no-print-directory build
	$(CHAOS) 'TestChaos$$' -chaos.quick -chaos.slack=4 $(if $(ROWS),-chaos.rows=$(ROWS))

# Clusters that hold Patroni's members as well, as root: Debian's Patroni, or the
# one that PGHA_PATRONI names.
interop:
	@scripts/deps.sh patroni
	@$(MAKE) --no-print-directory build
	$(PROGRESS) testing $(GO) test -tags e2e -count=1 -timeout 40m -v ./test/interop

# The same with the Patroni (4.0.7) and the vip-manager of Debian trixie, which are
# fetched once and not installed.
interop-trixie:
	@scripts/deps.sh chaos
	@$(MAKE) --no-print-directory build
	@programs=$$(test/interop/trixie.sh) && PGHA_PATRONI=$$programs/patroni PGHA_VIP_MANAGER=$$programs/vip-manager \
		$(PROGRESS) testing $(GO) test -tags e2e -count=1 -timeout 40m -v ./test/interop

# The driver's own tests, and the core of the end-to-end tests, with the PostgreSQL 17
# and the pgBackRest of Debian trixie, which are fetched once and not installed. As root.
PG17_ROWS = TestSwitchover|TestPowerOff|TestDivergent|TestSynchronous|TestSlots|TestFailoverSlots|TestCascade|TestStandbyCluster$$|TestBackupPosix
test-pg17:
	@scripts/deps.sh test
	@$(MAKE) --no-print-directory build
	@pgbin=$$(test/pg17/tree.sh) && export PGHA_PGBIN=$$pgbin PATH=$$pgbin:$$PATH && \
		$(PROGRESS) testing $(GO) test -count=1 -timeout 20m ./pkg/postgres && \
		$(PROGRESS) testing $(GO) test -tags e2e -count=1 -timeout 60m -v ./test/e2e -run '$(or $(ROWS),$(PG17_ROWS))'

# pgha beside Patroni, as root, on a machine that does nothing else meanwhile; the
# table goes into docs/benchmarks.md.
bench:
	@scripts/deps.sh patroni
	@$(MAKE) --no-print-directory build
	$(PROGRESS) measuring $(GO) test -tags e2e -count=1 -timeout 1h -v ./test/bench -run TestBench -bench.doc=$(CURDIR)/docs/benchmarks.md

# The units on a real systemd, in a container; as root, makes itself a Debian once.
systemd: build
	test/systemd/run.sh bin

lint:
	$(PROGRESS) linting golangci-lint run --build-tags e2e ./...

# Every fuzz target for FUZZTIME.
fuzz:
	@scripts/fuzz.sh "$(GO)" $(FUZZTIME)

# The simulator over random schedules for SIMTIME; docs/simulator.md.
sim:
	$(GO) test -count=1 -timeout 60m -v ./internal/sim -run 'TestSim$$' -sim.duration=$(SIMTIME)
	$(GO) test -count=1 -timeout 10m -v ./pkg/ha -run TestQuorumExhaustive -quorum.nodes=5

# Ten minutes of it; what was never reached, and is not explained, fails.
sim-long:
	$(GO) test -count=1 -timeout 60m -v ./internal/sim -run 'TestSim$$' -sim.duration=10m -sim.cover

# The simulator can fail: one guard removed after the other, each must be missed.
mutants:
	PGHA_MUTANTS=1 $(GO) test -count=1 -timeout 60m -v ./internal/sim ./internal/lab -run 'TestMutants|TestCheckersCanFail'

cross:
	@for arch in amd64 arm64; do \
		echo "linux/$$arch"; \
		$(PROGRESS) building env GOOS=linux GOARCH=$$arch $(BUILD) -o bin/linux-$$arch/ ./cmd/... || exit 1; \
	done

clean:
	rm -rf bin
