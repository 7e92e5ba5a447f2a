package watermark

import (
	"strconv"
	"strings"

	"github.com/llm-auto-optimizer/tidemark/core/event"
)

// String says who holds the watermark back in a few words, such as "events/2 (slowest, 12s behind)". The ledger publishes it.
func (h Holder) String() string {
	switch h.Reason {
	case ReasonNone:
		return "no partitions"
	case ReasonAllIdle:
		return "all partitions idle"
	case ReasonSlowest:
		return h.named("slowest") + h.behind() + ")"
	case ReasonLagging:
		return h.named("lagging") + h.lag() + h.behind() + ")"
	case ReasonNoRecordYet:
		return h.named("no record yet)")
	case ReasonOpenTransaction:
		return h.named("open transaction") + h.lag() + h.behind() + ")"
	case ReasonFence:
		return h.named("raised by an unfinished plan)")
	case ReasonInterval:
		return h.named("waits for the interval") + h.behind() + ")"
	}
	return h.named(string(h.Reason) + ")")
}

func (h Holder) named(what string) string { return name(h.TopicPartition) + " (" + what }

func (h Holder) behind() string {
	if h.Behind <= 0 {
		return ""
	}
	return ", " + h.Behind.Duration().String() + " behind"
}

func (h Holder) lag() string {
	switch h.Lag {
	case 0:
		return ""
	case 1:
		return ", 1 offset to go"
	}
	return ", " + strconv.FormatInt(h.Lag, 10) + " offsets to go"
}

// String explains the decision in one line.
func (d Decision) String() string {
	var b strings.Builder
	b.WriteString("watermark ")
	b.WriteString(d.Watermark.String())
	switch {
	case d.Moved:
		b.WriteString(" moved")
	case d.Waiting:
		b.WriteString(" waits")
	default:
		b.WriteString(" stays")
	}
	b.WriteString(", held by ")
	b.WriteString(d.Holder.String())
	for i, tp := range d.Idle {
		if i == 0 {
			b.WriteString("; idle: ")
		} else {
			b.WriteString(", ")
		}
		b.WriteString(name(tp))
	}
	return b.String()
}

func name(tp event.TopicPartition) string {
	return tp.Topic + "/" + strconv.Itoa(int(tp.Partition))
}
