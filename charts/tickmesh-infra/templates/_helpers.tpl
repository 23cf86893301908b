{{/* The same names as the tickmesh chart of this release would give. */}}
{{- define "tickmesh-infra.fullname" -}}
{{- if contains "tickmesh" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-tickmesh" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "tickmesh-infra.labels" -}}
app.kubernetes.io/name: {{ .part }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
app.kubernetes.io/part-of: tickmesh-infra
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "tickmesh-infra.selector" -}}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
app.kubernetes.io/part-of: tickmesh-infra
{{- end }}

{{/* A password that stays: what the Secret holds already, else a new one. dict: root, secret, key. */}}
{{- define "tickmesh-infra.password" -}}
{{- $kept := lookup "v1" "Secret" .root.Release.Namespace .secret -}}
{{- if and $kept $kept.data (hasKey $kept.data .key) }}{{ index $kept.data .key | b64dec }}{{ else }}{{ randAlphaNum 32 }}{{ end }}
{{- end }}

{{/*
One server as a StatefulSet of one pod with its Service and NetworkPolicy.
dict: root, part, values, user, port, ports (YAML list), container (YAML), from (components that may connect), mount, extra (YAML volumes)
*/}}
{{- define "tickmesh-infra.server" -}}
{{- $full := include "tickmesh-infra.fullname" .root -}}
{{- $labels := include "tickmesh-infra.labels" . -}}
{{- $selector := include "tickmesh-infra.selector" . -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $full }}-{{ .part }}
  labels:
    {{- $labels | nindent 4 }}
automountServiceAccountToken: false
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $full }}-{{ .part }}
  labels:
    {{- $labels | nindent 4 }}
spec:
  selector:
    {{- $selector | nindent 4 }}
  ports:
    {{- range $name, $port := .ports }}
    - {name: {{ $name }}, port: {{ $port }}, targetPort: {{ $name }}}
    {{- end }}
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ $full }}-{{ .part }}
  labels:
    {{- $labels | nindent 4 }}
spec:
  replicas: 1
  serviceName: {{ $full }}-{{ .part }}
  selector:
    matchLabels:
      {{- $selector | nindent 6 }}
  template:
    metadata:
      labels:
        {{- $labels | nindent 8 }}
    spec:
      serviceAccountName: {{ $full }}-{{ .part }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: 60
      securityContext:
        runAsNonRoot: true
        runAsUser: {{ .user }}
        runAsGroup: {{ .user }}
        fsGroup: {{ .user }}
        seccompProfile: {type: RuntimeDefault}
      containers:
        - name: {{ .part }}
          image: {{ .values.image }}
          imagePullPolicy: IfNotPresent
          {{- .container | nindent 10 }}
          ports:
            {{- range $name, $port := .ports }}
            - {name: {{ $name }}, containerPort: {{ $port }}}
            {{- end }}
          resources:
            {{- toYaml .values.resources | nindent 12 }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL]}
      volumes:
        - {name: tmp, emptyDir: {sizeLimit: 64Mi}}
        {{- .extra | nindent 8 }}
  {{- if .values.storage }}
  volumeClaimTemplates:
    - metadata: {name: data}
      spec:
        accessModes: [ReadWriteOnce]
        {{- with .root.Values.storageClassName }}
        storageClassName: {{ . }}
        {{- end }}
        resources: {requests: {storage: {{ .values.storage }}}}
  {{- end }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ $full }}-{{ .part }}
  labels:
    {{- $labels | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- $selector | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    - from:
        - podSelector:
            matchLabels: {app.kubernetes.io/part-of: tickmesh}
            {{- with .from }}
            matchExpressions:
              - {key: app.kubernetes.io/component, operator: In, values: {{ toJson . }}}
            {{- end }}
      ports:
        {{- range $name, $port := .ports }}
        - {port: {{ $name }}, protocol: TCP}
        {{- end }}
{{- end }}
