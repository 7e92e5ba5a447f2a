// Package dataset is the stream that benchmarks run on: metrics of language-model services, four partitions, 200 keys of
// Zipf-distributed traffic, lognormal values, out of order by up to five seconds, one event in a thousand one to three minutes
// late. At the end one event a partition, a day ahead, closes every window. Equal parameters give equal bytes.
package dataset

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
)

// The stream's constants. Base, the event time of the first event, is a multiple of ten minutes.
const (
	Topic      = "performance-metrics"
	Partitions = 4
	Base       = event.Time(1_700_000_400_000)
	Closing    = Base + 24*3600*1000

	keys       = 200
	services   = 20
	perMs      = 10 // events per millisecond of event time
	disorderMs = 5000
	lateShare  = 0.001
	closer     = "__flush"
)

// Stream makes the events one after the other.
type Stream struct {
	n, i    int
	rand    *rand.Rand
	groups  []group
	cdf     []float64
	offsets [Partitions]int64
	value   []byte
}

// group is one key of the stream.
type group struct {
	service, model, key string
	partition           int32
}

// New returns a stream of n events and the closing ones.
func New(n int, seed uint64) *Stream {
	s := &Stream{n: n, rand: rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))}
	total := 0.0
	for k := range keys {
		g := group{service: fmt.Sprintf("svc-%02d", k%services), model: "gpt-x-" + strconv.Itoa(k/services)}
		g.key = "service=" + g.service + "::model=" + g.model
		g.partition = kafkaio.KeyPartition([]byte(g.key), Partitions)
		s.groups = append(s.groups, g)
		total += 1 / float64(k+1)
		s.cdf = append(s.cdf, total)
	}
	for k := range s.cdf {
		s.cdf[k] /= total
	}
	// So that the busy keys do not share a service.
	s.rand.Shuffle(keys, func(a, b int) { s.groups[a], s.groups[b] = s.groups[b], s.groups[a] })
	return s
}

// Next returns the next event's partition and record, whose bytes are valid until the next call; false at the end.
func (s *Stream) Next() (int32, event.Record, bool) {
	i := s.i
	s.i++
	switch {
	case i >= s.n+Partitions:
		return 0, event.Record{}, false
	case i >= s.n:
		g := group{service: closer, model: closer, key: "service=" + closer + "::model=" + closer, partition: int32(i - s.n)}
		return s.record(g, Closing, uint64(i), 0, "0.00", 0, 0, 0)
	}
	k, _ := slices.BinarySearch(s.cdf, s.rand.Float64())
	g := s.groups[min(k, keys-1)]
	at := Base + event.Time(i/perMs) - event.Time(s.rand.IntN(disorderMs))
	if s.rand.Float64() < lateShare {
		at -= 60_000 + event.Time(s.rand.IntN(120_000))
	}
	amount := strconv.FormatFloat(math.Exp(5.0+0.6*s.rand.NormFloat64()), 'f', 2, 64)
	a, b := s.rand.Uint64(), s.rand.Uint64()
	return s.record(g, at, a, b, amount, a%100000, b%4, b>>8%2048)
}

var regions = [4]string{"us-east-1", "us-west-2", "eu-west-1", "ap-south-1"}

func (s *Stream) record(g group, at event.Time, a, b uint64, amount string, user, region, tokens uint64) (int32, event.Record, bool) {
	var id [16]byte
	binary.BigEndian.PutUint32(id[0:], uint32(a>>32))
	binary.BigEndian.PutUint16(id[4:], uint16(a>>16))
	binary.BigEndian.PutUint16(id[6:], uint16(a))
	binary.BigEndian.PutUint16(id[8:], uint16(b>>48))
	binary.BigEndian.PutUint64(id[8:], b&0xffffffffffff|uint64(binary.BigEndian.Uint16(id[8:]))<<48)
	s.value = fmt.Appendf(s.value[:0], `{"event_id":"%x-%x-%x-%x-%x","timestamp":%d,"service":%q,"model":%q,"metric":"latency_ms","value":%s,`+
		`"user":"u-%d","attributes":{"region":%q,"tokens":%d}}`, id[0:4], id[4:6], id[6:8], id[8:10], id[10:16], int64(at), g.service, g.model,
		amount, user, regions[region], tokens)
	rec := event.Record{Offset: s.offsets[g.partition], Timestamp: at, Key: []byte(g.key), Value: s.value}
	s.offsets[g.partition]++
	return g.partition, rec, true
}
