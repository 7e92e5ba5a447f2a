package settings

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/llm-auto-optimizer/tidemark/core/spec"
	"github.com/llm-auto-optimizer/tidemark/functions/cloud"
	"github.com/llm-auto-optimizer/tidemark/functions/kafkaio"
	"github.com/llm-auto-optimizer/tidemark/functions/rediscreds"
	"github.com/llm-auto-optimizer/tidemark/statestore"
	"github.com/llm-auto-optimizer/tidemark/statestore/redisstore"
)

// ErrCertificate is returned for what is no certificate, or no key of one, in PEM. What it is instead is not shown.
var ErrCertificate = errors.New("settings: not a certificate")

// maxRoots bounds a file of roots, in bytes.
const maxRoots = 1 << 20

// connector makes what connections need of the environment: it asks for secrets when a connection asks for them.
type connector struct {
	Settings
	aws     *cloud.Cloud
	secrets *cloud.Secrets
}

// auth is how brokers are told who this is.
func (c *connector) auth(ctx context.Context) (kafkaio.Auth, error) {
	a := kafkaio.Auth{Kind: c.KafkaAuth}
	var err error
	if a.Roots, err = c.roots(ctx, EnvKafkaCA, c.KafkaCA); err != nil {
		return a, err
	}
	switch c.KafkaAuth {
	case kafkaio.AuthSCRAM:
		a.Password = func(ctx context.Context, rejected bool) (string, string, error) {
			return c.password(ctx, EnvKafkaSecret, c.KafkaSecret, rejected)
		}
	case kafkaio.AuthMTLS:
		a.Certificate = c.certificate
	case kafkaio.AuthIAM:
		a.Keys = func(ctx context.Context) (id, secret, token string, err error) {
			k, err := c.aws.Credentials().Retrieve(ctx)
			return k.AccessKeyID, k.SecretAccessKey, k.SessionToken, err
		}
	case kafkaio.AuthNone, kafkaio.AuthTLS:
	}
	return a, nil
}

// password reads a secret of the form {"username", "password"}.
func (c *connector) password(ctx context.Context, variable, id string, rejected bool) (user, password string, err error) {
	texts, err := c.secrets.Fields(ctx, id, rejected, "username", "password")
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", variable, err)
	}
	return texts[0], texts[1], nil
}

// certificate reads a secret of the form {"certificate", "privateKey"}.
func (c *connector) certificate(ctx context.Context, rejected bool) (*tls.Certificate, error) {
	texts, err := c.secrets.Fields(ctx, c.KafkaSecret, rejected, "certificate", "privateKey", "privateKeyPassword?")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", EnvKafkaSecret, err)
	}
	key, err := decrypt([]byte(texts[1]), texts[2])
	if err == nil {
		var pair tls.Certificate
		if pair, err = tls.X509KeyPair([]byte(texts[0]), key); err == nil {
			return &pair, nil
		}
		err = errors.New("certificate and privateKey are no pair in PEM") // its own text may quote
	}
	return nil, fmt.Errorf("%s: secret %s: %w: %w", EnvKafkaSecret, c.KafkaSecret, ErrCertificate, err)
}

// roots reads certificates from a file, or from the "certificate" of a secret where there is no such file; nil for no place.
func (c *connector) roots(ctx context.Context, variable, place string) (*x509.CertPool, error) {
	if place == "" {
		return nil, nil //nolint:nilnil // the system's roots
	}
	text, err := os.ReadFile(place) //nolint:gosec // the environment is who deployed this
	switch {
	case errors.Is(err, fs.ErrNotExist):
		texts, asked := c.secrets.Fields(ctx, place, false, "certificate")
		if asked != nil {
			return nil, fmt.Errorf("%s: there is no such file, and as a secret: %w", variable, asked)
		}
		text = []byte(texts[0])
	case err != nil:
		return nil, fmt.Errorf("%s: %w", variable, err)
	}
	pool := x509.NewCertPool()
	if len(text) > maxRoots || !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: %s: %w in PEM", variable, place, ErrCertificate)
	}
	return pool, nil
}

// kafka connects to the brokers.
func (c *connector) kafka(ctx context.Context, app *spec.App) (*kafkaio.Client, error) {
	auth, err := c.auth(ctx)
	if err != nil {
		return nil, err
	}
	return openKafka(ctx, app, c.Brokers, auth)
}

// redis connects to the store.
func (c *connector) redis(ctx context.Context, app *spec.App) (statestore.Store, error) {
	codec, err := statestore.ParseCodec(app.State.Compression)
	if err != nil {
		return nil, err
	}
	o := redisstore.Options{URLs: c.Redis, Codec: codec}
	roots, err := c.roots(ctx, EnvRedisCA, c.RedisCA)
	if err != nil {
		return nil, err
	}
	if roots != nil {
		o.TLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	switch c.RedisAuth {
	case redisSecret:
		o.Credentials = func(ctx context.Context, rejected bool) (string, string, error) {
			return c.password(ctx, EnvRedisSecret, c.RedisSecret, rejected)
		}
	case redisIAM:
		token, err := rediscreds.IAM(rediscreds.Options{
			User: c.RedisUser, Cache: c.RedisCache, Service: c.RedisService, Region: c.aws.Region(), Credentials: c.aws.Credentials(),
		})
		if err != nil {
			return nil, fmt.Errorf("%s=%s: %w", EnvRedisAuth, redisIAM, err)
		}
		o.Credentials = func(ctx context.Context, _ bool) (string, string, error) { return token(ctx) }
	}
	return redisstore.Open(ctx, o)
}
