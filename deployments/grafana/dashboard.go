package grafana

import (
	"encoding/json"
	"fmt"
)

// Kind of a panel, as Grafana names it.
type Kind string

// Kinds of panels, with what their queries have to answer.
const (
	// Stat shows one number: one row, one column.
	Stat Kind = "stat"
	// TimeSeries shows numbers over time: a time first, in order, then numbers, maybe with
	// one text that names the series.
	TimeSeries Kind = "timeseries"
	// Table shows rows.
	Table Kind = "table"
)

// Panel is one picture.
type Panel struct {
	// Title of a few words; Description of what it shows, for the mouse.
	Title, Description string
	// Kind of panel.
	Kind Kind
	// Width in columns, of 24, and Height in rows.
	Width, Height int
	// Unit as Grafana names it; short if empty.
	Unit string
	// Query in ClickHouse's SQL with the macros of Grafana's ClickHouse data source.
	Query string
	// Run says that the table's column run_id leads to the dashboard of the run, and needs
	// a column repository.
	Run bool
	// Stacked says that the series add up.
	Stacked bool
}

// Variable is what a person chooses above a dashboard.
type Variable struct {
	Name, Label string
	// Query for the values.
	Query string
	// Several may be chosen, and all are at first.
	Several bool
}

// Dashboard is a page.
type Dashboard struct {
	// UID is in its address, and in the links of others.
	UID string
	// Title, and Description of what it answers.
	Title, Description string
	// From is the time that it shows at first, as in "now-7d".
	From string
	// Refresh is how often it asks again, as in "1m"; never if empty.
	Refresh string
	// Variables in their order.
	Variables []Variable
	// Panels from the upper left on.
	Panels []Panel
}

// dataSource is that of provisioning/datasources.
var dataSource = map[string]any{"type": "grafana-clickhouse-datasource", "uid": "sallyport"}

// JSON returns the dashboard as Grafana reads it.
func (d Dashboard) JSON() ([]byte, error) {
	var panels []any
	x, y, height := 0, 0, 0
	for i, p := range d.Panels {
		if x+p.Width > 24 {
			x, y, height = 0, y+height, 0
		}
		panels = append(panels, p.json(i+1, x, y))
		x, height = x+p.Width, max(height, p.Height)
	}
	var variables []any
	for _, v := range d.Variables {
		variables = append(variables, v.json())
	}
	out := map[string]any{
		"uid": d.UID, "title": d.Title, "description": d.Description, "tags": []string{"sallyport"},
		"schemaVersion": 39, "version": 1, "editable": true, "graphTooltip": 1, "timezone": "browser",
		"time": map[string]any{"from": d.From, "to": "now"}, "refresh": d.Refresh,
		"templating": map[string]any{"list": variables}, "annotations": map[string]any{"list": []any{}},
		"links": []any{map[string]any{
			"type": "dashboards", "title": "Sallyport", "tags": []string{"sallyport"}, "asDropdown": true, "includeVars": false, "keepTime": true,
		}},
		"panels": panels,
	}
	text, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode dashboard %s: %w", d.UID, err)
	}
	return append(text, '\n'), nil
}

func (v Variable) json() map[string]any {
	return map[string]any{
		"type": "query", "name": v.Name, "label": v.Label, "datasource": dataSource, "query": v.Query, "definition": v.Query,
		"refresh": 2, "sort": 0, "multi": v.Several, "includeAll": v.Several, "hide": 0, "skipUrlSync": false, "options": []any{},
		"regex": "", "current": map[string]any{},
	}
}

func (p Panel) json(id, x, y int) map[string]any {
	format, queryType := 1, "table"
	if p.Kind == TimeSeries {
		format, queryType = 0, "timeseries"
	}
	defaults := map[string]any{"unit": p.Unit}
	if p.Unit == "" {
		defaults["unit"] = "short"
	}
	options := map[string]any{}
	var overrides []any
	switch p.Kind {
	case Stat:
		options = map[string]any{
			"reduceOptions": map[string]any{"calcs": []string{"lastNotNull"}, "fields": "", "values": false},
			"colorMode":     "value", "graphMode": "none", "textMode": "auto",
		}
	case TimeSeries:
		custom := map[string]any{"drawStyle": "bars", "fillOpacity": 60, "lineWidth": 1}
		if p.Stacked {
			custom["stacking"] = map[string]any{"mode": "normal", "group": "A"}
		}
		defaults["custom"] = custom
		options = map[string]any{
			"legend":  map[string]any{"displayMode": "list", "placement": "bottom", "showLegend": true},
			"tooltip": map[string]any{"mode": "multi", "sort": "desc"},
		}
	case Table:
		options = map[string]any{"showHeader": true, "cellHeight": "sm"}
		for _, column := range []struct{ pattern, unit string }{{"/bytes|sent|received/", "bytes"}, {"/run_id|port|pid|uid/", "none"}} {
			overrides = append(overrides, map[string]any{
				"matcher":    map[string]any{"id": "byRegexp", "options": column.pattern},
				"properties": []any{map[string]any{"id": "unit", "value": column.unit}},
			})
		}
	}
	if p.Run {
		overrides = append(overrides, map[string]any{
			"matcher": map[string]any{"id": "byName", "options": "run_id"},
			"properties": []any{map[string]any{"id": "links", "value": []any{map[string]any{
				"title": "This run in depth",
				"url":   "/d/" + runUID + "?var-repository=${__data.fields.repository}&var-run_id=${__value.raw}&${__url_time_range}",
			}}}},
		})
	}
	return map[string]any{
		"id": id, "type": string(p.Kind), "title": p.Title, "description": p.Description, "datasource": dataSource,
		"gridPos":     map[string]any{"x": x, "y": y, "w": p.Width, "h": p.Height},
		"fieldConfig": map[string]any{"defaults": defaults, "overrides": append([]any{}, overrides...)}, "options": options,
		"targets": []any{map[string]any{
			"refId": "A", "datasource": dataSource, "editorType": "sql", "queryType": queryType, "format": format, "rawSql": p.Query,
		}},
	}
}
