// Package server answers questions about runs, findings and baselines: the gRPC
// service in proto/sallyport/v1/service.proto, its REST gateway and its OpenAPI
// document. docs/api.md is for its users.
package server
