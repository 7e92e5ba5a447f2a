// Package cloud is the one door of the functions to AWS: secrets, specs that are kept there, credentials, and the invocation of
// another function. Nothing is asked before it is needed, and every call is bounded: an invocation has seconds, not minutes.
//
// Region and credentials come from the environment alone, as Lambda gives them. The whole chain of the SDK (shared files, SSO,
// instance roles) makes a program 1.7 MB larger and its start 1 ms of CPU longer, for what a function never has.
package cloud

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
)

// Names of variables that every AWS program knows.
const (
	envRegion   = "AWS_REGION"
	envDefault  = "AWS_DEFAULT_REGION"
	envKey      = "AWS_ACCESS_KEY_ID"
	envSecret   = "AWS_SECRET_ACCESS_KEY" //nolint:gosec // a name
	envToken    = "AWS_SESSION_TOKEN"     //nolint:gosec // a name
	envEndpoint = "AWS_ENDPOINT_URL"
)

// Sentinels.
var (
	// ErrNoCredentials is wrapped by errors of calls that were never made, because the environment has no credentials.
	ErrNoCredentials = errors.New("cloud: no credentials: set " + envKey + " and " + envSecret)
	// ErrNoRegion is returned where a service of AWS is needed and nothing says in which region.
	ErrNoRegion = errors.New("cloud: no region: set " + envRegion)
	// ErrSource is returned for what is no place of a spec.
	ErrSource = errors.New("cloud: not a place of a spec")
	// ErrTooLarge is returned for a spec or secret beyond its bound.
	ErrTooLarge = errors.New("cloud: too large")
)

const (
	// callWithin bounds one call with all its tries.
	callWithin = 8 * time.Second
	// tries of one call; the pause between them is at most a second.
	tries = 3
)

// Cloud makes clients of services, each with its first use. It is safe for concurrent use.
type Cloud struct {
	getenv func(string) string
	http   *http.Client
}

// New returns the door; getenv is read with every use, so that it may be made where no AWS is.
func New(getenv func(string) string) *Cloud {
	dial := &net.Dialer{Timeout: 2 * time.Second, KeepAlive: 15 * time.Second}
	return &Cloud{getenv: getenv, http: &http.Client{
		Timeout: callWithin,
		// A redirect would carry a signed request, or a secret, elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: dial.DialContext, TLSHandshakeTimeout: 3 * time.Second,
			ResponseHeaderTimeout: 4 * time.Second, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 4,
			// A frozen function does not see its connections die: those that may have are not used again.
			IdleConnTimeout: 20 * time.Second,
		},
	}}
}

// Region is where the function runs; empty where the environment does not say.
func (c *Cloud) Region() string {
	if r := c.getenv(envRegion); r != "" {
		return r
	}
	return c.getenv(envDefault)
}

// Credentials are those of the environment, read each time: Lambda renews them with the process.
func (c *Cloud) Credentials() aws.CredentialsProvider { return environment{c.getenv} }

// environment implements aws.CredentialsProvider.
type environment struct{ getenv func(string) string }

// Retrieve implements aws.CredentialsProvider.
func (e environment) Retrieve(context.Context) (aws.Credentials, error) {
	c := aws.Credentials{AccessKeyID: e.getenv(envKey), SecretAccessKey: e.getenv(envSecret), SessionToken: e.getenv(envToken), Source: "environment"}
	if c.AccessKeyID == "" || c.SecretAccessKey == "" {
		return aws.Credentials{}, ErrNoCredentials
	}
	return c, nil
}

// config is what the clients of services share. service is its name in AWS_ENDPOINT_URL_<SERVICE>; endpoint is empty for AWS's own.
func (c *Cloud) config(service string) (config aws.Config, endpoint *string, err error) {
	config = aws.Config{
		Region: c.Region(), Credentials: c.Credentials(), HTTPClient: c.http,
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = tries, time.Second })
		},
	}
	if config.Region == "" {
		return config, nil, ErrNoRegion
	}
	for _, name := range []string{envEndpoint + "_" + service, envEndpoint} {
		if url := c.getenv(name); url != "" {
			return config, &url, nil
		}
	}
	return config, nil, nil
}

// bounded gives a call its time.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, callWithin, fmt.Errorf("no answer within %s: %w", callWithin, context.DeadlineExceeded))
}
