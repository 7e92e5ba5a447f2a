package ops

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// ErrPayload is returned for a payload that asks for nothing that there is.
var ErrPayload = errors.New("ops: payload")

// request is a payload, read.
type request struct {
	Command   string  `json:"command"`
	Pipeline  string  `json:"pipeline"`
	Topic     string  `json:"topic"`
	Partition *int32  `json:"partition"`
	Key       *string `json:"key"`
	Slot      string  `json:"slot"`
	Prefix    string  `json:"prefix"`
	After     string  `json:"after"`
	To        string  `json:"to"`
	From      string  `json:"from"`
	Limit     int     `json:"limit"`
	Confirm   bool    `json:"confirm"`
	Continue  bool    `json:"continue"`
}

// command is what may be asked for.
type command struct {
	Name     string          `json:"command"`
	What     string          `json:"what"`
	Keys     []string        `json:"keys"`
	Examples json.RawMessage `json:"example"`
}

// commands lists them, in the order of help.
func commands() []command {
	return []command{
		{"explain", "why a window has not fired: plan, watermark and who holds it back, partitions, open windows; with key, what they have of it so far", []string{"pipeline", "key"}, json.RawMessage(`{"command":"explain","pipeline":"default","key":"service=a"}`)},
		{"state", "the slots of the state store; with slot, or topic and partition, the slices of one. Pages: limit, after", []string{"pipeline", "prefix", "slot", "topic", "partition", "limit", "after"}, json.RawMessage(`{"command":"state","slot":"default/events/0","limit":100}`)},
		{"checkpoint", "copy the state to a directory or to S3", []string{"to"}, json.RawMessage(`{"command":"checkpoint","to":"s3://bucket/prefix"}`)},
		{"restore", "put back what the state store has lost, from a checkpoint", []string{"from"}, json.RawMessage(`{"command":"restore","from":"s3://bucket/prefix"}`)},
		{"replay", "drop slots and rebuild them from the log; while the answer says done: false, call again with continue", []string{"pipeline", "topic", "partition", "confirm", "continue"}, json.RawMessage(`{"command":"replay","pipeline":"default","topic":"events","partition":0,"confirm":true}`)},
		{"verify", "fold the log again and compare with the state; check the books of the ledger", []string{"pipeline", "topic", "partition"}, json.RawMessage(`{"command":"verify","pipeline":"default"}`)},
		{"preflight", "what cluster, topics and store allow; nothing is written, so no transaction is tried", nil, json.RawMessage(`{"command":"preflight"}`)},
		{"help", "this list", nil, json.RawMessage(`{"command":"help"}`)},
	}
}

// parse reads a payload. Unknown commands and keys are errors that say what there is.
func parse(payload []byte) (request, error) {
	var r request
	fields := map[string]json.RawMessage{}
	d := json.NewDecoder(bytes.NewReader(payload))
	if err := d.Decode(&fields); err != nil && !errors.Is(err, io.EOF) {
		return r, fmt.Errorf("%w: not a JSON object: %w; {\"command\":\"help\"} lists the commands", ErrPayload, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return r, fmt.Errorf("%w: more than one JSON object", ErrPayload)
	}
	if len(fields) == 0 {
		r.Command = "help"
		return r, nil
	}
	all := commands()
	names := make([]string, len(all))
	for i := range all {
		names[i] = all[i].Name
	}
	if err := json.Unmarshal(fields["command"], &r.Command); err != nil || r.Command == "" {
		return r, fmt.Errorf("%w: \"command\" must be one of %s", ErrPayload, strings.Join(names, ", "))
	}
	at := slices.Index(names, r.Command)
	if at < 0 {
		return r, fmt.Errorf("%w: unknown command %q; there are %s", ErrPayload, r.Command, strings.Join(names, ", "))
	}
	for key := range fields {
		if key != "command" && !slices.Contains(all[at].Keys, key) {
			return r, fmt.Errorf("%w: %s has no key %q; there are: %s", ErrPayload, r.Command, key, strings.Join(append([]string{"command"}, all[at].Keys...), ", "))
		}
	}
	if err := json.Unmarshal(payload, &r); err != nil {
		return r, fmt.Errorf("%w: %s: %w", ErrPayload, r.Command, err)
	}
	if r.Limit < 0 || r.Partition != nil && *r.Partition < 0 {
		return r, fmt.Errorf("%w: %s: limit and partition must not be negative", ErrPayload, r.Command)
	}
	if r.Partition != nil && r.Topic == "" {
		return r, fmt.Errorf("%w: %s: a partition needs its topic", ErrPayload, r.Command)
	}
	return r, nil
}
