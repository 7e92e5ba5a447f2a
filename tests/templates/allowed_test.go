//go:build templates

package templates_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// grant is one action on one role of a resource, for one function.
type grant struct{ function, action, resource string }

func (g grant) String() string {
	return fmt.Sprintf("%s: kafka-cluster:%s on %s", g.function, g.action, g.resource)
}

// notAllowed are grants that a call asks for, and that a role does without.
var notAllowed = map[grant]string{
	{"fire", "DeleteGroup", "group:app"}: "the trial deletes its group so that brokers do not list it; nothing depends on it, and the right would cover the pipelines' groups",
}

// ofTheMapping are grants that no call of a function asks for: the event source mapping has the role of its function.
var ofTheMapping = map[grant]string{
	{"ingest", "DescribeGroup", "group:trigger"}: "the mapping is a member of the trigger's group",
	{"ingest", "AlterGroup", "group:trigger"}:    "the mapping joins the trigger's group and commits",
}

// kafkaRoles are the resources that a statement of a kafka policy names, as text of the translated template has them.
func kafkaRoles(t *testing.T, s statement) []string {
	t.Helper()
	var roles []string
	for _, r := range []struct{ kind, text, role string }{
		{"topic", "/${TopicA}", "source"},
		{"topic", "/${ResultTopic}", "results"},
		{"topic", "/${LateTopic}", "late"},
		{"topic", "/${DeadLetterTopic}", "dead-letter"},
		{"topic", "/tidemark-ledger", "ledger"},
		{"topic", "/tidemark-panes", "panes"},
		{"group", "/tidemark.${AppName}.*", "app"},
		{"group", "/tidemark.${AppName}\"", "trigger"},
		{"transactional-id", "/tidemark.${AppName}.*", "app"},
	} {
		if strings.Contains(s.resources, `":`+r.kind+`/"`) && strings.Contains(s.resources, r.text) {
			roles = append(roles, r.kind+":"+r.role)
		}
	}
	if strings.HasPrefix(s.resources, `[{"Ref":"ClusterArn"}]`) {
		roles = append(roles, "cluster:cluster")
	}
	if len(roles) == 0 {
		t.Errorf("%s/%s names %s, which this test does not know", s.role, s.sid, s.resources)
	}
	return roles
}

// The roles allow what functions were recorded to ask Kafka for, and nothing that nobody asks for.
func TestRolesAllowTheRecordedCallsAndNoOthers(t *testing.T) {
	needed, allowed := map[grant]call{}, map[grant]string{}
	for _, c := range readCalls(t) {
		kinds, ok := kafkaActions()[c.request]
		kind, _, _ := strings.Cut(c.resource, ":")
		actions, known := kinds[kind]
		if !ok || !known {
			t.Errorf("%s: what this needs is not known", c)
		}
		for _, action := range actions {
			needed[grant{c.function, action, c.resource}] = c
		}
	}
	if len(needed) < 40 {
		t.Fatalf("only %d grants are needed", len(needed))
	}
	for _, s := range statements(t, translated(t)) {
		for _, action := range s.actions {
			if action, ok := strings.CutPrefix(action, "kafka-cluster:"); ok {
				for _, role := range kafkaRoles(t, s) {
					allowed[grant{strings.ToLower(strings.TrimSuffix(s.role, "Role")), action, role}] = s.sid
				}
			}
		}
	}
	for g, c := range needed {
		if _, ok := allowed[g]; !ok && notAllowed[g] == "" {
			t.Errorf("not allowed: %s, which %s needs", g, c)
		}
	}
	for g, sid := range allowed {
		if _, ok := needed[g]; !ok && ofTheMapping[g] == "" {
			t.Errorf("nobody needs %s, which statement %s allows", g, sid)
		}
	}
	for _, g := range slices.Collect(maps.Keys(notAllowed)) {
		if _, ok := needed[g]; !ok || allowed[g] != "" {
			t.Errorf("no exception any more: %s", g)
		}
	}
	for _, g := range slices.Collect(maps.Keys(ofTheMapping)) {
		if _, ok := needed[g]; ok || allowed[g] == "" {
			t.Errorf("no exception any more: %s", g)
		}
	}
}
