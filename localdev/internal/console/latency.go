package console

import (
	"cmp"
	"slices"
	"time"
)

const (
	// keepLatencies is how many of the newest measurements a percentile is of.
	keepLatencies = 1000
	// mostFunctions bounds the functions that are told apart.
	mostFunctions = 16
	// implausible is from where on a record's Kafka timestamp says something else than when it was appended.
	implausible = 24 * time.Hour
)

// latencies are the newest measurements.
type latencies struct {
	folded      ring[time.Duration]
	fromArrival bool // the newest of folded
	plans       ring[time.Duration]
	functions   map[string]*functionTotals
}

// functionTotals are of one function, since the board began.
type functionTotals struct {
	took                      ring[time.Duration]
	calls, errors, coldStarts int64
	records                   int64
	maxMemory                 int64
}

func newLatencies() latencies {
	return latencies{folded: ring[time.Duration]{most: keepLatencies}, plans: ring[time.Duration]{most: keepLatencies}, functions: map[string]*functionTotals{}}
}

func (l *latencies) invoked(i *Invocation) {
	f := l.functions[i.Function]
	if f == nil {
		if len(l.functions) == mostFunctions {
			return
		}
		f = &functionTotals{took: ring[time.Duration]{most: keepLatencies}}
		l.functions[i.Function] = f
	}
	f.took.add(i.Duration)
	f.calls++
	f.records += int64(i.Records)
	f.maxMemory = max(f.maxMemory, i.MaxMemory)
	if i.Error != "" {
		f.errors++
	}
	if i.ColdStart {
		f.coldStarts++
	}
}

// Folded takes a batch that is in the state, and when its oldest record was appended, by its Kafka timestamp, and had reached the
// trigger. Timestamps that are ahead of that are not those of the append: then it is the arrival that counts, which the status says.
// Those more than a day old are left out: whoever wrote the record set them.
func (b *Board) Folded(appended, arrived, at time.Time) {
	fromArrival := appended.After(arrived)
	if fromArrival {
		appended = arrived
	}
	took := at.Sub(appended)
	if took < 0 || took > implausible {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.latency.folded.add(took)
	b.latency.fromArrival = fromArrival
}

// Percentiles are of the newest measurements, in milliseconds.
type Percentiles struct {
	Count int     `json:"count"` // how many they are of; 0: nothing is known
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`
	Max   float64 `json:"max_ms"`
}

func percentiles(of []time.Duration) Percentiles {
	if len(of) == 0 {
		return Percentiles{}
	}
	slices.Sort(of)
	at := func(p int) float64 { return float64(of[(len(of)-1)*p/100].Microseconds()) / 1000 }
	return Percentiles{len(of), at(50), at(99), at(100)}
}

// Function is what is known of a function's invocations.
type Function struct {
	Name       string      `json:"name"`
	Calls      int64       `json:"calls"` // all of these since the board began
	Errors     int64       `json:"errors"`
	ColdStarts int64       `json:"cold_starts"`
	Records    int64       `json:"records"`
	MaxMemory  int64       `json:"max_memory_bytes"` // 0: not measured
	Took       Percentiles `json:"took"`
}

// functionsKnown returns the functions by name. The lock is held.
func (b *Board) functionsKnown() []Function {
	out := []Function{}
	for name, f := range b.latency.functions {
		out = append(out, Function{name, f.calls, f.errors, f.coldStarts, f.records, f.maxMemory, percentiles(f.took.newest())})
	}
	slices.SortFunc(out, func(a, b Function) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Status is a snapshot with what the page shows on top of it.
type Status struct {
	Snapshot
	TimeMS      int64       `json:"time_ms"`
	Folded      Percentiles `json:"append_to_folded"`    // of the oldest record of each batch
	FromArrival bool        `json:"folded_from_arrival"` // the records' timestamps are ahead of the clock
	PlanTook    Percentiles `json:"look_to_plan"`        // from a look of fire until its plan was committed
	Functions   []Function  `json:"functions"`
}

// Status returns the run as it is now. The caller owns it.
func (b *Board) Status() Status {
	s := Status{Snapshot: b.Snapshot()}
	b.mu.Lock()
	defer b.mu.Unlock()
	s.TimeMS = b.now().UnixMilli()
	s.Folded = percentiles(b.latency.folded.newest())
	s.FromArrival = b.latency.fromArrival
	s.PlanTook = percentiles(b.latency.plans.newest())
	s.Functions = b.functionsKnown()
	return s
}
