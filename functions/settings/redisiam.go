package settings

import (
	"context"
	"fmt"
)

// redisIAM signs with the credentials of the function.
func (c *connector) redisIAM() (func(ctx context.Context) (user, password string, err error), error) {
	return nil, fmt.Errorf("%w: %s=%s is not supported", ErrBackend, EnvRedisAuth, redisIAM)
}
