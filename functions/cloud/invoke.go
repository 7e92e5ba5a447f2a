package cloud

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// Invoker returns what invokes a function, by name or ARN, asynchronously with a payload as JSON. It returns when Lambda has taken
// the event, not when the function has run; that it was taken twice, or never runs, is possible.
func (c *Cloud) Invoker(function string) (func(ctx context.Context, payload any) error, error) {
	config, endpoint, err := c.config("LAMBDA")
	if err != nil {
		return nil, fmt.Errorf("invoke %s: %w", function, err)
	}
	client := lambda.NewFromConfig(config, func(o *lambda.Options) { o.BaseEndpoint = endpoint })
	return func(ctx context.Context, payload any) error {
		body, err := json.Marshal(payload)
		if err != nil {
			return fmt.Errorf("invoke %s: %w", function, err)
		}
		ctx, cancel := bounded(ctx)
		defer cancel()
		answer, err := client.Invoke(ctx, &lambda.InvokeInput{FunctionName: &function, InvocationType: types.InvocationTypeEvent, Payload: body})
		if err != nil {
			return fmt.Errorf("invoke %s: %w", function, explain(err, "lambda:InvokeFunction"))
		}
		if answer.StatusCode != http.StatusAccepted {
			return fmt.Errorf("invoke %s: answered %d, want %d", function, answer.StatusCode, http.StatusAccepted)
		}
		return nil
	}, nil
}
