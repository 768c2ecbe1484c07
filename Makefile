# The thirteen verbs. `make help` lists them.
SHELL := /bin/bash
GO ?= go
VERSION ?= 0.1.0-dev
LDFLAGS := -s -w -X main.version=$(VERSION)
export CGO_ENABLED ?= 0

.PHONY: help setup build demo test unit sim e2e nightly vm bench lint cover clean

help: ## list the verbs
	@grep -hE '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: ## install what is missing (Debian packages)
	hack/setup.sh

build: setup ## build bin/shoal, with the programs that travel in it
	hack/build-assets.sh
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/shoal ./cmd/shoal

demo: build ## three nodes on this machine, a service on the routing mesh, and a prompt to play
	@$(GO) build -o .cache/demo ./test/lab/demo && .cache/demo

test: lint unit ## everything that CI runs
	@$(MAKE) --no-print-directory -j2 sim e2e
	@hack/count-tests.sh

unit: build ## unit tests, with the race detector
	CGO_ENABLED=1 hack/go-test.sh unit -race $$($(GO) list ./... | grep -v /test/e2e | grep -v /test/bench | grep -v /test/sim)

sim: build ## the simulation, without the race detector: a thousand nodes in virtual time; beside the tests on real nodes it takes what these leave of the processors
	GOGC=400 nice -n 19 hack/go-test.sh sim -timeout 30m -parallel 6 ./test/sim/...

e2e: build ## tests on real nodes
	hack/go-test.sh e2e -timeout 30m -parallel 3 ./test/e2e/...

nightly: build ## what takes too long for every change: the same promises, held for longer
	GOGC=400 SHOAL_SEEDS=10000 hack/go-test.sh simulation -parallel 6 -timeout 6h -run ClustersSurvive ./test/sim
	SHOAL_NIGHTLY=1 hack/go-test.sh nightly -timeout 4h -run '^(TestUpdatesWhileDaemonsAreKilledCostNoRequest|TestTheLeaderIsKilledUnderWrites|TestChurnLeavesNothingBehind|TestLossyLinks|TestAWorkerIsCutOffUnderLoad)$$' ./test/e2e/...

bench: build ## figures, as ratios against a yardstick in the same run
	$(GO) test -run '^$$' -bench . -benchtime 1x -timeout 30m ./test/bench/... | cat
	$(GO) test -C test/bench/dns -run '^$$' -bench . -benchtime 1x | cat

vm: build ## power cuts, full disks, false clocks and upgrades on whole Debian machines (qemu, hours)
	hack/setup.sh qemu-system-x86 mmdebstrap e2fsprogs
	for release in $${SHOAL_VM_RELEASE:-bookworm trixie}; do \
		SHOAL_VM=1 SHOAL_VM_RELEASE=$$release $(GO) test ./test/vm -count 1 -v -timeout 4h $(if $(RUN),-run '$(RUN)') || exit 1; \
	done

lint: build ## linters and known vulnerabilities
	$(GO) vet ./...
	@mkdir -p .cache/bin
	$(GO) build -C hack/tools -o ../../.cache/bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	.cache/bin/golangci-lint run ./...
	$(GO) build -C hack/tools -o ../../.cache/bin/deadcode golang.org/x/tools/cmd/deadcode
	@echo deadcode -test ./...; dead=$$(.cache/bin/deadcode -test ./...) && [ -z "$$dead" ] || { echo "$$dead"; exit 1; } # no function that nothing calls
	$(GO) build -C hack/vuln -o ../../.cache/bin/govulncheck golang.org/x/vuln/cmd/govulncheck
	hack/vulncheck.sh

cover: build ## unit tests with coverage
	$(GO) test -coverprofile .cache/cover.out ./internal/... && $(GO) tool cover -func .cache/cover.out | tail -1

clean: ## remove what was built; the caches of images and programs too
	rm -rf bin .cache internal/runtime/assets/*.zst internal/runtime/assets/*.sum
