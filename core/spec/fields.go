package spec

import (
	"math"
	"slices"
	"strings"
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
			name: "processor", kind: kindBlock, fields: processorFields(),
			doc: "Defaults of every pipeline, and what the app needs as a whole. A file with this block alone is complete.",
		},
		kafkaField(),
		metricsField(),
		{
			name: "pipelines", kind: kindList, bounds: between(1, 100), elem: &field{kind: kindBlock, fields: pipelineFields()},
			absent: "one pipeline named default",
			doc:    "The queries. Each overrides what it names; the rest comes from processor.",
		},
	}}
}

func processorFields() []field {
	return []field{
		{
			name: "parallelism", kind: kindInt, def: 4, bounds: between(1, 256),
			doc: "Partitions that are folded at once in one invocation.",
		},
		{
			name: "buffer_size", kind: kindInt, def: 10_000, bounds: between(1, 1_000_000),
			doc: "Most records held in memory at once; a larger batch is folded in parts.",
		},
		{
			name: "checkpoint_interval", kind: kindDuration, def: time.Minute, bounds: lasting(time.Second, 30*day),
			doc: "Most age of the newest state export, where exports are on.",
		},
		{name: "state", kind: kindBlock, fields: stateFields(), doc: "Where state is kept when the app runs outside Lambda."},
		{name: "windows", kind: kindBlock, fields: defaultWindowFields(), doc: "The window of pipelines that name none, and the allowed lateness of those that name some."},
		{name: "watermark", kind: kindBlock, fields: watermarkFields(), doc: "When event time is taken to have passed."},
		{name: "aggregation", kind: kindBlock, fields: aggregationFields(), doc: "The aggregates of every value that names none."},
		{name: "error_handling", kind: kindBlock, fields: errorFields(), doc: "What happens to a record that cannot be processed, and to operations that fail."},
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

func defaultWindowFields() []field {
	lateness := allowedLateness()
	lateness.def, lateness.absent = time.Minute, ""
	return []field{
		{
			name: "default_type", kind: kindString, def: "tumbling", enum: windowTypes(), later: windowTypesLater(),
			doc: "The window of a pipeline that names none: the one described here under this type, and named after it.",
		},
		{name: "tumbling", kind: kindBlock, doc: "Windows that follow each other.", fields: []field{
			{name: "size", kind: kindDuration, def: 5 * time.Minute, doc: "Length of a window."},
			offsetField(), lateness,
		}},
		{name: "sliding", kind: kindBlock, doc: "Windows that overlap.", fields: []field{
			{name: "size", kind: kindDuration, def: 10 * time.Minute, doc: "Length of a window."},
			{name: "slide", kind: kindDuration, def: time.Minute, doc: "Distance of the starts of two windows. It need not divide size."},
			offsetField(), lateness, allowGapsField(),
		}},
		{name: "session", kind: kindBlock, doc: "Windows that end when a key is quiet.", fields: []field{
			{name: "gap", kind: kindDuration, def: 5 * time.Minute, doc: "Two records are in one session if they are less than this apart."},
			maxSessionField(), gapFieldField(), maxGapField(), offsetField(), lateness,
		}},
		{name: "cumulate", kind: kindBlock, doc: "Windows of one start that grow in steps.", fields: []field{
			{name: "size", kind: kindDuration, def: 24 * time.Hour, doc: "Length of the longest window; the next ones begin at its end."},
			{name: "step", kind: kindDuration, def: time.Hour, doc: "A window ends every step after the start. It divides size."},
			offsetField(), lateness,
		}},
		{name: "global", kind: kindBlock, doc: "One window over all of event time. It goes out by a trigger.", fields: []field{lateness}},
		{name: "calendar", kind: kindAny, status: statusLater, doc: "Days, weeks, months and years of a time zone."},
	}
}

func windowTypes() []string { return []string{"tumbling", "sliding", "session", "cumulate", "global"} }

func windowTypesLater() []string { return []string{"calendar"} }

func maxSessionField() field {
	return field{
		name: "max", kind: kindDuration, absent: "sessions of any length", example: `"24h"`,
		doc: "Longest session: sessions are cut at multiples of max since 1970 (shifted by offset), wherever they began.",
	}
}

func gapFieldField() field {
	return field{
		name: "gap_field", kind: kindString, format: formatPath, absent: "every record has the gap of the window", example: `"attributes.gap_ms"`,
		doc: "Dotted path of a record's own gap, a number of milliseconds above 0. gap is that of records without one.",
	}
}

func maxGapField() field {
	return field{
		name: "max_gap", kind: kindDuration, absent: "24h, where there is a gap_field", example: `"1h"`,
		doc: "A record's own gap counts as this where it is longer.",
	}
}

func offsetField() field {
	return field{
		name: "offset", kind: kindDuration, def: time.Duration(0), example: `"-15m"`,
		doc: "Shifts all edges, which otherwise are multiples of the size (the slide) since 1970; less than it in amount, and may be negative.",
	}
}

func allowedLateness() field {
	return field{
		name: "allowed_lateness", kind: kindDuration, absent: "that of processor.windows for the type", example: `"1m"`,
		doc: "How long after its end a window still takes records. Each late record makes it go out anew; later ones go to the late topic.",
	}
}

func allowGapsField() field {
	return field{
		name: "allow_gaps", kind: kindBool, def: false,
		doc: "Makes a slide above the size legal. Event time between two windows is then in none: such records are counted as unassigned.",
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
			name: "percentiles", kind: kindList, unique: true, bounds: between(1, 100), elem: &field{kind: kindNumber, bounds: between(0, 100), doc: "0 to 100; 99.9 is named p99.9."},
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
			name: "relative_accuracy", kind: kindNumber, def: 0.01, limits: &limits{aggregate.MinAccuracy, aggregate.MaxAccuracy},
			doc: "How near ddsketch comes to a percentile, as a share of its value. Smaller takes more memory: some 1/accuracy buckets for each factor of e between the values.",
		},
	}
}

// ownSketchFields are the same without defaults.
func ownSketchFields() []field {
	fields := sketchFields()
	for i := range fields {
		fields[i].def, fields[i].absent = nil, "that of processor.aggregation"
	}
	fields[1].example = "0.005"
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
			name: "max_retries", kind: kindInt, def: 3, bounds: between(0, 100),
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
			name: "policy", kind: kindString, absent: "that of processor.error_handling", enum: []string{"retry", "skip", "dead_letter", "fail"},
			doc: "For a record that can never be processed: dead-letter it (retry, dead_letter), count it (skip) or block its partition (fail). retry also retries operations that fail.",
		},
		{
			name: "dead_letter_topic", kind: kindString, format: formatTopic, absent: "that of processor.error_handling",
			doc: "Topic of records that cannot be processed, with the reason in their headers.",
		},
	}
}

func metricsField() field {
	return field{name: "metrics", kind: kindBlock, shared: true, doc: "Metrics of the functions.", fields: []field{
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
		timestampField(),
		{
			name: "key", kind: kindList, unique: true, bounds: between(0, 16), elem: &field{kind: kindString, format: formatPath},
			absent: "the record's own key", example: `["service", "model"]`,
			doc: "Fields that records are grouped by, as dotted paths. []: one global group.",
		},
		{name: "where", kind: kindAny, status: statusLater, doc: "Which records count, as an expression over the record."},
		{name: "map", kind: kindAny, status: statusLater, doc: "Derived fields, as expressions over the record."},
		{
			name: "values", kind: kindMap, keys: formatValueName, bounds: between(0, 64), elem: &field{kind: kindString, format: formatPath},
			absent: "value, taken from the field value", example: `{"latency": "value", "tokens": "attributes.tokens"}`,
			doc: "Names the values that are aggregated, each with the dotted path of its field: numbers, and where all functions are of count, first, last and distinct also strings and booleans. {}: none, count counts records.",
		},
		{
			name: "windows", kind: kindList, bounds: between(1, 32), elem: &field{kind: kindBlock, fields: windowFields()},
			absent: "one of processor.windows.default_type, named after its type", doc: "The window definitions; each record is in windows of all of them.",
		},
		{
			name: "aggregates", kind: kindMap, keys: formatValueName, bounds: between(1, 64), elem: functionList(), alt: functionList(),
			absent: "processor.aggregation.enabled for every value", example: `{"latency": ["count", "average", "p99"]}`,
			doc: "The aggregate functions of each value; a list holds for every value. A value that is not named gets processor.aggregation.enabled.",
		},
		{name: "aggregation", kind: kindBlock, fields: ownSketchFields(), absent: "processor.aggregation", doc: "Overrides processor.aggregation key by key."},
		{name: "watermark", kind: kindBlock, fields: pipelineWatermarkFields(), absent: "processor.watermark", doc: "Overrides processor.watermark key by key."},
		{name: "error_handling", kind: kindBlock, fields: recordErrorFields(), absent: "processor.error_handling", doc: "Overrides processor.error_handling key by key."},
		{name: "trigger", kind: kindBlock, fields: triggerFields(), absent: "windows go out at their end, and for each late record", doc: "When windows go out besides at their end, and when not."},
		{
			name: "accumulation", kind: kindString, def: "accumulating", enum: []string{"accumulating", "discarding", "retracting"},
			doc: "What a window that goes out again holds: all of its records (accumulating), those that no pane before had (discarding), or all, with the results that it takes back (retracting).",
		},
		{name: "late", kind: kindBlock, doc: "Records that came too late for all of their windows.", fields: []field{
			{name: "topic", kind: kindString, format: formatTopic, absent: "RESULT_TOPIC-late", doc: "Their topic."},
		}},
		{name: "sink", kind: kindBlock, doc: "Results.", fields: []field{
			{name: "topic", kind: kindString, format: formatTopic, absent: "kafka.producer.result_topic", doc: "Their topic."},
		}},
		{name: "fire", kind: kindBlock, doc: "How windows go out.", fields: []field{
			{name: "shards", kind: kindInt, def: 1, bounds: between(1, 64), doc: "Parts of the key space that go out separately. Only 1 is built."},
		}},
	}
}

func triggerFields() []field {
	return []field{
		{name: "early", kind: kindBlock, doc: "Panes of windows that are still open.", fields: []field{
			{
				name: "every", kind: kindDuration, bounds: lasting(100*time.Millisecond, 30*day), absent: "no early panes by time", example: `"10s"`,
				doc: "Open windows with new records go out so often, by the wall clock.",
			},
		}},
		{
			name: "count", kind: kindInt, bounds: between(1, 1<<53), absent: "no early panes by number", example: "1000",
			doc: "A group of an open window goes out once it has so many records that no pane has, as soon as fire looks.",
		},
		{
			name: "late", kind: kindString, def: "each", enum: []string{"each"},
			doc: "A group that gains a late record goes out again with the next plan.",
		},
		{name: "on_change", kind: kindBool, def: false, doc: "Holds back an early or late pane whose window and results are those of the pane before."},
		{
			name: "final_only", kind: kindBool, def: false,
			doc: "Each window goes out once, when it takes no more records: allowed_lateness after its end.",
		},
	}
}

// pipelineWatermarkFields are those of processor, whose values take the place of the defaults.
func pipelineWatermarkFields() []field {
	fields := watermarkFields()
	for i := range fields {
		fields[i].def, fields[i].absent = nil, "that of processor.watermark"
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
			{name: "unit", kind: kindString, def: "ms", enum: []string{"s", "ms", "us", "ns"}, doc: "Unit of a number, since 1970."},
			{
				name: "record", kind: kindBool, def: false,
				doc: "Takes the Kafka record's own timestamp; beside field: where that field is absent.",
			},
			{name: "processing", kind: kindAny, status: statusRefused, reason: noProcessingTime},
			{name: "processing_time", kind: kindAny, status: statusRefused, reason: noProcessingTime},
		},
	}
}

func windowFields() []field {
	return []field{
		{name: "name", kind: kindString, format: formatWindowName, absent: "its type", example: `"1m"`, doc: "Name of the window in results, unique in the pipeline."},
		{
			name: "type", kind: kindString, absent: "processor.windows.default_type", enum: windowTypes(), later: windowTypesLater(),
			example: `"tumbling"`, doc: "tumbling (size), sliding (size, slide), session (gap), cumulate (size, step) or global, which goes out by a trigger.",
		},
		{name: "size", kind: kindDuration, absent: "required for tumbling, sliding and cumulate", example: `"1m"`, doc: "Length of a window."},
		{name: "slide", kind: kindDuration, absent: "required for sliding", example: `"10s"`, doc: "Distance of the starts of two windows. It need not divide size."},
		{name: "gap", kind: kindDuration, absent: "required for session", example: `"5m"`, doc: "Two records are in one session if they are less than this apart."},
		offsetField(),
		allowedLateness(),
		allowGapsField(),
		{name: "step", kind: kindDuration, absent: "required for cumulate", example: `"1h"`, doc: "Windows of one start end every step, up to size, which it divides."},
		maxSessionField(), gapFieldField(), maxGapField(),
		{name: "unit", kind: kindAny, status: statusLater, doc: "Unit of a calendar window."},
		{name: "tz", kind: kindAny, status: statusLater, doc: "Time zone of a calendar window."},
		{name: "week_start", kind: kindAny, status: statusLater, doc: "First day of a calendar window's week."},
	}
}

func kafkaField() field {
	return field{name: "kafka", kind: kindBlock, shared: true, doc: "Source and results. Also read at the top level of the file.", fields: []field{
		{name: "consumer", kind: kindBlock, fields: consumerFields(), doc: "The source."},
		{name: "producer", kind: kindBlock, fields: producerFields(), doc: "Results, late records and dead letters."},
	}}
}

func consumerFields() []field {
	fields := []field{
		{
			name: "bootstrap_servers", kind: kindString, format: formatServers, absent: "--brokers or TIDEMARK_BROKERS, which win anyway", example: `"localhost:9092"`,
			doc: "Brokers to begin with: HOST:PORT, separated by commas.",
		},
		{
			name: "group_id", kind: kindString, format: formatGroup, absent: "tidemark.APP",
			doc: "Consumer group of the trigger; where each topic has one of its own, GROUP:TOPIC. Pipelines commit in groups of their own, tidemark.APP.PIPELINE.FINGERPRINT.",
		},
		{
			name: "topics", kind: kindList, unique: true, bounds: between(1, 100), elem: &field{kind: kindString, format: formatTopic},
			absent: "those of the pipelines", example: `["feedback-events", "performance-metrics"]`, doc: "Source topics of pipelines that name none.",
		},
		{
			name: "enable_auto_commit", kind: kindBool, def: false,
			fixes: map[string]string{"true": "must be false: offsets are committed with the results, in one transaction"},
			doc:   "Only false: offsets are committed with the results, in one transaction.",
		},
		{
			name: "auto_offset_reset", kind: kindString, def: "earliest", enum: []string{"earliest", "latest"},
			doc: "Where a new pipeline starts. The trigger's StartingPosition must agree.",
		},
		{
			name: "session_timeout", kind: kindDuration, def: 30 * time.Second, bounds: lasting(time.Second, 30*time.Minute),
			doc: "Time after which a consumer that is silent loses its partitions (local runs; Lambda's trigger has its own).",
		},
		{
			name: "max_poll_records", kind: kindInt, def: 500, bounds: between(1, 10_000),
			doc: "Most records of one batch (local runs; BatchSize of the trigger on Lambda).",
		},
	}
	const trigger = "does not apply: the trigger polls Kafka; see the event source mapping in template.yaml"
	const connection = "does not apply in a spec, which says what to compute, not where: set TIDEMARK_KAFKA_AUTH and TIDEMARK_KAFKA_SECRET"
	const raw = "does not apply: records are read as bytes and decoded as JSON"
	return append(fields, refused(map[string][]string{
		"does not apply: set MaximumBatchingWindowInSeconds of the event source mapping in template.yaml": {"fetch_max_wait_ms", "fetch_min_bytes"},
		trigger: {
			"fetch_max_bytes", "max_partition_fetch_bytes", "max_poll_interval_ms", "heartbeat_interval_ms", "partition_assignment_strategy", "group_instance_id",
			"request_timeout_ms", "metadata_max_age_ms", "reconnect_backoff_ms", "retry_backoff_ms", "connections_max_idle_ms", "client_id", "client_rack", "receive_buffer_bytes", "send_buffer_bytes",
		},
		"does not apply: only committed records are read, always":                          {"isolation_level"},
		"does not apply: offsets are committed with the results, in one transaction":       {"auto_commit_interval_ms", "enable_auto_offset_store"},
		"does not apply: topics are created with tidemark run --create-topics, never here": {"allow_auto_create_topics"},
		connection: securityKeys(),
		raw:        {"key_deserializer", "value_deserializer", "check_crcs"},
	})...)
}

func producerFields() []field {
	fields := []field{
		{
			name: "bootstrap_servers", kind: kindString, format: formatServers, absent: "those of the consumer", example: `"localhost:9092"`,
			doc: "Brokers to begin with; the same cluster as the consumer's, since results and offsets are one transaction.",
		},
		{
			name: "result_topic", kind: kindString, format: formatTopic, absent: "required unless every pipeline has a sink", example: `"aggregated-metrics"`,
			doc: "Topic of the results of pipelines that name no sink.",
		},
		{name: "compression_type", kind: kindString, def: "lz4", enum: []string{"none", "gzip", "snappy", "lz4", "zstd"}, doc: "Compression of what is written."},
		{
			name: "acks", kind: kindString, def: "all", enum: []string{"all"}, alias: map[string]string{"-1": "all"},
			doc: "Only all: transactions need it.",
		},
		{name: "retries", kind: kindInt, def: 3, bounds: between(0, math.MaxInt32), doc: "How often the client sends a batch again before the transaction is given up."},
	}
	const connection = "does not apply in a spec, which says what to compute, not where: set TIDEMARK_KAFKA_AUTH and TIDEMARK_KAFKA_SECRET"
	return append(fields, refused(map[string][]string{
		"does not apply: the producer is idempotent and transactional, always":                                {"enable_idempotence"},
		"does not apply: it is tidemark.APP.PIPELINE.FINGERPRINT, so that older runs are fenced":              {"transactional_id"},
		"does not apply: it is 30 s; a large fire is paged within one plan":                                   {"transaction_timeout_ms"},
		"does not apply: one plan is one transaction, sent as fast as it can be":                              {"batch_size", "linger_ms", "buffer_memory", "max_block_ms", "delivery_timeout_ms", "request_timeout_ms", "retry_backoff_ms", "client_id"},
		"does not apply: the client keeps order with any number in flight, since it is idempotent":            {"max_in_flight_requests_per_connection"},
		"does not apply: results are JSON, keyed by the grouping key; the partitioner is Kafka's default one": {"key_serializer", "value_serializer", "partitioner_class"},
		"does not apply here: set max.message.bytes of the topic":                                             {"max_request_size"},
		connection: securityKeys(),
	})...)
}

func securityKeys() []string {
	return []string{
		"security_protocol", "sasl_mechanism", "sasl_username", "sasl_password", "sasl_jaas_config", "sasl_client_callback_handler_class",
		"ssl_truststore_location", "ssl_truststore_password", "ssl_keystore_location", "ssl_keystore_password", "ssl_key_password",
		"ssl_ca_location", "ssl_certificate_location", "ssl_key_location", "ssl_endpoint_identification_algorithm",
	}
}

// refused returns a field for each key that Kafka clients know and that has no place here, by the reason.
func refused(reasons map[string][]string) []field {
	var fields []field
	for reason, names := range reasons {
		for _, name := range names {
			fields = append(fields, field{name: name, kind: kindAny, status: statusRefused, reason: reason})
		}
	}
	slices.SortFunc(fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	return fields
}
