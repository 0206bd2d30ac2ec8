-- +goose Up
-- Labels of pods.

-- +goose StatementBegin
ALTER TABLE process_events
    ADD COLUMN IF NOT EXISTS pod_labels Array(LowCardinality(String)) COMMENT 'Labels of the pod, each NAME=VALUE, by name: has(pod_labels, ''actions.github.com/scale-set-name=arc''). Only where kind is executed' AFTER pod_namespace;
-- +goose StatementEnd
