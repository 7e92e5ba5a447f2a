package deploy_test

import (
	"archive/zip"
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/llm-auto-optimizer/tidemark/localdev/host"
)

// mostCPU is what a cold start of ingest may use of CPU time, on average. The benchmark fails beyond, and make bench with it.
const mostCPU = 50 * time.Millisecond

// BenchmarkColdStart takes each function from the start of its process to its first ask for an invocation: its CPU time, which
// Lambda bills as init, and the wall clock, connections to brokers and store included. Those are in this process, so that the
// figures are the functions' own.
func BenchmarkColdStart(b *testing.B) {
	config := filepath.Join(root, "tests", "testdata", "processor-config.yaml")
	config, err := filepath.Abs(config)
	if err != nil {
		b.Fatal(err)
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.SeedTopics(4, "feedback-events", "aggregated-metrics"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(cluster.Close)
	env := []string{
		"TIDEMARK_CONFIG=" + config, "TIDEMARK_BROKERS=" + strings.Join(cluster.ListenAddrs(), ","), "TIDEMARK_REDIS=redis://" + redisThatSaysHello(b),
		"TIDEMARK_LOG_LEVEL=ERROR", "AWS_REGION=us-east-1", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=512",
	}
	for _, name := range functions(b) {
		b.Run(name, func(b *testing.B) {
			file := deployed(b, name, "", "")
			var cpu, wall time.Duration
			for b.Loop() {
				c, w := coldStart(b, name, file, env)
				cpu, wall = cpu+c, wall+w
			}
			if mean := cpu / time.Duration(b.N); name == "ingest" && mean > mostCPU {
				b.Errorf("a cold start used %s of CPU time, at most %s are allowed", mean, mostCPU)
			}
			b.ReportMetric(float64(cpu.Microseconds())/1000/float64(b.N), "cpu-ms/op")
			b.ReportMetric(float64(wall.Microseconds())/1000/float64(b.N), "wall-ms/op")
			b.ReportMetric(megabytes(b, file), "binary-MB")
			b.ReportMetric(float64(zipped(b, file))/(1<<20), "zip-MB")
		})
	}
}

func coldStart(b *testing.B, name, file string, env []string) (cpu, wall time.Duration) {
	b.Helper()
	type ready struct {
		cpu time.Duration
		at  time.Time
	}
	first := make(chan ready, 1)
	f := host.New(host.Options{Name: name, Binary: file, Env: env, Timeout: time.Minute, Lenient: true, OnReady: func(pid int) { first <- ready{cpuOf(pid), time.Now()} }})
	defer f.Close()
	ctx, cancel := context.WithCancel(b.Context())
	invoked := make(chan error, 1)
	began := time.Now()
	go func() {
		_, err := f.Invoke(ctx, []byte("not an event")) // what becomes of it does not matter
		invoked <- err
	}()
	defer func() {
		cancel()
		<-invoked
	}()
	select {
	case r := <-first:
		if r.cpu <= 0 {
			b.Fatal("the system does not say what CPU time a process has used")
		}
		return r.cpu, r.at.Sub(began)
	case err := <-invoked:
		invoked <- err
		b.Fatalf("it did not start: %v", err)
		return 0, 0
	}
}

// redisThatSaysHello is a server that answers HELLO as a Redis does that is no node of a cluster, and everything else with OK:
// all that a function asks for when it starts.
func redisThatSaysHello(b *testing.B) string {
	b.Helper()
	listener, err := new(net.ListenConfig).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed
			}
			go serveHello(conn)
		}
	}()
	return listener.Addr().String()
}

func serveHello(conn net.Conn) {
	defer conn.Close()
	const hello = "*14\r\n+server\r\n+redis\r\n+version\r\n+7.4.0\r\n+proto\r\n:3\r\n+id\r\n:1\r\n+mode\r\n+standalone\r\n+role\r\n+master\r\n+modules\r\n*0\r\n"
	in := bufio.NewReader(conn)
	for {
		args, err := command(in)
		if err != nil {
			return
		}
		answer := "+OK\r\n"
		if strings.EqualFold(args[0], "hello") {
			answer = hello
		}
		if _, err := io.WriteString(conn, answer); err != nil {
			return
		}
	}
}

// command reads one command: an array of strings, each behind its length.
func command(in *bufio.Reader) ([]string, error) {
	number := func() (int, error) {
		line, err := in.ReadString('\n')
		if err != nil {
			return 0, err
		}
		return strconv.Atoi(strings.TrimSpace(line[1:]))
	}
	n, err := number()
	if err != nil {
		return nil, err
	}
	args := make([]string, n)
	for i := range args {
		length, err := number()
		if err != nil {
			return nil, err
		}
		text := make([]byte, length+len("\r\n"))
		if _, err := io.ReadFull(in, text); err != nil {
			return nil, err
		}
		args[i] = string(text[:length])
	}
	return args, nil
}

func megabytes(t testing.TB, file string) float64 {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return float64(info.Size()) / (1 << 20)
}

// zipped is the size of the package that is uploaded: bootstrap and spec.
func zipped(t testing.TB, file string) int64 {
	t.Helper()
	var size counter
	z := zip.NewWriter(&size)
	for name, from := range map[string]string{"bootstrap": file, "tidemark.yaml": filepath.Join(root, "tests", "testdata", "processor-config.yaml")} {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return int64(size)
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
