//go:build templates

package templates_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/llm-auto-optimizer/tidemark/functions/bucket"
	"github.com/llm-auto-optimizer/tidemark/functions/cloud"
	"github.com/llm-auto-optimizer/tidemark/functions/rediscreds"
)

// awsServer answers what the functions ask AWS for, and writes down which actions that takes.
type awsServer struct {
	t *testing.T

	mu      sync.Mutex
	actions []string
}

// action names what IAM asks for. A request of an unknown kind fails the test.
func (s *awsServer) action(r *http.Request) []string {
	path, query := r.URL.Path, r.URL.Query()
	switch target := r.Header.Get("X-Amz-Target"); {
	case target == "secretsmanager.GetSecretValue":
		return []string{"secretsmanager:GetSecretValue"}
	case target == "AmazonSSM.GetParameter":
		return []string{"ssm:GetParameter"}
	case strings.HasSuffix(path, "/invocations"):
		return []string{"lambda:InvokeFunction"}
	case strings.HasPrefix(path, "/applications/"): // the extension asks the service, in the name of the function
		return []string{"appconfig:GetLatestConfiguration", "appconfig:StartConfigurationSession"}
	case strings.HasPrefix(path, "/the-bucket"):
		switch {
		case r.Method == http.MethodGet && query.Has("list-type"):
			return []string{"s3:ListBucket"}
		case r.Method == http.MethodGet:
			return []string{"s3:GetObject"}
		case r.Method == http.MethodPut, r.Method == http.MethodPost: // also uploads in parts
			return []string{"s3:PutObject"}
		case r.Method == http.MethodDelete && query.Has("uploadId"):
			return []string{"s3:AbortMultipartUpload"}
		case r.Method == http.MethodDelete:
			return []string{"s3:DeleteObject"}
		}
	}
	s.t.Errorf("of %s %s nobody knows what it takes", r.Method, r.URL)
	return nil
}

// ServeHTTP implements http.Handler.
func (s *awsServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.actions = append(s.actions, s.action(r)...)
	s.mu.Unlock()
	_, _ = io.Copy(io.Discard, r.Body)
	query := r.URL.Query()
	switch {
	case strings.HasPrefix(r.Header.Get("X-Amz-Target"), "secretsmanager."):
		_, _ = io.WriteString(w, `{"SecretString":"{\"password\":\"p\"}"}`)
	case r.Header.Get("X-Amz-Target") != "":
		_, _ = io.WriteString(w, `{"Parameter":{"Value":"spec"}}`)
	case strings.HasSuffix(r.URL.Path, "/invocations"):
		w.WriteHeader(http.StatusAccepted)
	case query.Has("list-type"):
		_, _ = io.WriteString(w, `<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>`)
	case query.Has("uploads"):
		_, _ = io.WriteString(w, `<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>`)
	case r.Method == http.MethodPost: // the end of an upload, which has to be taken back then
		w.WriteHeader(http.StatusBadRequest)
	case r.Method == http.MethodGet:
		_, _ = io.WriteString(w, "spec")
	}
}

// take returns the actions since the last call, each once.
func (s *awsServer) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.actions
	s.actions = nil
	slices.Sort(out)
	return slices.Compact(out)
}

// TestRolesAllowTheCallsToAWSAndNoOthers makes the calls by the code that makes them in functions, and compares the actions with
// those of the policy that is there for them.
func TestRolesAllowTheCallsToAWSAndNoOthers(t *testing.T) {
	policies := statements(t, translated(t)) // before the environment is another
	s := &awsServer{t: t}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	for name, value := range map[string]string{
		"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "key", "AWS_SESSION_TOKEN": "token", "AWS_PROFILE": "",
		"AWS_ENDPOINT_URL": server.URL, "AWS_ENDPOINT_URL_S3": server.URL, "AWS_ENDPOINT_URL_APPCONFIGDATA": server.URL,
	} {
		t.Setenv(name, value)
	}
	c := cloud.New(os.Getenv)
	made := map[string][]string{}
	spec := func(owner, place string) {
		t.Helper()
		if _, err := c.Spec(t.Context(), place); err != nil {
			t.Fatal(err)
		}
		made[owner] = s.take()
	}
	spec("SpecInS3", "s3://the-bucket/spec.yaml")
	spec("SpecInSsm", "ssm:/spec")
	spec("SpecInAppConfig", "appconfig:a/e/p")
	if _, err := c.Secrets().Fields(t.Context(), "s", false, "password"); err != nil {
		t.Fatal(err)
	}
	made["Secrets"] = append(s.take(), "kms:Decrypt") // which Secrets Manager does in the name of who asks
	invoke, err := c.Invoker("fire")
	if err != nil {
		t.Fatal(err)
	}
	if err := invoke(t.Context(), map[string]string{}); err != nil {
		t.Fatal(err)
	}
	made["IngestRole"] = s.take()
	made["FireRole"] = nil
	made["FireMinuteRole"] = []string{"lambda:InvokeFunction"} // of the schedule, which has no other code
	checkpoints(t, "s3://the-bucket/prefix")
	made["OpsRole"] = s.take()
	made["RedisConnect"] = []string{connects(t, c, rediscreds.ElastiCache), connects(t, c, rediscreds.MemoryDB)}

	allowed := map[string][]string{}
	// Of Lambda, the mapping and the collector themselves; kafka-cluster is another test's.
	service := []string{"ec2:", "logs:", "kafka:", "xray:", "kafka-cluster:"}
	for _, p := range policies {
		for _, action := range p.actions {
			if !slices.ContainsFunc(service, func(s string) bool { return strings.HasPrefix(action, s) }) {
				allowed[p.role] = append(allowed[p.role], action)
			}
		}
	}
	for owner, want := range made {
		got := allowed[owner]
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s allows %v, and the calls take %v", owner, got, want)
		}
		delete(allowed, owner)
	}
	for owner, got := range allowed {
		t.Errorf("%s allows %v, and no call was made for it", owner, got)
	}
}

// checkpoints does all that ops does with a bucket. What is larger than 64 MiB goes there in parts.
func checkpoints(t *testing.T, place string) {
	t.Helper()
	ctx := t.Context()
	b, err := bucket.Open(ctx, place)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.List(ctx)
	if err == nil {
		err = b.Write(ctx, "small", func(w io.Writer) error { _, err := io.WriteString(w, "x"); return err })
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Write(ctx, "large", func(w io.Writer) error { _, err := w.Write(make([]byte, 64<<20+1)); return err }); err == nil {
		t.Fatal("the upload was to fail")
	}
	f, err := b.Open(ctx, "small")
	if err == nil {
		err = f.Close()
	}
	if err == nil {
		err = b.Remove(ctx, "small")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// connects is the action that a password of a service stands for: a signed request to connect.
func connects(t *testing.T, c *cloud.Cloud, service string) string {
	t.Helper()
	credentials, err := rediscreds.IAM(rediscreds.Options{User: "u", Cache: "cache", Service: service, Region: c.Region(), Credentials: c.Credentials()})
	if err != nil {
		t.Fatal(err)
	}
	_, password, err := credentials(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := url.Parse("https://" + password)
	if err != nil || signed.Query().Get("Action") != "connect" {
		t.Fatalf("%v: not a request to connect", err)
	}
	return strings.Split(signed.Query().Get("X-Amz-Credential"), "/")[3] + ":Connect"
}

// The roles above are those of who has the code: fire has no bucket, and ingest alone invokes.
func TestOpsAloneReachesABucketAndIngestAloneInvokes(t *testing.T) {
	for _, name := range []string{"ingest", "fire", "ops"} {
		cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "./functions/"+name+"/bootstrap")
		cmd.Dir = root
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if has := strings.Contains(string(out), "tidemark/functions/bucket\n"); has != (name == "ops") {
			t.Errorf("%s has the code of checkpoints in S3: %v", name, has)
		}
		source, err := os.ReadFile(root + "/functions/" + name + "/bootstrap/main.go")
		if err != nil {
			t.Fatal(err)
		}
		if invokes := strings.Contains(string(source), ".Invoker("); invokes != (name == "ingest") {
			t.Errorf("%s invokes others: %v", name, invokes)
		}
	}
}
