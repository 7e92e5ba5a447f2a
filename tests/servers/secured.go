package servers

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/llm-auto-optimizer/tidemark/tests/output"
)

// SecuredKafka is a broker of one test that asks who its clients are. It is a native process also where the shared one is a
// container: certificates and passwords are of this test alone.
type SecuredKafka struct {
	// Plain takes anybody in plain text; TLS anybody over TLS; SCRAM User and Password by SCRAM-SHA-512 over TLS; MTLS who has a
	// certificate of Clients. All are host:port.
	Plain, TLS, SCRAM, MTLS string
	User, Password          string
	// Authority signed the broker's certificate, and Clients those of its clients.
	Authority, Clients *Authority
}

// StartSecuredKafka starts the broker, empty, and ends it with the test. It needs java, and what tests/servers/programs gets.
func StartSecuredKafka(t testing.TB) *SecuredKafka {
	t.Helper()
	_, self, _, _ := runtime.Caller(0)
	here := filepath.Dir(self)
	k := &SecuredKafka{
		Plain: freeAddress(t), TLS: freeAddress(t), SCRAM: freeAddress(t), MTLS: freeAddress(t),
		User: "tidemark", Password: Name(t, "password"), Authority: NewAuthority(t), Clients: NewAuthority(t),
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "kafka.properties")
	k.configure(t, filepath.Join(here, "kafka", "server.properties"), file, dir)
	java := []string{
		"-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
		"-Dlog4j2.configurationFile=" + filepath.Join(here, "kafka", "log4j2.yaml"), "-cp", filepath.Join(jars(t, here), "*"),
	}
	add := fmt.Sprintf("SCRAM-SHA-512=[name=%s,password=%s]", k.User, k.Password)
	format := exec.CommandContext(t.Context(), "java", append(java, "kafka.tools.StorageTool", "format", "-t", "5L6g3nShT-eMCtK--X86sw", "-c", file, "--add-scram", add)...)
	if text, err := format.CombinedOutput(); err != nil {
		t.Fatalf("format the folder of a secured broker: %v\n%s", err, text)
	}
	// Not the test's context: what the test cleans up may still need the broker.
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "java", append(java, "kafka.Kafka", file)...)
	log := &output.Buffer{Last: mostLog}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatalf("secured broker: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for _, address := range []string{k.Plain, k.TLS, k.SCRAM, k.MTLS} {
		await(t, address, log)
	}
	return k
}

// configure writes the settings: those of all test brokers, with listeners of their own.
func (k *SecuredKafka) configure(t testing.TB, from, to, dir string) {
	t.Helper()
	controller := freeAddress(t)
	certificate, key := k.Authority.Issue("broker")
	settings := map[string]string{
		"listener.security.protocol.map":                     "CONTROLLER:PLAINTEXT,PLAIN:PLAINTEXT,TLS:SSL,SCRAM:SASL_SSL,MTLS:SSL",
		"inter.broker.listener.name":                         "PLAIN",
		"listeners":                                          "PLAIN://" + k.Plain + ",TLS://" + k.TLS + ",SCRAM://" + k.SCRAM + ",MTLS://" + k.MTLS + ",CONTROLLER://" + controller,
		"advertised.listeners":                               "PLAIN://" + k.Plain + ",TLS://" + k.TLS + ",SCRAM://" + k.SCRAM + ",MTLS://" + k.MTLS,
		"controller.quorum.voters":                           "1@" + controller,
		"log.dirs":                                           filepath.Join(dir, "kafka"),
		"sasl.enabled.mechanisms":                            "SCRAM-SHA-512",
		"listener.name.scram.sasl.enabled.mechanisms":        "SCRAM-SHA-512",
		"listener.name.scram.scram-sha-512.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
		"ssl.keystore.type":                                  "PEM",
		"ssl.keystore.location":                              write(t, filepath.Join(dir, "broker.pem"), append(key, certificate...)),
		"ssl.truststore.type":                                "PEM",
		"ssl.truststore.location":                            write(t, filepath.Join(dir, "clients.pem"), k.Clients.PEM),
		"listener.name.mtls.ssl.client.auth":                 "required",
		"connection.failed.authentication.delay.ms":          "10",
	}
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatalf("settings of test brokers: %v", err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(line, "=")
		if _, ours := settings[name]; !ours {
			out.WriteString(line)
		}
	}
	for name, value := range settings {
		fmt.Fprintf(&out, "%s=%s\n", name, value)
	}
	write(t, to, []byte(out.String()))
}

func write(t testing.TB, name string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// jars returns the folder of a broker's jars, which are brought there if need be.
func jars(t testing.TB, here string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", filepath.Join(here, "programs"))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	_, rest, _ := strings.Cut(string(out), "TIDEMARK_TEST_KAFKA_JARS='")
	folder, _, ok := strings.Cut(rest, "'")
	if err != nil || !ok {
		t.Fatalf("tests/servers/programs: %v, printed %q", err, out)
	}
	return folder
}

// await returns once somebody listens.
func await(t testing.TB, address string, log *output.Buffer) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(t.Context(), "tcp", address)
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("secured broker on %s: %v; its log ends in\n%s", address, err, log)
		}
		select {
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}
