package pipeline

import (
	"errors"
	"fmt"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/core/spec"
)

// rejection says that a record cannot be processed, and why. An empty reason is no rejection.
type rejection struct {
	reason event.Reason
	detail string
}

// maxDetail bounds what is kept of an error's text.
const maxDetail = 200

func reject(reason event.Reason, detail string) rejection {
	if len(detail) > maxDetail {
		detail = detail[:maxDetail]
	}
	return rejection{reason: reason, detail: detail}
}

// reader takes event time, grouping key and values out of records. Its memory is reused: what it points to is valid until the
// next read.
type reader struct {
	p         *Pipeline
	decoder   event.Decoder
	raw       []event.Field // what is extracted
	fields    []event.Field // in the order of the pipeline's paths; where it has no operators, raw
	operating *operating    // nil: the pipeline has no operators

	filtered bool // the record does not count; time is event.MinTime if it cannot be read
	time     event.Time
	key      []byte
	inputs   []aggregate.Input // the values; their positions are set where the record is placed
	has      []bool
	gaps     []event.Span // of each window definition with a gap field
}

func newReader(p *Pipeline) reader {
	x, err := event.NewDecoder(p.Input, p.extracted())
	if err != nil {
		panic(fmt.Sprintf("pipeline %s: paths were valid when it was compiled: %v", p.Name, err))
	}
	r := reader{p: p, decoder: x, inputs: make([]aggregate.Input, len(p.Values)), has: make([]bool, len(p.Values))}
	if p.ops != nil {
		r.operating = p.ops.newOperating(len(p.paths))
	}
	for i := range r.inputs {
		r.inputs[i].Kind = aggregate.InputNumber // where no text is needed, only the number is set anew
	}
	return r
}

// read fills r from a record, or says why the record cannot be processed.
func (r *reader) read(rec *event.Record) rejection {
	if len(r.p.extracted()) > 0 {
		if rec.Value == nil {
			return r.unread(nullValue())
		}
		var err error
		if r.raw, err = r.decoder.Extract(rec.Value, r.raw[:0]); err != nil {
			return r.unread(reject(event.ReasonDecode, err.Error()))
		}
	}
	return r.readFields(rec)
}

func nullValue() rejection { return reject(event.ReasonDecode, "the record's value is null") }

// unread is the outcome of a record whose fields could not be extracted.
func (r *reader) unread(rej rejection) rejection {
	r.filtered = false
	return rej
}

// readFields fills r from a record whose fields are in raw.
func (r *reader) readFields(rec *event.Record) rejection {
	if r.operating != nil {
		if rej := r.operate(rec); r.filtered || rej.reason != "" {
			return rej
		}
	} else {
		r.fields = r.raw
	}
	if rej := r.readTime(rec); rej.reason != "" {
		return rej
	}
	if rej := r.readKey(rec); rej.reason != "" {
		return rej
	}
	if rej := r.readValues(); rej.reason != "" {
		return rej
	}
	return r.readGaps()
}

func (r *reader) readTime(rec *event.Record) rejection {
	ts := &r.p.Timestamp
	r.time = rec.Timestamp
	if ts.Field == "" {
		return rejection{}
	}
	f := r.fields[0]
	if f.Kind == event.FieldAbsent || f.Kind == event.FieldNull {
		if ts.Record {
			return rejection{}
		}
		return reject(event.ReasonTimestampMissing, "field "+ts.Field+" is missing or null")
	}
	t, err := event.ParseTimestamp(f, string(ts.Unit))
	if err != nil {
		return reject(event.ReasonTimestampInvalid, "field "+ts.Field+": "+err.Error())
	}
	r.time = t
	// Against the Kafka timestamp, not against a clock: a replay must decide the same.
	if skew := r.p.Watermark.MaxFutureSkew; skew >= 0 && t > rec.Timestamp.Add(skew) {
		return reject(event.ReasonTimestampFuture, fmt.Sprintf("event time %s is more than %s after the record's timestamp %s",
			t, skew.Duration(), rec.Timestamp))
	}
	return rejection{}
}

func (r *reader) readKey(rec *event.Record) rejection {
	r.key = r.key[:0]
	switch k := &r.p.Key; {
	case k.RecordKey && rec.Key == nil:
		r.key = append(r.key, event.NullKey...)
	case k.RecordKey:
		r.key = append(r.key, rec.Key...)
	default:
		var bad int
		fields := r.fields
		if len(fields) > 0 {
			fields = fields[r.p.keyAt:r.p.valueAt]
		}
		if r.key, bad = event.AppendKey(r.key, r.p.labels, fields); bad >= 0 {
			return reject(event.ReasonKeyMissing, "field "+k.Fields[bad]+" is missing, null, an object or an array")
		}
	}
	if len(r.key) > MaxKeyBytes {
		return reject(event.ReasonTooLarge, fmt.Sprintf("the grouping key has %d bytes, at most %d are possible", len(r.key), MaxKeyBytes))
	}
	return rejection{}
}

func (r *reader) readValues() rejection {
	if len(r.p.Values) == 0 {
		return rejection{}
	}
	found := false
	for i, f := range r.fields[r.p.valueAt:r.p.gapAt] {
		r.has[i] = false
		switch f.Kind {
		case event.FieldAbsent, event.FieldNull:
			continue
		case event.FieldNumber:
			v, err := event.ParseFloat(f.Raw)
			if err != nil {
				return r.valueRejection(i, err)
			}
			if r.inputs[i].Number = v; !r.p.inputs[i] {
				r.has[i], found = true, true
				continue
			}
			r.inputs[i] = aggregate.Input{Kind: aggregate.InputNumber, Number: v, Text: f.Raw}
		case event.FieldString, event.FieldBool:
			if !r.p.composite.TakesScalars(i) {
				return r.notANumber(i, f)
			}
			r.inputs[i] = aggregate.Input{Kind: aggregate.InputString, Text: f.Raw}
			if f.Kind == event.FieldBool {
				r.inputs[i].Kind = aggregate.InputBool
			}
		case event.FieldObject, event.FieldArray:
			return r.notANumber(i, f)
		}
		if len(f.Raw) > aggregate.MaxTextBytes && r.p.composite.KeepsText(i) {
			return reject(event.ReasonTooLarge, fmt.Sprintf("field %s has %d bytes, at most %d are possible for first and last", r.p.Values[i].Path, len(f.Raw), aggregate.MaxTextBytes))
		}
		r.has[i], found = true, true
	}
	if !found {
		return reject(event.ReasonValueMissing, "no value of the pipeline is in the record")
	}
	return rejection{}
}

// notANumber rejects a field that no function of its value takes.
func (r *reader) notANumber(i int, f event.Field) rejection {
	if f.Kind == event.FieldString && isNotFinite(f.Raw) {
		return r.valueRejection(i, event.ErrNotFinite)
	}
	what := "a number"
	if r.p.composite.TakesScalars(i) {
		what = "a number, a string or a boolean"
	}
	return reject(event.ReasonValueType, fmt.Sprintf("field %s is %s, not %s", r.p.Values[i].Path, f.Kind, what))
}

func (r *reader) valueRejection(i int, err error) rejection {
	reason := event.ReasonValueType
	if errors.Is(err, event.ErrNotFinite) {
		reason = event.ReasonValueNotFinite
	}
	return reject(reason, "field "+r.p.Values[i].Path+": "+err.Error())
}

// isNotFinite recognises how JSON writers that have no number for it spell what is not finite.
func isNotFinite(s []byte) bool {
	switch string(s) {
	case "NaN", "nan", "Infinity", "-Infinity", "+Infinity", "inf", "-inf", "Inf", "-Inf", "+Inf":
		return true
	}
	return false
}

// outcome is what the policy makes of a rejected record.
type outcome uint8

const (
	outcomeDead outcome = iota
	outcomeSkip
	outcomeBlock
)

func (p *Pipeline) outcome() outcome {
	switch p.Policy {
	case spec.PolicySkip:
		return outcomeSkip
	case spec.PolicyFail:
		return outcomeBlock
	case spec.PolicyRetry, spec.PolicyDeadLetter:
		return outcomeDead
	}
	return outcomeDead
}
