package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
)

// result is what is wanted of the value of a result record.
type result struct {
	Pipeline string `json:"pipeline"`
	Window   struct {
		Name  string `json:"name"`
		Type  string `json:"type"`
		Start int64  `json:"start_ms"`
		End   int64  `json:"end_ms"`
	} `json:"window"`
	Key  string `json:"key"`
	Pane struct {
		Timing   string `json:"timing"`
		Revision int64  `json:"revision"`
	} `json:"pane"`
	Results json.RawMessage `json:"results"`
}

// Published takes the value of a result record. Nothing of it is kept. What is no result is left alone: the topic is shared with
// something else.
func (b *Board) Published(value []byte) {
	var r result
	if json.Unmarshal(value, &r) != nil {
		return
	}
	names, numbers := flatten(r.Results)
	b.mu.Lock()
	defer b.mu.Unlock()
	keep := b.s.LastResults[:min(len(b.s.LastResults), keepResults-1)]
	b.s.LastResults = append([]json.RawMessage{slices.Clone(value)}, keep...)
	now := b.now()
	b.history.at(now).results++
	if b.s.Mode == ModeWatch {
		b.s.Results++
	}
	b.fired.add(&r, now.UnixMilli())
	b.keys.add(&r, names, numbers)
	b.touch(SectionWindows)
	b.touch(SectionResults)
}

// mostNames bounds the values of a result that are shown.
const mostNames = 64

// flatten returns the numbers of a result and what they are called, in their order; a number of one of several values is called
// VALUE.FUNCTION. What is null is nil.
func flatten(results json.RawMessage) (names []string, numbers []*float64) {
	d := json.NewDecoder(bytes.NewReader(results))
	d.UseNumber()
	outer, err := object(d, "", &names, &numbers)
	if err != nil || !outer {
		return nil, nil
	}
	return names, numbers
}

// errShape is returned for what is no result.
var errShape = errors.New("console: not a map of numbers")

// object reads an object of numbers, or of objects of numbers.
func object(d *json.Decoder, prefix string, names *[]string, numbers *[]*float64) (bool, error) {
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return false, errShape
	}
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return false, errShape
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return false, err
		}
		if len(*names) == mostNames {
			continue
		}
		switch {
		case raw[0] == '{' && prefix == "":
			inner := json.NewDecoder(bytes.NewReader(raw))
			if _, err := object(inner, name+".", names, numbers); err != nil {
				return false, err
			}
		case bytes.Equal(raw, []byte("null")):
			*names, *numbers = append(*names, prefix+name), append(*numbers, nil)
		default:
			n, err := strconv.ParseFloat(string(raw), 64)
			if err != nil {
				continue // overflow, and whatever else is no number
			}
			*names, *numbers = append(*names, prefix+name), append(*numbers, &n)
		}
	}
	if _, err := d.Token(); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return true, nil
}
