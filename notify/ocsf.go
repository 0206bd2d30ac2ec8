package notify

import (
	"encoding/json"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// The class Detection Finding of OCSF (schema.ocsf.io).
const (
	ocsfVersion  = "1.5.0"
	ocsfCategory = 2
	ocsfClass    = 2004
	// Activities.
	ocsfCreate, ocsfUpdate = 1, 2
	// Status: new.
	ocsfNew = 1
)

// ocsfSeverity is OCSF's severity_id with its caption.
var ocsfSeverity = map[sallyportv1.Severity]struct {
	id   int
	name string
}{
	sallyportv1.Severity_SEVERITY_UNSPECIFIED: {0, "Unknown"},
	sallyportv1.Severity_SEVERITY_LOW:         {2, "Low"},
	sallyportv1.Severity_SEVERITY_MEDIUM:      {3, "Medium"},
	sallyportv1.Severity_SEVERITY_HIGH:        {4, "High"},
	sallyportv1.Severity_SEVERITY_CRITICAL:    {5, "Critical"},
}

// object is a JSON object.
type object map[string]any

// pruned takes out texts and objects that are empty, which OCSF has no meaning for.
func (o object) pruned() object {
	for name, value := range o {
		switch v := value.(type) {
		case string:
			if v == "" {
				delete(o, name)
			}
		case object:
			if len(v.pruned()) == 0 {
				delete(o, name)
			}
		case []object:
			for _, x := range v {
				x.pruned()
			}
		}
	}
	return o
}

// ocsfFinding is an item as an OCSF Detection Finding. What OCSF has no place for is the
// finding itself, below unmapped.
func ocsfFinding(item Item, server string) object {
	f := item.Finding
	p, a, b := f.GetPolicy(), f.GetAttribution(), f.GetBehaviour()
	activity, name := ocsfCreate, "Create"
	if item.FollowUp {
		activity, name = ocsfUpdate, "Update"
	}
	severity, ok := ocsfSeverity[p.GetSeverity()]
	if !ok {
		severity = ocsfSeverity[sallyportv1.Severity_SEVERITY_UNSPECIFIED]
	}
	at := timeOf(f.GetTime()).UnixMilli()
	info := object{"uid": f.GetId(), "title": policyTitle(p), "created_time": at, "first_seen_time": at, "types": []string{"Sallyport"}}
	info["desc"], info["uid_alt"] = p.GetDescription(), f.GetFingerprint()
	info["src_url"] = runURL(server, a.GetRepository(), a.GetRunId(), a.GetRunAttempt())
	if id := p.GetId(); id != "" {
		info["analytic"] = object{"uid": id, "name": policyTitle(p), "type_id": 1, "type": "Rule"}
	}
	if t := p.GetTechnique(); t != "" {
		info["attacks"] = []object{{"version": "17", "technique": object{"uid": t, "src_url": "https://attack.mitre.org/techniques/" + strings.ReplaceAll(t, ".", "/") + "/"}}}
	}
	last := at
	for _, m := range item.More {
		last = max(last, m.Time.UnixMilli())
	}
	info["last_seen_time"] = last
	info["related_events_count"] = len(item.More) + 1
	out := object{
		"activity_id": activity, "activity_name": name, "category_uid": ocsfCategory, "category_name": "Findings",
		"class_uid": ocsfClass, "class_name": "Detection Finding", "type_uid": ocsfClass*100 + activity, "type_name": "Detection Finding: " + name,
		"severity_id": severity.id, "severity": severity.name, "status_id": ocsfNew, "status": "New", "is_alert": true, "time": last,
		"message": messageOf(f), "finding_info": info,
		"metadata": object{"version": ocsfVersion, "product": object{"name": "Sallyport", "vendor_name": "Sallyport", "feature": object{"uid": p.GetId()}}, "uid": webhookID(item), "log_provider": "Sallyport"},
	}
	if r := p.GetRemediation(); r != "" {
		out["remediation"] = object{"desc": r}
	}
	if repository := a.GetRepository(); repository != "" {
		resource := object{"type": "repository", "name": repository, "uid": repository}
		if w := a.GetWorkflow(); w != "" {
			resource["labels"] = []string{"workflow " + w, "job " + a.GetJob(), "step " + a.GetStep(), "run " + a.GetRunId()}
		}
		out["resources"] = []object{resource}
	}
	evidence := object{}
	if len(f.GetAncestry()) > 0 {
		process := ocsfProcess(f.GetAncestry())
		evidence["process"] = process
		evidence["actor"] = object{"process": process}
	}
	if h := f.GetHostname(); h != "" {
		evidence["device"] = object{"hostname": h, "uid": f.GetAgentId(), "type_id": 1, "type": "Server"}
	}
	switch b.GetKind() {
	case sallyportv1.BehaviourKind_BEHAVIOUR_KIND_EGRESS, sallyportv1.BehaviourKind_BEHAVIOUR_KIND_REQUEST:
		endpoint := object{"hostname": b.GetDomain(), "ip": b.GetAddress()}
		if b.GetPort() > 0 {
			endpoint["port"] = b.GetPort()
		}
		evidence["dst_endpoint"] = endpoint
	case sallyportv1.BehaviourKind_BEHAVIOUR_KIND_LOOKUP:
		evidence["query"] = object{"hostname": b.GetDomain(), "type": b.GetQuestionType()}
	case sallyportv1.BehaviourKind_BEHAVIOUR_KIND_FILE:
		evidence["file"] = ocsfFile(b.GetTarget())
	default:
	}
	if len(evidence) > 0 {
		out["evidences"] = []object{evidence}
	}
	out = out.pruned()
	// The whole finding, for who knows Sallyport.
	if text, err := (protojson.MarshalOptions{UseProtoNames: true}).Marshal(f); err == nil {
		out["unmapped"] = object{"sallyport": object{"finding": json.RawMessage(text), "more": item.More}}
	}
	return out
}

// ocsfProcess is a process with its ancestors, the nearest within.
func ocsfProcess(ancestry []*sallyportv1.Process) object {
	p := ancestry[0]
	out := object{"pid": p.GetPid(), "name": programOf(p), "cmd_line": strings.Join(p.GetArguments(), " "), "user": object{"uid": strconv.FormatUint(uint64(p.GetUid()), 10), "type_id": 0}}
	if e := p.GetExecutable(); e != "" {
		file := ocsfFile(e)
		if d := p.GetExecutableSha256(); d != "" {
			file["hashes"] = []object{{"algorithm_id": 3, "algorithm": "SHA-256", "value": d}}
		}
		out["file"] = file
	}
	out["working_directory"] = p.GetWorkingDirectory()
	if len(ancestry) > 1 {
		out["parent_process"] = ocsfProcess(ancestry[1:])
	}
	return out
}

func ocsfFile(path string) object {
	name := path[strings.LastIndexByte(path, '/')+1:]
	if name == "" {
		name = path
	}
	return object{"name": name, "path": path, "type_id": 1, "type": "Regular File"}
}
