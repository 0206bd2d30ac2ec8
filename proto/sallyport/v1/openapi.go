// Package sallyportv1 holds the messages and the service of Sallyport.
package sallyportv1

import _ "embed"

// OpenAPI is the OpenAPI document of the REST gateway, JSON, made by buf from the
// .proto files beside it.
//
//go:embed sallyport.swagger.json
var OpenAPI []byte
