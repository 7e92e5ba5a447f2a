package spec

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
)

// fingerprintVersion is the first line of the canonical text. Stored state, groups and transactional ids carry the
// fingerprint: another version makes every pipeline a new one. A part added to the language appends its line only where it
// is not at its default, so that the fingerprints of pipelines without it stay.
const fingerprintVersion = "tidemark pipeline 1\n"

// Fingerprint returns 16 lower-case hexadecimal digits that stand for everything that changes results: the first 8 bytes of
// the SHA-256 of a canonical text of topics (in any order), the format of record values, timestamp, key, where, map, values, windows with lateness,
// trigger, accumulation, aggregates with their sketch and the versions of user-defined ones, max_future_skew, what happens to bad records, and fire.shards. Names of topics written to, the watermark and
// everything about running are not in it: they can change while state stays. The order of windows and functions is in it,
// since stored state is laid out by it.
func (p *Pipeline) Fingerprint() string {
	sum := sha256.Sum256(p.canonical())
	return hex.EncodeToString(sum[:8])
}

// canonical returns the canonical text: one line a part, strings quoted as in Go, lengths first, times in ms.
func (p *Pipeline) canonical() []byte {
	dst := []byte(fingerprintVersion)
	topics := slices.Clone(p.Topics)
	slices.Sort(topics)
	dst = appendStrings(append(dst, "topics"...), topics)
	dst = p.appendInput(dst)
	dst = appendTimestamp(append(dst, "timestamp"...), p.Timestamp)
	switch {
	case p.Key.RecordKey:
		dst = append(dst, "key record\n"...)
	default:
		dst = appendStrings(append(dst, "key fields"...), p.Key.Fields)
	}
	dst = p.appendOperators(dst)
	dst = appendInt(append(dst, "values"...), int64(len(p.Values)))
	for _, v := range p.Values {
		dst = appendString(appendString(dst, v.Name), v.Path)
	}
	dst = append(dst, '\n')
	for _, w := range p.Windows {
		dst = appendString(append(dst, "window"...), w.Name)
		dst = append(dst, ' ')
		dst = append(dst, w.Kind.String()...)
		for _, span := range []int64{int64(w.Size), int64(w.Slide), int64(w.Offset), int64(w.Gap), int64(w.Lateness)} {
			dst = appendInt(dst, span)
		}
		dst = append(dst, ' ')
		dst = strconv.AppendBool(dst, w.AllowGaps)
		if w.Step != 0 {
			dst = appendInt(append(dst, " step"...), int64(w.Step))
		}
		if w.Max != 0 {
			dst = appendInt(append(dst, " max"...), int64(w.Max))
		}
		if w.GapField != "" {
			dst = appendInt(appendString(append(dst, " gaps"...), w.GapField), int64(w.MaxGap))
		}
		dst = append(dst, '\n')
	}
	for _, a := range p.Aggregates {
		dst = appendStrings(appendString(append(dst, "aggregates"...), a.Value), a.Functions)
	}
	if t := p.Trigger; t != (Trigger{}) {
		dst = appendInt(appendInt(append(dst, "trigger"...), int64(t.EarlyEvery)), t.Count)
		dst = append(strconv.AppendBool(append(strconv.AppendBool(append(dst, ' '), t.OnChange), ' '), t.FinalOnly), '\n')
	}
	if p.Accumulation != "" && p.Accumulation != Accumulating {
		dst = append(append(append(dst, "accumulation "...), p.Accumulation...), '\n')
	}
	dst = appendInt(append(dst, "max_future_skew"...), max(int64(p.Watermark.MaxFutureSkew), -1))
	dst = append(append(append(dst, "\nbad_records "...), recordPolicy(p.Policy)...), '\n')
	dst = appendInt(append(dst, "shards"...), int64(max(p.Shards, 1)))
	return p.appendFunctions(append(dst, '\n'))
}

// appendFunctions appends the lines of the sketch, where percentiles use another one than the t-digest, and of user-defined
// functions with their versions.
func (p *Pipeline) appendFunctions(dst []byte) []byte {
	sketched := false
	var own []*aggregate.Definition
	for _, a := range p.Aggregates {
		for _, name := range a.Functions {
			f, err := p.Functions.Parse(name)
			if err != nil {
				continue // a pipeline that is not valid
			}
			sketched = sketched || f.Kind == aggregate.Percentile
			if d := f.Definition(); d != nil && !slices.Contains(own, d) {
				own = append(own, d)
			}
		}
	}
	if sketched && p.Sketch.Kind == aggregate.DDSketch {
		dst = strconv.AppendFloat(append(dst, "sketch ddsketch "...), p.Sketch.Accuracy, 'g', -1, 64)
		dst = append(dst, '\n')
	}
	for _, d := range own {
		dst = append(appendInt(appendString(append(dst, "function"...), d.Name), int64(d.Version)), '\n')
	}
	return dst
}

// recordPolicy returns what a policy does to a record that can never succeed: under retry it is dead-lettered at once.
func recordPolicy(p Policy) string {
	switch p {
	case PolicyRetry, PolicyDeadLetter:
		return string(PolicyDeadLetter)
	case PolicySkip:
		return string(PolicySkip)
	case PolicyFail:
		return string(PolicyFail)
	}
	return string(p)
}

func appendTimestamp(dst []byte, t Timestamp) []byte {
	if t.Field == "" {
		return append(dst, " record\n"...)
	}
	dst = appendString(append(dst, " field"...), t.Field)
	dst = append(append(dst, ' '), t.Unit...)
	dst = append(dst, ' ')
	return append(strconv.AppendBool(dst, t.Record), '\n')
}

func appendStrings(dst []byte, list []string) []byte {
	dst = appendInt(dst, int64(len(list)))
	for _, s := range list {
		dst = appendString(dst, s)
	}
	return append(dst, '\n')
}

func appendString(dst []byte, s string) []byte { return strconv.AppendQuote(append(dst, ' '), s) }

func appendInt(dst []byte, n int64) []byte { return strconv.AppendInt(append(dst, ' '), n, 10) }

// Group returns the consumer group that the pipeline commits to: tidemark.APP.PIPELINE.FINGERPRINT. With several shards it is
// only their common beginning; see GroupOf.
func (p *Pipeline) Group() string { return "tidemark." + p.App + "." + p.Name + "." + p.Fingerprint() }

// GroupOf returns the group of one shard, from 0: Group, and where there are several shards, a dot and its number.
func (p *Pipeline) GroupOf(shard int) string {
	if p.Shards <= 1 {
		return p.Group()
	}
	return p.Group() + "." + strconv.Itoa(shard)
}

// TransactionalID returns the transactional id of the pipeline's firer. It is the same text as Group.
func (p *Pipeline) TransactionalID() string { return p.Group() }

// TransactionalIDOf returns the transactional id of the firer of one shard; it is the same text as GroupOf.
func (p *Pipeline) TransactionalIDOf(shard int) string { return p.GroupOf(shard) }
