//go:build containers

package containers_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	dockernet "github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
)

// stage is a network with a broker and a store in it.
type stage struct {
	t       *testing.T
	net     *testcontainers.DockerNetwork
	brokers string // as this process reaches it
	kafka   *testcontainers.DockerContainer
	redis   *testcontainers.DockerContainer
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t}
	var err error
	if s.net, err = network.New(t.Context()); err != nil {
		t.Fatal(err)
	}
	testcontainers.CleanupNetwork(t, s.net)
	s.startKafka()
	s.redis = s.run(redisImage, wait.ForLog("Ready to accept connections").WithStartupTimeout(startWithin),
		network.WithNetwork([]string{"redis"}, s.net), testcontainers.WithCmd("redis-server", "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"))
	return s
}

// startWithin is how long a container may take until it is ready, on a machine that does other things too.
const startWithin = 5 * time.Minute

// run starts a container and has it removed at the end, when its last lines are shown if the test failed.
func (s *stage) run(image string, ready wait.Strategy, o ...testcontainers.ContainerCustomizer) *testcontainers.DockerContainer {
	s.t.Helper()
	begun := time.Now()
	c, err := testcontainers.Run(s.t.Context(), image, append(o, testcontainers.WithWaitStrategyAndDeadline(startWithin, ready))...)
	testcontainers.CleanupContainer(s.t, c, testcontainers.StopTimeout(0))
	s.t.Cleanup(func() {
		if s.t.Failed() && c != nil {
			s.t.Logf("%s:\n%s", image, end(c))
		}
	})
	if err != nil {
		s.t.Fatalf("%s: %v", image, err)
	}
	s.t.Logf("%s is ready after %d ms", image, time.Since(begun).Milliseconds())
	return c
}

// end returns the last lines that a container wrote.
func end(c *testcontainers.DockerContainer) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	logs, err := c.Logs(ctx)
	if err != nil {
		return err.Error()
	}
	defer logs.Close()
	text, _ := io.ReadAll(logs)
	return string(text[max(0, len(text)-3000):])
}

// startKafka starts a broker on a port of this machine that it keeps when it is started again: it has to advertise it.
func (s *stage) startKafka() {
	s.t.Helper()
	port, host := freePort(s.t), daemonHost(s.t)
	s.brokers = net.JoinHostPort(host, port)
	const inside = "9092/tcp"
	s.kafka = s.run(kafkaImage, wait.ForLog("Kafka Server started").WithStartupTimeout(startWithin),
		network.WithNetwork([]string{"kafka"}, s.net), testcontainers.WithExposedPorts(inside),
		testcontainers.WithHostConfigModifier(func(h *container.HostConfig) {
			h.PortBindings = dockernet.PortMap{dockernet.MustParsePort(inside): {{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: port}}}
		}),
		testcontainers.WithEnv(map[string]string{
			"KAFKA_NODE_ID":                                  "1",
			"KAFKA_PROCESS_ROLES":                            "broker,controller",
			"KAFKA_CONTROLLER_QUORUM_VOTERS":                 "1@localhost:9093",
			"KAFKA_CONTROLLER_LISTENER_NAMES":                "CONTROLLER",
			"KAFKA_LISTENERS":                                "HOST://:9092,INSIDE://:19092,CONTROLLER://localhost:9093",
			"KAFKA_ADVERTISED_LISTENERS":                     "HOST://" + s.brokers + ",INSIDE://kafka:19092",
			"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP":           "HOST:PLAINTEXT,INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT",
			"KAFKA_INTER_BROKER_LISTENER_NAME":               "INSIDE",
			"KAFKA_AUTO_CREATE_TOPICS_ENABLE":                "false",
			"KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR":         "1",
			"KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS":             "4",
			"KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
			"KAFKA_TRANSACTION_STATE_LOG_MIN_ISR":            "1",
			"KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS":     "4",
			"KAFKA_HEAP_OPTS":                                "-Xms128m -Xmx384m",
		}))
}

// kill ends a container at once (SIGKILL), keeps its disk, and starts it again.
func (s *stage) kill(ctx context.Context, c *testcontainers.DockerContainer) {
	s.t.Helper()
	docker, err := testcontainers.NewDockerClientWithOpts(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	defer docker.Close()
	if _, err := docker.ContainerKill(ctx, c.GetContainerID(), client.ContainerKillOptions{Signal: "KILL"}); err != nil {
		s.t.Fatal(err)
	}
	ended := docker.ContainerWait(ctx, c.GetContainerID(), client.ContainerWaitOptions{})
	select {
	case <-ended.Result:
	case err := <-ended.Error:
		s.t.Fatal(err)
	}
	if err := c.Start(ctx); err != nil {
		s.t.Fatal(err)
	}
}

// flush empties the store.
func (s *stage) flush(ctx context.Context) {
	s.t.Helper()
	s.t.Log("FLUSHALL")
	code, out, err := s.redis.Exec(ctx, []string{"redis-cli", "FLUSHALL"})
	if err != nil {
		s.t.Fatal(err)
	}
	if text, _ := io.ReadAll(out); code != 0 || !bytes.Contains(text, []byte("OK")) {
		s.t.Fatalf("FLUSHALL: exit code %d: %q", code, text)
	}
}

func daemonHost(t *testing.T) string {
	t.Helper()
	p, err := testcontainers.NewDockerProvider()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	host, err := p.DaemonHost(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if host == "localhost" {
		return "127.0.0.1" // where ports are published
	}
	return host
}

// freePort returns a port of this machine that nobody listened on a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// bootstrap builds a function for the daemon's containers, as it is deployed.
func bootstrap(t *testing.T, name, arch string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bootstrap")
	build := exec.CommandContext(t.Context(), "go", "build", "-tags", "lambda.norpc", "-trimpath", "-ldflags", "-s -w", "-o", file, "./functions/"+name+"/bootstrap")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	return file
}

// function is a function in Lambda's base image, behind the image's own emulator.
type function struct {
	name string
	url  string
	c    *testcontainers.DockerContainer
}

// function starts one. Its time-out is in whole seconds.
func (s *stage) function(name, arch, spec string, timeout string) *function {
	s.t.Helper()
	const port = "8080/tcp"
	c := s.run(lambdaImage, wait.ForListeningPort(port).WithStartupTimeout(startWithin), network.WithNetwork([]string{name}, s.net),
		testcontainers.WithExposedPorts(port), testcontainers.WithCmd("bootstrap"),
		testcontainers.WithFiles(
			testcontainers.ContainerFile{HostFilePath: bootstrap(s.t, name, arch), ContainerFilePath: "/var/runtime/bootstrap", FileMode: 0o755},
			testcontainers.ContainerFile{Reader: bytes.NewReader([]byte(spec)), ContainerFilePath: "/var/task/tidemark.yaml", FileMode: 0o644},
		),
		testcontainers.WithEnv(map[string]string{
			"AWS_LAMBDA_FUNCTION_NAME": name, "AWS_LAMBDA_FUNCTION_TIMEOUT": timeout, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512", "AWS_REGION": "us-east-1",
			"TIDEMARK_BROKERS": "kafka:19092", "TIDEMARK_REDIS": "redis://redis:6379", "TIDEMARK_FIRE_TICK": "20ms",
		}))
	address, err := c.PortEndpoint(s.t.Context(), port, "http")
	if err != nil {
		s.t.Fatal(err)
	}
	return &function{name: name, url: address + "/2015-03-31/functions/function/invocations", c: c}
}

// invoke calls the function and returns what it answered; an answer that is an error is one.
func (f *function) invoke(ctx context.Context, payload []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url, bytes.NewReader(payload))
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	var said struct {
		ErrorMessage *string `json:"errorMessage"`
	}
	if err := json.Unmarshal(body, &said); err != nil || response.StatusCode != http.StatusOK || said.ErrorMessage != nil {
		return nil, fmt.Errorf("%s answered %s: %s", f.name, response.Status, body)
	}
	return body, nil
}
