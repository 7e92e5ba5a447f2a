package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go"
)

const (
	// secretAge is how long a secret is used without asking again.
	secretAge = 5 * time.Minute
	// secretPause is how soon after an answer a rejected secret is asked for again: a wrong password must not become a storm.
	secretPause = 5 * time.Second
	// maxSecret is Secrets Manager's own bound, in bytes.
	maxSecret = 65536
)

// Secret is the content of a secret. Printing or logging one shows that it is one, and no more.
type Secret struct{ content string }

// hidden is what is printed of a secret.
const hidden = "[secret]"

// String implements fmt.Stringer.
func (Secret) String() string { return hidden }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return hidden }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// field is the text at a name of a secret that is a JSON object.
func (s Secret) field(name string) (string, error) {
	var all map[string]any
	// The decoder's error may quote what it did not understand.
	if json.Unmarshal([]byte(s.content), &all) != nil {
		return "", errors.New("is not a JSON object")
	}
	text, ok := all[name].(string)
	if _, there := all[name]; there && !ok {
		return "", fmt.Errorf("its %q is not a string", name)
	}
	return text, nil
}

// Secrets keeps what Secrets Manager answered, for minutes, in memory only. It is safe for concurrent use.
type Secrets struct {
	cloud *Cloud
	now   func() time.Time

	mu   sync.Mutex // also held while asking: who waits wants the same answer
	kept map[string]kept
}

type kept struct {
	secret Secret
	at     time.Time
}

// Secrets returns an empty cache.
func (c *Cloud) Secrets() *Secrets { return &Secrets{cloud: c, now: time.Now, kept: map[string]kept{}} }

// Fields returns the texts at the names of the JSON object that the secret id, or ARN, holds. Names that end in ? may be missing,
// and are empty then. rejected says that a server did not accept what the last call returned: then Secrets Manager is asked again,
// unless it answered within the last seconds. Where it cannot be asked, what is kept goes on being used, if nobody has rejected it.
func (s *Secrets) Fields(ctx context.Context, id string, rejected bool, names ...string) ([]string, error) {
	secret, err := s.get(ctx, id, rejected)
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", id, err)
	}
	out := make([]string, len(names))
	for i, name := range names {
		bare, optional := name, false
		if n := len(name) - 1; name[n] == '?' {
			bare, optional = name[:n], true
		}
		if out[i], err = secret.field(bare); err != nil {
			return nil, fmt.Errorf("secret %s: %w", id, err)
		}
		if out[i] == "" && !optional {
			return nil, fmt.Errorf("secret %s: has no %q", id, bare)
		}
	}
	return out, nil
}

func (s *Secrets) get(ctx context.Context, id string, rejected bool) (Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.kept[id]
	age := s.now().Sub(k.at)
	if ok && age >= 0 && (age < secretPause || !rejected && age < secretAge) {
		return k.secret, nil
	}
	secret, err := s.ask(ctx, id)
	if err != nil {
		if ok && !rejected && ctx.Err() == nil {
			return k.secret, nil
		}
		return Secret{}, err
	}
	s.kept[id] = kept{secret: secret, at: s.now()}
	return secret, nil
}

func (s *Secrets) ask(ctx context.Context, id string) (Secret, error) {
	config, endpoint, err := s.cloud.config("SECRETS_MANAGER")
	if err != nil {
		return Secret{}, err
	}
	client := secretsmanager.NewFromConfig(config, func(o *secretsmanager.Options) { o.BaseEndpoint = endpoint })
	ctx, cancel := bounded(ctx)
	defer cancel()
	answer, err := client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &id})
	if err != nil {
		return Secret{}, explain(err, "secretsmanager:GetSecretValue")
	}
	text := aws.ToString(answer.SecretString)
	if text == "" {
		text = string(answer.SecretBinary)
	}
	if len(text) > maxSecret {
		return Secret{}, fmt.Errorf("%d bytes, at most %d: %w", len(text), maxSecret, ErrTooLarge)
	}
	return Secret{text}, nil
}

// unreadable is an answer that the client did not understand. What it says of it may quote the answer, so its text is not kept.
var errUnreadable = errors.New("cloud: an answer that cannot be read")

// explain adds the permission that a refused call needs, and takes out what may quote an answer.
func explain(err error, action string) error {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		switch api.ErrorCode() {
		case "AccessDeniedException", "AccessDenied":
			return fmt.Errorf("%s (allow %s)", api.ErrorCode(), action)
		}
		return fmt.Errorf("%s: %w", action, err)
	}
	if _, ok := errors.AsType[*smithy.DeserializationError](err); ok {
		return fmt.Errorf("%s: %w", action, errUnreadable)
	}
	return fmt.Errorf("%s: %w", action, err)
}
