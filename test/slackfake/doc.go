// Package slackfake answers what Slack would say to a message: a receiver for
// incoming webhooks that checks each request against Slack's published contract,
// keeps what it accepts, fails when told to, and shows messages as text.
//
// It exists because no test may reach the real one. It checks (pages of
// docs.slack.dev: "Sending messages using incoming webhooks", "Block Kit
// reference", "Formatting message text", "Rate limits"):
//
//   - POST with Content-Type application/json, else 400 invalid_payload; the path
//     of the webhook, else 404 no_service;
//   - a JSON object, else 400 invalid_payload; a non-empty text or blocks, else 400
//     no_text; a text of at most 40,000 characters, else 400 msg_too_long;
//   - at most 50 blocks, each with a known type, only fields that this type has,
//     and a block_id of at most 255 characters, once in a message;
//   - header: plain_text of 1 to 150 characters; section: text of 1 to 3000
//     characters, or 1 to 10 fields of 1 to 2000, or both; context: 1 to 10 text
//     elements of 1 to 3000; divider: nothing more. All else is 400 invalid_blocks;
//   - text objects: mrkdwn may have verbatim, plain_text may have emoji, not the
//     other way round;
//   - the answers: 200 "ok"; 429 with Retry-After in seconds when scripted.
//
// It is stricter than Slack in two things: block types other than these four are
// refused, because nothing checks them here; and characters are counted as UTF-16
// units, the largest of the counts that Slack might mean.
package slackfake
