{{/* The name of everything: fixed, because pools' NetworkPolicies and the Lease go by it; one release per namespace. */}}
{{- define "switchboard.name" -}}switchboard-operator{{- end }}

{{- define "switchboard.selector" -}}
app.kubernetes.io/name: switchboard
app.kubernetes.io/component: operator
{{- end }}

{{- define "switchboard.labels" -}}
{{ include "switchboard.selector" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "switchboard.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "switchboard.subject" -}}
- kind: ServiceAccount
  name: {{ include "switchboard.name" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}
