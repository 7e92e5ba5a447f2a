package kafkaio

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Sentinels of what a cluster does not do, or not for this principal.
var (
	// ErrNoTransactions is returned by Open where the cluster does not know transactions at all. It never stands for a missing
	// permission, nor for a coordinator that is away for a while.
	ErrNoTransactions = errors.New("kafkaio: the cluster does not support transactions")
	// ErrNotAuthorized is wrapped by every refusal for want of a permission; a NotAuthorizedError says of what.
	ErrNotAuthorized = errors.New("kafkaio: not authorized")
	// ErrTransactionTimeout is returned where Options.TransactionTimeout is above the cluster's transaction.max.timeout.ms.
	ErrTransactionTimeout = errors.New("kafkaio: the cluster does not allow transactions as long as ours")
	// ErrCoordinator is returned where no broker coordinates a group or a transactional id at the moment.
	ErrCoordinator = errors.New("kafkaio: no coordinator is available")
)

// Resource is a kind of thing that a principal may or may not use.
type Resource uint8

// The resources of Kafka's permissions that are used here.
const (
	ResourceCluster Resource = iota
	ResourceTopic
	ResourceGroup
	ResourceTransactionalID
)

// String implements fmt.Stringer.
func (r Resource) String() string {
	switch r {
	case ResourceCluster:
		return "cluster"
	case ResourceTopic:
		return "topic"
	case ResourceGroup:
		return "group"
	case ResourceTransactionalID:
		return "transactional id"
	}
	return fmt.Sprintf("Resource(%d)", uint8(r))
}

// NotAuthorizedError is a refusal by a broker; it is an ErrNotAuthorized.
type NotAuthorizedError struct {
	Resource Resource
	Err      error // the broker's
}

// Error implements error.
func (e *NotAuthorizedError) Error() string {
	return fmt.Sprintf("not authorized for the %s: %v", e.Resource, e.Err)
}

// Unwrap makes errors.Is see both the sentinel and the broker's error.
func (e *NotAuthorizedError) Unwrap() []error { return []error{ErrNotAuthorized, e.Err} }

// limits adds the sentinel of what a cluster does not allow; nil where the error is none of those.
func limits(err error) error {
	switch {
	case errors.Is(err, kerr.TransactionalIDAuthorizationFailed):
		return &NotAuthorizedError{ResourceTransactionalID, err}
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return &NotAuthorizedError{ResourceTopic, err}
	case errors.Is(err, kerr.GroupAuthorizationFailed):
		return &NotAuthorizedError{ResourceGroup, err}
	case errors.Is(err, kerr.ClusterAuthorizationFailed):
		return &NotAuthorizedError{ResourceCluster, err}
	case errors.Is(err, kerr.InvalidTransactionTimeout):
		return fmt.Errorf("%w: %w", ErrTransactionTimeout, err)
	case errors.Is(err, kerr.CoordinatorNotAvailable), errors.Is(err, kerr.CoordinatorLoadInProgress):
		return fmt.Errorf("%w: %w", ErrCoordinator, err)
	}
	return nil
}

// features is what a cluster says of itself.
type features struct {
	transactions       bool  // it has the requests of transactions
	transactionVersion int16 // the finalized feature transaction.version, 0 where there is none
	fixedMembers       bool  // members of groups may keep an id of their own (group.instance.id), and fence one another by it
}

// features asks one broker. It is asked for every session: the operator may raise a feature while this process runs.
func (c *Client) features(ctx context.Context) (features, error) {
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "tidemark", "1"
	resp, err := req.RequestWith(ctx, c.kgo)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return features{}, fmt.Errorf("api versions: %w", err)
	}
	most := map[int16]int16{} // request -> its highest version
	for _, k := range resp.ApiKeys {
		most[k.ApiKey] = k.MaxVersion
	}
	has := func(key kmsg.Key, version int16) bool {
		v, ok := most[key.Int16()]
		return ok && v >= version
	}
	f := features{
		// AddPartitionsToTxn is not asked for: clients need not know it where transactions have an epoch each.
		transactions: has(kmsg.InitProducerID, 0) && has(kmsg.EndTxn, 0) && has(kmsg.TxnOffsetCommit, 0),
		fixedMembers: has(kmsg.JoinGroup, 5) && has(kmsg.SyncGroup, 3) && has(kmsg.Heartbeat, 3) && has(kmsg.OffsetCommit, 7),
	}
	for _, v := range resp.FinalizedFeatures {
		if v.Name == "transaction.version" {
			f.transactionVersion = v.MaxVersionLevel
		}
	}
	return f, nil
}

// TopicFacts are the settings of a topic.
type TopicFacts struct {
	Missing  bool
	Replicas int               // of the partition that has the fewest
	Configs  map[string]string // all settings with their effective values; nil where they could not be read
	Err      error             // why they could not
}

// TopicFacts returns the settings of topics. Of a topic that cannot be described, Err says why, and the others are there.
func (c *Client) TopicFacts(ctx context.Context, topics []string) (map[string]TopicFacts, error) {
	facts := make(map[string]TopicFacts, len(topics))
	if len(topics) == 0 {
		return facts, nil // an empty list would ask for all topics of the cluster
	}
	meta := kmsg.NewPtrMetadataRequest()
	describe := kmsg.NewPtrDescribeConfigsRequest()
	for _, name := range topics {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = new(name)
		meta.Topics = append(meta.Topics, t)
	}
	found, err := meta.RequestWith(ctx, c.kgo)
	if err != nil {
		return nil, fmt.Errorf("metadata of %q: %w", topics, err)
	}
	for _, t := range found.Topics {
		if t.Topic == nil {
			continue
		}
		err := kerr.ErrorForCode(t.ErrorCode)
		if isUnknownTopic(err) || err != nil && !errors.Is(err, kerr.LeaderNotAvailable) {
			facts[*t.Topic] = TopicFacts{Missing: isUnknownTopic(err), Err: classify(err)}
			continue
		}
		f := TopicFacts{Replicas: len(t.Partitions[0].Replicas)}
		for _, p := range t.Partitions {
			f.Replicas = min(f.Replicas, len(p.Replicas))
		}
		facts[*t.Topic] = f
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, *t.Topic
		describe.Resources = append(describe.Resources, r)
	}
	if len(describe.Resources) == 0 {
		return facts, nil
	}
	resp, err := describe.RequestWith(ctx, c.kgo)
	if err != nil {
		return nil, fmt.Errorf("settings of %q: %w", topics, classify(err))
	}
	for i := range resp.Resources {
		r := &resp.Resources[i]
		f := facts[r.ResourceName]
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
			f.Err = classify(err)
		} else {
			f.Configs = configValues(r)
		}
		facts[r.ResourceName] = f
	}
	return facts, nil
}

func configValues(r *kmsg.DescribeConfigsResponseResource) map[string]string {
	values := make(map[string]string, len(r.Configs))
	for _, v := range r.Configs {
		if v.Value != nil {
			values[v.Name] = *v.Value
		}
	}
	return values
}

// BrokerFacts returns the settings of one broker; which one is not said, since a cluster's brokers have the same of those that
// matter here.
func (c *Client) BrokerFacts(ctx context.Context) (map[string]string, error) {
	var brokers kadm.BrokerDetails
	err := c.kgo.again(func() (err error) {
		brokers, err = c.adm.ListBrokers(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list brokers: %w", classify(err))
	}
	if len(brokers) == 0 {
		return nil, errors.New("list brokers: none")
	}
	req := kmsg.NewPtrDescribeConfigsRequest()
	r := kmsg.NewDescribeConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeBroker, strconv.Itoa(int(brokers[0].NodeID))
	req.Resources = append(req.Resources, r)
	resp, err := req.RequestWith(ctx, c.kgo)
	if err != nil {
		return nil, fmt.Errorf("settings of broker %s: %w", r.ResourceName, classify(err))
	}
	if len(resp.Resources) != 1 {
		return nil, fmt.Errorf("settings of broker %s: %d answers", r.ResourceName, len(resp.Resources))
	}
	if err := kerr.ErrorForCode(resp.Resources[0].ErrorCode); err != nil {
		return nil, fmt.Errorf("settings of broker %s: %w", r.ResourceName, classify(err))
	}
	return configValues(&resp.Resources[0]), nil
}
