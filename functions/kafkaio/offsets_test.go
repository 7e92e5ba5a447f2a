package kafkaio_test

import (
	"testing"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

// Without any transaction everything is stable, also while records come in.
func TestRecordsThatComeInAreNoOpenTransaction(t *testing.T) {
	c := client(t, fake(t).ListenAddrs()...)
	if err := c.CreateTopic(t.Context(), "busy", 1, 1, nil); err != nil {
		t.Fatal(err)
	}
	tp := event.TopicPartition{Topic: "busy"}
	asked, produced := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-asked:
				produced <- nil
				return
			default:
			}
			if err := c.Produce(t.Context(), []kafkaio.Message{{Topic: "busy", Value: []byte("x")}}); err != nil {
				produced <- err
				return
			}
		}
	}()
	wrong := 0
	for range 500 {
		offsets, err := c.Offsets(t.Context(), []event.TopicPartition{tp})
		if err != nil {
			t.Fatal(err)
		}
		if o := offsets[tp]; o.Stable != o.End {
			wrong++
		}
	}
	close(asked)
	if err := <-produced; err != nil {
		t.Fatal(err)
	}
	if wrong > 0 {
		t.Errorf("%d of 500 answers tell of an open transaction", wrong)
	}
}
