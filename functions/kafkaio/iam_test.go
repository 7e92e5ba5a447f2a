package kafkaio

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/google/go-cmp/cmp"
)

// The payload is what AWS's own client for MSK sends, signed as another implementation of SigV4 signs it.
func TestIAMPayload(t *testing.T) {
	const host, empty = "b-1.demo.abc.c2.kafka.eu-west-1.amazonaws.com", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for _, token := range []string{"", "a/session+token=="} {
		calls := 0
		a := &authenticator{Auth: Auth{Kind: AuthIAM, Keys: func(context.Context) (string, string, string, error) {
			calls++
			return "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", token, nil
		}}}
		_, payload, err := a.iam().Authenticate(t.Context(), host+":9098")
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]string
		if err := json.Unmarshal(payload, &got); err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse("20060102T150405Z", got["x-amz-date"])
		if err != nil || time.Since(at).Abs() > time.Minute {
			t.Fatalf("date %q, %v", got["x-amz-date"], err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+"/?Action=kafka-cluster%3AConnect&X-Amz-Expires=300", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		credentials := aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", SessionToken: token} //nolint:gosec // of examples
		signed, _, err := v4.NewSigner().PresignHTTP(t.Context(), credentials, req, empty, "kafka-cluster", "eu-west-1", at)
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(signed)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		want := map[string]string{
			"version": "2020_10_22", "host": host, "user-agent": "tidemark", "action": "kafka-cluster:Connect",
			"x-amz-algorithm": "AWS4-HMAC-SHA256", "x-amz-credential": q.Get("X-Amz-Credential"), "x-amz-date": got["x-amz-date"],
			"x-amz-expires": "300", "x-amz-signedheaders": "host", "x-amz-signature": q.Get("X-Amz-Signature"),
		}
		if token != "" {
			want["x-amz-security-token"] = token
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("token %q:\n%s", token, diff)
		}
		if calls != 1 {
			t.Errorf("keys were asked for %d times in a session", calls)
		}
	}
}
