package event

import (
	"math"
	"time"
)

// Time is a point in event time: milliseconds since the Unix epoch, UTC. It is Kafka's unit.
type Time int64

// Span is a length of event time in milliseconds.
type Span int64

// MinTime is before every event: it stands for "no watermark yet" (minus infinity). MaxTime is after every event.
const (
	MinTime Time = math.MinInt64
	MaxTime Time = math.MaxInt64
)

// Add returns t moved by s, saturating at MinTime and MaxTime: arithmetic on times never wraps.
func (t Time) Add(s Span) Time {
	r := t + Time(s)
	if s > 0 && r < t {
		return MaxTime
	}
	if s < 0 && r > t {
		return MinTime
	}
	return r
}

// Sub returns t - u, saturating.
func (t Time) Sub(u Time) Span {
	r := t - u
	if t >= 0 && u < 0 && r < 0 {
		return math.MaxInt64
	}
	if t < 0 && u >= 0 && r >= 0 {
		return math.MinInt64
	}
	return Span(r)
}

// Floor returns the largest multiple of step (> 0), shifted by offset, that is not above t, also before 1970. It saturates
// at MinTime.
func (t Time) Floor(step, offset Span) Time {
	r := t.mod(step, offset)
	return t.Add(-r)
}

// mod returns (t - offset) mod step in [0, step). Both are brought into [0, step) first, so that nothing overflows.
func (t Time) mod(step, offset Span) Span {
	a, b := Span(t)%step, offset%step
	if a < 0 {
		a += step
	}
	if b < 0 {
		b += step
	}
	if a < b {
		return a - b + step
	}
	return a - b
}

// FromGo converts a clock reading; what is below a millisecond is cut off downwards.
func FromGo(t time.Time) Time { return Time(t.UnixMilli()) }

// Go converts to the standard library's type, in UTC.
func (t Time) Go() time.Time { return time.UnixMilli(int64(t)).UTC() }

// String formats t as RFC 3339 with milliseconds only where there are any; the ends of the range are "-inf" and "+inf".
func (t Time) String() string {
	switch t {
	case MinTime:
		return "-inf"
	case MaxTime:
		return "+inf"
	}
	return string(t.AppendRFC3339(nil))
}

// AppendRFC3339 appends t as RFC 3339 in UTC, with milliseconds only where there are any.
func (t Time) AppendRFC3339(dst []byte) []byte {
	return t.Go().AppendFormat(dst, "2006-01-02T15:04:05.999Z07:00")
}

// SpanOf converts a duration; what is below a millisecond is cut off.
func SpanOf(d time.Duration) Span { return Span(d.Milliseconds()) }

// Duration converts to the standard library's type, saturating at about 292 years.
func (s Span) Duration() time.Duration {
	const most = math.MaxInt64 / int64(time.Millisecond)
	switch {
	case int64(s) > most:
		return math.MaxInt64
	case int64(s) < -most:
		return math.MinInt64
	}
	return time.Duration(s) * time.Millisecond
}
