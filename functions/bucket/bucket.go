// Package bucket keeps checkpoints in S3, or in a store that speaks its protocol. It is a package of its own so that programs
// which make no checkpoints do not carry the client.
package bucket

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/llm-auto-optimizer/tidemark/statestore/checkpoint"
)

// Scheme begins the URLs of this package.
const Scheme = "s3://"

// ErrURL is returned for what is no s3://BUCKET[/PREFIX].
var ErrURL = errors.New("bucket: not an S3 URL")

const (
	// partSize is the size of the parts of a large object, and of the largest object that is sent in one piece. S3 takes 10,000
	// parts and single objects up to 5 GiB.
	partSize = 64 << 20
	maxParts = 10_000
	// downloads is how often an object is asked for whose transfer broke off. The client itself repeats only what failed before
	// the first byte of an answer.
	downloads = 3
	// abortWithin is how long taking back an upload that failed may take: the run may be ending.
	abortWithin = 10 * time.Second
)

// Target is a checkpoint.Target at s3://BUCKET/PREFIX. Where the bucket is, and who asks, is told as for every AWS program: by the
// environment, the shared configuration or the role of the machine. AWS_ENDPOINT_URL_S3 names another store than AWS.
type Target struct {
	client   *s3.Client
	bucket   string
	prefix   string // empty, or ending in /
	region   string
	partSize int64
}

var _ checkpoint.Target = (*Target)(nil)

// Open reads the configuration. It does not ask S3 for anything yet.
func Open(ctx context.Context, url string) (*Target, error) {
	bucket, prefix, err := parse(url)
	if err != nil {
		return nil, err
	}
	c, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: AWS configuration: %w", url, err)
	}
	c.Credentials = aws.NewCredentialsCache(marked{c.Credentials})
	t := &Target{bucket: bucket, prefix: prefix, partSize: partSize}
	t.client = s3.NewFromConfig(c, func(o *s3.Options) {
		if o.BaseEndpoint != nil { // not AWS: few others have a host name for each bucket, and a region
			o.UsePathStyle = true
			o.Region = cmp.Or(o.Region, "us-east-1")
		}
		// Checkpoints have checksums of their own, and not every store that speaks S3 knows those of the client.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		t.region = o.Region
	})
	if t.region == "" {
		return nil, fmt.Errorf("%s: no region: set AWS_REGION to that of the bucket", url)
	}
	return t, nil
}

// Split takes the last part off a URL that names a single checkpoint; name is empty where it names a place for checkpoints.
func Split(url string) (place, name string) {
	i := strings.LastIndexByte(url, '/')
	if i <= len(Scheme) || !strings.HasSuffix(url, checkpoint.Suffix) {
		return url, ""
	}
	return url[:i], url[i+1:]
}

func parse(url string) (bucket, prefix string, err error) {
	rest, ok := strings.CutPrefix(url, Scheme)
	bucket, prefix, _ = strings.Cut(rest, "/")
	if !ok || bucket == "" || strings.ContainsAny(url, "?#\\ ") {
		return "", "", fmt.Errorf("%q, want s3://BUCKET or s3://BUCKET/PREFIX: %w", url, ErrURL)
	}
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		prefix += "/"
	}
	return bucket, prefix, nil
}

// Path implements checkpoint.Target.
func (t *Target) Path(name string) string { return Scheme + t.bucket + "/" + t.prefix + name }

// List implements checkpoint.Target. A bucket that does not exist is an error.
func (t *Target) List(ctx context.Context) ([]string, error) {
	pages := s3.NewListObjectsV2Paginator(t.client, &s3.ListObjectsV2Input{Bucket: &t.bucket, Prefix: &t.prefix, Delimiter: aws.String("/")})
	var out []string
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, t.explain(err, "list", "", "s3:ListBucket")
		}
		for _, o := range page.Contents {
			out = append(out, strings.TrimPrefix(aws.ToString(o.Key), t.prefix))
		}
	}
	return out, nil
}

// file is a temporary file, which goes when it is closed.
type file struct{ *os.File }

func newFile() (file, error) {
	f, err := os.CreateTemp("", "tidemark-checkpoint-")
	return file{f}, err
}

func (f file) Close() error { return errors.Join(f.File.Close(), os.Remove(f.Name())) }

// Open implements checkpoint.Target. The object is brought into a temporary file first: a checkpoint is read more than once.
func (t *Target) Open(ctx context.Context, name string) (io.ReadSeekCloser, error) {
	f, err := newFile()
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		broken, err := t.download(ctx, name, f)
		if err == nil {
			return f, nil
		}
		if !broken || try == downloads || ctx.Err() != nil {
			return nil, errors.Join(t.explain(err, "get", name, "s3:GetObject"), f.Close())
		}
	}
}

// download fills the file from its beginning, and leaves it there. broken says that the transfer had begun.
func (t *Target) download(ctx context.Context, name string, f file) (broken bool, err error) {
	answer, err := t.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &t.bucket, Key: t.key(name)})
	if err != nil {
		return false, err
	}
	defer answer.Body.Close() //nolint:errcheck // it was only read
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return false, err
	}
	n, err := io.Copy(f, answer.Body)
	if want := aws.ToInt64(answer.ContentLength); err == nil && answer.ContentLength != nil && n != want {
		err = fmt.Errorf("%d of %d bytes: %w", n, want, io.ErrUnexpectedEOF)
	}
	if err != nil {
		return true, err
	}
	if err := f.Truncate(n); err != nil { // what an earlier try may have left
		return false, err
	}
	_, err = f.Seek(0, io.SeekStart)
	return false, err
}

// Write implements checkpoint.Target. The content is written to a temporary file first: its length has to be known, and what is
// sent may have to be sent again. An object appears with its last byte or not at all.
func (t *Target) Write(ctx context.Context, name string, write func(w io.Writer) error) (err error) {
	f, err := newFile()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := write(f); err != nil {
		return err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if size > t.partSize {
		err = t.upload(ctx, name, f, size)
	} else {
		_, err = t.client.PutObject(ctx, &s3.PutObjectInput{
			Bucket: &t.bucket, Key: t.key(name), Body: io.NewSectionReader(f, 0, size), ContentLength: &size,
		})
	}
	return t.explain(err, "put", name, "s3:PutObject")
}

// upload sends a large file in parts. If it fails, it takes back what it has sent; what a killed process has sent stays, and costs,
// until the bucket's rule for incomplete uploads removes it.
func (t *Target) upload(ctx context.Context, name string, f file, size int64) error {
	key := t.key(name)
	begun, err := t.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &t.bucket, Key: key})
	if err != nil {
		return err
	}
	part := max(t.partSize, (size+maxParts-1)/maxParts)
	var parts []types.CompletedPart
	for at := int64(0); at < size && err == nil; at += part {
		number, length := int32(len(parts)+1), min(part, size-at)
		var sent *s3.UploadPartOutput
		sent, err = t.client.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: &t.bucket, Key: key, UploadId: begun.UploadId, PartNumber: &number,
			Body: io.NewSectionReader(f, at, length), ContentLength: &length,
		})
		if err == nil {
			parts = append(parts, types.CompletedPart{ETag: sent.ETag, PartNumber: &number})
		}
	}
	if err == nil {
		_, err = t.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
			Bucket: &t.bucket, Key: key, UploadId: begun.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
		})
	}
	if err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortWithin)
	defer cancel()
	if _, aborted := t.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &t.bucket, Key: key, UploadId: begun.UploadId}); aborted != nil {
		err = errors.Join(err, fmt.Errorf("what was sent of it could not be taken back: %w", aborted))
	}
	return err
}

// Remove implements checkpoint.Target.
func (t *Target) Remove(ctx context.Context, name string) error {
	_, err := t.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &t.bucket, Key: t.key(name)})
	return t.explain(err, "delete", name, "s3:DeleteObject")
}

func (t *Target) key(name string) *string { return aws.String(t.prefix + name) }
