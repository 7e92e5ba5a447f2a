package cloud

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
)

// MaxSpec is the largest spec that is read, in bytes.
const MaxSpec = 1 << 20

// Schemes of places of a spec.
const (
	schemeS3        = "s3://"
	schemeSSM       = "ssm:"
	schemeAppConfig = "appconfig:"
)

// IsSource reports whether a place of a spec is one of AWS's, rather than a file.
func IsSource(place string) bool {
	return strings.HasPrefix(place, schemeS3) || strings.HasPrefix(place, schemeSSM) || strings.HasPrefix(place, schemeAppConfig)
}

// CheckSource says what is wrong with a place, without asking anybody. It wraps ErrSource.
func CheckSource(place string) error {
	_, err := split(place)
	return err
}

// split takes a place apart: bucket and key, parameter, or application, environment and profile.
func split(place string) ([]string, error) {
	if rest, ok := strings.CutPrefix(place, schemeS3); ok {
		bucket, key, _ := strings.Cut(rest, "/")
		if bucket != "" && key != "" {
			return []string{bucket, key}, nil
		}
		return nil, fmt.Errorf("%s, want s3://BUCKET/KEY: %w", place, ErrSource)
	}
	if name, ok := strings.CutPrefix(place, schemeSSM); ok {
		if name != "" {
			return []string{name}, nil
		}
		return nil, fmt.Errorf("%s, want ssm:/NAME: %w", place, ErrSource)
	}
	rest, ok := strings.CutPrefix(place, schemeAppConfig)
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[2] == "" {
		return nil, fmt.Errorf("%s, want s3://BUCKET/KEY, ssm:/NAME or appconfig:APPLICATION/ENVIRONMENT/PROFILE: %w", place, ErrSource)
	}
	return parts, nil
}

// Spec reads a spec from its place, at most MaxSpec bytes.
func (c *Cloud) Spec(ctx context.Context, place string) ([]byte, error) {
	parts, err := split(place)
	if err != nil {
		return nil, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	var data []byte
	switch len(parts) {
	case 1:
		data, err = c.parameter(ctx, parts[0])
	case 2:
		data, err = c.object(ctx, parts[0], parts[1])
	default:
		data, err = c.appConfig(ctx, parts)
	}
	if err == nil && len(data) > MaxSpec {
		err = fmt.Errorf("more than %d bytes: %w", MaxSpec, ErrTooLarge)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", place, err)
	}
	return data, nil
}

// read reads one byte more than a spec may have, so that too large a one shows.
func read(r io.Reader) ([]byte, error) { return io.ReadAll(io.LimitReader(r, MaxSpec+1)) }

func (c *Cloud) object(ctx context.Context, bucket, key string) ([]byte, error) {
	config, endpoint, err := c.config("S3")
	if err != nil {
		return nil, err
	}
	client := s3.NewFromConfig(config, func(o *s3.Options) {
		o.BaseEndpoint = endpoint
		o.UsePathStyle = endpoint != nil // few others than AWS have a host name for each bucket
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	})
	answer, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return nil, explain(err, "s3:GetObject")
	}
	defer answer.Body.Close() //nolint:errcheck // it was only read
	return read(answer.Body)
}

// parameter reads a parameter, decrypted if it is a SecureString.
func (c *Cloud) parameter(ctx context.Context, name string) ([]byte, error) {
	config, endpoint, err := c.config("SSM")
	if err != nil {
		return nil, err
	}
	client := ssm.NewFromConfig(config, func(o *ssm.Options) { o.BaseEndpoint = endpoint })
	answer, err := client.GetParameter(ctx, &ssm.GetParameterInput{Name: &name, WithDecryption: aws.Bool(true)})
	if err != nil {
		return nil, explain(err, "ssm:GetParameter")
	}
	if answer.Parameter == nil {
		return nil, errUnreadable
	}
	return []byte(aws.ToString(answer.Parameter.Value)), nil
}

// appConfigEndpoint is where the AppConfig extension listens, whose layer the function has to have. It keeps the session with the
// service, which outlives an invocation, and polls while the function is frozen out of it: both are what a client in here could not.
const appConfigEndpoint = "http://localhost:"

func (c *Cloud) appConfig(ctx context.Context, parts []string) ([]byte, error) {
	base := c.getenv(envEndpoint + "_APPCONFIGDATA")
	if base == "" {
		port := c.getenv("AWS_APPCONFIG_EXTENSION_HTTP_PORT")
		if port == "" {
			port = "2772"
		}
		base = appConfigEndpoint + port
	}
	path := fmt.Sprintf("/applications/%s/environments/%s/configurations/%s", url.PathEscape(parts[0]), url.PathEscape(parts[1]), url.PathEscape(parts[2]))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(base, "/")+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	answer, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("the AppConfig extension does not answer (is its layer in the function?): %w", err)
	}
	defer answer.Body.Close() //nolint:errcheck // it was only read
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the AppConfig extension answered %s (allow appconfig:StartConfigurationSession and appconfig:GetLatestConfiguration)", answer.Status)
	}
	return read(answer.Body)
}
