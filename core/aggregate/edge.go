package aggregate

import (
	"bytes"
	"cmp"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// edge keeps the input at one end of the positions: the first one, or the last. So it does not depend on the order of values or
// merges. The zero edge is empty, the identity of merge.
type edge struct {
	kind InputKind // 0: empty
	at   Position
	text []byte // as Input.appendText; the edge's own
}

func (e *edge) reset() { *e = edge{text: e.text[:0]} }

// add takes the input if it is before (sign -1: first) or after (sign 1: last) the one that is kept.
func (e *edge) add(in *Input, sign int) {
	if e.kind != 0 && sign*in.At.Compare(e.at) < 0 {
		return
	}
	if e.kind != 0 && in.At == e.at { // of one record there is one value; if not, let it be the same one whatever the order
		var room [64]byte
		e.offer(in.Kind, in.At, in.appendText(room[:0]), sign)
		return
	}
	e.kind, e.at, e.text = in.Kind, in.At, in.appendText(e.text[:0])
}

// offer does the same with a kind, position and text that were stored; the text is copied.
func (e *edge) offer(kind InputKind, at Position, text []byte, sign int) {
	if e.kind != 0 && sign*cmp.Or(at.Compare(e.at), cmp.Compare(kind, e.kind), bytes.Compare(text, e.text)) <= 0 {
		return
	}
	e.kind, e.at, e.text = kind, at, append(e.text[:0], text...)
}

func (e *edge) merge(o *edge, sign int) {
	if o.kind != 0 {
		e.offer(o.kind, o.at, o.text, sign)
	}
}

// appendJSON appends the value as JSON; null of an empty edge.
func (e *edge) appendJSON(dst []byte) []byte {
	switch e.kind {
	case InputNumber, InputBool:
		return append(dst, e.text...)
	case InputString:
		return event.AppendJSONString(dst, e.text)
	}
	return append(dst, "null"...)
}
