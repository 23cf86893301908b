{{/*
One service as a Deployment, with its ServiceAccount, admin Service and PodDisruptionBudget.
dict: root, component (feed ...), name (feed, execution-main ...), values (of the service), account (name or ""),
env (YAML list), ports (YAML list), command, args, mounts, volumes (YAML lists), annotations (YAML), token (bool).
*/}}
{{- define "tickmesh.workload" -}}
{{- $root := .root -}}
{{- $v := .values -}}
{{- $full := include "tickmesh.fullname" $root -}}
{{- $selector := include "tickmesh.selector" (dict "root" $root "component" .component "account" .account) -}}
{{- $data := and (include "tickmesh.onDataPlane" .component) $root.Values.dataPlane -}}
{{- $ring := and $data $root.Values.dataPlane.sharedMemory -}}
{{- $labels := include "tickmesh.labels" $root -}}
{{- $host := and $data $root.Values.dataPlane.hostNetwork -}}
{{- $own := .account | default "" -}}
{{- $admin := 8080 -}}
{{- if $host -}}
{{- /* The node's own ports: what shares a node needs one each. */ -}}
{{- $admin = 18080 -}}
{{- range $i, $a := $root.Values.accounts }}{{ if eq $a.name $own }}{{ $admin = add 18081 $i }}{{ end }}{{ end -}}
{{- end -}}
{{- if not .token }}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $full }}-{{ .name }}
  labels:
    {{- $labels | nindent 4 }}
automountServiceAccountToken: false
---
{{- end }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $full }}-{{ .name }}
  labels:
    {{- $labels | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
spec:
  {{- if not (dig "autoscaling" "enabled" false $v) }}
  replicas: {{ $v.replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  progressDeadlineSeconds: 300
  strategy:
    type: RollingUpdate
    rollingUpdate:
      {{- if $host }}
      # Two of them cannot hold one port of a node: the one that stands by takes over, then its place is filled.
      maxSurge: 0
      maxUnavailable: 1
      {{- else }}
      maxSurge: {{ $v.rollout.maxSurge }}
      maxUnavailable: {{ $v.rollout.maxUnavailable }}
      {{- end }}
  selector:
    matchLabels:
      {{- $selector | nindent 6 }}
  template:
    metadata:
      labels:
        {{- $labels | nindent 8 }}
        app.kubernetes.io/component: {{ .component }}
        {{- with .account }}
        tickmesh.io/account: {{ . }}
        {{- end }}
      annotations:
        prometheus.io/scrape: "true"
        prometheus.io/port: {{ $admin | quote }}
        prometheus.io/path: /metrics
        checksum/config: {{ include (print $root.Template.BasePath "/configmap.yaml") $root | sha256sum }}
        {{- with .annotations }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with $v.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ $full }}-{{ .name }}
      automountServiceAccountToken: {{ .token | default false }}
      # Links of services would be variables such as TICKMESH_GATEWAY_PORT, which are no keys of ours.
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ $v.terminationGracePeriodSeconds }}
      securityContext:
        {{- include "tickmesh.podSecurity" $root | nindent 8 }}
      {{- with $root.Values.image.pullSecrets }}
      imagePullSecrets:
        {{- range . }}
        - name: {{ . }}
        {{- end }}
      {{- end }}
      {{- $priority := $v.priorityClassName | default (ternary $root.Values.dataPlane.priorityClass.name "" (not (empty $data))) }}
      {{- with $priority }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- if $host }}
      hostNetwork: true
      dnsPolicy: ClusterFirstWithHostNet
      {{- end }}
      {{- $nodes := merge (dict) $v.nodeSelector (ternary $root.Values.dataPlane.nodeSelector (dict) (not (empty $data))) }}
      {{- with $nodes }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- $tolerations := concat $v.tolerations (ternary $root.Values.dataPlane.tolerations (list) (not (empty $data))) }}
      {{- with $tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if or $ring (and (eq .component "execution") $root.Values.dataPlane.colocate) }}
      # One venue's feed, strategies and execution on one node: the ring is that node's memory. A feed that replaces
      # another one goes to the same node and takes its ring over; the first one goes anywhere.
      affinity:
        podAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            - topologyKey: kubernetes.io/hostname
              labelSelector:
                matchLabels:
                  {{- include "tickmesh.selector" (dict "root" $root "component" "feed") | nindent 18 }}
      {{- else }}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- $selector | nindent 14 }}
      {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ include "tickmesh.image" $root }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          {{- with .command }}
          command: {{ toJson . }}
          {{- end }}
          {{- with .args }}
          args: {{ toJson . }}
          {{- end }}
          env:
            - name: TICKMESH_OBSERVE__INSTANCE
              valueFrom: {fieldRef: {fieldPath: metadata.name}}
            {{- if $host }}
            - name: TICKMESH_{{ upper .component }}__ADMIN_PORT
              value: {{ $admin | quote }}
            {{- end }}
            {{- if $ring }}
            - name: TICKMESH_LOCAL__TRANSPORT
              value: shm
            {{- end }}
            {{- with .env }}
            {{- . | trim | nindent 12 }}
            {{- end }}
          envFrom:
            - configMapRef: {name: {{ $full }}-config}
          ports:
            - {name: admin, containerPort: {{ $admin }}}
            {{- with .ports }}
            {{- . | nindent 12 }}
            {{- end }}
          startupProbe:
            httpGet: {path: /startupz, port: admin}
            periodSeconds: 2
            timeoutSeconds: 2
            failureThreshold: {{ $v.startupFailureThreshold | default 60 }}
          readinessProbe:
            httpGet: {path: /readyz, port: admin}
            periodSeconds: 2
            timeoutSeconds: 2
            failureThreshold: 2
          livenessProbe:
            httpGet: {path: /healthz, port: admin}
            periodSeconds: 10
            timeoutSeconds: 2
            failureThreshold: 3
          {{- with $v.preStopSleepSeconds }}
          # Endpoints are taken away while this sleeps; only then is the service told to stop.
          lifecycle:
            preStop: {sleep: {seconds: {{ . }}}}
          {{- end }}
          resources:
            {{- toYaml $v.resources | nindent 12 }}
          securityContext:
            {{- include "tickmesh.containerSecurity" $root | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
            {{- if $ring }}
            - {name: shm, mountPath: /dev/shm}
            {{- end }}
            {{- if ne .component "simvenue" }}
            {{- with include "tickmesh.natsCredentialsMount" $root }}
            {{- . | trim | nindent 12 }}
            {{- end }}
            {{- end }}
            {{- with .mounts }}
            {{- . | nindent 12 }}
            {{- end }}
      volumes:
        - {name: tmp, emptyDir: {sizeLimit: 64Mi}}
        {{- if $ring }}
        - {name: shm, hostPath: {path: /dev/shm, type: Directory}}
        {{- end }}
        {{- if ne .component "simvenue" }}
        {{- with include "tickmesh.natsCredentialsVolume" $root }}
        {{- . | trim | nindent 8 }}
        {{- end }}
        {{- end }}
        {{- with .volumes }}
        {{- . | nindent 8 }}
        {{- end }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $full }}-{{ .name }}
  labels:
    {{- $labels | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
spec:
  # Why a service is not ready is asked here as well, and that it lives: risk halts when a critical one is dead.
  publishNotReadyAddresses: true
  selector:
    {{- $selector | nindent 4 }}
  ports:
    - {name: admin, port: 8080, targetPort: admin}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $full }}-{{ .name }}
  labels:
    {{- $labels | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
spec:
  maxUnavailable: 1
  # A pod that is not ready protects nothing; a drain may take it.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- $selector | nindent 6 }}
{{- end }}
