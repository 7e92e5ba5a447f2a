package trigger

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/llm-auto-optimizer/tidemark/core/event"
	"github.com/llm-auto-optimizer/tidemark/functions/esm"
)

// deliver is one invocation with all that comes of it.
func (l *poller) deliver(b *batch) {
	payload, ok := l.prepare(b)
	switch {
	case !ok:
		l.settle(b, []*batch{{parts: b.parts, pending: true}})
		return
	case len(b.parts) == 0:
		l.settle(b, nil)
		return
	}
	sent := l.describe(b, len(payload))
	if l.Hooks.Sent != nil {
		l.Hooks.Sent(sent)
	}
	answer, err := l.invoke(l.ctx, payload)
	took := time.Since(sent.At)
	b.invoked++
	outcome, rest := Failed, b.parts
	if err == nil {
		outcome, rest, err = l.judge(b, answer)
	}
	l.tell(sent, outcome, rest, err, took)
	next, ok := l.decide(b, outcome, rest, err)
	if !ok {
		next = []*batch{{parts: rest, pending: true}} // nothing is tried again: it is delivered after the next start
	}
	l.settle(b, next)
}

// prepare writes the event of a batch. What is too old, or too large, is given up, and what has no room goes back to where it waits;
// nothing may be left. It is not ok if Run ended meanwhile: then nothing of the batch is done.
func (l *poller) prepare(b *batch) (payload []byte, ok bool) {
	parts, ok := l.expire(b)
	if !ok {
		return nil, false
	}
	payload, in, oversize, left := l.encode(parts)
	if len(oversize) > 0 {
		if _, ok := l.giveUp(b, nil, oversize, TooLarge, nil); !ok {
			return nil, false
		}
	}
	b.parts = in
	if len(left) > 0 {
		if len(in) > 0 {
			b.closed = ClosedByPayload
		}
		l.returnTo(b, left)
	}
	return payload, true
}

// judge reads the answer, if the mapping does: what came of the batch, and which records are not done.
func (l *poller) judge(b *batch, answer []byte) (Outcome, []part, error) {
	if !l.PartialFailures {
		return Applied, nil, nil
	}
	rest, err := failed(b.parts, answer)
	switch {
	case err != nil:
		return Malformed, b.parts, err
	case len(rest) > 0:
		return Partial, rest, nil
	}
	return Applied, nil, nil
}

// tell reports the end of an invocation.
func (l *poller) tell(sent Batch, outcome Outcome, rest []part, err error, took time.Duration) {
	left := 0
	for _, p := range rest {
		left += len(p.records)
	}
	if err != nil && l.ctx.Err() == nil {
		l.Logger.Warn("trigger: the batch is not done", "records", sent.Records, "attempt", sent.Attempt, "outcome", outcome.String(), "error", err)
	}
	if l.Hooks.Answered != nil {
		l.Hooks.Answered(Answered{Batch: sent, Outcome: outcome, Done: sent.Records - left, Failed: left, Err: err, Took: took})
	}
}

// decide says what is done next with records that are not done: batches to be tried again, at most two. It is not ok if Run ended
// meanwhile.
func (l *poller) decide(b *batch, outcome Outcome, rest []part, err error) (next []*batch, ok bool) {
	if len(rest) == 0 {
		return nil, true
	}
	if l.ctx.Err() != nil {
		return nil, false
	}
	again := &batch{parts: rest, closed: ClosedByRetry, pending: true, pause: b.pause, tries: b.tries, invoked: b.invoked, ended: make(chan struct{})}
	if outcome == Partial {
		again.pause = l.RetryPause // it goes ahead
	}
	again.due = time.Now().Add(again.pause)
	most := l.tries()
	if outcome == Failed && l.Bisect && again.records() > 1 && most != 1 {
		first, second := again.halve()
		return []*batch{first, second}, true
	}
	again.tries++
	again.pause = min(2*again.pause, max(mostRetryPause, l.RetryPause))
	if most > 0 && again.tries >= most {
		_, ok := l.giveUp(b, nil, rest, RetriesExhausted, err)
		return nil, ok
	}
	return []*batch{again}, true
}

// settle accounts for an invocation that has ended: partitions go on with what is left of the batch, then with what comes behind.
func (l *poller) settle(b *batch, next []*batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running--
	close(b.ended)
	for _, p := range l.partitions {
		if p.current == b {
			p.current = nil
		}
	}
	for _, n := range next {
		for _, part := range n.parts {
			if p := part.partition; p.current == nil {
				p.hold(n)
			} else { // the second half of it
				p.behind = append([]*batch{n}, p.behind...)
			}
		}
		if n.parts[0].current == n {
			l.waiting = append(l.waiting, n)
		}
	}
	for _, p := range l.partitions {
		if p.current == nil && len(p.behind) > 0 {
			n := p.behind[0]
			p.behind = p.behind[1:]
			p.hold(n)
			l.waiting = append(l.waiting, n)
		}
		if p.leaving && (p.current == nil || p.current.pending) {
			p.rest()
		}
	}
	l.strip()
	l.commits.wake()
	l.dispatch()
}

// expire gives up what is too old, and returns what is left of the batch.
func (l *poller) expire(b *batch) (rest []part, ok bool) {
	if l.MaxAge <= 0 {
		return b.parts, true
	}
	oldest := time.Now().Add(-l.MaxAge)
	var old []part
	for _, p := range b.parts {
		o := part{partition: p.partition}
		for _, r := range p.records {
			if r.Timestamp.Before(oldest) {
				o.records = append(o.records, r)
			}
		}
		if len(o.records) > 0 {
			old = append(old, o)
		}
	}
	if len(old) == 0 {
		return b.parts, true
	}
	return l.giveUp(b, b.parts, old, TooOld, nil)
}

// returnTo puts records for which the event had no room back to where they wait, and lets go of partitions without any other.
func (l *poller) returnTo(b *batch, left []part) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, part := range left {
		part.giveBack(part.records)
		if b.first(part.partition) < 0 {
			part.current = nil
		}
	}
	l.dispatch()
}

// encoder is what an invocation needs to write its event.
type encoder struct {
	esm.Encoder
	record event.Record // with the buffer of its headers
}

// encode writes the event of what is in it. Not in it are oversize records, which no event has room for, and what is left behind
// the last that had room.
func (l *poller) encode(parts []part) (payload []byte, in, oversize, left []part) {
	e, _ := l.encoders.Get().(*encoder)
	if e == nil {
		e = &encoder{}
		e.Source, e.SourceARN, e.BootstrapServers = l.Source, l.SourceARN, l.servers
	}
	defer l.encoders.Put(e)
	e.Reset()
	for i, p := range parts {
		begin, end := 0, 0
		for ; end < len(p.records); end++ {
			info := e.read(p.records[end].Record)
			if e.TryAdd(p.TopicPartition, &e.record, info, esm.MaxPayload) {
				continue
			}
			if e.Records() > 0 {
				break
			}
			begin = end + 1
			oversize = append(oversize, part{p.partition, p.records[end:begin]})
		}
		if begin < end {
			in = append(in, part{p.partition, p.records[begin:end:end]})
		}
		if end < len(p.records) {
			left = append(append(left, part{p.partition, p.records[end:]}), parts[i+1:]...)
			break
		}
	}
	if e.Records() == 0 {
		return nil, in, oversize, left
	}
	return e.AppendTo(make([]byte, 0, e.Len())), in, oversize, left
}

// read takes a record of Kafka's for the event.
func (e *encoder) read(r *kgo.Record) esm.Info {
	headers := e.record.Headers[:0]
	for _, h := range r.Headers {
		headers = append(headers, event.Header{Key: h.Key, Value: h.Value})
	}
	e.record = event.Record{Offset: r.Offset, Timestamp: event.FromGo(r.Timestamp), Key: r.Key, Value: r.Value, Headers: headers}
	info := esm.DefaultInfo(&e.record)
	switch r.Attrs.TimestampType() {
	case 1:
		info.TimestampType = esm.TimestampLogAppend
	case -1:
		info.TimestampType = esm.TimestampUnknown
	}
	return info
}

// describe is what hooks are told of an invocation that begins.
func (l *poller) describe(b *batch, bytes int) Batch {
	out := Batch{ID: l.ids.Add(1), Poller: l.number, Attempt: b.invoked + 1, Spans: b.spans(), Records: b.records(), Bytes: bytes, Closed: b.closed}
	for _, p := range b.parts {
		for _, r := range p.records {
			if out.Arrived.IsZero() || r.arrived.Before(out.Arrived) {
				out.Arrived = r.arrived
			}
			if out.Appended.IsZero() || r.Timestamp.Before(out.Appended) {
				out.Appended = r.Timestamp
			}
		}
	}
	out.At = time.Now()
	return out
}
