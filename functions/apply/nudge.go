package apply

// Nudge is the payload with which ingest asks fire to run. Every field is optional: fire looks for itself at what there is to do.
type Nudge struct {
	// Genesis names the first offset that ingest was handed of partitions that have no genesis. It matters only where a pipeline
	// starts at the latest offset: the genesis then takes it.
	Genesis []First `json:"genesis,omitempty"`
	// TakeOver asks pipelines that have ended to go on where their successor is now, which ends with that: somebody deployed an
	// earlier spec again, and says so.
	TakeOver bool `json:"takeover,omitempty"`
}

// First is the first offset of a partition that the trigger delivered.
type First struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}
