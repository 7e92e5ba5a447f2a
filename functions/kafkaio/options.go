package kafkaio

import (
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Options says how to reach a cluster. The zero value of every field but Brokers is usable.
type Options struct {
	// Brokers are the bootstrap addresses, host:port. At least one.
	Brokers []string
	// ClientID is what the broker sees in its logs and quotas. Default "tidemark".
	ClientID string
	// Compression of what is produced: none, gzip, snappy, lz4 or zstd. Default lz4.
	Compression string
	// TransactionTimeout is how long the broker keeps a transaction open whose owner has died. Default 30 s. A broker refuses
	// more than its transaction.max.timeout.ms.
	TransactionTimeout time.Duration
	// FetchBytes is how many (compressed) bytes one fetch asks for; a larger batch is still delivered. It bounds the memory
	// of one Read together with the size of the largest batch. Default 1 MiB.
	FetchBytes int32
	// MessageBytes is the largest batch to be produced, before compression. Default 1,000,012, which every broker takes.
	MessageBytes int32
	// RetryFor is how long an operation is repeated against brokers that cannot be reached or have lost the leadership,
	// without any progress, even if its context allows more. Default 30 s.
	RetryFor time.Duration
	// Auth is who this is to the brokers. The zero value is nobody, in plain text.
	Auth Auth
	// Extra are passed to every kgo client last.
	Extra []kgo.Opt

	auth *authenticator // set by withDefaults, and shared by all clients of these options
}

func (o Options) withDefaults() Options {
	if o.ClientID == "" {
		o.ClientID = "tidemark"
	}
	if o.Compression == "" {
		o.Compression = "lz4"
	}
	if o.TransactionTimeout == 0 {
		o.TransactionTimeout = 30 * time.Second
	}
	if o.FetchBytes == 0 {
		o.FetchBytes = 1 << 20
	}
	if o.MessageBytes == 0 {
		o.MessageBytes = 1_000_012
	}
	if o.RetryFor == 0 {
		o.RetryFor = 30 * time.Second
	}
	o.auth = &authenticator{Auth: o.Auth}
	return o
}

// validate names every problem of the options at once.
func (o Options) validate() error {
	var errs []error
	if len(o.Brokers) == 0 {
		errs = append(errs, errors.New("brokers: at least one address is needed"))
	}
	if _, err := codec(o.Compression); err != nil {
		errs = append(errs, err)
	}
	if o.TransactionTimeout < time.Second {
		errs = append(errs, fmt.Errorf("transaction timeout: must be at least 1s, got %s", o.TransactionTimeout))
	}
	if o.FetchBytes < 0 {
		errs = append(errs, fmt.Errorf("fetch bytes: must be > 0, got %d", o.FetchBytes))
	}
	if o.MessageBytes < 512 {
		errs = append(errs, fmt.Errorf("message bytes: must be at least 512, got %d", o.MessageBytes))
	}
	if o.RetryFor < 0 {
		errs = append(errs, fmt.Errorf("retry for: must be > 0, got %s", o.RetryFor))
	}
	if err := o.Auth.validate(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// codec maps Kafka's names of compression types.
func codec(name string) (kgo.CompressionCodec, error) {
	switch name {
	case "none":
		return kgo.NoCompression(), nil
	case "gzip":
		return kgo.GzipCompression(), nil
	case "snappy":
		return kgo.SnappyCompression(), nil
	case "lz4":
		return kgo.Lz4Compression(), nil
	case "zstd":
		return kgo.ZstdCompression(), nil
	}
	return kgo.NoCompression(), fmt.Errorf("compression: want none, gzip, snappy, lz4 or zstd, got %q", name)
}

// clientOpts are the options of every kgo client of o, more being those of the one at hand. o is valid.
func (o Options) clientOpts(more ...kgo.Opt) []kgo.Opt {
	compression, err := codec(o.Compression)
	if err != nil {
		compression = kgo.NoCompression()
	}
	opts := make([]kgo.Opt, 0, 16+len(more)+len(o.Extra))
	opts = append(opts,
		kgo.SeedBrokers(o.Brokers...),
		kgo.ClientID(o.ClientID),
		kgo.SoftwareNameAndVersion("tidemark", "1"),
		kgo.DisableClientMetrics(),
		// A lost leader is looked for again soon: the default of 5 s is a whole fire tick and more.
		kgo.MetadataMinAge(250*time.Millisecond),
		kgo.RetryTimeout(o.RetryFor),
		kgo.ProducerBatchCompression(compression),
		kgo.ProducerBatchMaxBytes(o.MessageBytes),
		// Every Produce waits for its acknowledgements: lingering longer than it takes to buffer its messages is lost time.
		kgo.ProducerLinger(2*time.Millisecond),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(newPartitioner()),
		kgo.ConnIdleTimeout(idleFor),
	)
	opts = append(opts, o.auth.opts()...)
	opts = append(opts, more...)
	return append(opts, o.Extra...)
}
