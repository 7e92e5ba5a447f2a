package bucket

import (
	"bytes"
	"cmp"
	"crypto/md5" //nolint:gosec // what S3 calls an ETag
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// s3Server is as much of S3 as this package uses, on the loopback interface: one bucket, objects, uploads in parts, listings in
// pages. It takes requests that are signed, whoever signed them.
type s3Server struct {
	t *testing.T

	mu      sync.Mutex
	objects map[string][]byte
	uploads map[string]map[int][]byte // by upload id
	pageBy  int
	calls   []string // METHOD KEY, in their order
	// fail answers a request in the place of the server, if it says so; n counts the requests of that method.
	fail func(w http.ResponseWriter, r *http.Request, n int) bool
	n    map[string]int
}

// start starts a server and makes it what the environment calls S3.
func start(t *testing.T) *s3Server {
	t.Helper()
	s := &s3Server{t: t, objects: map[string][]byte{}, uploads: map[string]map[int][]byte{}, n: map[string]int{}, pageBy: 1000}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_S3": server.URL, "AWS_REGION": "eu-west-3", "AWS_ACCESS_KEY_ID": "key-of-a-test", "AWS_SECRET_ACCESS_KEY": "secret-of-a-test",
		"AWS_SESSION_TOKEN": "", "AWS_PROFILE": "", "AWS_CONFIG_FILE": "/nowhere", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
	return s
}

type s3Error struct {
	XMLName xml.Name `xml:"Error"`
	Code    string
	Message string
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_ = xml.NewEncoder(w).Encode(s3Error{Code: code, Message: "refused by a test"})
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/xml")
	_ = xml.NewEncoder(w).Encode(v)
}

func etag(b []byte) string { return fmt.Sprintf("%q", fmt.Sprintf("%x", md5.Sum(b))) } //nolint:gosec // as S3 does

// ServeHTTP implements http.Handler.
func (s *s3Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Errorf("%s %s: %v", r.Method, r.URL, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	s.calls = append(s.calls, r.Method+" "+key)
	s.n[r.Method]++
	if !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ") {
		s.t.Errorf("%s %s is not signed", r.Method, r.URL)
	}
	if r.ContentLength >= 0 && int64(len(body)) != r.ContentLength {
		s.t.Errorf("%s %s: %d bytes, announced %d", r.Method, r.URL, len(body), r.ContentLength)
	}
	if s.fail != nil && s.fail(w, r, s.n[r.Method]) {
		return
	}
	if bucket != "states" {
		refuse(w, http.StatusNotFound, "NoSuchBucket")
		return
	}
	switch q := r.URL.Query(); {
	case r.Method == http.MethodGet && key == "":
		s.list(w, q.Get("prefix"), q.Get("delimiter"), q.Get("continuation-token"))
	case r.Method == http.MethodGet:
		object, ok := s.objects[key]
		if !ok {
			refuse(w, http.StatusNotFound, "NoSuchKey")
			return
		}
		w.Header().Set("ETag", etag(object))
		_, _ = w.Write(object)
	case r.Method == http.MethodDelete && q.Has("uploadId"):
		delete(s.uploads, q.Get("uploadId"))
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodDelete:
		delete(s.objects, key)
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPut && q.Has("partNumber"):
		number, err := strconv.Atoi(q.Get("partNumber"))
		if upload := s.uploads[q.Get("uploadId")]; upload == nil || err != nil {
			refuse(w, http.StatusNotFound, "NoSuchUpload")
		} else {
			upload[number] = body
			w.Header().Set("ETag", etag(body))
		}
	case r.Method == http.MethodPut:
		s.objects[key] = body
		w.Header().Set("ETag", etag(body))
	case r.Method == http.MethodPost && q.Has("uploads"):
		id := strconv.Itoa(len(s.uploads) + 1)
		s.uploads[id] = map[int][]byte{}
		answer(w, struct {
			XMLName xml.Name `xml:"InitiateMultipartUploadResult"`
			Bucket  string
			Key     string
			ID      string `xml:"UploadId"`
		}{Bucket: bucket, Key: key, ID: id})
	case r.Method == http.MethodPost && q.Has("uploadId"):
		s.complete(w, key, q.Get("uploadId"), body)
	default:
		s.t.Errorf("unexpected %s %s", r.Method, r.URL)
	}
}

func (s *s3Server) complete(w http.ResponseWriter, key, id string, body []byte) {
	var asked struct {
		Parts []struct {
			ETag       string
			PartNumber int
		} `xml:"Part"`
	}
	if err := xml.Unmarshal(body, &asked); err != nil {
		s.t.Errorf("complete: %v", err)
	}
	var object []byte
	for i, p := range asked.Parts {
		part := s.uploads[id][p.PartNumber]
		if p.PartNumber != i+1 || p.ETag != etag(part) {
			refuse(w, http.StatusBadRequest, "InvalidPart")
			return
		}
		object = append(object, part...)
	}
	delete(s.uploads, id)
	s.objects[key] = object
	answer(w, struct {
		XMLName xml.Name `xml:"CompleteMultipartUploadResult"`
		Key     string
	}{Key: key})
}

func (s *s3Server) list(w http.ResponseWriter, prefix, delimiter, from string) {
	type content struct {
		Key  string
		Size int
	}
	var answered struct {
		XMLName     xml.Name  `xml:"ListBucketResult"`
		Contents    []content `xml:"Contents"`
		IsTruncated bool
		Next        string `xml:"NextContinuationToken,omitempty"`
	}
	for key, object := range s.objects {
		rest, ok := strings.CutPrefix(key, prefix)
		if ok && (delimiter == "" || !strings.Contains(rest, delimiter)) && key > from {
			answered.Contents = append(answered.Contents, content{key, len(object)})
		}
	}
	slices.SortFunc(answered.Contents, func(a, b content) int { return cmp.Compare(a.Key, b.Key) })
	if len(answered.Contents) > s.pageBy {
		answered.Contents, answered.IsTruncated = answered.Contents[:s.pageBy], true
		answered.Next = answered.Contents[s.pageBy-1].Key
	}
	answer(w, answered)
}

// has checks the names of all objects.
func (s *s3Server) has(want ...string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var got []string
	for key := range s.objects {
		got = append(got, key)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(want, got) {
		s.t.Errorf("objects %v, want %v", got, want)
	}
}

// put puts an object where a client did not.
func (s *s3Server) put(key string, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[key] = bytes.Clone(body)
}
