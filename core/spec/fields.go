package spec

import (
	"time"

	"github.com/llm-auto-optimizer/tidemark/core/aggregate"
)

const (
	hour = time.Hour
	day  = 24 * time.Hour
)

// language is the root of the table of all keys.
func language() *field {
	return &field{kind: kindBlock, doc: "A Tidemark spec: what to compute over Kafka topics.", fields: []field{
		{
			name: "app", kind: kindString, format: formatName, def: "default", example: `"llm-metrics"`,
			doc: "Name of the app. It is part of the names of groups and transactional ids.",
		},
		{
			name: "processor", kind: kindBlock, fields: processorFields(), example: `{"parallelism": 4, "watermark": {"max_out_of_orderness": "30s"}}`,
			doc: "Defaults of every pipeline, and what the app needs as a whole. A file with this block alone is complete.",
		},
		kafkaField(),
		metricsField(),
		{
			name: "pipelines", kind: kindList, bounds: between(1, 100), elem: &field{kind: kindBlock, fields: pipelineFields()},
			absent: "one pipeline named default", example: `[{"name": "model-latency", "key": ["model"], "windows": [{"size": "1m"}]}]`,
			doc: "The queries. Each overrides what it names; the rest comes from processor.",
		},
	}}
}

func processorFields() []field {
	return []field{
		{
			name: "parallelism", kind: kindInt, unit: "partitions", def: 4, bounds: between(1, 256),
			doc: "Partitions that are folded at once in one invocation.",
		},
		{
			name: "buffer_size", kind: kindInt, unit: "records", def: 10_000, bounds: between(1, 1_000_000),
			doc: "Most records held in memory at once; a larger batch is folded in parts.",
		},
		{
			name: "checkpoint_interval", kind: kindDuration, def: time.Minute, bounds: lasting(time.Second, 30*day),
			doc: "Most age of the newest state export, where exports are on.",
		},
		inputField(),
		{name: "state", kind: kindBlock, example: `{"backend": "bolt", "path": ".tidemark/state"}`, fields: stateFields(), doc: "Where state is kept when the app runs outside Lambda."},
		{
			name: "windows", kind: kindBlock, fields: defaultWindowFields(), example: `{"default_type": "sliding", "sliding": {"size": "10m", "slide": "1m"}}`,
			doc: "The window of pipelines that name none, and the allowed lateness of those that name some.",
		},
		{name: "watermark", kind: kindBlock, fields: watermarkFields(), example: `{"max_out_of_orderness": "30s", "idle_timeout": "off"}`, doc: "When event time is taken to have passed."},
		{name: "aggregation", kind: kindBlock, fields: aggregationFields(), example: `{"enabled": ["count", "percentile"], "percentiles": [50, 99.9]}`, doc: "The aggregates of every value that names none."},
		{name: "error_handling", kind: kindBlock, fields: errorFields(), example: `{"policy": "dead_letter", "dead_letter_topic": "bad-events"}`, doc: "What happens to a record that cannot be processed, and to operations that fail."},
		kafkaField(),
		metricsField(),
	}
}

func stateFields() []field {
	return []field{
		{
			name: "backend", kind: kindString, def: "redis", enum: []string{"redis", "bolt", "memory"}, alias: map[string]string{"rocksdb": "bolt"},
			doc: "The store: redis, bolt (a file of this process; rocksdb is read as bolt) or memory. On Lambda it is redis.",
		},
		{name: "path", kind: kindString, def: ".tidemark/state", doc: "Directory of the bolt store."},
		{
			name: "checkpoint_path", kind: kindString, absent: "no state exports", example: `".tidemark/checkpoints"`,
			doc: "Where the state is exported to every checkpoint_interval, and imported from at the start if it was lost: a directory, or s3://BUCKET/PREFIX.",
		},
		{name: "compression", kind: kindString, def: "lz4", enum: []string{"none", "lz4"}, doc: "Compression of stored deltas."},
	}
}

func watermarkFields() []field {
	return []field{
		{
			name: "strategy", kind: kindString, def: "bounded_out_of_orderness", enum: []string{"bounded_out_of_orderness", "periodic"},
			alias: map[string]string{"bounded": "bounded_out_of_orderness"},
			fixes: map[string]string{"processing_time": noProcessingTime},
			doc:   "bounded_out_of_orderness, or periodic: the watermark moves on multiples of emit_interval only.",
		},
		{
			name: "max_out_of_orderness", kind: kindDuration, def: 30 * time.Second, bounds: lasting(0, 365*day),
			doc: "How far records of one partition may be out of order and still be on time.",
		},
		{
			name: "emit_interval", kind: kindDuration, def: 10 * time.Second, bounds: lasting(0, day),
			doc: "Least distance of two plans in which nothing but the watermark moved.",
		},
		{
			name: "idle_timeout", kind: kindDuration, def: time.Minute, bounds: lasting(time.Millisecond, 365*day), word: "off",
			doc: "A partition without new records for so long (wall clock) no longer holds the watermark back; off: it always does.",
		},
		{
			name: "all_idle", kind: kindString, def: "advance", enum: []string{"advance", "hold", "max"},
			doc: "Where the watermark goes when all partitions are idle: on with the clock (advance), nowhere (hold), to the largest of the partitions (max).",
		},
		{
			name: "on_resume", kind: kindString, def: "hold", enum: []string{"hold", "catch_up"},
			doc: "A partition that comes back from being idle with old records: the watermark waits for it (hold), or goes on without it until it has caught up (catch_up), and its records may be late.",
		},
		{
			name: "max_future_skew", kind: kindDuration, def: day, bounds: lasting(0, 100*365*day), word: "off", wordMs: -1,
			doc: "How far the event time of a record may be after its Kafka timestamp; beyond, it is dead-lettered as timestamp_future. off: no bound.",
		},
	}
}

func aggregationFields() []field {
	return append([]field{
		{
			name: "enabled", kind: kindList, unique: true, bounds: between(1, 100), elem: functionField(),
			def: []string{"count", "sum", "average", "min", "max", "percentile", "stddev"},
			doc: "The aggregate functions. percentile stands for those of percentiles.",
		},
		{
			name: "percentiles", kind: kindList, unique: true, bounds: between(1, 100), elem: &field{kind: kindNumber, unit: "percent", bounds: between(0, 100), doc: "0 to 100; 99.9 is named p99.9."},
			def: []float64{50, 95, 99}, doc: "The percentiles that percentile stands for.",
		},
	}, sketchFields()...)
}

// sketchFields are those that a pipeline can say for itself.
func sketchFields() []field {
	return []field{
		{
			name: "percentile_sketch", kind: kindString, def: "tdigest", enum: []string{"tdigest", "ddsketch"},
			doc: "What estimates percentiles of more than 1,000 values; up to there they are exact. tdigest: within 1% in rank, far less toward the ends. ddsketch: within relative_accuracy of the value, at any rank.",
		},
		{
			name: "relative_accuracy", kind: kindNumber, unit: "share", with: "percentile_sketch: ddsketch", def: 0.01, limits: &limits{aggregate.MinAccuracy, aggregate.MaxAccuracy},
			doc: "How near ddsketch comes to a percentile, as a share of its value. Smaller takes more memory: some 1/accuracy buckets for each factor of e between the values.",
		},
	}
}

// ownSketchFields are the same without defaults.
func ownSketchFields() []field {
	fields := sketchFields()
	for i := range fields {
		fields[i].def, fields[i].absent = nil, absentLike+"processor.aggregation"
	}
	fields[0].example, fields[1].example = `"ddsketch"`, "0.005"
	return fields
}

func functionField() *field {
	return &field{
		kind: kindString, format: formatFunction, example: `"p99"`,
		doc: "count, sum, average, min, max, stddev, variance, stddev_sample, variance_sample, first, last, distinct, percentile, or one percentile: p50, p99.9.",
	}
}

func errorFields() []field {
	fields := recordErrorFields()
	fields[0].def, fields[0].absent = "retry", ""
	fields[1].def, fields[1].absent = deadLetterTopic, ""
	return append(
		fields,
		field{
			name: "max_retries", kind: kindInt, unit: "retries", def: 3, bounds: between(0, 100),
			doc: "How often a store, Kafka or registry operation is tried again under retry.",
		},
		field{
			name: "initial_retry_delay", kind: kindDuration, def: 100 * time.Millisecond, bounds: lasting(0, time.Minute),
			doc: "Wait before the first retry; it doubles with each.",
		},
		field{
			name: "max_retry_delay", kind: kindDuration, def: 5 * time.Second, bounds: lasting(0, hour),
			doc: "Longest wait between two tries.",
		},
	)
}

// recordErrorFields are those that a pipeline can say for itself.
func recordErrorFields() []field {
	return []field{
		{
			name: "policy", kind: kindString, absent: absentLike + "processor.error_handling", example: `"dead_letter"`, enum: []string{"retry", "skip", "dead_letter", "fail"},
			doc: "For a record that can never be processed: dead-letter it (retry, dead_letter), count it (skip) or block its partition (fail). retry also retries operations that fail.",
		},
		{
			name: "dead_letter_topic", kind: kindString, format: formatTopic, absent: absentLike + "processor.error_handling", example: `"bad-events"`,
			doc: "Topic of records that cannot be processed, with the reason in their headers.",
		},
	}
}

func metricsField() field {
	return field{name: "metrics", kind: kindBlock, shared: true, example: `{"enabled": true, "export_interval": "1m"}`, doc: "Metrics of the functions. Also read under processor.", fields: []field{
		{name: "enabled", kind: kindBool, def: true, doc: "Whether metrics are written."},
		{name: "export_interval", kind: kindDuration, def: time.Minute, bounds: lasting(time.Second, hour), doc: "How often they are written."},
	}}
}

const noProcessingTime = "processing time is refused: it would not survive a replay, since the same records would fall into other windows; use the record's own: timestamp: {record: true}"

func pipelineFields() []field {
	return []field{
		{
			name: "name", kind: kindString, format: formatName, absent: "default, where there is one pipeline", example: `"model-latency"`,
			doc: "Name of the pipeline, unique in the app.",
		},
		{
			name: "topics", kind: kindList, unique: true, bounds: between(1, 100), elem: &field{kind: kindString, format: formatTopic},
			absent: "kafka.consumer.topics", example: `["performance-metrics"]`, doc: "The source topics.",
		},
		ownInputField(), timestampField(),
		keyField(), whereField(), mapField(),
		{
			name: "values", kind: kindMap, keys: formatValueName, bounds: between(0, 64), elem: &field{kind: kindString, format: formatPath},
			absent: "value, taken from the field value", example: `{"latency": "value", "tokens": "attributes.tokens"}`,
			doc: "Names the values that are aggregated, each with the dotted path of its field: numbers, and where all functions are of count, first, last and distinct also strings and booleans. {}: none, count counts records.",
		},
		{
			name: "windows", kind: kindList, bounds: between(1, 32), elem: &field{kind: kindBlock, fields: windowFields()},
			absent: "one of processor.windows.default_type, named after its type", example: `[{"name": "1m", "size": "1m"}, {"name": "visits", "type": "session", "gap": "5m"}]`,
			doc: "The window definitions; each record is in windows of all of them.",
		},
		{
			name: "aggregates", kind: kindMap, keys: formatValueName, bounds: between(1, 64), elem: functionList(), alt: functionList(),
			absent: "processor.aggregation.enabled for every value", example: `{"latency": ["count", "average", "p99"]}`, with: "values: {latency: value}",
			doc: "The aggregate functions of each value; a list holds for every value. A value that is not named gets processor.aggregation.enabled.",
		},
		{name: "aggregation", kind: kindBlock, fields: ownSketchFields(), absent: "processor.aggregation", example: `{"percentile_sketch": "ddsketch", "relative_accuracy": 0.005}`, doc: "Overrides processor.aggregation key by key."},
		{name: "watermark", kind: kindBlock, fields: pipelineWatermarkFields(), absent: "processor.watermark", example: `{"max_out_of_orderness": "2m"}`, doc: "Overrides processor.watermark key by key."},
		{name: "error_handling", kind: kindBlock, fields: recordErrorFields(), absent: "processor.error_handling", example: `{"policy": "skip"}`, doc: "Overrides processor.error_handling key by key."},
		{
			name: "trigger", kind: kindBlock, fields: triggerFields(), absent: "windows go out at their end, and for each late record", example: `{"early": {"every": "10s"}, "count": 1000}`,
			doc: "When windows go out besides at their end, and when not.",
		},
		{
			name: "accumulation", kind: kindString, def: "accumulating", enum: []string{"accumulating", "discarding", "retracting"},
			doc: "What a window that goes out again holds: all of its records (accumulating), those that no pane before had (discarding), or all, with the results that it takes back (retracting).",
		},
		{name: "late", kind: kindBlock, example: `{"topic": "late-events"}`, doc: "Records that came too late for all of their windows.", fields: []field{
			{name: "topic", kind: kindString, format: formatTopic, absent: "RESULT_TOPIC-late", example: `"late-events"`, doc: "Their topic."},
		}},
		{name: "sink", kind: kindBlock, example: `{"topic": "latency-per-model"}`, doc: "Results.", fields: []field{
			{name: "topic", kind: kindString, format: formatTopic, absent: "kafka.producer.result_topic", example: `"latency-per-model"`, doc: "Their topic."},
		}},
		{name: "fire", kind: kindBlock, example: `{"shards": 1}`, doc: "How windows go out.", fields: []field{
			{name: "shards", kind: kindInt, unit: "parts", def: 1, bounds: between(1, 64), doc: "Parts of the key space that go out separately. Only 1 is built."},
		}},
	}
}

func triggerFields() []field {
	return []field{
		{name: "early", kind: kindBlock, example: `{"every": "10s"}`, doc: "Panes of windows that are still open.", fields: []field{
			{
				name: "every", kind: kindDuration, bounds: lasting(100*time.Millisecond, 30*day), absent: "no early panes by time", example: `"10s"`,
				doc: "Open windows with new records go out so often, by the wall clock.",
			},
		}},
		{
			name: "count", kind: kindInt, unit: "records", bounds: between(1, 1<<53), absent: "no early panes by number", example: "1000",
			doc: "A group of an open window goes out once it has so many records that no pane has, as soon as fire looks.",
		},
		{
			name: "late", kind: kindString, def: "each", enum: []string{"each"},
			doc: "A group that gains a late record goes out again with the next plan.",
		},
		{name: "on_change", kind: kindBool, def: false, example: "true", doc: "Holds back an early or late pane whose window and results are those of the pane before."},
		{
			name: "final_only", kind: kindBool, def: false, example: "true",
			doc: "Each window goes out once, when it takes no more records: allowed_lateness after its end.",
		},
	}
}

// pipelineWatermarkFields are those of processor, whose values take the place of the defaults.
func pipelineWatermarkFields() []field {
	fields := watermarkFields()
	for i := range fields {
		f := &fields[i]
		f.example = jsonOf(f.def)
		f.def, f.absent = nil, absentLike+"processor.watermark"
	}
	return fields
}

func functionList() *field {
	return &field{kind: kindList, unique: true, bounds: between(1, 100), elem: functionField()}
}

func timestampField() field {
	return field{
		name: "timestamp", kind: kindBlock, absent: "the field timestamp in ms, else the record's own", example: `{"field": "timestamp", "unit": "ms"}`,
		fixes: map[string]string{"processing_time": noProcessingTime, "processing": noProcessingTime},
		doc:   "Where the event time of a record is.", fields: []field{
			{
				name: "field", kind: kindString, format: formatPath, absent: "the record's own Kafka timestamp, if record is true", example: `"timestamp"`,
				doc: "Dotted path of a number, or of an RFC 3339 string.",
			},
			{name: "unit", kind: kindString, def: "ms", with: "field: timestamp", enum: []string{"s", "ms", "us", "ns"}, doc: "Unit of a number, since 1970."},
			{
				name: "record", kind: kindBool, def: false, example: "true",
				doc: "Takes the Kafka record's own timestamp; beside field: where that field is absent.",
			},
			{name: "processing", kind: kindAny, status: statusRefused, reason: noProcessingTime},
			{name: "processing_time", kind: kindAny, status: statusRefused, reason: noProcessingTime},
		},
	}
}
