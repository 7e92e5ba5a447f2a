package spec

import (
	"math"
	"slices"
	"strings"
	"time"
)

func kafkaField() field {
	return field{name: "kafka", kind: kindBlock, shared: true, doc: "Source and results. At the top level of the file or under processor.", example: `{"consumer": {"topics": ["performance-metrics"]}, "producer": {"result_topic": "aggregated-metrics"}}`, fields: []field{
		{name: "consumer", kind: kindBlock, example: `{"topics": ["performance-metrics"], "auto_offset_reset": "latest"}`, fields: consumerFields(), doc: "The source."},
		{name: "producer", kind: kindBlock, example: `{"result_topic": "aggregated-metrics", "compression_type": "zstd"}`, fields: producerFields(), doc: "Results, late records and dead letters."},
	}}
}

func consumerFields() []field {
	fields := []field{
		{
			name: "bootstrap_servers", kind: kindString, format: formatServers, absent: "--brokers or TIDEMARK_BROKERS, which win anyway", example: `"localhost:9092"`,
			doc: "Brokers to begin with: HOST:PORT, separated by commas.",
		},
		{
			name: "group_id", kind: kindString, format: formatGroup, absent: "tidemark.APP", example: `"llm-metrics-trigger"`,
			doc: "Consumer group of the trigger; where each topic has one of its own, GROUP:TOPIC. Pipelines commit in groups of their own, tidemark.APP.PIPELINE.FINGERPRINT.",
		},
		{
			name: "topics", kind: kindList, unique: true, bounds: between(1, 100), elem: &field{kind: kindString, format: formatTopic},
			absent: "those of the pipelines", example: `["feedback-events", "performance-metrics"]`, doc: "Source topics of pipelines that name none.",
		},
		{
			name: "enable_auto_commit", kind: kindBool, def: false,
			fixes: map[string]string{"true": "must be false: offsets are committed with the results, in one transaction"},
			doc:   "Who commits offsets: never the client.",
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
			name: "max_poll_records", kind: kindInt, unit: "records", def: 500, bounds: between(1, 10_000),
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
		{name: "retries", kind: kindInt, unit: "retries", def: 3, bounds: between(0, math.MaxInt32), doc: "How often the client sends a batch again before the transaction is given up."},
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
