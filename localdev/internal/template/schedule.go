package template

import "strings"

// Schedule invokes a function again and again.
type Schedule struct {
	Name       string // logical id; of an event FUNCTION.EVENT
	Line       int    // of the expression
	Function   string // logical id
	Expression string // rate(...), cron(...) or at(...)
	TimeZone   string // of cron and at; "": UTC
	Disabled   bool
	Input      string // JSON that the function gets; "": the scheduler's own event
	MaxRetries int    // of an invocation that the function did not take, 0 to 185
	MaxAge     int    // seconds that an invocation may be late, 60 to 86,400
}

// What Scheduler and rules do where a template is silent.
const (
	scheduleRetries = 185
	scheduleAge     = 86_400
)

// schedule reads one. Input and retries are properties of its target, which in an event of a function is the event itself.
func schedule(name string, line int, expression, function string, p, target *value) Schedule {
	return Schedule{
		Name: name, Line: lineOf(p, expression, line), Function: function, Expression: p.at(expression).string(),
		TimeZone:   p.at("ScheduleExpressionTimezone").string(),
		Disabled:   strings.EqualFold(p.at("State").string(), "disabled") || isFalse(p.at("Enabled")),
		Input:      target.at("Input").string(),
		MaxRetries: target.at("RetryPolicy", "MaximumRetryAttempts").number(scheduleRetries),
		MaxAge:     target.at("RetryPolicy", "MaximumEventAgeInSeconds").number(scheduleAge),
	}
}
