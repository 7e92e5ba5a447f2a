//go:build containers

package containers_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
)

// The images, as localdev/compose.yaml and tests/containers/lib.sh name them.
const (
	kafkaImage  = "apache/kafka:4.1.0"
	redisImage  = "redis:7.4"
	lambdaImage = "public.ecr.aws/lambda/provided:al2023"
)

// standIn is the label of an image that was built here under a public name.
const standIn = "tidemark.stand-in"

const advice = `container tests need a Docker daemon and the images of localdev/compose.yaml. From the top of the repository:
	eval "$(tests/containers/up)"     gets both, or says what is missing
	CONTAINERS=off                    leaves these tests out, aloud (make test-containers, make ci)`

// TestMain fails where there is no daemon, and says which images the tests run on.
func TestMain(m *testing.M) {
	if err := report(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s\n", err, advice)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// report says what the daemon and the images are.
func report() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	docker, err := testcontainers.NewDockerClientWithOpts(ctx)
	if err != nil {
		return fmt.Errorf("no Docker daemon answers: %w", err)
	}
	defer docker.Close()
	info, err := docker.Info(ctx, client.InfoOptions{})
	if err != nil {
		return fmt.Errorf("no Docker daemon answers: %w", err)
	}
	fmt.Printf("docker %s at %s\n", info.Info.ServerVersion, docker.DaemonHost())
	for _, name := range []string{kafkaImage, redisImage, lambdaImage} {
		image, err := docker.ImageInspect(ctx, name)
		if err != nil {
			return fmt.Errorf("image %s: %w", name, err)
		}
		what := "the public image"
		if image.Config != nil {
			if is := image.Config.Labels[standIn]; is != "" {
				what = "a stand-in: " + is
			}
		}
		fmt.Printf("image %s: %s\n", name, strings.TrimSpace(what))
	}
	return nil
}
