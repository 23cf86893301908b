{{/* Names and labels. Everything is called <fullname>-<part>. */}}
{{- define "tickmesh.fullname" -}}
{{- if contains "tickmesh" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-tickmesh" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "tickmesh.labels" -}}
app.kubernetes.io/name: tickmesh
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: tickmesh
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* What selects the pods of one component: dict "root" "component" and, for one of several accounts, "account". */}}
{{- define "tickmesh.selector" -}}
app.kubernetes.io/name: tickmesh
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .account }}
tickmesh.io/account: {{ . }}
{{- end }}
{{- end }}

{{- define "tickmesh.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}{{ else }}{{ .Values.image.repository }}:{{ $tag }}{{ end }}
{{- end }}

{{- define "tickmesh.natsUrl" -}}
{{- if .Values.nats.url }}{{ .Values.nats.url }}{{ else if .Values.infra.enabled }}nats://{{ include "tickmesh.fullname" . }}-nats:4222{{ else }}{{ fail "nats.url is empty: say where NATS is, or set infra.enabled=true for a laptop cluster" }}{{ end }}
{{- end }}

{{/* The Secret with the key TICKMESH_NATS__TOKEN, or nothing. */}}
{{- define "tickmesh.natsSecret" -}}
{{- if .Values.nats.existingSecret }}{{ .Values.nats.existingSecret }}{{ else if and .Values.infra.enabled (not .Values.nats.url) }}{{ include "tickmesh.fullname" . }}-nats{{ end }}
{{- end }}

{{/* Where NATS tells its state: host:port or a URL's, with the namespace, because KEDA asks from another one. */}}
{{- define "tickmesh.natsMonitorHost" -}}
{{- if .Values.nats.monitorUrl }}{{ (urlParse .Values.nats.monitorUrl).host }}{{ else if and .Values.infra.enabled (not .Values.nats.url) }}{{ include "tickmesh.fullname" . }}-nats.{{ .Release.Namespace }}.svc:8222{{ else }}{{ fail "nats.monitorUrl is empty: recorder.autoscaling reads the lag of the consumers there" }}{{ end }}
{{- end }}

{{/* The .creds file of NATS as a file of the pod; its path is in the ConfigMap. */}}
{{- define "tickmesh.natsCredentialsMount" -}}
{{- if .Values.nats.credentialsSecret }}
- {name: nats-credentials, mountPath: /etc/tickmesh/nats, readOnly: true}
{{- end }}
{{- end }}

{{- define "tickmesh.natsCredentialsVolume" -}}
{{- with .Values.nats.credentialsSecret }}
- name: nats-credentials
  secret: {secretName: {{ . }}, defaultMode: 0440, items: [{key: {{ $.Values.nats.credentialsKey }}, path: nats.creds}]}
{{- end }}
{{- end }}

{{- define "tickmesh.venueRestUrl" -}}
{{- if .Values.venue.restUrl }}{{ .Values.venue.restUrl }}{{ else if .Values.simvenue.enabled }}http://{{ include "tickmesh.fullname" . }}-simvenue:17480{{ else }}{{ fail "venue.restUrl is empty: say where the venue is, or set simvenue.enabled=true" }}{{ end }}
{{- end }}

{{- define "tickmesh.venueStreamUrl" -}}
{{- if .Values.venue.streamUrl }}{{ .Values.venue.streamUrl }}{{ else if .Values.simvenue.enabled }}ws://{{ include "tickmesh.fullname" . }}-simvenue:17480{{ else }}{{ fail "venue.streamUrl is empty: say where the venue is, or set simvenue.enabled=true" }}{{ end }}
{{- end }}

{{/* Environment of what talks to NATS. */}}
{{- define "tickmesh.natsEnv" -}}
{{- with (include "tickmesh.natsSecret" .) }}
- name: TICKMESH_NATS__TOKEN
  valueFrom: {secretKeyRef: {name: {{ . }}, key: TICKMESH_NATS__TOKEN}}
{{- end }}
{{- end }}

{{- define "tickmesh.postgresEnv" -}}
{{- $own := .Values.postgres.existingSecret }}
{{- if not (or $own .Values.infra.enabled) }}{{ fail "postgres.existingSecret is empty: name the Secret whose key postgres.secretKey holds the connection string" }}{{ end }}
- name: TICKMESH_POSTGRES__DSN
  valueFrom: {secretKeyRef: {name: {{ $own | default (printf "%s-postgres" (include "tickmesh.fullname" .)) }}, key: {{ ternary .Values.postgres.secretKey "uri" (ne $own "") }}}}
{{- end }}

{{- define "tickmesh.redisEnv" -}}
{{- $own := .Values.redis.existingSecret }}
{{- if not (or $own .Values.infra.enabled) }}{{ fail "redis.existingSecret is empty: name the Secret whose key redis.secretKey holds the URL" }}{{ end }}
- name: TICKMESH_REDIS__URL
  valueFrom: {secretKeyRef: {name: {{ $own | default (printf "%s-valkey" (include "tickmesh.fullname" .)) }}, key: {{ ternary .Values.redis.secretKey "uri" (ne $own "") }}}}
{{- end }}

{{/* Environment of what signs requests for an account: dict "root" "account". */}}
{{- define "tickmesh.accountEnv" -}}
- name: TICKMESH_VENUE__ACCOUNT
  value: {{ .account.name }}
{{- if .account.existingSecret }}
- name: TICKMESH_VENUE__API_KEY
  valueFrom: {secretKeyRef: {name: {{ .account.existingSecret }}, key: api-key}}
- name: TICKMESH_VENUE__API_SECRET
  valueFrom: {secretKeyRef: {name: {{ .account.existingSecret }}, key: api-secret}}
{{- else if not .root.Values.simvenue.enabled }}
{{- fail (printf "accounts: %s has no existingSecret: name the Secret with the keys api-key and api-secret" .account.name) }}
{{- end }}
{{- end }}

{{/* What the container may do: nothing. Pod Security "restricted" asks for exactly this. */}}
{{- define "tickmesh.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "tickmesh.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Whether this component is on the path from tick to order. */}}
{{- define "tickmesh.onDataPlane" -}}
{{- if has . (list "feed" "execution") }}yes{{ end }}
{{- end }}

{{/* Cluster-wide objects carry the namespace, so that several installations live side by side. */}}
{{- define "tickmesh.clusterName" -}}
{{ printf "%s-%s-operator" .Release.Namespace (include "tickmesh.fullname" .) }}
{{- end }}

{{- define "tickmesh.webhookName" -}}
{{ printf "%s-%s-strategies" .Release.Namespace (include "tickmesh.fullname" .) }}
{{- end }}

{{- define "tickmesh.webhookSecret" -}}
{{ printf "%s-webhook" (include "tickmesh.fullname" .) }}
{{- end }}

{{- define "tickmesh.leaseName" -}}
{{ printf "%s-operator" (include "tickmesh.fullname" .) }}
{{- end }}

{{- define "tickmesh.operatorEnv" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: TICKMESH_OPERATOR__NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: TICKMESH_OPERATOR__IMAGE # by itself, so that Tilt can put in the one it has just built
  value: {{ include "tickmesh.image" . }}
- name: TICKMESH_OPERATOR__INSTALLATION_FILE
  value: /etc/tickmesh/installation.json
- name: TICKMESH_OPERATOR__LEASE_NAME
  value: {{ include "tickmesh.leaseName" . }}
{{- if .Values.operator.webhook.enabled }}
- name: TICKMESH_OPERATOR__WEBHOOK_PORT
  value: "9443"
- name: TICKMESH_OPERATOR__WEBHOOK_HOST
  value: {{ include "tickmesh.fullname" . }}-webhook.{{ .Release.Namespace }}.svc
- name: TICKMESH_OPERATOR__WEBHOOK_SECRET
  value: {{ include "tickmesh.webhookSecret" . }}
- name: TICKMESH_OPERATOR__WEBHOOK_CONFIGURATION
  value: {{ include "tickmesh.webhookName" . }}
{{- end }}
{{- end }}

{{- define "tickmesh.gatewayEnv" -}}
- name: TICKMESH_GATEWAY__TOKEN
  valueFrom: {secretKeyRef: {name: {{ .Values.gateway.existingSecret | default (printf "%s-gateway" (include "tickmesh.fullname" .)) }}, key: TICKMESH_GATEWAY__TOKEN}}
{{- end }}
