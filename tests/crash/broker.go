package crash

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/llm-auto-optimizer/tidemark/tests/output"
)

const clusterID = "5L6g3nShT-eMCtK--X86sw"

// broker is a Kafka broker of the run's own. It has a listener for each function, which it advertises as that function's proxy,
// and a plain one. It can be killed and started again on its data.
type broker struct {
	process
	plain     string            // address of the plain listener
	listeners map[string]string // function -> real address of its listener
}

// newBroker formats a data folder. proxies are the addresses that are advertised, by function.
func newBroker(ctx context.Context, root, jars, dir string, proxies map[string]string, log io.Writer) (*broker, error) {
	b := &broker{listeners: map[string]string{}}
	controller, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	if b.plain, err = freeAddress(ctx); err != nil {
		return nil, err
	}
	protocols := []string{"CONTROLLER:PLAINTEXT", "PLAIN:PLAINTEXT"}
	listen := []string{"PLAIN://" + b.plain, "CONTROLLER://" + controller}
	advertise := []string{"PLAIN://" + b.plain}
	for name, proxy := range proxies {
		address, err := freeAddress(ctx)
		if err != nil {
			return nil, err
		}
		b.listeners[name] = address
		listener := strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		protocols = append(protocols, listener+":PLAINTEXT")
		listen = append(listen, listener+"://"+address)
		advertise = append(advertise, listener+"://"+proxy)
	}
	settings := map[string]string{
		"listener.security.protocol.map": strings.Join(protocols, ","),
		"inter.broker.listener.name":     "PLAIN",
		"listeners":                      strings.Join(listen, ","),
		"advertised.listeners":           strings.Join(advertise, ","),
		"controller.quorum.voters":       "1@" + controller,
		"log.dirs":                       filepath.Join(dir, "kafka"),
		// A broker that comes back waits until its controller has given up on the one that died: nine seconds, unless told.
		"broker.session.timeout.ms":    "2000",
		"broker.heartbeat.interval.ms": "400",
	}
	file := filepath.Join(dir, "kafka.properties")
	if err := writeProperties(filepath.Join(root, "tests", "servers", "kafka", "server.properties"), file, settings); err != nil {
		return nil, fmt.Errorf("settings of the broker: %w", err)
	}
	java := []string{
		"java", "-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
		"-Dlog4j2.configurationFile=" + filepath.Join(root, "tests", "servers", "kafka", "log4j2.yaml"), "-cp", filepath.Join(jars, "*"),
	}
	format := append(slices.Clone(java[1:]), "kafka.tools.StorageTool", "format", "-t", clusterID, "-c", file)
	if text, err := exec.CommandContext(ctx, java[0], format...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("format the broker's folder: %w: %s", err, text)
	}
	b.process = process{name: "kafka", args: append(java, "kafka.Kafka", file), log: log, end: output.Buffer{Last: keptOfLog}}
	return b, nil
}

// writeProperties copies the settings that all test brokers have, with those given in their place.
func writeProperties(from, to string, settings map[string]string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	var out strings.Builder
	for line := range strings.Lines(string(text)) {
		key, _, _ := strings.Cut(line, "=")
		if _, ours := settings[key]; !ours {
			out.WriteString(line)
		}
	}
	for key, value := range settings {
		fmt.Fprintf(&out, "%s=%s\n", key, value)
	}
	return os.WriteFile(to, []byte(out.String()), 0o600)
}

// start starts the broker, on the data of an earlier start if there was one, and returns when it answers.
func (b *broker) start(ctx context.Context) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.plain))
	if err != nil {
		return fmt.Errorf("client of the broker: %w", err)
	}
	defer cl.Close()
	return b.process.start(ctx, func(ctx context.Context) error {
		// A refused connection is found out without the client's pauses.
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", b.plain)
		if err != nil {
			return err
		}
		if err := conn.Close(); err != nil {
			return err
		}
		return cl.Ping(ctx)
	})
}
