# The image of sallyport-agent for the Helm chart. From the repository's root:
#   docker build -f deployments/docker/agent.Dockerfile --build-arg VERSION=v0.1.0 .
# For arm64 as well: docker buildx build --platform linux/amd64,linux/arm64 …
FROM --platform=$BUILDPLATFORM golang:1.26-bookworm AS build
ARG TARGETOS=linux
ARG TARGETARCH=amd64
ARG VERSION=unknown
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -buildvcs=false -trimpath -tags agent \
    -ldflags "-s -w -X main.version=$VERSION" -o /sallyport-agent ./cmd/sallyport-agent

# Nothing but the program, and certificates that tls:// addresses are checked against.
FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /sallyport-agent /usr/local/bin/sallyport-agent
ENTRYPOINT ["/usr/local/bin/sallyport-agent"]
