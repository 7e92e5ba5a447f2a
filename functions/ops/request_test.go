package ops

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestPayloadsAreStrict(t *testing.T) {
	for payload, want := range map[string]string{
		``:                              "",
		`{}`:                            "",
		`{"command":"help"}`:            "",
		`{"command":"state","limit":5}`: "",
		`{"command":"explain","key":"a","pipeline":"p"}`: "",
		`[]`:                                 "not a JSON object",
		`null`:                               "",
		`{"command":"explode"}`:              "there are explain, state, checkpoint",
		`{"pipeline":"p"}`:                   `"command" must be one of`,
		`{"command":7}`:                      `"command" must be one of`,
		`{"command":"explain","limit":1}`:    "there are: command, pipeline, key",
		`{"command":"explain","Pipeline":1}`: `has no key "Pipeline"`,
		`{"command":"state","limit":"x"}`:    "limit",
		`{"command":"state","limit":-1}`:     "negative",
		`{"command":"verify","partition":0}`: "needs its topic",
		`{"command":"help"} {}`:              "more than one",
	} {
		_, err := parse([]byte(payload))
		switch {
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", payload, err, want)
		case err != nil && !errors.Is(err, ErrPayload):
			t.Errorf("%s: %v is no ErrPayload", payload, err)
		}
	}
}

func TestTheExamplesOfHelpAreTaken(t *testing.T) {
	for _, c := range commands() {
		if r, err := parse(c.Examples); err != nil || r.Command != c.Name {
			t.Errorf("%s: %+v, %v", c.Examples, r, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range commands() {
		f.Add([]byte(c.Examples))
	}
	f.Add([]byte(`{"command":"state","limit":1e3,"partition":null}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		r, err := parse(payload)
		switch {
		case err != nil && !errors.Is(err, ErrPayload):
			t.Errorf("%q: %v is no ErrPayload", payload, err)
		case err == nil && (r.Limit < 0 || r.Command == ""):
			t.Errorf("%q: %+v", payload, r)
		case err == nil && len(payload) > 0 && !json.Valid(payload):
			t.Errorf("%q is no JSON", payload)
		}
	})
}
