package bucket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
)

// explain says which object an error is about and what can be done. action is the permission that the call needs.
func (t *Target) explain(err error, op, name, action string) error {
	if err == nil {
		return nil
	}
	advice := t.advice(err, name, action)
	if advice != "" {
		advice = " (" + advice + ")"
	}
	return fmt.Errorf("%s %s%s: %w", op, t.Path(name), advice, gone(err))
}

// gone makes an object that does not exist what a file is that does not.
func gone(err error) error {
	if code(err) == "NoSuchKey" {
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return err
}

func code(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	return ""
}

func status(err error) int {
	if answer, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		return answer.HTTPStatusCode()
	}
	return 0
}

func (t *Target) advice(err error, name, action string) string {
	switch code(err) {
	case "NoSuchBucket":
		return "there is no bucket " + t.bucket + ": create it, or correct the URL"
	case "NoSuchKey":
		return "there is no such object"
	case "ExpiredToken", "ExpiredTokenException", "InvalidToken":
		return "the credentials have expired: renew them"
	case "InvalidAccessKeyId", "SignatureDoesNotMatch":
		return "the credentials are not accepted: check AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
	case "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException":
		return "the bucket is not in " + t.region + ": set AWS_REGION to where it is"
	}
	switch s := status(err); {
	case s == http.StatusForbidden && action == "s3:ListBucket":
		return "access denied: allow s3:ListBucket on arn:aws:s3:::" + t.bucket
	case s == http.StatusForbidden:
		return "access denied: allow " + action + " on arn:aws:s3:::" + t.bucket + "/" + t.prefix + "*"
	case s == http.StatusNotFound && name == "":
		return "there is no bucket " + t.bucket + ": create it, or correct the URL"
	case s >= http.StatusInternalServerError:
		return "the service failed each time it was tried: try again later"
	case errors.Is(err, errNoCredentials):
		return "no credentials: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role"
	}
	return ""
}

// errNoCredentials marks the error of a request that was never sent, because nobody was found whose request it could be.
var errNoCredentials = errors.New("bucket: no credentials")

// marked marks the errors of a provider.
type marked struct{ aws.CredentialsProvider }

// Retrieve implements aws.CredentialsProvider.
func (m marked) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c, err := m.CredentialsProvider.Retrieve(ctx)
	if err != nil {
		err = fmt.Errorf("%w: %w", errNoCredentials, err)
	}
	return c, err
}
