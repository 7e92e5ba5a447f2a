//go:build servers && linux

package deploy_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/llm-auto-optimizer/tidemark/localdev/host"
	"github.com/llm-auto-optimizer/tidemark/tests/servers"
)

// frozenFor is longer than any connection of the functions may be idle: 20 s to AWS, 30 s to Kafka and Redis.
const frozenFor = 35 * time.Second
