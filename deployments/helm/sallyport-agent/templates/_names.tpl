{{- define "sallyport-agent.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- define "sallyport-agent.selector" -}}
app.kubernetes.io/name: sallyport-agent
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "sallyport-agent.labels" -}}
{{ include "sallyport-agent.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}
