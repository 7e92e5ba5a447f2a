package bucket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/checkpoint"
	"github.com/llm-auto-optimizer/tidemark/statestore/memstore"
)

func open(t *testing.T, url string) *Target {
	t.Helper()
	target, err := Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// temporary makes a directory the one for temporary files, and checks at the end that it is empty.
func temporary(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Cleanup(func() {
		if left, err := filepath.Glob(filepath.Join(dir, "tidemark-*")); err != nil || len(left) > 0 {
			t.Errorf("left %v, %v", left, err)
		}
	})
}

func content(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i * 7 >> 3)
	}
	return b
}

func put(t *testing.T, target *Target, name string, b []byte) error {
	t.Helper()
	return target.Write(t.Context(), name, func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
}

func get(t *testing.T, target *Target, name string) ([]byte, error) {
	t.Helper()
	f, err := target.Open(t.Context(), name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}

// TestCheckpointsInABucket saves five checkpoints, restores the newest, and finds three kept.
func TestCheckpointsInABucket(t *testing.T) {
	for url, prefix := range map[string]string{"s3://states": "", "s3://states/": "", "s3://states/a/b": "a/b/", "s3://states/a/b/": "a/b/"} {
		t.Run(url, func(t *testing.T) {
			temporary(t)
			server := start(t)
			server.pageBy = 2
			server.put(prefix+"deeper/shop.20250101T123400.000Z.ckpt", nil)
			server.put("z.other", nil)
			target := open(t, url)
			s := memstore.New()
			slot := statestore.Slot{Pipeline: "0123456789abcdef", Topic: "orders"}
			image := statestore.Image{Meta: statestore.Meta{Applied: 5}}
			image.Deltas = []statestore.Delta{{Ref: statestore.DeltaRef{To: 5}, Payload: content(1000)}}
			if err := s.Import(t.Context(), slot, image); err != nil {
				t.Fatal(err)
			}
			var names []string
			for i := range int64(5) {
				saved, err := checkpoint.Save(t.Context(), target, s, checkpoint.Header{App: "shop", CreatedMS: 1000 * i}, []statestore.Slot{slot}, nil)
				if err != nil || saved.Notice != "" {
					t.Fatalf("%+v, %v", saved, err)
				}
				if saved.Path != "s3://states/"+prefix+saved.Name {
					t.Errorf("path %s", saved.Path)
				}
				names = append(names, prefix+saved.Name)
			}
			server.has(append(names[2:], prefix+"deeper/shop.20250101T123400.000Z.ckpt", "z.other")...)
			to := memstore.New()
			r, err := checkpoint.Restore(t.Context(), target, "shop", "", to, func(statestore.Slot, statestore.Meta) bool { return true }, func(checkpoint.Result) {})
			if err != nil || r.Header.CreatedMS != 4000 || r.Counts[checkpoint.Imported] != 1 {
				t.Fatalf("%+v, %v", r, err)
			}
			got, err := to.Read(t.Context(), slot, statestore.Token{}, []statestore.DeltaRef{image.Deltas[0].Ref})
			if err != nil || !bytes.Equal(got[0], content(1000)) {
				t.Errorf("payload %d, %v", len(got), err)
			}
		})
	}
}

func TestALargeObjectGoesInParts(t *testing.T) {
	temporary(t)
	server := start(t)
	target := open(t, "s3://states/x")
	target.partSize = 1000
	for _, size := range []int{0, 999, 1000, 1001, 2000, 2500} {
		name := fmt.Sprint(size)
		server.calls = nil
		if err := put(t, target, name, content(size)); err != nil {
			t.Fatal(err)
		}
		if got, err := get(t, target, name); err != nil || !bytes.Equal(got, content(size)) {
			t.Errorf("%d bytes came back as %d, %v", size, len(got), err)
		}
		want := 2 // put, get
		if size > 1000 {
			want = 3 + (size+999)/1000 // begin, parts, end, get
		}
		if len(server.calls) != want {
			t.Errorf("%d bytes: %v, want %d calls", size, server.calls, want)
		}
	}
	if len(server.uploads) > 0 {
		t.Errorf("%d uploads are open", len(server.uploads))
	}
}

func TestAnUploadThatFailsIsTakenBack(t *testing.T) {
	temporary(t)
	server := start(t)
	target := open(t, "s3://states/x")
	target.partSize = 1000
	server.fail = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		second := r.URL.Query().Get("partNumber") == "2"
		if second {
			refuse(w, http.StatusForbidden, "AccessDenied")
		}
		return second
	}
	err := put(t, target, "big", content(3000))
	if err == nil || !strings.Contains(err.Error(), "s3://states/x/big") || !strings.Contains(err.Error(), "allow s3:PutObject") {
		t.Errorf("%v", err)
	}
	server.has()
	if len(server.uploads) > 0 {
		t.Errorf("%d uploads are open", len(server.uploads))
	}
}

func TestWhatCannotBeWrittenIsNotSent(t *testing.T) {
	temporary(t)
	server := start(t)
	died := errors.New("died")
	err := open(t, "s3://states").Write(t.Context(), "x", func(w io.Writer) error {
		_, err := w.Write([]byte("half"))
		return errors.Join(err, died)
	})
	if !errors.Is(err, died) || len(server.calls) > 0 {
		t.Errorf("%v, calls %v", err, server.calls)
	}
}

// TestErrorsSayWhatToDo has the service refuse each operation for each reason.
func TestErrorsSayWhatToDo(t *testing.T) {
	for _, c := range []struct {
		status int
		code   string
		words  map[string]string // by operation; "" for all others
	}{
		{403, "AccessDenied", map[string]string{
			"list": "allow s3:ListBucket on arn:aws:s3:::states)", "get": "allow s3:GetObject on arn:aws:s3:::states/p/*)",
			"put": "allow s3:PutObject on arn:aws:s3:::states/p/*)", "delete": "allow s3:DeleteObject on arn:aws:s3:::states/p/*)",
		}},
		{404, "NoSuchBucket", map[string]string{"": "no bucket states: create it"}},
		{403, "InvalidAccessKeyId", map[string]string{"": "not accepted: check AWS_PROFILE"}},
		{403, "SignatureDoesNotMatch", map[string]string{"": "not accepted: check AWS_PROFILE"}},
		{400, "ExpiredToken", map[string]string{"": "renew them"}},
		{301, "PermanentRedirect", map[string]string{"": "not in eu-west-3: set AWS_REGION"}},
		{404, "NoSuchKey", map[string]string{"get": "no such object"}},
		{409, "OperationAborted", map[string]string{"": "OperationAborted"}},
	} {
		t.Run(c.code, func(t *testing.T) {
			temporary(t)
			server := start(t)
			server.fail = func(w http.ResponseWriter, _ *http.Request, _ int) bool { refuse(w, c.status, c.code); return true }
			target := open(t, "s3://states/p")
			_, errList := target.List(t.Context())
			_, errGet := get(t, target, "name")
			for op, err := range map[string]error{
				"list": errList, "get": errGet, "put": put(t, target, "name", nil), "delete": target.Remove(t.Context(), "name"),
			} {
				words, ok := c.words[op]
				if !ok {
					words, ok = c.words[""]
				}
				place := "s3://states/p/name"
				if op == "list" {
					place = "s3://states/p/"
				}
				if err == nil || ok && !strings.Contains(err.Error(), words) || !strings.Contains(err.Error(), op+" "+place) {
					t.Errorf("%s: %v\nwant %q and %q", op, err, op+" "+place, words)
				}
				if (c.code == "NoSuchKey") != errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s: %v: is it fs.ErrNotExist?", op, err)
				}
				if err != nil && strings.Contains(err.Error(), "secret-of-a-test") {
					t.Errorf("%s: the error has the secret: %v", op, err)
				}
			}
		})
	}
}

// TestWhatFailsForAMomentIsTriedAgain has the first two tries of each operation fail.
func TestWhatFailsForAMomentIsTriedAgain(t *testing.T) {
	temporary(t)
	server := start(t)
	server.fail = func(w http.ResponseWriter, _ *http.Request, n int) bool {
		if n <= 2 {
			refuse(w, http.StatusInternalServerError, "InternalError")
		}
		return n <= 2
	}
	target := open(t, "s3://states/p")
	if err := put(t, target, "name", content(100)); err != nil {
		t.Error(err)
	}
	if got, err := get(t, target, "name"); err != nil || !bytes.Equal(got, content(100)) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := target.Remove(t.Context(), "name"); err != nil {
		t.Error(err)
	}
	server.has()
}

func TestWhatFailsForGoodIsGivenUp(t *testing.T) {
	temporary(t)
	server := start(t)
	server.fail = func(w http.ResponseWriter, _ *http.Request, _ int) bool {
		refuse(w, http.StatusServiceUnavailable, "SlowDown")
		return true
	}
	err := put(t, open(t, "s3://states/p"), "name", content(100))
	if err == nil || !strings.Contains(err.Error(), "try again later") || server.n[http.MethodPut] != 3 {
		t.Errorf("%d tries, %v", server.n[http.MethodPut], err)
	}
}

// TestATransferThatBreaksOffIsBegunAgain cuts the connection in the middle of an object, once and each time.
func TestATransferThatBreaksOffIsBegunAgain(t *testing.T) {
	for _, times := range []int{1, 2, 3} {
		temporary(t)
		server := start(t)
		server.put("name", content(100_000))
		server.fail = func(w http.ResponseWriter, r *http.Request, n int) bool {
			if r.Method != http.MethodGet || n > times {
				return false
			}
			w.Header().Set("Content-Length", "100000")
			_, _ = w.Write(content(50_000))
			panic(http.ErrAbortHandler)
		}
		got, err := get(t, open(t, "s3://states"), "name")
		if times < downloads && (err != nil || !bytes.Equal(got, content(100_000))) {
			t.Errorf("broken %d times: %d bytes, %v", times, len(got), err)
		}
		if times == downloads && (err == nil || !strings.Contains(err.Error(), "get s3://states/name")) {
			t.Errorf("broken each time: %d bytes, %v", len(got), err)
		}
	}
}

func TestWithoutCredentialsOrRegion(t *testing.T) {
	start(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	_, err := open(t, "s3://states").List(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no credentials: set AWS_PROFILE") {
		t.Errorf("without credentials: %v", err)
	}
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	if _, err := Open(t.Context(), "s3://states"); err != nil {
		t.Errorf("a store that is not AWS, without a region: %v", err)
	}
	t.Setenv("AWS_ENDPOINT_URL_S3", "")
	if _, err := Open(t.Context(), "s3://states"); err == nil || !strings.Contains(err.Error(), "set AWS_REGION") {
		t.Errorf("AWS without a region: %v", err)
	}
}

func TestURLs(t *testing.T) {
	start(t)
	for url, want := range map[string]string{"s3://b": "s3://b/N", "s3://b/": "s3://b/N", "s3://b/a": "s3://b/a/N", "s3://b//a/c//": "s3://b/a/c/N"} {
		if got := open(t, url).Path("N"); got != want {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
	}
	for _, url := range []string{"", "s3://", "s3:///a", "b/a", "http://b/a", "s3://b/a?x", "s3://b b"} {
		if _, err := Open(t.Context(), url); !errors.Is(err, ErrURL) {
			t.Errorf("%q: %v, want ErrURL", url, err)
		}
	}
	name := checkpoint.Name("shop", time.UnixMilli(0))
	for url, want := range map[string][2]string{
		"s3://b/" + name: {"s3://b", name}, "s3://b/a/" + name: {"s3://b/a", name}, "s3://b/a": {"s3://b/a", ""}, "s3://b.ckpt": {"s3://b.ckpt", ""},
	} {
		if place, name := Split(url); place != want[0] || name != want[1] {
			t.Errorf("%s: %s and %s, want %v", url, place, name, want)
		}
	}
}

func TestATemporaryDirectoryThatIsNotThere(t *testing.T) {
	start(t)
	gone := filepath.Join(t.TempDir(), "gone")
	t.Setenv("TMPDIR", gone)
	if err := put(t, open(t, "s3://states"), "x", nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
