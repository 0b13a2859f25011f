{{- define "websocket-exporter.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "websocket-exporter.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "websocket-exporter.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "websocket-exporter.selector" -}}
app.kubernetes.io/name: {{ include "websocket-exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "websocket-exporter.labels" -}}
{{ include "websocket-exporter.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "websocket-exporter.image" -}}
{{- $image := .Values.image -}}
{{- $name := required "webhook.enabled needs image.repository: the sidecar's image in your registry (none is published)" $image.repository -}}
{{- with $image.registry -}}
{{- $name = printf "%s/%s" . $name -}}
{{- end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name ($image.tag | default $.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "websocket-exporter.webhook" -}}
{{- printf "%s-webhook" (include "websocket-exporter.fullname" .) -}}
{{- end -}}

{{- define "websocket-exporter.secret" -}}
{{- if eq .Values.webhook.certificate.source "secret" -}}
{{- required "webhook.certificate.secretName is needed with source secret" .Values.webhook.certificate.secretName -}}
{{- else -}}
{{- printf "%s-tls" (include "websocket-exporter.webhook" .) -}}
{{- end -}}
{{- end -}}
