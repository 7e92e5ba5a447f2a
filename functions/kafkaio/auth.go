package kafkaio

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/aws"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// ErrAuthentication is wrapped by every refusal of who this is: a wrong password, an unknown user, a client certificate that the
// broker does not take. What it was refused for is never in the error.
var ErrAuthentication = errors.New("kafkaio: authentication failed")

// AuthKind is a way of telling brokers who this is. The set is closed.
type AuthKind uint8

// Ways of authentication. All but the first are over TLS.
const (
	AuthNone  AuthKind = iota // plain text, nobody
	AuthTLS                   // nobody
	AuthSCRAM                 // user and password, by SCRAM-SHA-512
	AuthIAM                   // AWS_MSK_IAM
	AuthMTLS                  // a client certificate
)

// String implements fmt.Stringer: the name in the environment of the functions.
func (k AuthKind) String() string {
	switch k {
	case AuthNone:
		return "none"
	case AuthTLS:
		return "tls"
	case AuthSCRAM:
		return "scram"
	case AuthIAM:
		return "iam"
	case AuthMTLS:
		return "mtls"
	}
	return fmt.Sprintf("AuthKind(%d)", uint8(k))
}

// Auth says who this is to brokers. The callbacks are asked for every new connection, so that what they answer may change while a
// client lives; they must be safe for concurrent use. rejected says that a broker has refused what was answered last: an answer that
// is kept somewhere is to be renewed. Their errors must not show what they could not read.
type Auth struct {
	Kind AuthKind
	// Roots are whom brokers' certificates are trusted by; nil: the system's.
	Roots *x509.CertPool
	// Password is needed by AuthSCRAM.
	Password func(ctx context.Context, rejected bool) (user, password string, err error)
	// Certificate is needed by AuthMTLS.
	Certificate func(ctx context.Context, rejected bool) (*tls.Certificate, error)
	// Keys is needed by AuthIAM; token is empty for keys that do not expire.
	Keys func(ctx context.Context) (id, secret, token string, err error)
}

func (a Auth) validate() error {
	switch a.Kind {
	case AuthNone, AuthTLS:
		return nil
	case AuthSCRAM:
		if a.Password == nil {
			return errors.New("auth: scram needs a password")
		}
		return nil
	case AuthIAM:
		if a.Keys == nil {
			return errors.New("auth: iam needs keys")
		}
		return nil
	case AuthMTLS:
		if a.Certificate == nil {
			return errors.New("auth: mtls needs a certificate")
		}
		return nil
	}
	return fmt.Errorf("auth: unknown: %s", a.Kind)
}

const (
	// dialWithin bounds connecting and the TLS handshake.
	dialWithin = 5 * time.Second
	// idleFor is after how much silence a connection is not used again. Frozen functions do not see connections die, and the clock
	// goes on meanwhile: what was dropped is older than this.
	idleFor = 20 * time.Second
)

// authenticator is the Auth of a client and all its sessions.
type authenticator struct {
	Auth
	rejected atomic.Bool // what the callbacks answered last
}

// opts are what a kgo client needs.
func (a *authenticator) opts() []kgo.Opt {
	if a.Kind == AuthNone {
		return []kgo.Opt{kgo.DialTimeout(dialWithin)}
	}
	opts := []kgo.Opt{kgo.Dialer(a.dial)}
	switch a.Kind {
	case AuthSCRAM:
		opts = append(opts, kgo.SASL(scram.Sha512(a.password)))
	case AuthIAM:
		opts = append(opts, kgo.SASL(a.iam()))
	case AuthNone, AuthTLS, AuthMTLS:
	}
	return opts
}

func (a *authenticator) password(ctx context.Context) (scram.Auth, error) {
	user, password, err := a.Password(ctx, a.rejected.Swap(false))
	return scram.Auth{User: user, Pass: password}, err
}

// iam signs with keys that are asked for with each session.
func (a *authenticator) iam() sasl.Mechanism {
	return aws.ManagedStreamingIAM(func(ctx context.Context) (aws.Auth, error) {
		id, secret, token, err := a.Keys(ctx)
		return aws.Auth{AccessKey: id, SecretKey: secret, SessionToken: token, UserAgent: "tidemark"}, err
	})
}

// dial connects over TLS. The name in the certificate is that of the address.
func (a *authenticator) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: a.Roots}
	if a.Kind == AuthMTLS {
		config.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) { //nolint:contextcheck // the handshake's own
			return a.Certificate(r.Context(), a.rejected.Swap(false))
		}
	}
	return (&tls.Dialer{Config: config}).DialContext(ctx, network, address)
}

// refused notes an error by which a broker refuses what the callbacks answered, and reports whether they may know better now.
func (a *authenticator) refused(err error) bool {
	if !isAuthentication(err) {
		return false
	}
	switch a.Kind {
	case AuthSCRAM, AuthMTLS:
		a.rejected.Store(true)
		return true
	case AuthNone, AuthTLS, AuthIAM:
	}
	return false
}

// isAuthentication reports whether a broker did not accept who this is. It says so of a certificate by an alert, after the handshake.
func isAuthentication(err error) bool {
	if errors.Is(err, kerr.SaslAuthenticationFailed) {
		return true
	}
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error"
}

// wire is a kgo client that authenticates once more if what it knew was refused: secrets are rotated while clients live.
type wire struct {
	*kgo.Client
	auth *authenticator
}

// connect makes a client of o, which is valid, with options of its own.
func (o Options) connect(more ...kgo.Opt) (wire, error) {
	cl, err := kgo.NewClient(o.clientOpts(more...)...)
	return wire{cl, o.auth}, err
}

// again calls fn, once more if a broker refused what may have been renewed since.
func (w wire) again(fn func() error) error {
	err := fn()
	if w.auth.refused(err) {
		err = fn()
		w.auth.refused(err)
	}
	return authentication(err)
}

// Request shadows that of the client.
func (w wire) Request(ctx context.Context, req kmsg.Request) (resp kmsg.Response, err error) {
	err = w.again(func() error {
		resp, err = w.Client.Request(ctx, req)
		return err
	})
	return resp, err
}

// ProducerID shadows that of the client.
func (w wire) ProducerID(ctx context.Context) (id int64, epoch int16, err error) {
	err = w.again(func() error {
		id, epoch, err = w.Client.ProducerID(ctx)
		return err
	})
	return id, epoch, err
}

// Ping shadows that of the client.
func (w wire) Ping(ctx context.Context) error {
	return w.again(func() error { return w.Client.Ping(ctx) })
}

// authentication adds the sentinel.
func authentication(err error) error {
	if err != nil && isAuthentication(err) && !errors.Is(err, ErrAuthentication) {
		return fmt.Errorf("%w: %w", ErrAuthentication, err)
	}
	return err
}
