package rediscreds

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

var at = time.Date(2026, 3, 1, 12, 34, 56, 0, time.UTC)

func fixed(token string) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", SessionToken: token}, nil //nolint:gosec // AWS's own example
	})
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// sign is Signature Version 4 of a query, written from its description alone:
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
func sign(host, service, region string, query map[string]string) string {
	names := make([]string, 0, len(query))
	for n := range query {
		names = append(names, n)
	}
	sort.Strings(names)
	parts := make([]string, len(names))
	for i, n := range names {
		parts[i] = n + "=" + strings.ReplaceAll(url.QueryEscape(query[n]), "+", "%20")
	}
	canonical := "GET\n/\n" + strings.Join(parts, "&") + "\nhost:" + host + "\n\nhost\n" + fmt.Sprintf("%x", sha256.Sum256(nil))
	scope := at.Format("20060102") + "/" + region + "/" + service + "/aws4_request"
	text := "AWS4-HMAC-SHA256\n" + at.Format("20060102T150405Z") + "\n" + scope + "\n" + fmt.Sprintf("%x", sha256.Sum256([]byte(canonical)))
	key := mac(mac(mac(mac([]byte("AWS4"+"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"), at.Format("20060102")), region), service), "aws4_request")
	return hex.EncodeToString(mac(key, text))
}

func TestThePasswordIsASignedRequestToConnect(t *testing.T) {
	for name, c := range map[string]struct {
		options Options
		token   string
		service string
		more    map[string]string
	}{
		"elasticache":            {Options{User: "tidemark", Cache: "Store", Service: ElastiCache, Region: "eu-west-3"}, "", "elasticache", nil},
		"elasticache serverless": {Options{User: "tidemark", Cache: "store", Service: ElastiCacheServerless, Region: "us-east-1"}, "a+b/c=", "elasticache", map[string]string{"ResourceType": "ServerlessCache", "X-Amz-Security-Token": "a+b/c="}},
		"memorydb":               {Options{User: "t-1", Cache: "store", Service: MemoryDB, Region: "us-east-1"}, "token", "memorydb", map[string]string{"X-Amz-Security-Token": "token"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := c.options
			o.Credentials, o.Now = fixed(c.token), func() time.Time { return at }
			get, err := IAM(o)
			if err != nil {
				t.Fatal(err)
			}
			user, password, err := get(t.Context())
			if err != nil || user != o.User {
				t.Fatalf("user %q, %v", user, err)
			}
			host, rest, ok := strings.Cut(password, "/?")
			got, err := url.ParseQuery(rest)
			if !ok || err != nil || host != "store" {
				t.Fatalf("host %q, %v in %q", host, err, password)
			}
			want := map[string]string{
				"Action": "connect", "User": o.User, "X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Date": "20260301T123456Z", "X-Amz-Expires": "900", "X-Amz-SignedHeaders": "host",
				"X-Amz-Credential": "AKIDEXAMPLE/20260301/" + o.Region + "/" + c.service + "/aws4_request",
			}
			maps.Copy(want, c.more)
			want["X-Amz-Signature"] = sign("store", c.service, o.Region, want)
			for k := range got {
				if got.Get(k) != want[k] {
					t.Errorf("%s is %q, want %q", k, got.Get(k), want[k])
				}
			}
			if len(got) != len(want) {
				t.Errorf("%d parameters, want %d: %v", len(got), len(want), got)
			}
		})
	}
}

func TestWhatIsMissingIsNamedAtOnce(t *testing.T) {
	_, err := IAM(Options{Service: "redis"})
	if !errors.Is(err, ErrOptions) {
		t.Fatal(err)
	}
	for _, what := range []string{"user", "cache", "region", "credentials", `"redis"`} {
		if !strings.Contains(err.Error(), what) {
			t.Errorf("%s is not named in: %v", what, err)
		}
	}
}

func TestWithoutCredentialsThereIsNoPassword(t *testing.T) {
	failed := errors.New("no role")
	get, err := IAM(Options{User: "u", Cache: "c", Service: MemoryDB, Region: "r", Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{}, failed
	})})
	if err != nil {
		t.Fatal(err)
	}
	if _, password, err := get(t.Context()); !errors.Is(err, failed) || password != "" {
		t.Errorf("%q, %v", password, err)
	}
}
