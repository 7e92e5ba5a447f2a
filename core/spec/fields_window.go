package spec

import "time"

func defaultWindowFields() []field {
	lateness := allowedLateness()
	lateness.def, lateness.absent = time.Minute, ""
	return []field{
		{
			name: "default_type", kind: kindString, def: "tumbling", enum: windowTypes(), later: windowTypesLater(),
			doc: "The window of a pipeline that names none: the one described here under this type, and named after it.",
		},
		{name: "tumbling", kind: kindBlock, example: `{"size": "5m", "allowed_lateness": "1m"}`, doc: "Windows that follow each other.", fields: []field{
			{name: "size", kind: kindDuration, within: above0, def: 5 * time.Minute, doc: "Length of a window."},
			offsetField("size: 1h"), lateness,
		}},
		{name: "sliding", kind: kindBlock, example: `{"size": "10m", "slide": "1m"}`, doc: "Windows that overlap.", fields: []field{
			{name: "size", kind: kindDuration, within: above0, def: 10 * time.Minute, doc: "Length of a window."},
			{name: "slide", kind: kindDuration, within: above0, def: time.Minute, doc: "Distance of the starts of two windows. It need not divide size."},
			offsetField("size: 6h, slide: 1h"), lateness, allowGapsField(""),
		}},
		{name: "session", kind: kindBlock, example: `{"gap": "5m", "max": "24h"}`, doc: "Windows that end when a key is quiet.", fields: []field{
			{name: "gap", kind: kindDuration, within: above0, def: 5 * time.Minute, doc: "Two records are in one session if they are less than this apart."},
			maxSessionField(""), gapFieldField(""), maxGapField(""), offsetField("max: 24h"), lateness,
		}},
		{name: "cumulate", kind: kindBlock, example: `{"size": "24h", "step": "1h"}`, doc: "Windows of one start that grow in steps.", fields: []field{
			{name: "size", kind: kindDuration, within: above0, def: 24 * time.Hour, doc: "Length of the longest window; the next ones begin at its end."},
			{name: "step", kind: kindDuration, within: above0, def: time.Hour, doc: "A window ends every step after the start. It divides size."},
			offsetField("size: 1h"), lateness,
		}},
		{name: "global", kind: kindBlock, example: `{"allowed_lateness": "0s"}`, doc: "One window over all of event time. It goes out by a trigger.", fields: []field{lateness}},
		{name: "calendar", kind: kindAny, status: statusLater, doc: "Days, weeks, months and years of a time zone."},
	}
}

// above0 is what package window wants of lengths.
const above0 = "above 0, to 100 years"

func windowTypes() []string { return []string{"tumbling", "sliding", "session", "cumulate", "global"} }

func windowTypesLater() []string { return []string{"calendar"} }

func maxSessionField(with string) field {
	return field{
		name: "max", kind: kindDuration, within: above0, with: with, absent: "sessions of any length", example: `"24h"`,
		doc: "Longest session: sessions are cut at multiples of max since 1970 (shifted by offset), wherever they began.",
	}
}

func gapFieldField(with string) field {
	return field{
		name: "gap_field", kind: kindString, with: with, format: formatPath, absent: "every record has the gap of the window", example: `"attributes.gap_ms"`,
		doc: "Dotted path of a record's own gap, a number of milliseconds above 0. gap is that of records without one.",
	}
}

func maxGapField(with string) field {
	return field{
		name: "max_gap", kind: kindDuration, within: "gap to 100 years", with: with + "gap_field: attributes.gap_ms", absent: "24h, where there is a gap_field", example: `"1h"`,
		doc: "A record's own gap counts as this where it is longer.",
	}
}

func offsetField(with string) field {
	return field{
		name: "offset", kind: kindDuration, within: "see below", with: with, def: time.Duration(0), example: `"-15m"`,
		doc: "Shifts all edges, which otherwise are multiples of the size (the slide) since 1970; less than it in amount, and may be negative.",
	}
}

func allowedLateness() field {
	return field{
		name: "allowed_lateness", kind: kindDuration, within: "0s to 100 years", absent: "that of processor.windows for the type", example: `"1m"`,
		doc: "How long after its end a window still takes records. Each late record makes it go out anew; later ones go to the late topic.",
	}
}

func allowGapsField(with string) field {
	return field{
		name: "allow_gaps", kind: kindBool, def: false, example: "true", with: with + "size: 1m, slide: 5m",
		doc: "Makes a slide above the size legal. Event time between two windows is then in none: such records are counted as unassigned.",
	}
}

func windowFields() []field {
	const sessions = "type: session, gap: 5m"
	lateness := allowedLateness()
	lateness.with = "size: 1m"
	return []field{
		{name: "name", kind: kindString, with: "size: 1m", format: formatWindowName, absent: "its type", example: `"1m"`, doc: "Name of the window in results, unique in the pipeline."},
		{
			name: "type", kind: kindString, with: "size: 1m", absent: "processor.windows.default_type", enum: windowTypes(), later: windowTypesLater(),
			example: `"tumbling"`, doc: "tumbling (size), sliding (size, slide), session (gap), cumulate (size, step) or global, which goes out by a trigger.",
		},
		{name: "size", kind: kindDuration, within: above0, absent: "required for tumbling, sliding and cumulate", example: `"1m"`, doc: "Length of a window."},
		{name: "slide", kind: kindDuration, within: above0, with: "type: sliding, size: 1m", absent: "required for sliding", example: `"10s"`, doc: "Distance of the starts of two windows. It need not divide size."},
		{name: "gap", kind: kindDuration, within: above0, with: "type: session", absent: "required for session", example: `"5m"`, doc: "Two records are in one session if they are less than this apart."},
		offsetField("size: 1h"),
		lateness,
		allowGapsField("type: sliding, "),
		{name: "step", kind: kindDuration, within: above0, with: "type: cumulate, size: 24h", absent: "required for cumulate", example: `"1h"`, doc: "Windows of one start end every step, up to size, which it divides."},
		maxSessionField(sessions), gapFieldField(sessions), maxGapField(sessions + ", "),
		{name: "unit", kind: kindAny, status: statusLater, doc: "Unit of a calendar window."},
		{name: "tz", kind: kindAny, status: statusLater, doc: "Time zone of a calendar window."},
		{name: "week_start", kind: kindAny, status: statusLater, doc: "First day of a calendar window's week."},
	}
}
