// Package containers holds the tests that need a Docker daemon, under the build tag `containers` (make test-containers): the
// functions in Lambda's base image over Kafka and Redis in containers, and localdev/compose.yaml from `make up` to `make down`.
//
// tests/containers/up gets a daemon and the images. Where the public images cannot be pulled, stand-ins of their names are built
// from packages; the tests say which they ran on.
package containers
