# make demo and make test set up all that they need. See README.md.

TOOLS   := $(CURDIR)/.bin
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GO      := CGO_ENABLED=0 go
ROWS    ?= 10000000
LDFLAGS := -s -w -X main.version=$(VERSION)
# The whole-system tests and the demo need root; as another user they go through sudo.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo -E env PATH="$$PATH")

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: setup-demo build engine $(TOOLS)/act ## Watch a real workflow being attacked, in under three minutes
	$(AS_ROOT) go run ./test/demo

.PHONY: test
test: setup-test build engine $(TOOLS)/act $(TOOLS)/helm $(TOOLS)/kubectl-validate test-action ## Run every test: unit, Rego, kernel, the action, whole system
	$(AS_ROOT) go test -timeout 20m $(TESTFLAGS) ./...

.PHONY: test-action
test-action: setup-test action/node_modules ## Check the types of the GitHub Action and run its tests
	cd action && npm run --silent check && $(AS_ROOT) npm test --silent

.PHONY: test-newest-kernel
test-newest-kernel: setup-test ## Run the kernel side's tests on the newest kernel that Debian has
	go test -count 1 -tags newest -run TestNewest -v ./test/kernels

.PHONY: test-race
test-race: setup-test ## Run the tests of the concurrent parts under the race detector
	$(AS_ROOT) go test -race -short -timeout 15m ./agent/... ./detector/... ./notify/... ./report/... ./stream/...

.PHONY: build
build: ## Build bin/sallyport and bin/sallyport-agent
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/sallyport
	$(GO) build -trimpath -tags agent -ldflags '$(LDFLAGS)' -o bin/ ./cmd/sallyport-agent

.PHONY: engine
engine: build ## Fetch the embedded ClickHouse into the user's cache, once
	$(AS_ROOT) bin/sallyport db fetch

.PHONY: recordings
recordings: setup-demo build engine $(TOOLS)/act ## Record the runs of testdata/recordings again
	$(AS_ROOT) go run ./test/recordings

.PHONY: bench
bench: setup-bench build engine ## Measure cost, pipeline and latency against the goals
	$(AS_ROOT) go run ./test/bench

.PHONY: bench-agent
bench-agent: setup-bench build ## Measure what observing costs, against auditd and bpftrace
	$(AS_ROOT) go run ./test/bench -only cost,loss

.PHONY: bench-storage
bench-storage: setup-bench engine ## Measure what each column takes on disk, with several codecs
	go test -run '^$$' -bench Storage -benchtime 1x -timeout 10m ./ingest

.PHONY: bench-detector
bench-detector: ## Measure folding and judging on one core, memory, a restart, and event to webhook
	GOGC=400 go test -run '^$$' -bench 'Apply|JudgeNew|Memory|Restart' -benchtime 3s -count 3 -cpu 1 ./detector
	go test -run '^$$' -bench EventToWebhook -benchtime 20s -count 3 ./detector

.PHONY: bench-action
bench-action: setup-test build action/node_modules ## Measure the start and the end of the GitHub Action, with the real agent
	$(AS_ROOT) node action/bench.mjs

.PHONY: bench-alerts
bench-alerts: ## Simulate four weeks of 200 jobs: false alerts and attacks caught, ten times
	SALLYPORT_SEEDS=10 go test -count 1 -v -run Simulation ./detector

.PHONY: bench-harden
bench-harden: build ## Measure harden on 1,000 workflows beside actionlint and zizmor
	@[ -x $(TOOLS)/zizmor/bin/zizmor ] || { python3 -m venv $(TOOLS)/zizmor && $(TOOLS)/zizmor/bin/pip -q install zizmor==1.32.0; } || echo "zizmor cannot be had; it is left out"
	go run ./test/hardenbench

.PHONY: bench-dashboards
bench-dashboards: setup-bench engine ## Measure dashboards and inserts over many stored rows: ROWS=100000000
	SALLYPORT_ROWS=$(ROWS) go test -run '^$$' -bench Dashboards -benchtime 1x -timeout 60m ./deployments/grafana
	SALLYPORT_ROWS=$(ROWS) go test -run '^$$' -bench Stored -benchtime 1x -timeout 60m ./ingest

.PHONY: bench-pipeline
bench-pipeline: setup-bench build engine ## Measure stream to queryable rows, against clickhouse-go alone
	$(AS_ROOT) go run ./test/bench -only pipeline

.PHONY: lint
lint: $(TOOLS)/golangci-lint $(TOOLS)/buf ## Lint Go, protobuf and workflows, check that proto stays compatible
	$(TOOLS)/buf lint
	scripts/buf-breaking $(TOOLS)/buf
	go vet ./...
	go vet -tags newest ./test/kernels
	$(TOOLS)/golangci-lint run
	go run github.com/rhysd/actionlint/cmd/actionlint
	go run ./cmd/sallyport harden --check --offline .github

.PHONY: generate
generate: setup-generate generate-proto generate-github generate-action ## Make all generated files again
	go generate ./...

.PHONY: generate-proto
generate-proto: $(TOOLS)/buf $(TOOLS)/protoc-gen-go $(TOOLS)/protoc-gen-go-grpc $(TOOLS)/protoc-gen-grpc-gateway $(TOOLS)/protoc-gen-openapiv2
	$(TOOLS)/buf generate
	@# What the API needs is left out of the agent (tag agent): gRPC alone doubles it.
	for f in service identity; do sed -i '1i //go:build !agent\n' proto/sallyport/v1/$${f}_grpc.pb.go proto/sallyport/v1/$$f.pb.gw.go; done

.PHONY: generate-action
generate-action: action/node_modules
	cd action && npm run --silent build

action/node_modules: action/package.json action/package-lock.json
	cd action && npm ci --silent
	@touch $@

# GitHub's own description of its API, to which the fake of the tests is held.
GITHUB_REST    = @octokit/openapi@23.0.2
GITHUB_GRAPHQL = @octokit/graphql-schema@15.26.1

.PHONY: generate-github
generate-github: $(TOOLS)/github/api.github.com.json $(TOOLS)/github/schema.graphql
	go run ./test/githubfake/contract/cut -rest $(TOOLS)/github/api.github.com.json -graphql $(TOOLS)/github/schema.graphql -dir test/githubfake/contract
	go run ./harden/routes/list -rest $(TOOLS)/github/api.github.com.json -out harden/routes/operations.txt

$(TOOLS)/github/api.github.com.json: PACKAGE = $(GITHUB_REST)
$(TOOLS)/github/schema.graphql:      PACKAGE = $(GITHUB_GRAPHQL)
$(TOOLS)/github/%: Makefile
	@echo "fetching $(PACKAGE)"
	@mkdir -p $(TOOLS)/github && rm -rf $(TOOLS)/github/$*.tmp && mkdir $(TOOLS)/github/$*.tmp
	@cd $(TOOLS)/github/$*.tmp && npm pack --silent $(PACKAGE) >/dev/null && tar xzf *.tgz && find . -name '$*' -exec mv {} ../$* \;
	@rm -rf $(TOOLS)/github/$*.tmp && touch $@

.PHONY: check-generated
check-generated: generate ## Fail if a committed generated file is out of date
	@git diff --exit-code -- . ':!go.mod' ':!go.sum' || { echo "generated files are out of date: run make generate and commit"; exit 1; }

.PHONY: clean
clean: ## Remove what was built here (not the engine in the user's cache)
	rm -rf bin .bin .demo action/node_modules action/.test

.PHONY: setup-demo setup-test setup-generate setup-bench
setup-demo setup-test setup-generate setup-bench: setup-%:
	@scripts/setup $*

# Tools, each at one version, built from their Go modules.
$(TOOLS)/act:                     MODULE = github.com/nektos/act@v0.2.89
$(TOOLS)/buf:                     MODULE = github.com/bufbuild/buf/cmd/buf@v1.75.0
$(TOOLS)/helm:                    MODULE = helm.sh/helm/v3/cmd/helm@v3.22.0
$(TOOLS)/kubectl-validate:        MODULE = sigs.k8s.io/kubectl-validate@v0.0.4
$(TOOLS)/golangci-lint:           MODULE = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
$(TOOLS)/protoc-gen-go:           MODULE = google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
$(TOOLS)/protoc-gen-go-grpc:      MODULE = google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
$(TOOLS)/protoc-gen-grpc-gateway: MODULE = github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-grpc-gateway@v2.33.0
$(TOOLS)/protoc-gen-openapiv2:    MODULE = github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-openapiv2@v2.33.0
$(TOOLS)/%:
	@echo "building $(MODULE)"
	@GOFLAGS= GOBIN=$(TOOLS) go install $(MODULE)
