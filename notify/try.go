package notify

import (
	"context"
	"fmt"
)

// Try delivers a message once, without an outbox: for somebody who tries a sink. Errors are
// those of Target.Deliver.
func Try(ctx context.Context, t Target, a Alert) error {
	app, ok := t.(*SlackApp)
	if !ok {
		return t.Deliver(ctx, a)
	}
	if _, err := app.post(ctx, slackMessageOf(a, app.server), "", webhookID(a.Items[0])); err != nil {
		return fmt.Errorf("post to channel %s: %w", app.o.Channel, err)
	}
	return nil
}
