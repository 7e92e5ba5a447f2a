package kafkaio_test

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

// While a function is frozen its connections are forgotten by what lies between, and nobody says so. The clock goes on, so that they
// are too old when it thaws: nothing is sent on one, where it would wait for an answer that does not come.
func TestTheFirstRequestAfterAFreezeUsesANewConnection(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	must(t, err)
	t.Cleanup(cluster.Close)
	p := newProxy(t, cluster.ListenAddrs()[0])
	const idle = 200 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := kafkaio.Open(ctx, kafkaio.Options{Brokers: cluster.ListenAddrs(), Extra: []kgo.Opt{kgo.Dialer(p.dial), kgo.ConnIdleTimeout(idle)}})
	must(t, err)
	defer c.Close()
	_, err = c.Groups(ctx, "none")
	must(t, err)

	before := p.connections()
	p.freeze()
	<-time.After(2 * idle) // the time that passes is what makes them old
	began := time.Now()
	_, err = c.Groups(ctx, "none")
	must(t, err)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %s: a request was sent into the void", took)
	}
	if p.connections() == before {
		t.Error("no new connection")
	}
}
