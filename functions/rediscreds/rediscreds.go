// Package rediscreds makes the passwords with which ElastiCache and MemoryDB let a role of IAM in: a signed request to connect,
// which the server checks in the place of a password.
//
// https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth-iam.html
package rediscreds

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// The services.
const (
	ElastiCache           = "elasticache"
	ElastiCacheServerless = "elasticache-serverless"
	MemoryDB              = "memorydb"
)

// Services are all of them.
func Services() []string { return []string{ElastiCache, ElastiCacheServerless, MemoryDB} }

// expires is how long a password can be used to connect: the most that the servers take. A connection stays for 12 hours.
const expires = 15 * time.Minute

// emptyHash is the SHA-256 of no body.
const emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// ErrOptions is returned for options that no server can be reached with.
var ErrOptions = errors.New("rediscreds: options")

// Options say who connects to what. All but Now are needed.
type Options struct {
	User        string // the user's id, which has to be its name too
	Cache       string // name of the replication group, serverless cache or cluster
	Service     string // one of Services
	Region      string
	Credentials aws.CredentialsProvider
	Now         func() time.Time // nil: time.Now
}

// IAM returns what makes user and password for one connection. A password is signed each time, which takes microseconds: kept, it
// would only be older. It is as secret as any other; errors do not show it.
func IAM(o Options) (func(ctx context.Context) (user, password string, err error), error) {
	var errs []error
	for name, v := range map[string]string{"user": o.User, "cache": o.Cache, "region": o.Region} {
		if v == "" {
			errs = append(errs, fmt.Errorf("%w: no %s", ErrOptions, name))
		}
	}
	if !slices.Contains(Services(), o.Service) {
		errs = append(errs, fmt.Errorf("%w: the service must be %s, got %q", ErrOptions, strings.Join(Services(), ", "), o.Service))
	}
	if o.Credentials == nil {
		errs = append(errs, fmt.Errorf("%w: no credentials", ErrOptions))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	signer := v4.NewSigner()
	query := url.Values{"Action": {"connect"}, "User": {o.User}, "X-Amz-Expires": {strconv.Itoa(int(expires.Seconds()))}}
	service := o.Service
	if service == ElastiCacheServerless {
		service = ElastiCache
		query.Set("ResourceType", "ServerlessCache")
	}
	// The servers know their cache by its name in lower case.
	target := url.URL{Scheme: "http", Host: strings.ToLower(o.Cache), Path: "/", RawQuery: query.Encode()}
	return func(ctx context.Context) (string, string, error) {
		credentials, err := o.Credentials.Retrieve(ctx)
		if err != nil {
			return "", "", fmt.Errorf("credentials for the cache %s: %w", o.Cache, err)
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), http.NoBody)
		if err != nil {
			return "", "", fmt.Errorf("%w: the cache %q is no name", ErrOptions, o.Cache)
		}
		signed, _, err := signer.PresignHTTP(ctx, credentials, request, emptyHash, service, o.Region, o.Now())
		if err != nil {
			return "", "", fmt.Errorf("sign for the cache %s: %w", o.Cache, err)
		}
		return o.User, strings.TrimPrefix(signed, "http://"), nil
	}, nil
}
